//! Looks ahead at what commands will need, so that applying them waits less for memory.

use super::State;
use crate::command::{Command, MultiOperation, Operation};

impl State {
    /// Looks at the nodes that these commands are about. To be called before they are applied; it
    /// changes nothing, and may be left out.
    pub fn prefetch(&self, commands: &[Command]) {
        let mut paths = Vec::with_capacity(commands.len());
        for command in commands {
            match &command.operation {
                Operation::Create(create) => paths.push(&*create.path),
                Operation::Delete { path, .. }
                | Operation::SetData { path, .. }
                | Operation::SetAcl { path, .. } => paths.push(path),
                Operation::Multi(operations) => paths.extend(operations.iter().filter_map(path_of)),
                _ => {}
            }
        }
        self.tree.prefetch(&paths);
    }
}

fn path_of(operation: &MultiOperation) -> Option<&str> {
    match operation {
        MultiOperation::Create(create) => Some(&create.path),
        MultiOperation::Delete { path, .. }
        | MultiOperation::SetData { path, .. }
        | MultiOperation::Check { path, .. } => Some(path),
        MultiOperation::Guard(_) => None,
    }
}
