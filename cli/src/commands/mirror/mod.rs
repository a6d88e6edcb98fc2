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
mod side;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
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
    /// Remove what the source does not have.
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

pub async fn import(arguments: ImportArguments, context: &mut Context) -> Outcome {
    let ImportFrom::Zookeeper(arguments) = arguments.from;
    let source = Side::zookeeper(&arguments.from, &arguments.zookeeper_auth).await?;
    let target = Side::quorate(context.session().await?);
    mirror(context, &source, &target, &arguments).await
}

pub async fn export(arguments: ExportArguments, context: &mut Context) -> Outcome {
    let ExportTo::Zookeeper(arguments) = arguments.to;
    if arguments.follow {
        return Err(Failure::usage("--follow: only an import follows"));
    }
    let source = Side::quorate(context.session().await?);
    let target = Side::zookeeper(&arguments.from, &arguments.zookeeper_auth).await?;
    mirror(context, &source, &target, &arguments).await
}

async fn mirror(context: &Context, source: &Side, target: &Side, arguments: &MirrorArguments) -> Outcome {
    let path = arguments.path.as_str();
    quorate_core::path::validate(path).map_err(|error| Failure::usage(format!("--path: {error}")))?;
    let bar = copy::progress(context);
    let mut copied = Copied::default();
    // Watched before it is copied: nothing falls between.
    let changes = if arguments.follow { Some(source.changes(path).await?) } else { None };
    copy::ensure_parents(source, target, path).await?;
    copy::tree(source, target, path, arguments.delete, &mut copied, &bar).await?;
    if let Some(changes) = changes {
        bar.suspend(|| context.output.note("copied; following until Ctrl-C"));
        follow::run(source, target, (path, arguments.delete), changes, &mut copied, &bar).await?;
    }
    let mut comparison = compare::compare(source, target, path).await?;
    for _ in 0..ROUNDS {
        if comparison.is_equal(arguments.delete) {
            break;
        }
        for path in comparison.differing(arguments.delete) {
            copy::node(source, target, &path, arguments.delete, &mut copied).await?;
        }
        comparison = compare::compare(source, target, path).await?;
    }
    bar.finish_and_clear();
    let document = MirrorJson {
        path: path.to_owned(),
        nodes: comparison.nodes(),
        digest_source: comparison.digest_source(),
        digest_target: comparison.digest_target(arguments.delete),
        equal: comparison.is_equal(arguments.delete),
        differing: comparison.differing(arguments.delete).into_iter().take(20).collect(),
        copied,
    };
    context.output.show(&document, |style| {
        let verdict = if document.equal { "equal" } else { "NOT EQUAL" };
        format!(
            "{} nodes: {} created, {} changed, {} deleted, {} ephemerals left out\n{verdict}  {}",
            document.nodes,
            document.copied.created,
            document.copied.changed,
            document.copied.deleted,
            document.copied.ephemerals,
            style.dim(&format!("digest {} and {}", document.digest_source, document.digest_target)),
        )
    })?;
    if document.equal {
        return Ok(());
    }
    let first = document.differing.first().map(String::as_str).unwrap_or_default();
    Err(Failure::conflict(format!("the trees still differ, at {first} for one"))
        .with_hint("is the source still written? stop its writers, then run this again"))
}
