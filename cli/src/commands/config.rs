//! `quorate config`: named values with a bounded history, on the tree.

use bytes::Bytes;
use clap::{Args, Subcommand};
use quorate_core::error::Error;
use quorate_core::registry::configuration::{self, ROOT};
use quorate_proto::v1;
use serde::Serialize;

use super::create::create_parents;
use crate::api::{Api, Call};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::human::{block, excerpt};
use crate::output::json::DataJson;
use crate::output::table::{Cell, Table};
use crate::values::DataArgument;

/// A put that lost a race looks again so often.
const TRIES: usize = 8;

/// Keep configuration: named values with a history.
///
/// NAME is DNS labels with dots between, such as orders.timeouts. The last 32 revisions are kept.
#[derive(Args, Debug)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Set a value.
    Put {
        name: String,
        /// The value; @FILE reads it from a file, - from the standard input.
        value: DataArgument,
        /// Only if this is the present revision; 0: only if there is none.
        #[arg(long)]
        revision: Option<u32>,
    },
    /// Print a value.
    ///
    /// What is no UTF-8, and control characters, show as escapes in a table and in base64 in JSON
    /// (field data_base64).
    Get {
        name: String,
        /// As it was at this revision.
        #[arg(long)]
        revision: Option<u32>,
        /// Print the bytes as they are, and nothing else.
        #[arg(long)]
        raw: bool,
    },
    /// List the names.
    List,
    /// Print a value whenever it changes, until Ctrl-C.
    Watch { name: String },
    /// List a value's revisions, with what each changed.
    History { name: String },
    /// Make an earlier revision the present value, as a new revision.
    Rollback {
        name: String,
        #[arg(long)]
        to: u32,
    },
}

#[derive(Debug, Serialize)]
struct ValueJson {
    name: String,
    revision: u32,
    zxid: u64,
    #[serde(flatten)]
    data: DataJson,
}

#[derive(Debug, Serialize)]
struct PutJson {
    name: String,
    revision: u32,
    zxid: u64,
}

#[derive(Debug, Serialize)]
struct RevisionJson {
    revision: u32,
    zxid: u64,
    time_ms: i64,
    #[serde(flatten)]
    data: DataJson,
    /// Lines that went (-) and came (+) with it.
    changes: Vec<String>,
}

pub async fn run(arguments: ConfigArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        ConfigCommand::Put { name, value, revision } => {
            let value = value.read()?;
            put(context, &name, value, revision).await
        }
        ConfigCommand::Get { name, revision, raw } => get(context, &name, revision, raw).await,
        ConfigCommand::List => list(context).await,
        ConfigCommand::Watch { name } => {
            let path = path(&name)?;
            super::watch::run(super::watch::WatchArguments::of(path), context).await
        }
        ConfigCommand::History { name } => history(context, &name).await,
        ConfigCommand::Rollback { name, to } => {
            let (value, _, _) = read(context, &configuration::revision_path(&name, to).map_err(bad)?)
                .await?
                .ok_or_else(|| Failure::not_found(format!("{name} has no revision {to}")))?;
            put(context, &name, value, None).await
        }
    }
}

fn bad(error: Error) -> Failure {
    Failure::refused(&error, "")
}

fn path(name: &str) -> Outcome<String> {
    configuration::path(name).map_err(bad)
}

