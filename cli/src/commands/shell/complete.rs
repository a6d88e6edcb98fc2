//! How a line of the shell may go on: commands, their subcommands and options, and paths, which
//! are read from the cluster.

use clap::CommandFactory;

use super::Line;
use super::reader::Candidates;
use crate::commands::ls;
use crate::context::Context;

/// What the last word of `line` can become.
pub async fn candidates(context: &mut Context, line: &str) -> Candidates {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let (before, word) = line.split_at(start);
    let words = match word.rsplit_once('/') {
        Some((parent, name)) if word.starts_with('/') => paths(context, parent, name).await,
        _ => words_of_commands(before, word),
    };
    Candidates { start, words }
}

async fn paths(context: &mut Context, parent: &str, name: &str) -> Vec<String> {
    let path = if parent.is_empty() { "/" } else { parent };
    // Where nothing can be read there is nothing to offer.
    let Ok((children, _)) = ls::children(context, path, false).await else { return Vec::new() };
    let fitting = children.iter().filter(|child| child.name.starts_with(name));
    fitting.map(|child| ls::join(parent, &child.name)).collect()
}

fn words_of_commands(before: &str, word: &str) -> Vec<String> {
    let mut command = Line::command();
    for name in before.split_whitespace() {
        // What is no subcommand is an argument: the command stays.
        if let Some(below) = command.find_subcommand(name) {
            command = below.clone();
        }
    }
    let subcommands = command.get_subcommands().map(|below| below.get_name().to_string());
    let options = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    let options = options.filter(|_| word.starts_with('-'));
    let mut words: Vec<String> = subcommands.chain(options).filter(|known| known.starts_with(word)).collect();
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_parts_are_offered() {
        assert_eq!(words_of_commands("", "cr"), ["create"]);
        assert_eq!(words_of_commands("cluster ", "re"), ["remove", "replace"]);
        assert_eq!(words_of_commands("get ", "--r"), ["--raw"]);
        assert!(words_of_commands("get ", "x").is_empty());
    }
}
