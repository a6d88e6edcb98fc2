//! `quorate watch`: events as they happen, one a line, without losing any.
//!
//! The stream may break; it is asked for again behind the last event that was printed. If the
//! cluster no longer remembers that far back, a line says "gap".

use clap::Args;
use quorate_core::error::ErrorKind;
use quorate_core::id::{Position, Zxid};
use quorate_core::request::WatchKind;
use quorate_proto::convert::error_from_status;
use quorate_proto::v1;
use quorate_proto::v1::watch_response::News;
use serde::Serialize;
use tonic::Streaming;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::human::excerpt;
use crate::output::json::{DataJson, StatJson};
use crate::output::style::Style;

/// Print events as they happen, until Ctrl-C.
///
/// A lost connection is replaced; no event is lost or repeated, or a line says "gap".
#[derive(Args, Debug)]
pub struct WatchArguments {
    /// The node, which need not exist yet.
    path: String,
    /// All below it too.
    #[arg(short, long)]
    recursive: bool,
    /// Begin with what happened behind this transaction.
    #[arg(long, value_name = "ZXID")]
    since: Option<u64>,
    /// End after so many events.
    #[arg(short = 'n', long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The node itself only: nothing is said of its children.
    #[arg(skip)]
    without_children: bool,
}

impl WatchArguments {
    /// A watch on one node's own data.
    pub fn of(path: String) -> WatchArguments {
        WatchArguments { path, recursive: false, since: None, count: None, without_children: true }
    }
}

/// One line.
#[derive(Debug, Serialize)]
struct EventJson {
    event: &'static str,
    path: String,
    zxid: u64,
    ordinal: u32,
    #[serde(flatten)]
    data: DataJson,
    /// The data is too large to come along: read the node.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    data_not_kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatJson>,
}

pub async fn run(arguments: WatchArguments, context: &mut Context) -> Outcome {
    let WatchArguments { path, recursive, since, count, without_children } = arguments;
    let kind = if recursive { WatchKind::Recursive } else { WatchKind::Persistent };
    let mut position = since.map(|zxid| Position::after(Zxid(zxid)));
    let mut left = count.unwrap_or(u64::MAX);
    let mut has_started = false;
    // A gap, and where it began: told once the new watch stands, so that whoever reads then misses nothing.
    let mut missed: Option<Option<Position>> = None;
    'streams: loop {
        let mut stream = match open(context, &path, kind, position).await {
            Ok(stream) => stream,
            Err(Failure::Told { kind: "watch_gap", .. }) if has_started => {
                missed = Some(position.take());
                continue;
            }
            Err(failure) => return Err(failure),
        };
        loop {
            // A quiet stream still says how far it has come: one that says nothing is dead.
            let Ok(news) = tokio::time::timeout(context.timeout(), stream.message()).await else {
                continue 'streams;
            };
            let news = match news {
                Ok(Some(v1::WatchResponse { news: Some(news) })) => news,
                Ok(Some(v1::WatchResponse { news: None })) => continue,
                Ok(None) => continue 'streams,
                Err(status) => {
                    let error = error_from_status(&status);
                    let is_broken = error.kind.is_retryable() || error.kind == ErrorKind::OutcomeUnknown;
                    if is_broken {
                        continue 'streams;
                    }
                    if error.kind == ErrorKind::WatchGap && has_started {
                        missed = Some(position.take());
                        continue 'streams;
                    }
                    return Err(Failure::refused(&error, &path));
                }
            };
            match news {
                News::Started(reached) => {
                    position = position.max(Some(reached.into()));
                    if let Some(behind) = missed.take() {
                        gap(context, &path, behind)?;
                    }
                    if !has_started {
                        context.output.note(&format!("watching {path} (Ctrl-C ends it)"));
                    }
                    has_started = true;
                }
                News::DeliveredThrough(reached) => position = position.max(Some(reached.into())),
                News::Event(event) => {
                    let reached = event.position.map(Position::from);
                    if reached <= position {
                        continue;
                    }
                    position = reached;
                    if without_children && event.kind() == v1::EventKind::NodeChildrenChanged {
                        continue;
                    }
                    show(context, event)?;
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn open(
    context: &mut Context,
    path: &str,
    kind: WatchKind,
    since: Option<Position>,
) -> Outcome<Streaming<v1::WatchResponse>> {
    let request = v1::WatchRequest {
        path: path.into(),
        kind: v1::WatchKind::from(kind).into(),
        since: since.map(Into::into),
        with_value: true,
        credentials: context.api.credentials(),
    };
    let answer =
        context.api.znodes(Call::Read, path, async |client| client.watch(request.clone()).await).await?;
    Ok(answer.into_inner())
}

fn gap(context: &Context, path: &str, position: Option<Position>) -> Outcome {
    let Position { zxid, ordinal } = position.unwrap_or_default();
    let line = EventJson {
        event: "gap",
        path: path.into(),
        zxid: zxid.0,
        ordinal,
        data: DataJson::default(),
        data_not_kept: false,
        stat: None,
    };
    context.output.show(&line, |style| {
        let text = format!("events behind transaction {zxid} are lost: read again");
        format!("{:>10}  {}  {text}", zxid.0, style.bad("gap    "))
    })
}

fn show(context: &Context, event: v1::WatchEvent) -> Outcome {
    let (name, colour): (&str, fn(&Style, &str) -> String) = match event.kind() {
        v1::EventKind::NodeCreated => ("created", Style::good),
        v1::EventKind::NodeDeleted => ("deleted", Style::bad),
        v1::EventKind::NodeDataChanged => ("changed", Style::warn),
        v1::EventKind::NodeChildrenChanged => ("children", Style::dim),
        v1::EventKind::Unspecified => ("unknown", Style::dim),
    };
    // Of a deletion and of the parent there is no value to tell.
    let has_value = matches!(event.kind(), v1::EventKind::NodeCreated | v1::EventKind::NodeDataChanged);
    let is_kept = !has_value || event.value.as_ref().is_none_or(|value| !value.not_kept);
    let data = event.value.and_then(|value| value.data);
    let position = event.position.map(Position::from).unwrap_or_default();
    let line = EventJson {
        event: name,
        path: event.path,
        zxid: position.zxid.0,
        ordinal: position.ordinal,
        data: DataJson::new(data.as_deref()),
        data_not_kept: !is_kept,
        stat: event.stat.map(|stat| (&quorate_core::znode::Stat::from(stat)).into()),
    };
    context.output.show(&line, |style| {
        let value = match (&data, is_kept) {
            (Some(data), _) if !data.is_empty() => format!("  {}", style.dim(&excerpt(data, 60))),
            (_, false) => format!("  {}", style.dim("(large: read the node)")),
            _ => String::new(),
        };
        format!("{:>10}  {}  {}{value}", line.zxid, colour(style, &format!("{name:<8}")), line.path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_promised_shape() {
        let line = |data_not_kept| EventJson {
            event: "changed",
            path: "/a".into(),
            zxid: 5,
            ordinal: 1,
            data: DataJson::new(if data_not_kept { None } else { Some(b"x") }),
            data_not_kept,
            stat: None,
        };
        let shape = |line: &EventJson| serde_json::to_string(line).expect("serializes");
        assert_eq!(shape(&line(false)), r#"{"event":"changed","path":"/a","zxid":5,"ordinal":1,"data":"x"}"#);
        assert_eq!(
            shape(&line(true)),
            r#"{"event":"changed","path":"/a","zxid":5,"ordinal":1,"data_not_kept":true}"#
        );
    }
}
