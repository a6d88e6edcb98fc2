//! `quorate session`: the cluster's sessions.

use clap::{Args, Subcommand};
use quorate_core::id::SessionId;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::human::duration;
use crate::output::table::{Cell, Table};
use crate::values::parse_session_id;

/// List the cluster's sessions, or end one.
#[derive(Args, Debug)]
pub struct SessionArguments {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// List the sessions.
    List,
    /// End a session: its ephemeral nodes and locks go.
    Close {
        /// As `session list` shows it: 0x…
        #[arg(value_parser = parse_session_id)]
        id: SessionId,
    },
}

#[derive(Debug, Serialize)]
struct SessionsJson {
    sessions: Vec<SessionJson>,
}

#[derive(Debug, Serialize)]
struct SessionJson {
    id: String,
    member: u64,
    epoch: u64,
    timeout_ms: u32,
    ephemerals: u32,
}

#[derive(Debug, Serialize)]
struct ClosedJson {
    id: String,
    zxid: u64,
}

pub async fn run(arguments: SessionArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        SessionCommand::List => list(context).await,
        SessionCommand::Close { id } => close(context, id).await,
    }
}

async fn list(context: &mut Context) -> Outcome {
    let request = v1::ListSessionsRequest {};
    let answer = context
        .api
        .cluster(Call::Read, async |client| client.list_sessions(request).await)
        .await?
        .into_inner();
    let session = |session: v1::SessionInfo| SessionJson {
        id: SessionId(session.session_id).to_string(),
        member: session.member_id,
        epoch: session.epoch,
        timeout_ms: session.timeout_ms,
        ephemerals: session.ephemerals,
    };
    let document = SessionsJson { sessions: answer.sessions.into_iter().map(session).collect() };
    context.output.show(&document, |style| {
        if document.sessions.is_empty() {
            return style.dim("no sessions");
        }
        let mut table = Table::new(&["ID", "MEMBER", "TIMEOUT", "EPHEMERALS", "ATTACHED"]);
        for session in &document.sessions {
            table.row(vec![
                Cell::text(&session.id),
                Cell::number(session.member),
                Cell::number(duration(session.timeout_ms.into())),
                Cell::number(session.ephemerals),
                Cell::number(format!("{}×", session.epoch)),
            ]);
        }
        table.render(style)
    })
}

async fn close(context: &mut Context, id: SessionId) -> Outcome {
    let request = v1::CloseSessionRequest { session_id: id.0 };
    let answer = context.api.cluster(Call::Write, async |client| client.close_session(request).await);
    let zxid = match answer.await {
        Ok(answer) => answer.into_inner().zxid,
        Err(Failure::Told { kind: "session_expired", .. }) => {
            return Err(Failure::not_found(format!("no such session: {id}")));
        }
        Err(failure) => return Err(failure),
    };
    context.api.saw(zxid);
    let document = ClosedJson { id: id.to_string(), zxid };
    context
        .output
        .show(&document, |_| format!("session {} is closed; its ephemeral nodes are gone", document.id))
}
