//! `quorate elect`: run a command while leading.

use clap::Args;
use quorate::recipes::Election;

use super::lock::{RunArguments, close};
use crate::child;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Run a command once elected, for as long as it leads.
///
/// Stands as a candidate and waits. The command finds the fencing token in QUORATE_FENCING_TOKEN. If
/// the leadership is lost, the command is ended (SIGTERM, SIGKILL 5 s later) and the exit code is 5.
/// Otherwise the exit code is the command's; its end resigns.
#[derive(Args, Debug)]
pub struct ElectArguments {
    /// The election's node; created if it is missing.
    path: String,
    #[command(flatten)]
    run: RunArguments,
}

pub async fn run(arguments: ElectArguments, context: &mut Context) -> Outcome {
    let ElectArguments { path, run } = arguments;
    let client = context.open_session(Some(run.session_timeout)).await?;
    let election = Election::new(&client, &path);
    let campaign = child::unless_stopped(async { election.campaign(run.contender()).await }).await;
    let elected = campaign.and_then(|elected| elected.map_err(|error| Failure::from_client(&error, &path)));
    let leadership = match elected {
        Ok(leadership) => leadership,
        Err(failure) => {
            close(context, client).await;
            return Err(failure);
        }
    };
    let environment =
        [("QUORATE_FENCING_TOKEN", leadership.token().to_string()), ("QUORATE_ELECTION_PATH", path.clone())];
    let lost = async { format!("the leadership of {path} is lost: {}", leadership.lost().await) };
    let outcome = child::run(&context.output, &run.command, &environment, lost).await;
    drop(leadership);
    close(context, client).await;
    outcome
}
