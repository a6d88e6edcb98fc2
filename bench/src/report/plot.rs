//! The plot: throughput of every steady workload and target, as bars on a logarithmic scale, in an
//! SVG that needs no script and no font of its own.

use std::fmt::Write;

use crate::targets::Protocol;

use super::{Pick, Report};

const WIDTH: f64 = 960.0;
/// Of the labels on the left.
const LEFT: f64 = 190.0;
/// For figures behind the longest bar.
const RIGHT: f64 = 190.0;
const TOP: f64 = 64.0;
const BAR: f64 = 14.0;
const GAP: f64 = 14.0;
const TARGETS: [(Protocol, &str); 4] = [
    (Protocol::Quorate, "#0b7285"),
    (Protocol::QuorateZookeeper, "#66d9e8"),
    (Protocol::Zookeeper, "#e67700"),
    (Protocol::Etcd, "#868e96"),
];

/// A target, its colour and its throughput.
type Bar = (Protocol, &'static str, f64);

/// The drawing of a report.
pub fn svg(report: &Report) -> String {
    let throughput: Pick = |figures| figures.throughput;
    let rows: Vec<(&str, Vec<Bar>)> = report
        .labels()
        .into_iter()
        .map(|label| {
            let bars = TARGETS.iter().filter_map(|(target, colour)| {
                report.median(label, *target, throughput).map(|figure| (*target, *colour, figure))
            });
            (label, bars.collect())
        })
        .filter(|(_, bars): &(_, Vec<Bar>)| !bars.is_empty())
        .collect();
    let figures = || rows.iter().flat_map(|(_, bars)| bars.iter().map(|bar| bar.2.max(1.0)));
    let low = figures().fold(f64::INFINITY, f64::min).log10().floor().min(2.0);
    let high = figures().fold(10.0_f64.powf(low + 1.0), f64::max).log10().ceil();
    let scale = (WIDTH - LEFT - RIGHT) / (high - low);
    let x = |figure: f64| LEFT + (figure.max(1.0).log10() - low).max(0.0) * scale;
    let height = TOP + rows.iter().map(|(_, bars)| bars.len() as f64 * BAR + GAP).sum::<f64>() + 24.0;

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\">Operations a second, logarithmic; three members on one machine</text>\n"
    );
    let mut legend = 12.0;
    let shown = TARGETS
        .iter()
        .filter(|(target, _)| rows.iter().any(|(_, bars)| bars.iter().any(|bar| bar.0 == *target)));
    for (target, colour) in shown {
        put(
            &mut out,
            format_args!("<rect x=\"{legend}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"),
        );
        put(&mut out, format_args!("<text x=\"{}\" y=\"44\">{}</text>", legend + 17.0, target.name()));
        legend += 150.0;
    }
    for power in low as i32..=high as i32 {
        let at = x(10.0_f64.powi(power));
        put(
            &mut out,
            format_args!(
                "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#dee2e6\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#495057\">{}</text>",
                height - 20.0,
                height - 6.0,
                10_i64.pow(power.unsigned_abs())
            ),
        );
    }
    let mut y = TOP + GAP / 2.0;
    for (label, bars) in &rows {
        let middle = y + bars.len() as f64 * BAR / 2.0 + 4.0;
        put(
            &mut out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0
            ),
        );
        let ours = bars.iter().find(|bar| bar.0 == Protocol::Quorate).map(|bar| bar.2);
        for (target, colour, figure) in bars {
            let ratio = ours.filter(|_| *target != Protocol::Quorate).map(|ours| ours / figure);
            let note = ratio.map_or(String::new(), |ratio| format!(" (quorate: {ratio:.1}×)"));
            put(
                &mut out,
                format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                     <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\">{figure:.0}{note}</text>",
                    (x(*figure) - LEFT).max(1.0),
                    BAR - 2.0,
                    x(*figure) + 5.0,
                    y + BAR - 4.0
                ),
            );
            y += BAR;
        }
        y += GAP;
    }
    out.push_str("</svg>\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}
