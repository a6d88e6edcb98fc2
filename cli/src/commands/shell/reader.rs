//! The shell's terminal: editing, history, and asking for completions.

use std::path::PathBuf;
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};
use tokio::sync::mpsc;

use crate::failure::{Failure, Outcome};

/// A completion that takes longer would be in the way.
const COMPLETION_MAX: Duration = Duration::from_secs(2);

/// What the reader asks of the other side.
#[derive(Debug)]
pub enum Asked {
    /// Run this line, then say so.
    Run { line: String, done: std::sync::mpsc::Sender<()> },
    /// How may this line go on?
    Complete { line: String, answer: std::sync::mpsc::Sender<Candidates> },
}

/// How a line may go on: what the last word, which begins at `start`, can become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    pub start: usize,
    pub words: Vec<String>,
}

/// Reads lines until the end of the input, or until nobody wants more.
pub fn run(is_interactive: bool, asked: &mpsc::Sender<Asked>) -> Outcome {
    if !is_interactive {
        for line in std::io::stdin().lines() {
            if !ask(asked, line?) {
                break;
            }
        }
        return Ok(());
    }
    let failed = |error: ReadlineError| Failure::other(format!("cannot read the terminal: {error}"));
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
    let mut editor: Editor<Completions, FileHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Completions { asked: asked.clone() }));
    let history = history_file();
    if let Some(file) = &history {
        // Without a history of earlier shells this one works too.
        let _ = editor.load_history(file);
    }
    loop {
        match editor.readline("quorate> ") {
            Ok(line) => {
                if is_worth_keeping(&line) {
                    // Only comfort is lost if it cannot be kept.
                    let _ = editor.add_history_entry(&line);
                    let _ = history.as_ref().map(|file| editor.append_history(file));
                }
                if !ask(asked, line) {
                    break Ok(());
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break Ok(()),
            Err(error) => break Err(failed(error)),
        }
    }
}

/// Asks for a line to be run and waits. False: nobody is there any more.
fn ask(asked: &mpsc::Sender<Asked>, line: String) -> bool {
    let (done, is_done) = std::sync::mpsc::channel();
    asked.blocking_send(Asked::Run { line, done }).is_ok() && is_done.recv().is_ok()
}

/// Secrets do not belong on the disk.
fn is_worth_keeping(line: &str) -> bool {
    let line = line.trim();
    let has_secret = ["--auth", "--zookeeper-auth"].iter().any(|option| line.contains(option));
    !line.is_empty() && !has_secret && line.split_whitespace().all(|word| word != "auth")
}

/// Where history is kept; its folder is made if need be.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let folder = state.or_else(home)?.join("quorate");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

#[derive(Helper, Highlighter, Hinter, Validator)]
struct Completions {
    asked: mpsc::Sender<Asked>,
}

impl Completer for Completions {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (answer, answered) = std::sync::mpsc::channel();
        let line = line[..at].to_string();
        let asked = self.asked.blocking_send(Asked::Complete { line, answer });
        let candidates = match asked {
            Ok(()) => answered.recv_timeout(COMPLETION_MAX).unwrap_or_default(),
            Err(_) => Candidates::default(),
        };
        Ok((candidates.start, candidates.words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        assert!(is_worth_keeping("get /author"));
        assert!(!is_worth_keeping("auth digest:a:b"));
        assert!(!is_worth_keeping(" get /a --auth digest:a:b"));
        assert!(!is_worth_keeping("import zookeeper --from a:1 --zookeeper-auth digest:super:b"));
        assert!(!is_worth_keeping("  "));
    }
}
