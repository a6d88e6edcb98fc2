//! `quorate import` and `quorate export`: a tree copied from ZooKeeper, or to it, and compared.
//!
//! - [`side`]: a tree to read and write, either kind; [`copy`]: makes one like the other;
//!   [`compare`](mod@compare): whether it is, by a digest of every node;
//! - [`follow`]: keeps it so while the other is still written.
//!
//! A copy has data and ACLs. What belongs to a session (ephemerals) and counters (versions, the
//! numbers of sequential names) stay behind; `/zookeeper` belongs to each side itself.

mod compare;
mod copy;
mod follow;
#[cfg(test)]
mod memory;
mod side;

use std::cell::Cell;

use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::job::Signals;
use crate::values::AuthArgument;
use copy::Copied;
use side::Side;

/// Rounds of copying what still differs, while the source is written.
const ROUNDS: usize = 5;

/// Copy a tree out of ZooKeeper.
#[derive(Args, Debug)]
pub struct ImportArguments {
    #[command(subcommand)]
    from: ImportFrom,
}

#[derive(Debug, Subcommand)]
enum ImportFrom {
    /// From a running ZooKeeper ensemble. Run it again after an interruption: what is there already
    /// is not written again.
    Zookeeper(MirrorArguments),
}

/// Copy a tree into ZooKeeper.
#[derive(Args, Debug)]
pub struct ExportArguments {
    #[command(subcommand)]
    to: ExportTo,
}

#[derive(Debug, Subcommand)]
enum ExportTo {
    /// Into a running ZooKeeper ensemble.
    Zookeeper(MirrorArguments),
}

#[derive(Args, Debug)]
struct MirrorArguments {
    /// ZooKeeper's servers: HOST:PORT, comma-separated.
    #[arg(long, visible_alias = "to", value_name = "HOST:PORT")]
    from: String,
    /// Only this node and what is below it.
    #[arg(long, default_value = "/")]
    path: String,
    /// Remove what the source does not have. What sessions hold stays, and the nodes above it.
    #[arg(long)]
    delete: bool,
    /// Import only: keep copying what changes until Ctrl-C, then compare once more.
    #[arg(long)]
    follow: bool,
    /// An identity to prove to ZooKeeper, as --auth is to Quorate: SCHEME:CREDENTIAL.
    #[arg(long, value_name = "SCHEME:CREDENTIAL")]
    zookeeper_auth: Vec<AuthArgument>,
}

#[derive(Debug, Serialize)]
struct MirrorJson {
    path: String,
    nodes: u64,
    #[serde(flatten)]
    copied: Copied,
    digest_source: String,
    digest_target: String,
    equal: bool,
    differing: Vec<String>,
}

impl ImportArguments {
    /// Whether it goes on until it is told to stop.
    pub fn follows(&self) -> bool {
        let ImportFrom::Zookeeper(arguments) = &self.from;
        arguments.follow
    }
}

pub async fn import(arguments: ImportArguments, context: &mut Context) -> Outcome {
    let ImportFrom::Zookeeper(arguments) = arguments.from;
    let mut signals = Signals::new()?;
    let sides = async {
        let source = Side::zookeeper(&arguments.from, &arguments.zookeeper_auth).await?;
        Ok((source, Side::quorate(context.session().await?)))
    };
    let (source, target) = unless_stopped(&mut signals, sides).await?;
    mirror(context, (&source, &target), &arguments, &mut signals).await
}

pub async fn export(arguments: ExportArguments, context: &mut Context) -> Outcome {
    let ExportTo::Zookeeper(arguments) = arguments.to;
    if arguments.follow {
        return Err(Failure::usage("--follow: only an import follows"));
    }
    let mut signals = Signals::new()?;
    let sides = async {
        let source = Side::quorate(context.session().await?);
        Ok((source, Side::zookeeper(&arguments.from, &arguments.zookeeper_auth).await?))
    };
    let (source, target) = unless_stopped(&mut signals, sides).await?;
    mirror(context, (&source, &target), &arguments, &mut signals).await
}

