//! The command line: global options and the list of commands. Each command's own arguments are in
//! its file under [`crate::commands`].

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::values::{AuthArgument, parse_duration};

/// Where `quorated dev` listens.
pub const DEFAULT_ENDPOINTS: &str = "127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  another failure
  2  usage: an argument, a path or an ACL that cannot be
  3  not found
  4  conflict: the node exists, has another version or children; a guard does not hold
  5  unavailable: no member answers, no quorum, a session lost; sent again, it may succeed
  6  denied: a false credential or a missing permission
lock and elect exit with the status of the command that they run.";

/// Look at and change a Quorate cluster.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100, after_help = EXIT_CODES, subcommand_required = true)]
pub struct Arguments {
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug)]
pub struct GlobalArguments {
    /// Where members serve clients: HOST:PORT, comma-separated. One that answers is enough.
    #[arg(
        long, global = true, env = "QUORATE_ENDPOINTS", value_delimiter = ',', value_name = "H:P,…",
        default_value = DEFAULT_ENDPOINTS, help_heading = "Global options"
    )]
    pub endpoints: Vec<String>,

    /// What to print: tables for people, or one JSON document (for watch: one line an event).
    #[arg(
        long,
        short = 'o',
        global = true,
        env = "QUORATE_OUTPUT",
        value_enum,
        default_value = "table",
        help_heading = "Global options"
    )]
    pub output: Format,

    /// How long to keep trying before giving up.
    #[arg(
        long, global = true, env = "QUORATE_TIMEOUT", value_name = "DURATION", default_value = "10s",
        value_parser = parse_duration, help_heading = "Global options"
    )]
    pub timeout: Duration,

    /// Prove an identity, such as digest:alice:secret. May be given several times.
    #[arg(
        long,
        global = true,
        env = "QUORATE_AUTH",
        hide_env_values = true,
        value_name = "SCHEME:CREDENTIAL",
        help_heading = "Global options"
    )]
    pub auth: Vec<AuthArgument>,

    /// How fresh reads must be: every write acknowledged anywhere, or just what a member has (also
    /// without a quorum).
    #[arg(
        long,
        global = true,
        env = "QUORATE_CONSISTENCY",
        value_enum,
        default_value = "linearizable",
        help_heading = "Global options"
    )]
    pub consistency: ConsistencyArgument,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// How fresh reads must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConsistencyArgument {
    Linearizable,
    Session,
}

/// The commands, in the order of --help.
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(commands::create::CreateArguments),
    Get(commands::get::GetArguments),
    Set(commands::set::SetArguments),
    Delete(commands::delete::DeleteArguments),
    Ls(commands::ls::LsArguments),
    Tree(commands::tree::TreeArguments),
    Stat(commands::stat::StatArguments),
    Watch(commands::watch::WatchArguments),
    Txn(commands::txn::TxnArguments),
    Sync(commands::sync::SyncArguments),
    Acl(commands::acl::AclArguments),
    Auth(commands::auth::AuthArguments),
    Lock(commands::lock::LockArguments),
    Elect(commands::elect::ElectArguments),
    Service(commands::service::ServiceArguments),
    Ring(commands::ring::RingArguments),
    Config(commands::config::ConfigArguments),
    Session(commands::session::SessionArguments),
    Cluster(commands::cluster::ClusterArguments),
    Snapshot(commands::snapshot::SnapshotArguments),
    Import(commands::mirror::ImportArguments),
    Export(commands::mirror::ExportArguments),
    Shell(commands::shell::ShellArguments),
    Completions(commands::completions::CompletionsArguments),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_behind_the_command() {
        for line in ["quorate --output json get /a", "quorate get /a --output json", "quorate get -o json /a"]
        {
            assert_eq!(parse(line).expect("parses").global.output, Format::Json, "{line}");
        }
    }

    #[test]
    fn endpoints_are_comma_separated() {
        let arguments = parse("quorate --endpoints a:1,b:2 sync /").expect("parses");
        assert_eq!(arguments.global.endpoints, ["a:1", "b:2"]);
    }

    #[test]
    fn without_endpoints_all_members_of_the_development_cluster_are_tried() {
        // The environment may name others: then there is nothing to say about the default.
        if std::env::var_os("QUORATE_ENDPOINTS").is_none() {
            assert_eq!(parse("quorate sync /").expect("parses").global.endpoints.len(), 3);
        }
    }

    #[test]
    fn what_is_behind_two_dashes_belongs_to_the_command_run() {
        let arguments = parse("quorate lock /l -- run --output json").expect("parses");
        assert_eq!(arguments.global.output, Format::Table);
        let Command::Lock(lock) = arguments.command else { panic!("a lock") };
        assert_eq!(lock.run.command, ["run", "--output", "json"]);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "quorate",
            "quorate get",
            "quorate --timeout ten get /a",
            "quorate --timeout 10 get /a",
            "quorate set /a x --version one",
            "quorate create /a --ttl -1s",
            "quorate create -e --container /a",
            "quorate create -e --ttl 3s /a",
            "quorate watch /a --since x",
            "quorate --auth alice get /a",
            "quorate lock /l",
            "quorate lock /l --",
            "quorate cluster add",
            "quorate cluster add 0 --peer a:1 --client a:2",
            "quorate cluster add x --peer a:1 --client a:2",
            "quorate cluster add 4 --peer a --client a:2",
            "quorate cluster promote -1",
            "quorate session close zz",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn versions_may_be_any() {
        let arguments = parse("quorate set /a x --version -1").expect("parses");
        let Command::Set(set) = arguments.command else { panic!("a set") };
        assert_eq!(set.version, Some(-1));
    }
}
