//! One command a file, all in the same shape: its arguments, `run`, and the document it prints.

pub mod acl;
pub mod auth;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod create;
pub mod delete;
pub mod elect;
pub mod get;
pub mod lock;
pub mod ls;
pub mod mirror;
pub mod ring;
pub mod service;
pub mod session;
pub mod set;
pub mod shell;
pub mod snapshot;
pub mod stat;
pub mod sync;
pub mod tree;
pub mod txn;
pub mod watch;

use crate::arguments::Command;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Runs a command.
pub async fn run(command: Command, context: &mut Context) -> Outcome {
    match command {
        Command::Shell(_) if context.is_shell => Err(Failure::usage("this is a shell already")),
        Command::Shell(arguments) => shell::run(arguments, context).await,
        command => run_one(command, context).await,
    }
}

/// Runs any command but the shell, which runs these.
async fn run_one(command: Command, context: &mut Context) -> Outcome {
    match command {
        Command::Create(arguments) => create::run(arguments, context).await,
        Command::Get(arguments) => get::run(arguments, context).await,
        Command::Set(arguments) => set::run(arguments, context).await,
        Command::Delete(arguments) => delete::run(arguments, context).await,
        Command::Ls(arguments) => ls::run(arguments, context).await,
        Command::Tree(arguments) => tree::run(arguments, context).await,
        Command::Stat(arguments) => stat::run(arguments, context).await,
        Command::Watch(arguments) => watch::run(arguments, context).await,
        Command::Txn(arguments) => txn::run(arguments, context).await,
        Command::Sync(arguments) => sync::run(arguments, context).await,
        Command::Acl(arguments) => acl::run(arguments, context).await,
        Command::Auth(arguments) => auth::run(arguments, context).await,
        Command::Lock(arguments) => lock::run(arguments, context).await,
        Command::Elect(arguments) => elect::run(arguments, context).await,
        Command::Service(arguments) => service::run(arguments, context).await,
        Command::Ring(arguments) => ring::run(arguments, context).await,
        Command::Config(arguments) => config::run(arguments, context).await,
        Command::Session(arguments) => session::run(arguments, context).await,
        Command::Cluster(arguments) => cluster::run(arguments, context).await,
        Command::Snapshot(arguments) => snapshot::run(arguments, context).await,
        Command::Import(arguments) => mirror::import(arguments, context).await,
        Command::Export(arguments) => mirror::export(arguments, context).await,
        Command::Completions(arguments) => completions::run(arguments, context),
        Command::Shell(_) => Err(Failure::usage("this is a shell already")),
    }
}
