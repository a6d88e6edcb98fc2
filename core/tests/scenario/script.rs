//! A script file: comments, blocks of commands, `---`, expected output up to an empty line.

use std::fmt::Write as _;

use super::world::World;

/// A file, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    blocks: Vec<Block>,
    /// Comments behind the last block.
    tail: Vec<String>,
}

/// Commands and what they answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    /// The first command's line in the file.
    line: usize,
    /// Comments, commands and empty lines, as they stand.
    input: Vec<String>,
    output: Vec<String>,
}

impl Script {
    /// Takes a file apart.
    pub fn parse(text: &str) -> Result<Script, String> {
        let (mut blocks, mut input) = (Vec::new(), Vec::new());
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if line != "---" {
                input.push(line.to_owned());
                continue;
            }
            if !input.iter().any(|line| is_command(line)) {
                return Err(format!("line {}: no commands before ---", index + 1));
            }
            let output: Vec<String> =
                lines.by_ref().map(|(_, line)| line.to_owned()).take_while(|line| !line.is_empty()).collect();
            let before = input.iter().rev().take_while(|line| is_command(line)).count();
            blocks.push(Block { line: index + 1 - before, input: std::mem::take(&mut input), output });
        }
        if let Some(command) = input.iter().find(|line| is_command(line)) {
            return Err(format!("{command:?} stands behind the last block"));
        }
        while input.last().is_some_and(|line| line.is_empty()) {
            input.pop();
        }
        Ok(Script { blocks, tail: input })
    }

    /// The items that the header names.
    pub fn items(&self) -> Vec<u32> {
        let header = self.blocks.first().map_or(&[][..], |block| &block.input);
        header
            .iter()
            .filter_map(|line| line.strip_prefix("# SEMANTICS "))
            .flat_map(|list| list.split(','))
            .map(|item| item.trim().parse().expect("SEMANTICS is followed by numbers and commas"))
            .collect()
    }

    /// The same commands with what the world answers now.
    pub fn play(&self, world: &mut World) -> Script {
        let mut played = self.clone();
        for block in &mut played.blocks {
            for command in block.input.iter().filter(|line| is_command(line)) {
                world.run(command);
            }
            block.output = world.take_output();
        }
        played
    }

    /// Where another playing of the same script differs first.
    pub fn difference(&self, played: &Script) -> Option<String> {
        let (expected, got) =
            self.blocks.iter().zip(&played.blocks).find(|(expected, got)| expected.output != got.output)?;
        let commands: Vec<&String> = expected.input.iter().filter(|line| is_command(line)).collect();
        let mut text = format!("{}:\n", expected.line);
        for command in commands {
            let _ = writeln!(text, "    {command}");
        }
        text.push_str("  expected\n");
        for line in &expected.output {
            let mark = if got.output.contains(line) { ' ' } else { '-' };
            let _ = writeln!(text, "  {mark} {line}");
        }
        text.push_str("  got\n");
        for line in &got.output {
            let mark = if expected.output.contains(line) { ' ' } else { '+' };
            let _ = writeln!(text, "  {mark} {line}");
        }
        Some(text)
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for block in &self.blocks {
            for line in block.input.iter().map(String::as_str).chain(["---"]) {
                let _ = writeln!(text, "{line}");
            }
            for line in &block.output {
                let _ = writeln!(text, "{line}");
            }
            text.push('\n');
        }
        for line in &self.tail {
            let _ = writeln!(text, "{line}");
        }
        let length = text.trim_end().len();
        text.truncate(length);
        text.push('\n');
        text
    }
}

fn is_command(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}
