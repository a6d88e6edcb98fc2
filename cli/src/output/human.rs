//! Times, sizes and data as people read them. Nothing that a cluster stores can reach a terminal as
//! a control sequence.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::id::Timestamp;

/// Milliseconds since the Unix epoch, by this machine's clock.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// "512 B", "1.5 KiB", "3.0 MiB".
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// "250 ms", "4.0 s", "3m 20s", "5h 3m", "12d 4h".
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// "2026-11-21 08:46:54 UTC (3m 20s ago)".
pub fn time(at: Timestamp, now_ms: i64) -> String {
    let ago = now_ms.saturating_sub(at.0);
    match u64::try_from(ago) {
        Ok(ago) => format!("{} UTC ({} ago)", instant(at), duration(ago)),
        Err(_) => format!("{} UTC", instant(at)),
    }
}

/// "2026-11-21 08:46:54".
pub fn instant(at: Timestamp) -> String {
    let seconds = at.0.div_euclid(1000);
    let (days, within) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", within / 3600, within % 3600 / 60, within % 60)
}

/// The Gregorian date so many days after 1970-01-01. Counts in 400-year cycles of years that begin
/// in March, so that the leap day is a year's last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let cycle = days.div_euclid(146_097);
    let day_of_cycle = days.rem_euclid(146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day)
}

/// Data as text of many lines: what is no UTF-8, and control characters other than newline and
/// tab, show as escapes.
pub fn block(data: &[u8]) -> String {
    escape(data, |c| c == '\n' || c == '\t')
}

/// Data as one short line.
pub fn excerpt(data: &[u8], width: usize) -> String {
    let head = &data[..data.len().min(4 * width)];
    let text = escape(head, |_| false);
    if head.len() == data.len() && text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text as one line, whole.
pub fn line(text: &str) -> String {
    escape(text.as_bytes(), |_| false)
}

fn escape(data: &[u8], keeps: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(data.len());
    for chunk in data.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if keeps(c) => text.push(c),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_fitting_units() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(duration(250), "250 ms");
        assert_eq!(duration(4_000), "4.0 s");
        assert_eq!(duration(200_000), "3m 20s");
        assert_eq!(duration(18_180_000), "5h 3m");
        assert_eq!(duration(1_051_200_000), "12d 4h");
    }

    #[test]
    fn dates_are_gregorian() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_795_250_814_000, "2026-11-21 08:46:54"),
            (-1_000, "1969-12-31 23:59:59"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(instant(Timestamp(ms)), text);
        }
    }

    #[test]
    fn no_control_sequence_reaches_the_terminal() {
        assert_eq!(block(b"a\nb\tc"), "a\nb\tc");
        assert_eq!(block(b"\x1b[2Jx\x00\x7f"), "\\u{1b}[2Jx\\u{0}\\u{7f}");
        assert_eq!(block(b"gr\xc3\xbcn \xff\xfe"), "gr\u{fc}n \\xff\\xfe");
        assert_eq!(excerpt(b"a\nb", 10), "a\\nb");
        assert_eq!(line("a\nb\u{9b}c"), "a\\nb\\u{9b}c");
    }

    #[test]
    fn an_excerpt_says_that_it_is_one() {
        assert_eq!(excerpt(b"abcdef", 6), "abcdef");
        assert_eq!(excerpt(b"abcdefg", 6), "abcde…");
        assert_eq!(excerpt(&[b'a'; 1000], 6), "aaaaa…");
    }
}
