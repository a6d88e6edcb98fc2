//! The operations around an anomaly as a picture: a lane for each process, a bar for each operation
//! from its beginning to its end, faults shaded behind them.
//!
//! It shows what the list of entries below it says, in the order of time; it judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::escape;
use crate::history::{History, Kind, NEMESIS, Pair};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 80.0;
const LANE: f64 = 20.0;
const TOP: f64 = 6.0;
/// For the axis below the lanes.
const BOTTOM: f64 = 20.0;
/// Bars are no narrower: an operation must be seen however short it was.
const BAR_MIN: f64 = 2.0;
/// Characters of a label; the bar's title says all.
const LABEL_MAX: usize = 44;
/// Marks on the axis.
const MARKS: u32 = 6;

/// The operations to which `shown` entries belong; those of `hit` are the anomaly itself.
pub fn svg(history: &History, shown: &[usize], hit: &[usize]) -> String {
    let has = |pair: &Pair<'_>, entries: &[usize]| {
        entries.iter().any(|entry| *entry == pair.begin || Some(*entry) == pair.end)
    };
    let pairs = history.pairs();
    let bars: Vec<&Pair<'_>> =
        pairs.iter().filter(|pair| pair.invoke.process < NEMESIS && has(pair, shown)).collect();
    let begins = bars.iter().map(|pair| pair.invoke.time_us);
    let ends = bars.iter().filter_map(|pair| pair.completion).map(|entry| entry.time_us);
    let Some(from) = begins.clone().min() else { return String::new() };
    let last = ends.chain(begins).max().unwrap_or(from);
    // What has no end goes on to the right edge, a little behind the last thing that happened.
    let to = last + (last - from) / 20 + 1;
    let processes: BTreeSet<u32> = bars.iter().map(|pair| pair.invoke.process).collect();
    let lanes: BTreeMap<u32, f64> = processes
        .into_iter()
        .enumerate()
        .map(|(lane, process)| (process, TOP + lane as f64 * LANE))
        .collect();
    let bottom = TOP + lanes.len() as f64 * LANE;
    let x = |time: u64| {
        let share = time.clamp(from, to).abs_diff(from) as f64 / (to - from) as f64;
        LEFT + share * (WIDTH - LEFT)
    };
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {:.0}' width='100%' role=img>", bottom + BOTTOM);
    for window in history.faults().iter().filter(|window| window.begin_us < to && window.end_us > from) {
        let (left, right) = (x(window.begin_us), x(window.end_us));
        // Writing into a String cannot fail; the same holds for all of this file's.
        let _ = write!(
            svg,
            "<rect x='{left:.1}' y='{TOP}' width='{:.1}' height='{:.1}' fill='#f3c9c5' opacity='.6'><title>{} of {:?}</title></rect>",
            right - left,
            bottom - TOP,
            escape(&window.nemesis),
            window.members
        );
    }
    for (process, y) in &lanes {
        let _ = write!(
            svg,
            "<text x='{}' y='{:.1}' text-anchor=end>process {process}</text><line x1='{LEFT}' x2='{WIDTH}' y1='{2:.1}' y2='{2:.1}' stroke='#e3e3e3'/>",
            LEFT - 6.0,
            y + LANE * 0.7,
            y + LANE
        );
    }
    for pair in bars {
        bar(&mut svg, pair, lanes[&pair.invoke.process], &x, to, has(pair, hit));
    }
    for mark in 0..=MARKS {
        let time = from + (to - from) * u64::from(mark) / u64::from(MARKS);
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}' text-anchor=middle>{:.4} s</text>",
            x(time).min(WIDTH - 26.0),
            bottom + BOTTOM - 6.0,
            time as f64 / 1e6
        );
    }
    svg + "</svg>"
}

fn bar(svg: &mut String, pair: &Pair<'_>, y: f64, x: &impl Fn(u64) -> f64, to: u64, is_hit: bool) {
    let end = pair.completion.filter(|entry| entry.kind != Kind::Info).map_or(to, |entry| entry.time_us);
    let (left, right) = (x(pair.invoke.time_us), x(end));
    let fill = match pair.kind() {
        Kind::Ok => "#8fb7de",
        Kind::Fail => "#c9c9c9",
        // Unknown: it may have happened at any time from here on.
        _ => "#e8cf94",
    };
    let stroke = if is_hit { "#b3261e" } else { "none" };
    let entry = pair.completion.unwrap_or(pair.invoke);
    let text = serde_json::to_string(entry).unwrap_or_default();
    let _ = write!(
        svg,
        "<rect x='{left:.1}' y='{:.1}' width='{:.1}' height='{:.1}' rx='2' fill='{fill}' stroke='{stroke}' stroke-width='2'><title>{}</title></rect>",
        y + 3.0,
        (right - left).max(BAR_MIN),
        LANE - 6.0,
        escape(&text)
    );
    if is_hit {
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}'>{}</text>",
            left + 3.0,
            y + LANE * 0.7,
            escape(&label(pair))
        );
    }
}

/// What an operation did, in a few words: its kind and what came of it.
fn label(pair: &Pair<'_>) -> String {
    let operation = &pair.completion.unwrap_or(pair.invoke).operation;
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(operation) else { return String::new() };
    let mut words: Vec<String> =
        fields.get("f").and_then(|name| name.as_str()).map(str::to_owned).into_iter().collect();
    words.extend(
        fields.iter().filter(|(name, _)| *name != "f").map(|(name, value)| format!("{name} {value}")),
    );
    let text = words.join(" ").replace('"', "");
    let short: String = text.chars().take(LABEL_MAX).collect();
    if short.len() < text.len() { short + "…" } else { short }
}
