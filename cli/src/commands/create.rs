//! `quorate create`: a node of any kind.

use std::time::Duration;

use clap::Args;
use quorate_core::acl::AclEntry;
use quorate_core::znode::{CreateMode, Stat};
use quorate_proto::convert::values::{acl_to_wire, create_mode_to_wire};
use quorate_proto::v1;

use super::stat;
use crate::api::{Api, Call};
use crate::arguments::Format;
use crate::context::Context;
use crate::failure::{Failure, NOT_FOUND, Outcome};
use crate::output::json::{DataJson, NodeJson};
use crate::values::{DataArgument, parse_acl_entry, parse_duration};

/// Create a node.
///
/// An ephemeral node lives as long as its session: the command holds it until Ctrl-C (in the shell:
/// until the shell ends).
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// Where; for a sequential node what its name begins with.
    path: String,
    /// The data; - reads the standard input, @FILE a file. Null if absent.
    #[arg(allow_negative_numbers = true)]
    data: Option<DataArgument>,
    /// Goes with its session.
    #[arg(short, long, conflicts_with_all = ["container", "ttl"])]
    ephemeral: bool,
    /// Its name ends in the parent's counter, ten digits.
    #[arg(short, long, conflicts_with = "container")]
    sequential: bool,
    /// Goes some time after its last child.
    #[arg(long, conflicts_with = "ttl")]
    container: bool,
    /// Goes when it has no children and was not changed for this long: 30s, 5m, 1h.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Create missing parents too (persistent, open, without data).
    #[arg(short, long)]
    parents: bool,
    /// Who may do what: SCHEME:ID:PERMISSIONS, such as world:anyone:r. Everyone everything if absent.
    #[arg(long, value_name = "ENTRY", value_parser = parse_acl_entry)]
    acl: Vec<AclEntry>,
}

/// The kind of node that the flags mean. clap has refused contradictions.
pub fn mode(ephemeral: bool, sequential: bool, container: bool, ttl: Option<Duration>) -> CreateMode {
    let ttl_ms = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    match (ephemeral, sequential, container, ttl_ms) {
        (_, _, true, _) => CreateMode::Container,
        (_, true, _, Some(ttl_ms)) => CreateMode::TtlSequential { ttl_ms },
        (_, false, _, Some(ttl_ms)) => CreateMode::Ttl { ttl_ms },
        (true, true, ..) => CreateMode::EphemeralSequential,
        (true, false, ..) => CreateMode::Ephemeral,
        (false, true, ..) => CreateMode::PersistentSequential,
        (false, false, ..) => CreateMode::Persistent,
    }
}

pub async fn run(arguments: CreateArguments, context: &mut Context) -> Outcome {
    let CreateArguments { path, data, ephemeral, sequential, container, ttl, parents, acl } = arguments;
    let data = data.map(DataArgument::read).transpose()?;
    let mode = mode(ephemeral, sequential, container, ttl);
    let acl = if acl.is_empty() { AclEntry::open() } else { acl };
    if mode.is_ephemeral() {
        return create_ephemeral(context, path, data, mode, acl, parents).await;
    }
    let mut created = create(context, &path, data.clone(), mode, acl.clone()).await;
    if parents && created.as_ref().is_err_and(|failure| failure.exit_code() == NOT_FOUND) {
        create_parents(context, &path).await?;
        created = create(context, &path, data.clone(), mode, acl).await;
    }
    let (path, stat, zxid) = created.map_err(|failure| match failure {
        Failure::Told { kind: "no_node", hint: None, .. } => {
            failure.with_hint("its parent is missing; create -p makes missing parents too")
        }
        failure => failure,
    })?;
    show(context, path, &stat, zxid)
}

/// Creates a node without a session.
async fn create(
    context: &mut Context,
    path: &str,
    data: Option<bytes::Bytes>,
    mode: CreateMode,
    acl: Vec<AclEntry>,
) -> Outcome<(String, Stat, u64)> {
    let (mode, ttl_ms) = create_mode_to_wire(mode);
    let request = v1::CreateRequest {
        path: path.into(),
        data,
        acl: acl_to_wire(acl),
        mode: mode.into(),
        ttl_ms,
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::NamedWrite, path, async |client| client.create(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let stat = answer.stat.map(Stat::from).unwrap_or_default();
    Ok((answer.path, stat, answer.zxid))
}

/// Creates the nodes above `path`; those that exist stay as they are.
pub(super) async fn create_parents(context: &mut Context, path: &str) -> Outcome {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    let mut forbidden = None;
    for parent in ends.map(|end| &path[..end]) {
        match create(context, parent, None, CreateMode::Persistent, AclEntry::open()).await {
            Ok(_) | Err(Failure::Told { kind: "node_exists", .. }) => forbidden = None,
            // Said of a node that exists, too, whose parent may not be written.
            Err(failure @ Failure::Told { kind: "no_auth", .. }) => forbidden = Some((parent, failure)),
            Err(failure @ Failure::Told { kind: "no_node", .. }) => {
                return Err(forbidden.map_or(failure, |(_, forbidden)| forbidden));
            }
            Err(failure) => return Err(failure),
        }
    }
    match forbidden {
        Some((parent, failure)) if matches!(stat::look(context, parent).await, Ok((None, _))) => Err(failure),
        _ => Ok(()),
    }
}

async fn create_ephemeral(
    context: &mut Context,
    path: String,
    data: Option<bytes::Bytes>,
    mode: CreateMode,
    acl: Vec<AclEntry>,
    parents: bool,
) -> Outcome {
    if parents {
        create_parents(context, &path).await?;
    }
    let client = context.session().await?;
    let call = match data {
        Some(data) => client.create(&path, data),
        None => client.create(&path, "").without_data(),
    };
    let call = call.mode(mode).acl(acl);
    let created = call.await.map_err(|error| Failure::from_client(&error, &path))?;
    let zxid = created.stat.czxid.0;
    context.api.saw(zxid);
    show(context, created.path.clone(), &created.stat, zxid)?;
    if context.is_shell {
        context.output.note("It lives until this shell ends.");
        return Ok(());
    }
    if context.output.format == Format::Table {
        let session = client.session_id();
        context.output.note(&format!("It lives as long as session {session}: until Ctrl-C."));
    }
    tokio::select! {
        error = client.ended() => Err(Failure::from_client(&error, &created.path)
            .with_hint(format!("{} is gone", created.path))),
        signal = crate::child::stop_signal() => signal,
    }
}

fn show(context: &Context, path: String, stat: &Stat, zxid: u64) -> Outcome {
    let document = NodeJson { path, zxid, data: DataJson::default(), stat: Some(stat.into()) };
    context.output.show(&document, |_| document.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_all_kinds() {
        let ttl = Some(Duration::from_secs(30));
        assert_eq!(mode(false, false, false, None), CreateMode::Persistent);
        assert_eq!(mode(false, true, false, None), CreateMode::PersistentSequential);
        assert_eq!(mode(true, false, false, None), CreateMode::Ephemeral);
        assert_eq!(mode(true, true, false, None), CreateMode::EphemeralSequential);
        assert_eq!(mode(false, false, true, None), CreateMode::Container);
        assert_eq!(mode(false, false, false, ttl), CreateMode::Ttl { ttl_ms: 30_000 });
        assert_eq!(mode(false, true, false, ttl), CreateMode::TtlSequential { ttl_ms: 30_000 });
    }
}
