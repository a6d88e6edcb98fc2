//! `quorate`: look at and change a Quorate cluster from a terminal or a script.
//!
//! Parse, start, report. The words on the command line are [`arguments`]; each command is a file of
//! [`commands`]. Two ways lead to the cluster: [`api`], single calls that need no session (so that
//! they also work for an operator while there is no quorum), and the SDK's session for what lives
//! only as long as somebody holds it (ephemeral nodes, locks, elections).
//!
//! Nothing here knows how a cluster decides anything; the next room is the crate `quorate`.

mod api;
mod arguments;
mod child;
mod commands;
mod context;
mod failure;
mod job;
mod output;
mod snapshot_file;
mod transaction_file;
mod values;
mod words;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;
use context::Context;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let format = arguments.global.output;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("quorate: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let mut context = Context::new(&arguments.global)?;
        let outcome = commands::run(arguments.command, &mut context).await;
        context.close().await;
        outcome
    });
    // Nobody waits for what may still be under way, such as a read of the terminal.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}
