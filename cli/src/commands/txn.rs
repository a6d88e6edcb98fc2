//! `quorate txn`: many operations, all or none. The text is read by [`crate::transaction_file`].

use clap::Args;
use quorate_core::command::MultiOperation;
use quorate_core::reply::WriteResult;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::{Api, Call};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::json::StatJson;
use crate::transaction_file::{self, NamedOperation};
use crate::values::DataArgument;

/// Do many operations, all or none
///
/// One operation a line:
///   create PATH [DATA] [-s] [--container] [--ttl 30s] [--acl ENTRY]
///   set PATH DATA [--version N]
///   delete PATH [--version N]
///   check PATH [--version N]
///   guard lock PATH TOKEN | modified PATH ZXID | created PATH ZXID | absent PATH
/// # starts a comment; quote with '…' or "…"; DATA may be @FILE.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct TxnArguments {
    /// The file; - is the standard input.
    file: String,
}

#[derive(Debug, Serialize)]
struct TxnJson {
    zxid: u64,
    results: Vec<ResultJson>,
}

/// What one operation did.
#[derive(Debug, Serialize)]
struct ResultJson {
    operation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatJson>,
}

pub async fn run(arguments: TxnArguments, context: &mut Context) -> Outcome {
    let source = if arguments.file == "-" { DataArgument::Stdin } else { DataArgument::File(arguments.file) };
    let bytes = source.read()?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Failure::usage(format!("the file is no text: {error}")))?;
    let (names, operations): (Vec<String>, Vec<MultiOperation>) = transaction_file::parse(text)?
        .into_iter()
        .map(|NamedOperation { name, operation }| (name, operation))
        .unzip();
    let request = v1::MultiRequest {
        operations: operations.into_iter().map(Into::into).collect(),
        request_id: Api::request_id()?,
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::NamedWrite, "", async |client| client.multi(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let results: Vec<WriteResult> = answer
        .results
        .into_iter()
        .map(WriteResult::try_from)
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::other(format!("the member's answer makes no sense: {error}")))?;
    let results =
        names.into_iter().zip(&results).map(|(operation, result)| result_json(operation, result)).collect();
    let document = TxnJson { zxid: answer.zxid, results };
    context.output.show(&document, |style| {
        let done = |result: &ResultJson| match &result.path {
            // A numbered node's path is known only now.
            Some(path) if !result.operation.ends_with(path) => {
                format!("{}  {} → {path}\n", style.good("✓"), result.operation)
            }
            _ => format!("{}  {}\n", style.good("✓"), result.operation),
        };
        let lines: String = document.results.iter().map(done).collect();
        format!("{lines}{}", style.dim(&format!("done as transaction {}", document.zxid)))
    })
}

fn result_json(operation: String, result: &WriteResult) -> ResultJson {
    let (path, stat) = match result {
        WriteResult::Created { path, stat } => (Some(path.clone()), Some(stat.into())),
        WriteResult::DataSet(stat) => (None, Some(stat.into())),
        _ => (None, None),
    };
    ResultJson { operation, path, stat }
}

#[cfg(test)]
mod tests {
    use quorate_core::znode::Stat;

    use super::*;

    #[test]
    fn a_transaction_has_its_promised_shape() {
        let created = WriteResult::Created { path: "/a0000000001".into(), stat: Stat::default() };
        let created = ResultJson { stat: None, ..result_json("create /a".into(), &created) };
        let results = vec![created, result_json("check /b".into(), &WriteResult::Checked)];
        assert_eq!(
            serde_json::to_string(&TxnJson { zxid: 9, results }).expect("serializes"),
            concat!(
                r#"{"zxid":9,"results":[{"operation":"create /a","path":"/a0000000001"},"#,
                r#"{"operation":"check /b"}]}"#
            )
        );
    }
}