async fn unless_stopped<T>(signals: &mut Signals, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::select! {
        done = work => done,
        _ = signals.next() => Err(Failure::Silent(130)),
    }
}

/// Copies, follows if it should, and compares. Who wants us to end ends the following; at any other
/// time, and the second time, all of it: then what was done until then is said.
async fn mirror(
    context: &Context,
    sides: (&Side, &Side),
    arguments: &MirrorArguments,
    signals: &mut Signals,
) -> Outcome {
    let bar = copy::progress(context);
    let mut copied = Copied::default();
    let following = Cell::<Option<oneshot::Sender<()>>>::new(None);
    let ended = async {
        loop {
            signals.next().await;
            let Some(stop) = following.take() else { return };
            bar.suspend(|| {
                context
                    .output
                    .note("stopping: the copy is completed, then compared; Ctrl-C again ends at once");
            });
            // It may have failed just now.
            let _ = stop.send(());
        }
    };
    tokio::select! {
        outcome = copy_and_compare(context, sides, arguments, &mut copied, &bar, &following) => outcome,
        () = ended => {
            bar.finish_and_clear();
            context.output.note(&format!("stopped, not compared: {}", copied.in_words()));
            context.output.note("run it again: it goes on where it stood");
            Err(Failure::Silent(130))
        }
    }
}

async fn copy_and_compare(
    context: &Context,
    (source, target): (&Side, &Side),
    arguments: &MirrorArguments,
    copied: &mut Copied,
    bar: &ProgressBar,
    following: &Cell<Option<oneshot::Sender<()>>>,
) -> Outcome {
    let (path, delete) = (arguments.path.as_str(), arguments.delete);
    quorate_core::path::validate(path).map_err(|error| Failure::usage(format!("--path: {error}")))?;
    // Watched before it is copied: nothing falls between.
    let changes = if arguments.follow { Some(source.changes(path).await?) } else { None };
    copy::ensure_parents(source, target, path).await?;
    copy::tree(source, target, path, delete, copied, bar).await?;
    if let Some(mut changes) = changes {
        let (stop, stopped) = oneshot::channel();
        following.set(Some(stop));
        bar.suspend(|| context.output.note("copied; following until Ctrl-C"));
        let changed = async || changes.changed().await;
        let stopped = async { stopped.await.unwrap_or_default() };
        follow::run(source, target, (path, delete), changed, stopped, copied, bar).await?;
    }
    let mut comparison = compare::compare(source, target, path).await?;
    for _ in 0..ROUNDS {
        if comparison.is_equal(delete) {
            break;
        }
        for path in comparison.differing(delete) {
            copy::node(source, target, &path, delete, copied).await?;
        }
        comparison = compare::compare(source, target, path).await?;
    }
    bar.finish_and_clear();
    let document = MirrorJson {
        path: path.to_owned(),
        nodes: comparison.nodes(),
        digest_source: comparison.digest_source(),
        digest_target: comparison.digest_target(delete),
        equal: comparison.is_equal(delete),
        differing: comparison.differing(delete).into_iter().take(20).collect(),
        copied: *copied,
    };
    context.output.show(&document, |style| {
        let verdict = if document.equal { "equal" } else { "NOT EQUAL" };
        format!(
            "{} nodes: {}, {} ephemerals left out\n{verdict}  {}",
            document.nodes,
            document.copied.in_words(),
            document.copied.ephemerals,
            style.dim(&format!("digest {} and {}", document.digest_source, document.digest_target)),
        )
    })?;
    if document.equal {
        return Ok(());
    }
    let first = document.differing.first().map(String::as_str).unwrap_or_default();
    let failure = Failure::conflict(format!("the trees still differ, at {first} for one"));
    let hint = "is the source still written? stop its writers, then run this again";
    let kept = if delete { "; what sessions of the target hold stays, and the nodes above it" } else { "" };
    Err(failure.with_hint(format!("{hint}{kept}")))
}