/// A node's data, Stat and the view's transaction; `None` if it is missing.
async fn read(context: &mut Context, path: &str) -> Outcome<Option<(Bytes, v1::Stat, u64)>> {
    let request = v1::GetRequest {
        path: path.into(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context.api.znodes(Call::Read, path, async |client| client.get(request.clone()).await);
    match answer.await {
        Ok(answer) => {
            let answer = answer.into_inner();
            context.api.saw(answer.zxid);
            Ok(Some((answer.data.unwrap_or_default(), answer.stat.unwrap_or_default(), answer.zxid)))
        }
        Err(Failure::Told { kind: "no_node", .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// A node's children, with data and Stat.
async fn children(context: &mut Context, path: &str) -> Outcome<Vec<v1::Child>> {
    let request = v1::ListRequest {
        path: path.into(),
        with_data: true,
        with_stat: true,
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
        ..Default::default()
    };
    let answer = context.api.znodes(Call::Read, path, async |client| client.list(request.clone()).await);
    let mut stream = match answer.await {
        Ok(answer) => answer.into_inner(),
        Err(Failure::Told { kind: "no_node", .. }) => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let mut found = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(part)) => found.extend(part.children),
            Ok(None) => return Ok(found),
            Err(status) => {
                return Err(Failure::refused(&quorate_proto::convert::error_from_status(&status), path));
            }
        }
    }
}

async fn put(context: &mut Context, name: &str, value: Bytes, expected: Option<u32>) -> Outcome {
    let path = path(name)?;
    for _ in 0..TRIES {
        let current = read(context, &path).await?.map(|(_, stat, _)| stat.version);
        let standing = current.map_or(0, |version| version as u32 + 1);
        if let Some(expected) = expected
            && expected != standing
        {
            return Err(Failure::conflict(format!("{name} is at revision {standing}, not {expected}")));
        }
        let kept: Vec<u32> =
            children(context, &path).await?.iter().filter_map(|child| child.name.parse().ok()).collect();
        let (revision, operations) = configuration::put(name, value.clone(), current, &kept).map_err(bad)?;
        let request = v1::MultiRequest {
            operations: operations.into_iter().map(Into::into).collect(),
            request_id: Api::request_id()?,
            credentials: context.api.credentials(),
        };
        let answer =
            context.api.znodes(Call::NamedWrite, &path, async |client| client.multi(request.clone()).await);
        match answer.await {
            Ok(answer) => {
                let zxid = answer.into_inner().zxid;
                context.api.saw(zxid);
                let document = PutJson { name: name.into(), revision, zxid };
                return context.output.show(&document, |_| format!("{name} is at revision {revision}"));
            }
            // The first value of all.
            Err(Failure::Told { kind: "no_node", .. }) if current.is_none() => {
                create_parents(context, &path).await?;
            }
            // Somebody else's came between.
            Err(Failure::Told { kind: "bad_version" | "node_exists" | "no_node", .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::conflict(format!("{name} is changed all the time; try again")))
}

async fn get(context: &mut Context, name: &str, revision: Option<u32>, raw: bool) -> Outcome {
    let path = match revision {
        None => path(name)?,
        Some(revision) => configuration::revision_path(name, revision).map_err(bad)?,
    };
    let Some((data, stat, zxid)) = read(context, &path).await? else {
        return Err(Failure::not_found(match revision {
            None => format!("no value is named {name}"),
            Some(revision) => format!("{name} has no revision {revision}"),
        }));
    };
    if raw {
        return context.output.raw(&data);
    }
    let revision = revision.unwrap_or(stat.version as u32 + 1);
    let document = ValueJson { name: name.into(), revision, zxid, data: DataJson::new(Some(&data)) };
    context.output.show(&document, |_| block(&data))
}

async fn list(context: &mut Context) -> Outcome {
    let values: Vec<ValueJson> = children(context, ROOT)
        .await?
        .into_iter()
        .map(|child| {
            let stat = child.stat.unwrap_or_default();
            let data = DataJson::new(child.data.as_deref());
            ValueJson { name: child.name, revision: stat.version as u32 + 1, zxid: stat.mzxid, data }
        })
        .collect();
    context.output.show(&values, |style| {
        if values.is_empty() {
            return style.dim("no values");
        }
        let mut table = Table::new(&["NAME", "REVISION", "CHANGED BY"]);
        for value in &values {
            table.row(vec![Cell::text(&value.name), Cell::number(value.revision), Cell::number(value.zxid)]);
        }
        table.render(style)
    })
}

async fn history(context: &mut Context, name: &str) -> Outcome {
    let kept = children(context, &path(name)?).await?;
    if kept.is_empty() {
        return Err(Failure::not_found(format!("no value is named {name}")));
    }
    let mut revisions = Vec::new();
    let mut before: Option<Bytes> = None;
    for child in kept {
        let Ok(revision) = child.name.parse::<u32>() else { continue };
        let (data, stat) = (child.data.unwrap_or_default(), child.stat.unwrap_or_default());
        revisions.push(RevisionJson {
            revision,
            zxid: stat.czxid,
            time_ms: stat.ctime_ms,
            data: DataJson::new(Some(&data)),
            changes: changes(before.as_deref().unwrap_or_default(), &data),
        });
        before = Some(data);
    }
    context.output.show(&revisions, |style| {
        let mut text = String::new();
        for revision in revisions.iter().rev() {
            text += &format!(
                "revision {}  {}\n",
                revision.revision,
                style.dim(&format!("zxid {}", revision.zxid))
            );
            for line in &revision.changes {
                let line = excerpt(line.as_bytes(), 100);
                text += &match line.starts_with('+') {
                    true => style.good(&line),
                    false => style.bad(&line),
                };
                text.push('\n');
            }
        }
        text
    })
}

/// Lines that went and lines that came, in order: what is common before and behind is left out.
fn changes(before: &[u8], after: &[u8]) -> Vec<String> {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let went = old[..old.len() - tail].iter().map(|line| format!("-{line}"));
    let came = new[..new.len() - tail].iter().map(|line| format!("+{line}"));
    went.chain(came).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(changes(b"a\nb\nc", b"a\nx\nc"), ["-b", "+x"]);
        assert_eq!(changes(b"", b"a"), ["+a"]);
        assert_eq!(changes(b"a\na", b"a"), ["-a"]);
        assert!(changes(b"a", b"a").is_empty());
    }
}
