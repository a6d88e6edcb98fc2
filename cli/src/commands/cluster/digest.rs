//! `quorate cluster digest`: whether all members hold the same.

use std::time::Duration;

use clap::Args;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::json::hex;
use crate::output::style::Style;
use crate::output::table::{Cell, Table};

/// How long the cluster may wait for its members' digests.
const DIGEST_MAX: Duration = Duration::from_secs(130);

/// Compare the members' digests of content.
#[derive(Args, Debug)]
pub struct DigestArguments {
    /// Every member also recomputes its digest from its records, which reads the whole state.
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Serialize)]
struct DigestsJson {
    agree: bool,
    applied_index: u64,
    zxid: u64,
    digests: Vec<DigestJson>,
}

#[derive(Debug, Serialize)]
struct DigestJson {
    member: u64,
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recomputed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl DigestsJson {
    /// Whether nothing is wrong but that some did not answer.
    fn those_that_answered_agree(&self) -> bool {
        let mut answered = self.digests.iter().filter(|digest| digest.problem.is_none()).peekable();
        let first = answered.peek().and_then(|digest| digest.digest.clone());
        answered.all(|digest| {
            digest.digest == first && (digest.recomputed.is_none() || digest.recomputed == digest.digest)
        })
    }
}

pub async fn run(arguments: DigestArguments, context: &mut Context) -> Outcome {
    context.api.allow(DIGEST_MAX);
    let request = v1::DigestRequest { verify: arguments.verify };
    let answer =
        context.api.cluster(Call::Read, async |client| client.digest(request).await).await?.into_inner();
    let shown = |bytes: &[u8]| (!bytes.is_empty()).then(|| hex(bytes));
    let digests = answer.digests.iter().map(|digest| DigestJson {
        member: digest.member_id,
        digest: shown(&digest.digest),
        recomputed: shown(&digest.recomputed),
        problem: Some(digest.problem.clone()).filter(|problem| !problem.is_empty()),
    });
    let document = DigestsJson {
        agree: answer.agree,
        applied_index: answer.applied_index,
        zxid: answer.zxid,
        digests: digests.collect(),
    };
    context.output.show(&document, |style| table(style, &document, arguments.verify))?;
    if document.agree {
        return Ok(());
    }
    if document.those_that_answered_agree() {
        return Err(Failure::unavailable("some members did not answer"));
    }
    Err(Failure::conflict("the members do not hold the same")
        .with_hint("stop the member that differs, keep its data directory for inspection, and replace it: quorate cluster replace"))
}

fn table(style: &Style, document: &DigestsJson, with_recomputed: bool) -> String {
    let mut header = vec!["MEMBER", "DIGEST"];
    if with_recomputed {
        header.push("RECOMPUTED");
    }
    let mut table = Table::new(&header);
    for digest in &document.digests {
        let first = match (&digest.digest, &digest.problem) {
            (Some(digest), _) => Cell::text(digest),
            (None, problem) => Cell::text(problem.as_deref().unwrap_or("no answer")).painted(Style::bad),
        };
        let mut row = vec![Cell::number(digest.member), first];
        if with_recomputed {
            let recomputed = match &digest.recomputed {
                Some(recomputed) if digest.recomputed == digest.digest => {
                    Cell::text(recomputed).painted(Style::good)
                }
                Some(recomputed) => Cell::text(recomputed).painted(Style::bad),
                None => Cell::text("-"),
            };
            row.push(recomputed);
        }
        table.row(row);
    }
    let verdict = match (document.agree, document.those_that_answered_agree()) {
        (true, _) => style.good("all agree"),
        (false, true) => style.warn("those that answered agree"),
        (false, false) => style.bad("they do not agree"),
    };
    format!(
        "{}{verdict} at transaction {}, log index {}",
        table.render(style),
        document.zxid,
        document.applied_index
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_member_is_told_from_one_that_differs() {
        let digests = |digests: [(Option<&str>, Option<&str>); 2]| {
            let digests = digests.map(|(digest, recomputed)| DigestJson {
                member: 1,
                digest: digest.map(Into::into),
                recomputed: recomputed.map(Into::into),
                problem: digest.is_none().then(|| "no answer".into()),
            });
            DigestsJson { agree: false, applied_index: 1, zxid: 1, digests: digests.into() }
        };
        assert!(digests([(Some("a"), None), (None, None)]).those_that_answered_agree());
        assert!(!digests([(Some("a"), None), (Some("b"), None)]).those_that_answered_agree());
        assert!(!digests([(Some("a"), Some("a")), (Some("a"), Some("b"))]).those_that_answered_agree());
    }

    #[test]
    fn digests_have_their_promised_shape() {
        let digest = |digest: Option<&str>, problem: Option<&str>| DigestJson {
            member: 1,
            digest: digest.map(Into::into),
            recomputed: None,
            problem: problem.map(Into::into),
        };
        let digests = vec![digest(Some("00ff"), None), digest(None, Some("no answer"))];
        let document = DigestsJson { agree: false, applied_index: 4, zxid: 3, digests };
        assert_eq!(
            serde_json::to_string(&document).expect("serializes"),
            concat!(
                r#"{"agree":false,"applied_index":4,"zxid":3,"digests":[{"member":1,"digest":"00ff"},"#,
                r#"{"member":1,"digest":null,"problem":"no answer"}]}"#
            )
        );
    }
}
