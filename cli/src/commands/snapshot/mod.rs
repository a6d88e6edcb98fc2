//! `quorate snapshot`: the whole state as a file. One subcommand a file.

mod inspect;
mod restore;
mod save;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::failure::Outcome;

/// Save the whole state to a file, look into one, or restore it.
#[derive(Args, Debug)]
pub struct SnapshotArguments {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    Save(save::SaveArguments),
    Inspect(inspect::InspectArguments),
    Restore(restore::RestoreArguments),
}

pub async fn run(arguments: SnapshotArguments, context: &mut Context) -> Outcome {
    match arguments.command {
        SnapshotCommand::Save(arguments) => save::run(arguments, context).await,
        SnapshotCommand::Inspect(arguments) => inspect::run(arguments, context),
        SnapshotCommand::Restore(arguments) => restore::run(arguments),
    }
}
