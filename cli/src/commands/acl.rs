//! `quorate acl`: who may do what to a node.

use clap::{Args, Subcommand};
use quorate_core::acl::AclEntry;
use quorate_core::znode::Stat;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::{Api, Call};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::json::AclEntryJson;
use crate::output::table::{Cell, Table};
use crate::values::parse_acl_entry;

/// Read or set who may do what to a node.
#[derive(Args, Debug)]
pub struct AclArguments {
    #[command(subcommand)]
    command: AclCommand,
}

#[derive(Debug, Subcommand)]
enum AclCommand {
    /// Print a node's ACL. Digests are masked for those without the admin permission.
    Get {
        /// The node.
        path: String,
    },
    /// Set a node's ACL. Nothing is inherited: each node has its own.
    Set {
        /// The node.
        path: String,
        /// SCHEME:ID:PERMISSIONS with permissions of c (create), d (delete), r (read), w (write), a
        /// (admin): world:anyone:r, ip:10.0.0.0/8:rw, digest:USER:HASH:cdrwa, or auth::cdrwa for
        /// whoever --auth proves to be.
        #[arg(required = true, value_name = "ENTRY", value_parser = parse_acl_entry)]
        entries: Vec<AclEntry>,
        /// Only if the ACL has this version; -1 is any.
        #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..))]
        version: Option<i32>,
    },
}

#[derive(Debug, Serialize)]
struct AclJson {
    path: String,
    zxid: u64,
    version: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    acl: Option<Vec<AclEntryJson>>,
}

pub async fn run(arguments: AclArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        AclCommand::Get { path } => get(context, path).await,
        AclCommand::Set { path, entries, version } => set(context, path, entries, version).await,
    }
}

async fn get(context: &mut Context, path: String) -> Outcome {
    let request = v1::GetAclRequest {
        path: path.clone(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::Read, &path, async |client| client.get_acl(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let stat = answer.stat.map(Stat::from).unwrap_or_default();
    let entries: Vec<AclEntry> = answer
        .acl
        .unwrap_or_default()
        .try_into()
        .map_err(|error| Failure::other(format!("the member's answer makes no sense: {error}")))?;
    let acl: Vec<AclEntryJson> = entries.iter().map(Into::into).collect();
    let document = AclJson { path, zxid: answer.zxid, version: stat.aversion, acl: Some(acl) };
    context.output.show(&document, |style| {
        let mut table = Table::new(&["SCHEME", "ID", "PERMISSIONS"]);
        for entry in document.acl.iter().flatten() {
            table.row(vec![Cell::text(&entry.scheme), Cell::text(&entry.id), Cell::text(&entry.permissions)]);
        }
        table.render(style)
    })
}

async fn set(context: &mut Context, path: String, entries: Vec<AclEntry>, version: Option<i32>) -> Outcome {
    let request = v1::SetAclRequest {
        path: path.clone(),
        acl: Some(entries.into()),
        version,
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::NamedWrite, &path, async |client| client.set_acl(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let stat = answer.stat.map(Stat::from).unwrap_or_default();
    let document = AclJson { path, zxid: answer.zxid, version: stat.aversion, acl: None };
    context
        .output
        .show(&document, |_| format!("the ACL of {} has version {}", document.path, document.version))
}
