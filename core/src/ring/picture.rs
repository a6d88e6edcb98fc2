//! A ring as a picture: SVG, one arc for each stretch of the ring, coloured by its owner.

use std::fmt::Write;

use super::{Placement, Ring};

/// Arcs drawn at most: stretches beyond are left to their neighbours, too thin to be seen.
const ARCS_MAX: usize = 2000;
/// Members named beside the ring.
const NAMED_MAX: usize = 40;

/// Draws a ring. Text in it is escaped; the picture refers to nothing outside itself.
pub fn svg(ring: &Ring, title: &str) -> String {
    let members = ring.members();
    let height = 440.max(70 + 20 * (members.len().min(NAMED_MAX) + 1));
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>{title}</title>\n\
         <text x=\"20\" y=\"28\" font-size=\"16\">{title}</text>\n",
        title = escaped(title)
    );
    for (from, to, owner) in stretches(ring) {
        arc(&mut out, from, to, owner, members.len());
    }
    let _ = writeln!(
        out,
        "<text x=\"220\" y=\"245\" text-anchor=\"middle\">{} points</text>\n\
         <text x=\"220\" y=\"225\" text-anchor=\"middle\">{} instances</text>",
        ring.len(),
        members.len()
    );
    for (index, (member, share)) in members.iter().zip(ring.shares()).enumerate().take(NAMED_MAX) {
        let y = 60 + 20 * index;
        let _ = writeln!(
            out,
            "<rect x=\"450\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{}\"/>\
             <text x=\"470\" y=\"{y}\">{} · {} · {:.1} %</text>",
            y - 11,
            colour(index, members.len()),
            escaped(&member.id),
            escaped(&member.key),
            share * 100.0
        );
    }
    if members.len() > NAMED_MAX {
        let y = 60 + 20 * NAMED_MAX;
        let _ = writeln!(out, "<text x=\"470\" y=\"{y}\">and {} more</text>", members.len() - NAMED_MAX);
    }
    out.push_str("</svg>\n");
    out
}

/// Stretches of one owner, in turns from 0 to 1, neighbours of one owner joined.
fn stretches(ring: &Ring) -> Vec<(f64, f64, usize)> {
    let turn = |hash: u64| hash as f64 / u64::MAX as f64;
    let Some((_, first)) = ring.points().next() else { return Vec::new() };
    let mut stretches: Vec<(f64, f64, usize)> = Vec::new();
    let mut from = 0.0;
    let thinnest = 1.0 / ARCS_MAX as f64;
    for (hash, owner) in ring.points().chain([(u64::MAX, first)]) {
        let to = turn(hash);
        match stretches.last_mut() {
            Some(last) if last.2 == owner || to - from < thinnest && ring.len() > ARCS_MAX => last.1 = to,
            _ => stretches.push((from, to, owner)),
        }
        from = to;
    }
    stretches
}

fn arc(out: &mut String, from: f64, to: f64, owner: usize, members: usize) {
    let colour = colour(owner, members);
    if to - from > 0.9999 {
        let _ = writeln!(
            out,
            "<circle cx=\"220\" cy=\"240\" r=\"150\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"40\"/>"
        );
        return;
    }
    let at = |turn: f64| {
        let angle = turn * std::f64::consts::TAU;
        (220.0 + 150.0 * angle.sin(), 240.0 - 150.0 * angle.cos())
    };
    let ((x1, y1), (x2, y2)) = (at(from), at(to));
    let large = i32::from(to - from > 0.5);
    let _ = writeln!(
        out,
        "<path d=\"M{x1:.2} {y1:.2}A150 150 0 {large} 1 {x2:.2} {y2:.2}\" fill=\"none\" \
         stroke=\"{colour}\" stroke-width=\"40\"/>"
    );
}

/// Hues as far apart as possible, as `#rrggbb`: not every program knows other ways to write them.
fn colour(index: usize, members: usize) -> String {
    let hue = index as f64 / members.max(1) as f64;
    let light = if index.is_multiple_of(2) { 0.45 } else { 0.6 };
    let strength = 0.65 * (1.0 - (2.0 * light - 1.0f64).abs()) / 2.0;
    // Each part of the colour is a wave around the circle of hues.
    let part = |shift: f64| {
        let turn = (hue + shift).fract() * 6.0;
        let wave = (2.0 - (turn - 3.0).abs()).clamp(0.0, 1.0) * 2.0 - 1.0;
        ((light + strength * wave) * 255.0).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", part(0.5), part(1.0 / 6.0), part(5.0 / 6.0))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
