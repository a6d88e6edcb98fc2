//! `quorate stat`: a node's metadata.

use clap::Args;
use quorate_core::znode::Stat;
use quorate_proto::v1;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::human::{now_ms, size, time};
use crate::output::json::{DataJson, NodeJson};
use crate::output::style::Style;
use crate::output::table::{Cell, Table};

/// Print a node's metadata.
#[derive(Args, Debug)]
pub struct StatArguments {
    /// The node.
    path: String,
}

pub async fn run(arguments: StatArguments, context: &mut Context) -> Outcome {
    let StatArguments { path } = arguments;
    let (Some(stat), zxid) = look(context, &path).await? else {
        return Err(Failure::not_found(format!("no such node: {path}")));
    };
    let document = NodeJson { path, zxid, data: DataJson::default(), stat: Some((&stat).into()) };
    context.output.show(&document, |style| facts(style, &document.path, &stat))
}

/// A node's metadata, or `None` if it is missing; and the view's transaction.
pub(super) async fn look(context: &mut Context, path: &str) -> Outcome<(Option<Stat>, u64)> {
    let request = v1::ExistsRequest {
        path: path.into(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context.api.znodes(Call::Read, path, async |client| client.exists(request.clone()).await);
    let answer = answer.await?.into_inner();
    context.api.saw(answer.zxid);
    Ok((answer.stat.map(Stat::from), answer.zxid))
}

/// A node's metadata as a table of facts.
pub fn facts(style: &Style, path: &str, stat: &Stat) -> String {
    let now = now_ms();
    let mut facts = vec![("path", Cell::text(path).painted(Style::bold))];
    if stat.ephemeral_owner.0 != 0 {
        let owner = format!("session {} (ephemeral)", stat.ephemeral_owner);
        facts.push(("owner", Cell::text(owner).painted(Style::passing)));
    }
    let bytes = u64::try_from(stat.data_length).unwrap_or_default();
    let plain = [
        ("data", size(bytes)),
        ("children", stat.num_children.to_string()),
        ("created", format!("{}, zxid {}", time(stat.ctime, now), stat.czxid)),
        ("modified", format!("{}, zxid {}", time(stat.mtime, now), stat.mzxid)),
        ("children at", format!("zxid {}", stat.pzxid)),
        ("version", format!("{} (children {}, ACL {})", stat.version, stat.cversion, stat.aversion)),
    ];
    facts.extend(plain.map(|(name, value)| (name, Cell::text(value))));
    Table::facts(style, &facts)
}
