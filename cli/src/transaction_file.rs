//! The text of a transaction: one operation a line, in the words of the command line.
//!
//! ```text
//! # Move the leader's mark, if nobody else did.
//! check  /service --version 3
//! guard  lock /locks/service 1207
//! create /service/new "some data" --sequential
//! set    /service/mark 'new' --version 7
//! delete /service/old
//! ```

use std::time::Duration;

use clap::{Parser, Subcommand};
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Guard, MultiOperation};
use quorate_core::id::Zxid;

use crate::commands::create::mode;
use crate::failure::{Failure, Outcome};
use crate::values::{DataArgument, parse_acl_entry, parse_duration};
use crate::words;

/// One line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    operation: LineOperation,
}

#[derive(Debug, Subcommand)]
enum LineOperation {
    Create {
        path: String,
        #[arg(allow_negative_numbers = true)]
        data: Option<DataArgument>,
        #[arg(short, long, conflicts_with = "container")]
        sequential: bool,
        #[arg(long, conflicts_with = "ttl")]
        container: bool,
        #[arg(long, value_parser = parse_duration)]
        ttl: Option<Duration>,
        #[arg(long, value_parser = parse_acl_entry)]
        acl: Vec<AclEntry>,
    },
    Set {
        path: String,
        #[arg(allow_negative_numbers = true)]
        data: DataArgument,
        #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
        version: i32,
    },
    Delete {
        path: String,
        #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
        version: i32,
    },
    Check {
        path: String,
        #[arg(long, allow_negative_numbers = true, default_value_t = -1)]
        version: i32,
    },
    #[command(arg_required_else_help = false)]
    Guard {
        #[command(subcommand)]
        condition: LineGuard,
    },
}

#[derive(Debug, Subcommand)]
enum LineGuard {
    /// The lock is held with this token.
    Lock { path: String, token: u64 },
    /// The node was last set by this transaction.
    Modified { path: String, zxid: u64 },
    /// The node was created by this transaction.
    Created { path: String, zxid: u64 },
    /// There is no such node.
    Absent { path: String },
}

/// An operation with its name, for telling what became of it.
#[derive(Debug)]
pub struct NamedOperation {
    /// What and where: "create /a", "guard absent /b".
    pub name: String,
    pub operation: MultiOperation,
}

/// Parses a whole file.
///
/// # Errors
/// Names the line and what is wrong with it.
pub fn parse(text: &str) -> Outcome<Vec<NamedOperation>> {
    let mut operations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: &str| Failure::usage(format!("line {}: {why}", index + 1));
        let words = words::split(line).map_err(|why| wrong(&why))?;
        if words.is_empty() {
            continue;
        }
        let parsed = Line::try_parse_from(&words).map_err(|error| wrong(&first_sentence(&error)))?;
        let operation = operation(parsed.operation).map_err(|failure| wrong(&failure.to_string()))?;
        operations.push(NamedOperation { name: name_of(&operation), operation });
    }
    Ok(operations)
}

fn operation(line: LineOperation) -> Outcome<MultiOperation> {
    Ok(match line {
        LineOperation::Create { path, data, sequential, container, ttl, acl } => {
            MultiOperation::Create(Create {
                path,
                data: data.map(read).transpose()?,
                acl: if acl.is_empty() { AclEntry::open() } else { acl },
                mode: mode(false, sequential, container, ttl),
            })
        }
        LineOperation::Set { path, data, version } => {
            MultiOperation::SetData { path, data: Some(read(data)?), version }
        }
        LineOperation::Delete { path, version } => MultiOperation::Delete { path, version },
        LineOperation::Check { path, version } => MultiOperation::Check { path, version },
        LineOperation::Guard { condition } => MultiOperation::Guard(match condition {
            LineGuard::Lock { path, token } => Guard::Lock { path, token: Zxid(token) },
            LineGuard::Modified { path, zxid } => Guard::Modified { path, zxid: Zxid(zxid) },
            LineGuard::Created { path, zxid } => Guard::Created { path, zxid: Zxid(zxid) },
            LineGuard::Absent { path } => Guard::Absent { path },
        }),
    })
}

