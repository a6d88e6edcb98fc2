//! `quorated`: parse, start, wait.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quorate_server::config::{DEFAULT_FILE, Settings};
use quorate_server::replica::checkpoint;
use quorate_server::{dev, server};

#[global_allocator]
static ALLOCATOR: quorate_allocator::MiMalloc = quorate_allocator::MiMalloc;

/// Where `dev` begins, unless told otherwise.
const DEV_PORT: u16 = 7400;
/// A ninth member's client port would be the first one's for HTTP.
const MEMBERS_MAX: u64 = 8;
/// ZooKeeper's own.
const ZOOKEEPER_PORT: u16 = 2181;

/// A member of a Quorate cluster.
#[derive(Parser)]
#[command(name = "quorated", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster in this process, on loopback, with nothing to configure.
    Dev {
        /// How many members.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=MEMBERS_MAX))]
        members: u64,
        /// Keep the data here; without it a temporary directory is used and removed at the end.
        #[arg(long)]
        data_dir: Option<PathBuf>,
        /// The first member's client port; peers listen one above, HTTP eighty above, the next member ten above.
        #[arg(long, default_value_t = DEV_PORT)]
        port: u16,
        /// The first member's port for ZooKeeper clients, the next member one above; 0 for none.
        /// 2181 with the default --port, else none.
        #[arg(long)]
        zookeeper_port: Option<u16>,
    },
    /// Run one member.
    Serve {
        /// A settings file; flags and environment variables win over it.
        #[arg(long, env = "QUORATE_CONFIG")]
        config: Option<PathBuf>,
        /// A ZooKeeper server's zoo.cfg (and the myid in its dataDir) instead.
        #[arg(long, conflicts_with = "config")]
        zoo_cfg: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Make a data directory out of a snapshot file: the first member of a new cluster, offline.
    Restore {
        /// What `quorate snapshot save` wrote.
        #[arg(long)]
        snapshot: PathBuf,
        /// A settings file; flags and environment variables win over it.
        #[arg(long, env = "QUORATE_CONFIG")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Show configuration.
    Config {
        /// Print a commented file with every key and its default.
        #[arg(long, required = true)]
        print_default: bool,
    },
}

fn main() -> ExitCode {
    checkpoint::abort_on_panic();
    quorate_allocator::give_back_when_threads_end();
    let result = match Arguments::parse().command {
        Command::Dev { members, data_dir, port, zookeeper_port } => {
            let default = if port == DEV_PORT { ZOOKEEPER_PORT } else { 0 };
            dev::run(members, data_dir, port, zookeeper_port.unwrap_or(default))
        }
        Command::Serve { config, zoo_cfg, settings } => server::run(config, zoo_cfg, *settings),
        Command::Restore { snapshot, config, settings } => server::restore(&snapshot, config, *settings),
        Command::Config { .. } => {
            print!("{DEFAULT_FILE}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorated: {error}");
            ExitCode::FAILURE
        }
    }
}
