//! `quorate tree`: a picture of what is below a node.

use clap::Args;
use serde::Serialize;

use super::ls::{Listed, below, children, join, painted};
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::human::excerpt;
use crate::output::json::{DataJson, StatJson};
use crate::output::outline::Outline;
use crate::output::style::Style;

/// Draw the tree below a node.
///
/// It is read level by level: not one moment's picture.
#[derive(Args, Debug)]
pub struct TreeArguments {
    /// The top.
    #[arg(default_value = "/")]
    path: String,
    /// At most so many levels.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    depth: Option<u32>,
    /// With the beginning of the data (in JSON: all of it).
    #[arg(long)]
    data: bool,
}

/// A node with those below it.
#[derive(Debug)]
struct Branch {
    node: Listed,
    children: Vec<Branch>,
    /// Whether its children were left out.
    is_cut: bool,
}

#[derive(Debug, Serialize)]
struct BranchJson {
    name: String,
    #[serde(flatten)]
    data: DataJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatJson>,
    children: Vec<BranchJson>,
}

#[derive(Debug, Serialize)]
struct TreeJson {
    path: String,
    zxid: u64,
    nodes: usize,
    children: Vec<BranchJson>,
}

pub async fn run(arguments: TreeArguments, context: &mut Context) -> Outcome {
    let TreeArguments { path, depth, data } = arguments;
    let depth = depth.unwrap_or(u32::MAX);
    let (top, zxid) = children(context, &path, data).await?;
    let branches = grow(context, &path, top, depth - 1, data).await?;
    let nodes = count(&branches);
    let document =
        TreeJson { path: path.clone(), zxid, nodes, children: branches.iter().map(json).collect() };
    context.output.show(&document, |style| {
        let children = branches.iter().map(|branch| outline(style, branch)).collect();
        let picture = Outline { label: style.bold(&path), children }.render();
        let noun = if nodes == 1 { "node" } else { "nodes" };
        format!("{picture}{}", style.dim(&format!("{nodes} {noun}")))
    })
}

async fn grow(
    context: &mut Context,
    path: &str,
    listed: Vec<Listed>,
    depth: u32,
    with_data: bool,
) -> Outcome<Vec<Branch>> {
    let mut branches = Vec::with_capacity(listed.len());
    for node in listed {
        let has_children = node.children() > 0;
        let mut branch = Branch { node, children: Vec::new(), is_cut: has_children && depth == 0 };
        if has_children && depth > 0 {
            let path = join(path, &branch.node.name);
            let listed = below(context, &path, with_data).await?;
            branch.children = Box::pin(grow(context, &path, listed, depth - 1, with_data)).await?;
        }
        branches.push(branch);
    }
    Ok(branches)
}

fn count(branches: &[Branch]) -> usize {
    branches.iter().map(|branch| 1 + count(&branch.children)).sum()
}

fn outline(style: &Style, branch: &Branch) -> Outline {
    let mut label = painted(style, &branch.node);
    if branch.is_cut {
        label.push_str(&style.dim(&format!(" … {} below", branch.node.children())));
    }
    if let Some(data) = branch.node.data.as_deref().filter(|data| !data.is_empty()) {
        label.push_str(&style.dim(&format!("  {}", excerpt(data, 50))));
    }
    Outline { label, children: branch.children.iter().map(|branch| outline(style, branch)).collect() }
}

fn json(branch: &Branch) -> BranchJson {
    BranchJson {
        name: branch.node.name.clone(),
        data: DataJson::new(branch.node.data.as_deref()),
        stat: branch.node.stat.as_ref().map(Into::into),
        children: branch.children.iter().map(json).collect(),
    }
}
