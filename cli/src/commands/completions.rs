//! `quorate completions`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::context::Context;
use crate::failure::Outcome;

/// Print a shell's completions, for example: source <(quorate completions bash).
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: CompletionsArguments, context: &mut Context) -> Outcome {
    // Through a buffer: the generator panics if its reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "quorate", &mut script);
    context.output.raw(&script)
}
