//! What is printed: tables for people, JSON for programs. Results go to the standard output, all
//! else (notes, progress, failures) to the standard error.
//!
//! - [`style`]: colours, where a terminal shows them; [`table`]: columns; [`outline`]: a tree;
//! - [`human`]: times, sizes and data as people read them; [`json`]: the documents' shapes.
//!
//! A closed pipe (`quorate ls / | head -1`) ends the command without a word.

pub mod human;
pub mod json;
pub mod outline;
pub mod style;
pub mod table;

use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::arguments::Format;
use crate::failure::Outcome;
use style::Style;

/// Where a command's result goes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub format: Format,
    pub style: Style,
}

impl Output {
    pub fn new(format: Format) -> Output {
        Output { format, style: Style::of_stdout() }
    }

    /// The whole result of a command: as JSON, or as the text that `table` makes.
    pub fn show<D: Serialize>(&self, document: &D, table: impl FnOnce(&Style) -> String) -> Outcome {
        match self.format {
            Format::Json => self.json_line(document),
            Format::Table => self.text(&table(&self.style)),
        }
    }

    /// One JSON document on a line.
    pub fn json_line<D: Serialize>(&self, document: &D) -> Outcome {
        let mut line = serde_json::to_vec(document).expect("our documents have string keys only");
        line.push(b'\n');
        self.raw(&line)
    }

    /// Text, ended by a newline if it is not empty.
    pub fn text(&self, text: &str) -> Outcome {
        if text.is_empty() || text.ends_with('\n') {
            return self.raw(text.as_bytes());
        }
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Bytes as they are.
    pub fn raw(&self, bytes: &[u8]) -> Outcome {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Something for whoever sits in front of it; JSON readers are spared.
    pub fn note(&self, text: &str) {
        if self.format == Format::Table {
            // Where nobody listens there is nothing to do about it.
            let _ = writeln!(std::io::stderr(), "{}", Style::of_stderr().dim(text));
        }
    }

    /// Something that must not be overlooked.
    pub fn warn(&self, text: &str) {
        // Where nobody listens there is nothing to do about it.
        let _ = writeln!(std::io::stderr(), "{} {text}", Style::of_stderr().bad("quorate:"));
    }

    /// Whether somebody watches the progress.
    pub fn shows_progress(&self) -> bool {
        self.format == Format::Table && std::io::stderr().is_terminal()
    }
}
