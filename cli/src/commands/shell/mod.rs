//! `quorate shell`: the same commands, line by line, with history and completion.
//!
//! The terminal is read by a thread of its own ([`reader`]), because reading blocks; it asks this
//! side to complete paths ([`complete`]). From a pipe, the first failure ends the shell.

mod complete;
mod reader;

use std::io::IsTerminal;

use clap::{Args, Parser};
use tokio::sync::mpsc;

use crate::arguments::{Command, Format};
use crate::commands;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::words;
use reader::Asked;

/// Type commands without the word quorate; Tab completes them and paths.
#[derive(Args, Debug)]
pub struct ShellArguments {}

/// Commands as on the command line, without the word quorate; exit or Ctrl-D ends the shell.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_version_flag = true, max_term_width = 100)]
pub(super) struct Line {
    /// What this line prints; what the shell was started with if absent.
    #[arg(long, short = 'o', global = true, value_enum)]
    output: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

pub async fn run(_arguments: ShellArguments, context: &mut Context) -> Outcome {
    let is_interactive = std::io::stdin().is_terminal();
    context.is_shell = true;
    if is_interactive {
        context.api.reach().await?;
        context.output.note("Commands are those of `quorate help`; Tab completes, exit or Ctrl-D ends.");
    }
    let (asked_sender, mut asked) = mpsc::channel(1);
    // The thread ends with the process: nothing can wake it from reading.
    let reader = std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || reader::run(is_interactive, &asked_sender))
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    // A script hears of a stop between its lines, too.
    let mut stop = Box::pin(crate::child::stop_signal());
    loop {
        let asked = tokio::select! {
            asked = asked.recv() => asked,
            stopped = &mut stop, if !is_interactive => return stopped.and(Err(Failure::Silent(130))),
        };
        let Some(asked) = asked else { break };
        match asked {
            Asked::Complete { line, answer } => {
                // The reader may have given up waiting.
                let _ = answer.send(complete::candidates(context, &line).await);
            }
            Asked::Run { line, done } => {
                let outcome = run_line(context, &line, is_interactive).await;
                let format = context.output.format;
                match outcome {
                    Ok(Next::Continue) => {}
                    Ok(Next::End) => return Ok(()),
                    Err(failure) if !is_interactive => return Err(failure),
                    Err(Failure::ClosedPipe) => return Err(Failure::ClosedPipe),
                    Err(failure) => {
                        failure.report(format);
                    }
                }
                if !is_interactive {
                    // What the line itself heard was for it.
                    stop = Box::pin(crate::child::stop_signal());
                }
                // The reader waits for this.
                let _ = done.send(());
            }
        }
    }
    reader.join().unwrap_or_else(|_| Err(Failure::other("reading the terminal failed")))
}

enum Next {
    Continue,
    End,
}

async fn run_line(context: &mut Context, line: &str, is_interactive: bool) -> Outcome<Next> {
    let mut words = words::split(line).map_err(Failure::usage)?;
    if words.first().is_some_and(|word| word == "quorate") {
        words.remove(0);
    }
    match words.first().map(String::as_str) {
        None => return Ok(Next::Continue),
        Some("exit" | "quit") => return Ok(Next::End),
        Some(_) => {}
    }
    let line = match Line::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) if !error.use_stderr() => {
            // Help, asked for.
            context.output.text(&error.render().to_string())?;
            return Ok(Next::Continue);
        }
        Err(error) => {
            let text = error.render().to_string();
            return Err(Failure::usage(text.trim().trim_start_matches("error: ").to_string()));
        }
    };
    let usual = context.output.format;
    context.output.format = line.output.unwrap_or(usual);
    let outcome = run_command(context, line.command, is_interactive).await;
    context.output.format = usual;
    outcome.map(|()| Next::Continue)
}

async fn run_command(context: &mut Context, command: Command, is_interactive: bool) -> Outcome {
    // Those that run a command pass Ctrl-C on to it; an import that follows ends its following.
    let hears_by_itself = match &command {
        Command::Lock(_) | Command::Elect(_) => true,
        Command::Import(import) => import.follows(),
        _ => false,
    };
    if hears_by_itself {
        return commands::run_one(command, context).await;
    }
    tokio::select! {
        outcome = Box::pin(commands::run_one(command, context)) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            // Who types only wants this command to end. A script must not go on without it.
            if is_interactive { Ok(()) } else { Err(Failure::Silent(130)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_line_is_a_command_without_the_program() {
        Line::command().debug_assert();
        let line = Line::try_parse_from(["get", "/a"]).expect("parses");
        assert!(matches!(line.command, Command::Get(_)));
        assert!(Line::try_parse_from(["nonsense"]).is_err());
    }
}
