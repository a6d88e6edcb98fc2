//! `quorate ls`: a node's children, or all that is below it.

use clap::Args;
use quorate_core::znode::Stat;
use quorate_proto::v1;
use serde::Serialize;

use crate::api::Call;
use crate::context::Context;
use crate::failure::{NOT_FOUND, Outcome};
use crate::output::human::{excerpt, instant, size};
use crate::output::json::{DataJson, StatJson};
use crate::output::style::Style;
use crate::output::table::{Cell, Table};

/// List a node's children.
#[derive(Args, Debug)]
pub struct LsArguments {
    /// The parent.
    #[arg(default_value = "/")]
    path: String,
    /// All nodes below it, as paths. Read level by level: not one moment's picture.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// With metadata.
    #[arg(long)]
    stat: bool,
    /// With the beginning of the data (in JSON: all of it).
    #[arg(long)]
    data: bool,
}

/// What a list looks like in JSON. `zxid` is the moment of the list (recursive: of its beginning).
#[derive(Debug, Serialize)]
struct ListJson {
    path: String,
    zxid: u64,
    children: Vec<ChildJson>,
}

/// A child; recursive lists name it by its path below the parent.
#[derive(Debug, Serialize)]
struct ChildJson {
    name: String,
    #[serde(flatten)]
    data: DataJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatJson>,
}

/// A child as it was read.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Relative to the listed node.
    pub name: String,
    /// Absent if the caller may not read the node.
    pub stat: Option<Stat>,
    pub data: Option<bytes::Bytes>,
}

impl Listed {
    /// Whether there is something below it, as far as the caller may know.
    pub fn children(&self) -> i32 {
        self.stat.map_or(0, |stat| stat.num_children)
    }
}

pub async fn run(arguments: LsArguments, context: &mut Context) -> Outcome {
    let LsArguments { path, recursive, stat: with_stat, data: with_data } = arguments;
    let (mut nodes, zxid) = children(context, &path, with_data).await?;
    if recursive {
        let mut next = 0;
        while next < nodes.len() {
            if nodes[next].children() > 0 {
                let name = nodes[next].name.clone();
                let below = below(context, &join(&path, &name), with_data).await?;
                nodes.extend(
                    below.into_iter().map(|child| Listed { name: join(&name, &child.name), ..child }),
                );
            }
            next += 1;
        }
        // A parent stands right before its children: "/" sorts before every character of a name.
        nodes.sort_by_cached_key(|node| node.name.replace('/', "\0"));
    }
    let document = ListJson {
        path,
        zxid,
        children: nodes.iter().map(|node| child_json(node, with_stat, with_data)).collect(),
    };
    context.output.show(&document, |style| match (with_stat, with_data) {
        (false, false) => nodes.iter().map(|node| format!("{}\n", painted(style, node))).collect(),
        _ => table(style, &nodes, with_stat, with_data),
    })
}

/// A node's children with their metadata, at one moment.
pub async fn children(context: &mut Context, path: &str, with_data: bool) -> Outcome<(Vec<Listed>, u64)> {
    let request = v1::ListRequest {
        path: path.into(),
        with_stat: true,
        with_data,
        consistency: context.api.consistency(),
        credentials: context.api.credentials(),
        ..v1::ListRequest::default()
    };
    let (children, zxid) = context
        .api
        .znodes(Call::Read, path, async |client| {
            let mut parts = client.list(request.clone()).await?.into_inner();
            let (mut children, mut zxid) = (Vec::new(), 0);
            while let Some(part) = parts.message().await? {
                zxid = part.zxid;
                children.extend(part.children);
            }
            Ok((children, zxid))
        })
        .await?;
    context.api.saw(zxid);
    let listed = children.into_iter().map(|child| Listed {
        name: child.name,
        stat: child.stat.map(Stat::from),
        data: child.data,
    });
    Ok((listed.collect(), zxid))
}

/// The same for a node that was there a moment ago: if it has gone, it has no children.
pub async fn below(context: &mut Context, path: &str, with_data: bool) -> Outcome<Vec<Listed>> {
    match children(context, path, with_data).await {
        Ok((children, _)) => Ok(children),
        Err(failure) if failure.exit_code() == NOT_FOUND => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// The path of what is called `name` below `path`.
pub fn join(path: &str, name: &str) -> String {
    format!("{}/{name}", path.trim_end_matches('/'))
}

/// A node's name in its colour.
pub fn painted(style: &Style, node: &Listed) -> String {
    colour(node)(style, &node.name)
}

/// The colour of a node.
fn colour(node: &Listed) -> fn(&Style, &str) -> String {
    match node.stat {
        None => Style::dim,
        Some(stat) if stat.ephemeral_owner.0 != 0 => Style::passing,
        Some(stat) if stat.num_children > 0 => Style::parent,
        Some(_) => |_, name| name.into(),
    }
}

fn child_json(node: &Listed, with_stat: bool, with_data: bool) -> ChildJson {
    ChildJson {
        name: node.name.clone(),
        data: DataJson::new(node.data.as_deref().filter(|_| with_data)),
        stat: node.stat.as_ref().filter(|_| with_stat).map(Into::into),
    }
}

fn table(style: &Style, nodes: &[Listed], with_stat: bool, with_data: bool) -> String {
    let mut header = vec!["NAME"];
    if with_stat {
        header.extend(["KIND", "SIZE", "CHILDREN", "VERSION", "MODIFIED (UTC)", "ZXID"]);
    }
    if with_data {
        header.push("DATA");
    }
    let mut table = Table::new(&header);
    for node in nodes {
        let mut row = vec![Cell::text(&node.name).painted(colour(node))];
        match &node.stat {
            _ if !with_stat => {}
            Some(stat) => {
                let kind = if stat.ephemeral_owner.0 == 0 { "lasting" } else { "ephemeral" };
                row.extend([
                    Cell::text(kind),
                    Cell::number(size(u64::try_from(stat.data_length).unwrap_or_default())),
                    Cell::number(stat.num_children),
                    Cell::number(stat.version),
                    Cell::text(instant(stat.mtime)),
                    Cell::number(stat.mzxid),
                ]);
            }
            None => {
                row.push(Cell::text("not readable").painted(Style::dim));
                row.extend((0..5).map(|_| Cell::number("-").painted(Style::dim)));
            }
        }
        if with_data {
            row.push(Cell::text(node.data.as_deref().map(|data| excerpt(data, 60)).unwrap_or_default()));
        }
        table.row(row);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_below_any_parent() {
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
        assert_eq!(join("a", "b"), "a/b");
    }

    #[test]
    fn a_list_has_its_promised_shape() {
        let node = Listed {
            name: "b".into(),
            stat: Some(Stat::default()),
            data: Some(bytes::Bytes::from_static(b"x")),
        };
        let list = |with_stat, with_data| {
            let children = vec![child_json(&node, with_stat, with_data)];
            serde_json::to_string(&ListJson { path: "/a".into(), zxid: 7, children }).expect("serializes")
        };
        assert_eq!(list(false, false), r#"{"path":"/a","zxid":7,"children":[{"name":"b"}]}"#);
        assert_eq!(list(false, true), r#"{"path":"/a","zxid":7,"children":[{"name":"b","data":"x"}]}"#);
        assert!(list(true, false).contains(r#""children":[{"name":"b","stat":{"czxid":0,"#));
    }
}
