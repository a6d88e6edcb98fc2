//! `quorate get`: a node's data.

use clap::Args;
use quorate_core::znode::Stat;
use quorate_proto::v1;

use super::stat::facts;
use crate::api::Call;
use crate::arguments::Format;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::human::block;
use crate::output::json::{DataJson, NodeJson};

/// Print a node's data.
///
/// What is no UTF-8, and control characters, show as escapes in a table and in base64 in JSON (field
/// data_base64).
#[derive(Args, Debug)]
pub struct GetArguments {
    /// The node.
    path: String,
    /// Print the bytes as they are, and nothing else.
    #[arg(long)]
    raw: bool,
    /// Print the metadata too (JSON has it anyway).
    #[arg(long, conflicts_with = "raw")]
    stat: bool,
}

pub async fn run(arguments: GetArguments, context: &mut Context) -> Outcome {
    let GetArguments { path, raw, stat: with_stat } = arguments;
    let request = v1::GetRequest {
        path: path.clone(),
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
    };
    let answer = context
        .api
        .znodes(Call::Read, &path, async |client| client.get(request.clone()).await)
        .await?
        .into_inner();
    context.api.saw(answer.zxid);
    let data = answer.data.as_deref();
    if raw {
        return context.output.raw(data.unwrap_or_default());
    }
    let stat = answer.stat.map(Stat::from).unwrap_or_default();
    if data.is_none() && context.output.format == Format::Table {
        context.output.note("(no data)");
    }
    let document = NodeJson {
        path: path.clone(),
        zxid: answer.zxid,
        data: DataJson::new(data),
        stat: Some((&stat).into()),
    };
    context.output.show(&document, |style| {
        let text = data.map(block).unwrap_or_default();
        if !with_stat {
            return if data.is_some() { format!("{}\n", text.trim_end_matches('\n')) } else { text };
        }
        format!("{}\n\n{}", text.trim_end_matches('\n'), facts(style, &path, &stat))
    })
}