fn name_of(operation: &MultiOperation) -> String {
    let (what, path) = match operation {
        MultiOperation::Create(create) => ("create", &create.path),
        MultiOperation::SetData { path, .. } => ("set", path),
        MultiOperation::Delete { path, .. } => ("delete", path),
        MultiOperation::Check { path, .. } => ("check", path),
        MultiOperation::Guard(Guard::Lock { path, .. }) => ("guard lock", path),
        MultiOperation::Guard(Guard::Modified { path, .. }) => ("guard modified", path),
        MultiOperation::Guard(Guard::Created { path, .. }) => ("guard created", path),
        MultiOperation::Guard(Guard::Absent { path }) => ("guard absent", path),
    };
    format!("{what} {path}")
}

fn read(data: DataArgument) -> Outcome<bytes::Bytes> {
    match data {
        DataArgument::Stdin => {
            Err(Failure::usage("data cannot come from the standard input here; write @FILE"))
        }
        data => data.read(),
    }
}

/// What clap says, on one line.
fn first_sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.lines().map(str::trim).collect::<Vec<&str>>().join(" ");
    line.strip_prefix("error: ").map(Into::into).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_core::znode::CreateMode;

    use super::*;

    fn one(line: &str) -> MultiOperation {
        let mut operations = parse(line).expect(line);
        assert_eq!(operations.len(), 1, "{line}");
        operations.remove(0).operation
    }

    #[test]
    fn every_operation_has_a_line() {
        let create = |path: &str, data: Option<&'static [u8]>, mode| {
            let data = data.map(Bytes::from_static);
            MultiOperation::Create(Create { path: path.into(), data, acl: AclEntry::open(), mode })
        };
        assert_eq!(one("create /a"), create("/a", None, CreateMode::Persistent));
        assert_eq!(one("create /a 'x y' -s"), create("/a", Some(b"x y"), CreateMode::PersistentSequential));
        assert_eq!(one("create --container /a"), create("/a", None, CreateMode::Container));
        assert_eq!(one("create /a --ttl 30s"), create("/a", None, CreateMode::Ttl { ttl_ms: 30_000 }));
        let set = |version| MultiOperation::SetData { path: "/a".into(), data: Some("5".into()), version };
        assert_eq!(one("set /a 5"), set(-1));
        assert_eq!(one("set /a 5 --version 7"), set(7));
        assert_eq!(one("delete /a --version 2"), MultiOperation::Delete { path: "/a".into(), version: 2 });
        assert_eq!(one("check /a"), MultiOperation::Check { path: "/a".into(), version: -1 });
        for (line, guard) in [
            ("guard lock /l 12", Guard::Lock { path: "/l".into(), token: Zxid(12) }),
            ("guard modified /a 3", Guard::Modified { path: "/a".into(), zxid: Zxid(3) }),
            ("guard created /a 4", Guard::Created { path: "/a".into(), zxid: Zxid(4) }),
            ("guard absent /a", Guard::Absent { path: "/a".into() }),
        ] {
            assert_eq!(one(line), MultiOperation::Guard(guard));
        }
    }

    #[test]
    fn comments_and_empty_lines_are_nothing() {
        let operations = parse("# a comment\n\n  check /a  # another\nguard absent /b\n").expect("parses");
        let names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
        assert_eq!(names, ["check /a", "guard absent /b"]);
    }

    #[test]
    fn an_error_names_its_line_in_one_line() {
        for (line, mentions) in [
            ("crate /a", "crate"),
            ("create", "PATH"),
            ("set /a", "DATA"),
            ("check /a --version x", "x"),
            ("guard", "subcommand"),
            ("guard lock /l", "TOKEN"),
            ("create -e /a", "-e"),
            ("set /a 'x", "not closed"),
            ("set /a -", "standard input"),
            ("set /a @/no/such/file", "/no/such/file"),
        ] {
            let failure = parse(&format!("check /a\n\n{line}\n")).expect_err(line);
            let message = failure.to_string();
            assert_eq!(failure.exit_code(), 2, "{line}");
            assert!(message.starts_with("line 3: "), "{message}");
            assert!(message.contains(mentions), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
