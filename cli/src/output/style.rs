//! Colours, only where a terminal shows them and NO_COLOR does not forbid them.

use std::io::IsTerminal;

/// Whether to colour, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    colours: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Style {
        Style { colours: false }
    }

    pub fn of_stdout() -> Style {
        Style { colours: std::io::stdout().is_terminal() && wanted() }
    }

    pub fn of_stderr() -> Style {
        Style { colours: std::io::stderr().is_terminal() && wanted() }
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn warn(&self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// Nodes that have children.
    pub fn parent(&self, text: &str) -> String {
        self.paint("1;34", text)
    }

    /// Nodes that go by themselves.
    pub fn passing(&self, text: &str) -> String {
        self.paint("35", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

fn wanted() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
