//! `quorate lock`: run a command while a lock is held.

use std::time::Duration;

use clap::Args;
use quorate::Client;
use quorate::recipes::Lock;

use crate::child;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::values::parse_duration;

/// Run a command while holding a lock.
///
/// The command finds the fencing token in QUORATE_FENCING_TOKEN; a transaction with "guard lock PATH
/// TOKEN" is refused once the lock is lost. If the session is lost, the command is ended (SIGTERM,
/// SIGKILL 5 s later) and the exit code is 5. Otherwise the exit code is the command's.
#[derive(Args, Debug)]
pub struct LockArguments {
    /// The lock's node; created if it is missing.
    path: String,
    /// Wait for the lock no longer than this; then exit with 4. 0s only tries.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    pub run: RunArguments,
}

/// What to run, and how its session is held.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// How long the session outlives a lost connection (the cluster clamps it: 4s to 40s).
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub session_timeout: Duration,
    /// What others see of this contender; the machine's name and the process id if absent.
    #[arg(long)]
    pub data: Option<String>,
    /// The command.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl RunArguments {
    /// What others see of this contender.
    pub fn contender(&self) -> String {
        self.data.clone().unwrap_or_else(|| {
            let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            format!("{} pid {}", machine.trim(), std::process::id()).trim_start().to_string()
        })
    }
}

pub async fn run(arguments: LockArguments, context: &mut Context) -> Outcome {
    let LockArguments { path, wait, run } = arguments;
    let client = context.open_session(Some(run.session_timeout)).await?;
    let lock = Lock::new(&client, &path).data(run.contender());
    let failed = |error: quorate::Error| Failure::from_client(&error, &path);
    let acquired = child::unless_stopped(async {
        match wait {
            Some(Duration::ZERO) => lock.try_acquire().await,
            Some(wait) => lock.acquire_within(wait).await,
            None => lock.acquire().await.map(Some),
        }
    });
    let guard = match acquired.await.and_then(|acquired| acquired.map_err(failed)) {
        Ok(Some(guard)) => guard,
        outcome => {
            // Out of the queue before we are out of the door.
            close(context, client).await;
            return outcome.and(Err(Failure::conflict(format!("{path} is held by somebody else"))));
        }
    };
    let environment =
        [("QUORATE_FENCING_TOKEN", guard.token().to_string()), ("QUORATE_LOCK_PATH", path.clone())];
    let lost = async { format!("the lock {path} is lost: {}", guard.lost().await) };
    let outcome = child::run(&context.output, &run.command, &environment, lost).await;
    drop(guard);
    close(context, client).await;
    outcome
}

/// Closing the session gives up at once whatever it holds or waits for. If that cannot be told, its
/// timeout does.
pub async fn close(context: &Context, client: Client) {
    let _ = tokio::time::timeout(context.timeout(), client.close()).await;
}
