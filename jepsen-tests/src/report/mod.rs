//! A run as one HTML file that needs nothing else: verdicts, throughput and latency over time with the
//! fault windows shaded, the operations around each anomaly as a timeline and as entries, and the
//! command that repeats it.
//!
//! It says what checkers found and judges nothing itself. The timeline is in [`timeline`].

mod timeline;

use std::fmt::Write;

use crate::checkers::Verdict;
use crate::history::{History, Kind, NEMESIS};
use crate::run::Outcome;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 24.0;
/// Buckets over a whole run.
const BUCKETS: usize = 120;
/// Entries shown before and after each of an anomaly's.
const AROUND: usize = 3;
/// Anomalies shown in full.
const ANOMALIES_MAX: usize = 20;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.6em}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.25em .6em;border-bottom:1px solid #ddd;vertical-align:top}\
.valid{color:#17692f}.invalid{color:#b3261e;font-weight:600}.unknown{color:#8a5a00;font-weight:600}\
code,pre{font:13px/1.4 ui-monospace,monospace;background:#f6f6f6}pre{padding:.7em;overflow-x:auto}\
.hit{background:#ffe1de}svg text{font:11px system-ui,sans-serif;fill:#555}";

/// The report.
pub fn html(outcome: &Outcome, history: &History) -> String {
    let plan = &outcome.plan;
    let verdict = match outcome.is_valid() {
        true => "<span class=valid>valid</span>",
        false => "<span class=invalid>not valid</span>",
    };
    let title = format!("{} under {}", plan.workload, plan.nemesis.join(", "));
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>{STYLE}</style>\
         <h1>{0}: {verdict}</h1><p>{1} members, {2} workers, {3} s, seed {4}; network: {6}. To repeat it:</p><pre>{5}</pre>",
        escape(&title),
        plan.members,
        plan.workers,
        plan.time_ms / 1000,
        plan.seed,
        escape(&plan.command()),
        escape(&outcome.wires)
    );
    page.push_str("<h2>Verdicts</h2><table><tr><th>checker<th>verdict<th>what was seen</tr>");
    for finding in &outcome.findings {
        let (class, seen) = match &finding.verdict {
            Verdict::Valid { summary } => ("valid", summary.clone()),
            Verdict::Invalid { anomalies } => ("invalid", format!("{} anomalies, below", anomalies.len())),
            Verdict::Unknown { reason } => ("unknown", reason.clone()),
        };
        row(&mut page, &finding.checker, class, &seen);
    }
    for panic in &outcome.panics {
        row(&mut page, "members", "invalid", panic);
    }
    page.push_str("</table>");
    page.push_str("<h2>Successes a second</h2>");
    page.push_str(&throughput(history));
    page.push_str("<h2>Latency of successes, milliseconds: median and 99 % (logarithmic)</h2>");
    page.push_str(&latency(history));
    page.push_str("<p>Shaded: faults, from the blow to the healing.</p>");
    page.push_str(&faults(history));
    page.push_str(&counts(history));
    for finding in &outcome.findings {
        let Verdict::Invalid { anomalies } = &finding.verdict else { continue };
        let _ = write!(page, "<h2>Anomalies found by {}</h2>", escape(&finding.checker));
        for anomaly in anomalies.iter().take(ANOMALIES_MAX) {
            let shown = around(history, &anomaly.entries);
            let _ = write!(
                page,
                "<p>{}</p>{}<pre>{}</pre>",
                escape(&anomaly.what),
                timeline::svg(history, &shown, &anomaly.entries),
                list(history, &shown, &anomaly.entries)
            );
        }
        if anomalies.len() > ANOMALIES_MAX {
            let _ = write!(page, "<p>… and {} more.</p>", anomalies.len() - ANOMALIES_MAX);
        }
    }
    page.push_str("</html>\n");
    page
}

fn row(page: &mut String, name: &str, class: &str, seen: &str) {
    // Writing into a String cannot fail; the same holds for all of this file's.
    let _ = write!(page, "<tr><td>{}<td class={class}>{class}<td>{}</tr>", escape(name), escape(seen));
}

/// Every fault, when and to whom.
fn faults(history: &History) -> String {
    let windows = history.faults();
    if windows.is_empty() {
        return String::new();
    }
    let mut table =
        "<details><summary>All faults</summary><table><tr><th>fault<th>members<th>from<th>to</tr>".to_owned();
    for window in windows {
        let _ = write!(
            table,
            "<tr><td>{}<td>{:?}<td>{:.2} s<td>{:.2} s</tr>",
            escape(&window.nemesis),
            window.members,
            window.begin_us as f64 / 1e6,
            window.end_us as f64 / 1e6
        );
    }
    table + "</table></details>"
}

/// How operations ended.
fn counts(history: &History) -> String {
    let mut counts = [0_usize; 3];
    for pair in history.pairs().iter().filter(|pair| pair.invoke.kind == Kind::Invoke) {
        match pair.kind() {
            Kind::Ok => counts[0] += 1,
            Kind::Fail => counts[1] += 1,
            _ => counts[2] += 1,
        }
    }
    format!("<p>{} succeeded, {} refused, {} of unknown outcome.</p>", counts[0], counts[1], counts[2])
}

/// (completion time, latency) of successes, in microseconds.
fn successes(history: &History) -> Vec<(u64, u64)> {
    history
        .pairs()
        .iter()
        .filter(|pair| pair.invoke.kind == Kind::Invoke && pair.invoke.process < NEMESIS)
        .filter(|pair| pair.kind() == Kind::Ok)
        .filter_map(|pair| pair.completion.map(|end| (end.time_us, end.time_us - pair.invoke.time_us)))
        .collect()
}

fn length(history: &History) -> u64 {
    history.entries.last().map_or(1, |entry| entry.time_us.max(1))
}

fn throughput(history: &History) -> String {
    let length = length(history);
    let mut counts = vec![0_u64; BUCKETS];
    for (time, _) in successes(history) {
        counts[bucket(time, length)] += 1;
    }
    let seconds = length as f64 / 1e6 / BUCKETS as f64;
    let rates: Vec<f64> = counts.iter().map(|count| *count as f64 / seconds).collect();
    let top = rates.iter().copied().fold(1.0, f64::max);
    let points = rates.iter().enumerate().map(|(index, rate)| (index, rate / top));
    let chart = line(points, "#1f5fa8");
    frame(history, &chart, &[(1.0, format!("{top:.0}")), (0.0, "0".into())])
}

fn latency(history: &History) -> String {
    let length = length(history);
    let mut buckets: Vec<Vec<u64>> = vec![Vec::new(); BUCKETS];
    for (time, latency) in successes(history) {
        buckets[bucket(time, length)].push(latency);
    }
    // From 0.1 ms to 100 s: six decades.
    let place = |micros: u64| ((micros.max(100) as f64 / 100.0).log10() / 6.0).clamp(0.0, 1.0);
    let mut medians = Vec::new();
    let mut tails = Vec::new();
    for (index, latencies) in buckets.iter_mut().enumerate() {
        latencies.sort_unstable();
        let at = |share: f64| latencies.get(((latencies.len() as f64) * share) as usize);
        medians.extend(at(0.5).map(|micros| (index, place(*micros))));
        tails.extend(at(0.99).or(latencies.last()).map(|micros| (index, place(*micros))));
    }
    let chart = line(tails.into_iter(), "#c26a1a") + &line(medians.into_iter(), "#1f5fa8");
    let marks: Vec<(f64, String)> =
        (0..=6).map(|decade| (f64::from(decade) / 6.0, format!("{}", 10_f64.powi(decade) / 10.0))).collect();
    frame(history, &chart, &marks)
}

fn bucket(time: u64, length: u64) -> usize {
    ((time as f64 / length as f64 * BUCKETS as f64) as usize).min(BUCKETS - 1)
}

fn x(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT)
}

fn y(share: f64) -> f64 {
    (HEIGHT - BOTTOM) * (1.0 - share) + 6.0
}

fn line(points: impl Iterator<Item = (usize, f64)>, colour: &str) -> String {
    let mut text = format!("<polyline fill=none stroke='{colour}' stroke-width=1.6 points='");
    for (index, height) in points {
        let _ = write!(text, "{:.1},{:.1} ", x((index as f64 + 0.5) / BUCKETS as f64), y(height));
    }
    text + "'/>"
}

/// Axes, marks, fault windows, and the chart on top.
fn frame(history: &History, chart: &str, marks: &[(f64, String)]) -> String {
    let length = length(history);
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {}' width='100%' role=img>", HEIGHT + 8.0);
    for window in history.faults() {
        let (begin, end) = (window.begin_us as f64 / length as f64, window.end_us as f64 / length as f64);
        let _ = write!(
            svg,
            "<rect x='{:.1}' y='6' width='{:.1}' height='{:.1}' fill='#f3c9c5' opacity='.6'><title>{} of {:?}, {:.1} s to {:.1} s</title></rect>",
            x(begin),
            x(end) - x(begin),
            HEIGHT - BOTTOM,
            escape(&window.nemesis),
            window.members,
            window.begin_us as f64 / 1e6,
            window.end_us as f64 / 1e6
        );
    }
    for (share, mark) in marks {
        let _ = write!(
            svg,
            "<line x1='{LEFT}' x2='{WIDTH}' y1='{0:.1}' y2='{0:.1}' stroke='#e3e3e3'/><text x='{1}' y='{2:.1}' text-anchor=end>{3}</text>",
            y(*share),
            LEFT - 6.0,
            y(*share) + 4.0,
            escape(mark)
        );
    }
    for tenth in 0..=10 {
        let share = f64::from(tenth) / 10.0;
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{:.1}' text-anchor=middle>{:.0} s</text>",
            x(share).min(WIDTH - 14.0),
            HEIGHT,
            length as f64 / 1e6 * share
        );
    }
    svg + chart + "</svg>"
}

/// An anomaly's entries and those around them.
fn around(history: &History, entries: &[usize]) -> Vec<usize> {
    let mut shown: Vec<usize> = entries
        .iter()
        .flat_map(|entry| entry.saturating_sub(AROUND)..=entry + AROUND)
        .filter(|index| *index < history.entries.len())
        .collect();
    shown.sort_unstable();
    shown.dedup();
    shown
}

/// Entries line by line, the anomaly's own marked.
fn list(history: &History, shown: &[usize], hit: &[usize]) -> String {
    let mut text = String::new();
    let mut before = None;
    for index in shown {
        if before.is_some_and(|before| before + 1 < *index) {
            text.push_str("…\n");
        }
        before = Some(*index);
        let line = serde_json::to_string(&history.entries[*index]).unwrap_or_default();
        let line = escape(&line);
        let _ = match hit.contains(index) {
            true => writeln!(text, "<span class=hit>{line}</span>"),
            false => writeln!(text, "{line}"),
        };
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
