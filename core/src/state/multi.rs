//! A transaction of many operations: all or none, one zxid, later ones see earlier ones.

use super::State;
use super::transaction::Transaction;
use crate::command::MultiOperation;
use crate::error::Error;
use crate::reply::WriteResult;

impl State {
    /// Runs the operations in order; the first that fails undoes all and names its index.
    pub(super) fn multi(
        &mut self,
        transaction: &mut Transaction<'_>,
        operations: &[MultiOperation],
    ) -> Result<WriteResult, Error> {
        transaction.undo = Some(Vec::with_capacity(operations.len()));
        let mut results = Vec::with_capacity(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            let result = match operation {
                MultiOperation::Create(create) => self.create(transaction, create),
                MultiOperation::Delete { path, version } => self.delete(transaction, path, *version),
                MultiOperation::SetData { path, data, version } => {
                    self.set_data(transaction, path, data.as_ref(), *version)
                }
                MultiOperation::Check { path, version } => self.check(transaction, path, *version),
                MultiOperation::Guard(guard) => self.guard(transaction, guard),
            };
            match result {
                Ok(result) => results.push(result),
                Err(error) => {
                    self.roll_back(transaction);
                    return Err(error.at_operation(index as u32));
                }
            }
        }
        Ok(WriteResult::Multi(results))
    }
}
