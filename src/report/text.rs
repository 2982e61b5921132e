//! Small helpers for text that people read.

use crate::base::units::{SECOND_NS, format_time_ns};

/// Milliseconds since 1970 in the form of C's `ctime`, in UTC: `Sat Nov 21 05:24:01 2026`.
#[must_use]
pub fn calendar(unix_ms: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = unix_ms / 1000;
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    #[expect(clippy::cast_possible_truncation, reason = "below 12 and below 7")]
    let (month, weekday) = (MONTHS[month as usize], DAYS[(days % 7) as usize]);
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
}

/// Year, month from 0 and day from 1 of a day counted from 1970-01-01. Years of 400-year cycles
/// begin in March here, so that the leap day comes last (Hinnant, chrono-compatible algorithms).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let cycle = shifted / 146_097;
    let day_of_cycle = shifted % 146_097;
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    (cycle * 400 + year_of_cycle + u64::from(month < 2), month, day)
}

/// `text` with control characters escaped, so that a name can neither move a terminal's cursor nor
/// end a line.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` cut to `width` characters, with an ellipsis where something is missing.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    if width == 0 { kept } else { format!("{kept}…") }
}

/// `text` in lines of at most `width` characters: the first begins with `first`, the others with as
/// many blanks, at least two. Words longer than a line are broken.
pub(super) fn wrapped(first: &str, text: &str, width: usize) -> String {
    let indent = first.chars().count().max(2);
    let room = width.saturating_sub(indent).max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        for piece in word.chunks(room) {
            if used > 0 && used + 1 + piece.len() > room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    lines.push(line);
    let blanks = " ".repeat(indent);
    let starts = std::iter::once(first).chain(std::iter::repeat(blanks.as_str()));
    lines.iter().zip(starts).map(|(line, start)| format!("{start}{line}\n")).collect()
}

/// `1 worker`, `2 workers`.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A length of time for people, coarser the longer it is: `93ms`, `2.001s`, `2m05s`, `1h02m`, `3d04h`.
pub(super) fn span(ns: u64) -> String {
    let seconds = ns / SECOND_NS;
    match seconds {
        0..60 => {
            #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
            let ns = ns as f64;
            format_time_ns(ns)
        }
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number with about four digits: `0.532`, `56.3`, `3174`.
pub(super) fn rounded(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// Bytes a second in both conventions. Always in millions, so that results compare at a glance,
/// unless that would leave nothing of the number.
pub(super) fn bandwidth(bytes_a_second: f64) -> String {
    if bytes_a_second < 1_048_576.0 {
        let (binary, decimal) = (bytes_a_second / 1024.0, bytes_a_second / 1000.0);
        return format!("{}KiB/s ({}kB/s)", rounded(binary), rounded(decimal));
    }
    let (binary, decimal) = (bytes_a_second / 1_048_576.0, bytes_a_second / 1_000_000.0);
    format!("{}MiB/s ({}MB/s)", rounded(binary), rounded(decimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (1_795_238_633, "Sat Nov 21 05:23:53 2026"),
            (4_107_542_399, "Sun Feb 28 23:59:59 2100"),
            (4_107_542_400, "Mon Mar  1 00:00:00 2100"),
        ] {
            assert_eq!(calendar(seconds * 1000), text);
        }
    }

    #[test]
    fn times_and_rates_read_easily() {
        for (ns, text) in [
            (93_000_000, "93ms"),
            (2_001_000_000, "2.001s"),
            (125 * SECOND_NS, "2m05s"),
            (3_725 * SECOND_NS, "1h02m"),
            (273_600 * SECOND_NS, "3d04h"),
        ] {
            assert_eq!(span(ns), text);
        }
        assert_eq!(bandwidth(60_307_456.0), "57.51MiB/s (60.31MB/s)");
        assert_eq!(bandwidth(4096.0), "4.00KiB/s (4.10kB/s)");
    }

    #[test]
    fn long_text_is_wrapped_and_hangs() {
        assert_eq!(wrapped("note: ", "aa bb cc", 11), "note: aa bb\n      cc\n");
        assert_eq!(wrapped("", "abcdef gh", 6), "abcd\n  ef\n  gh\n");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(printable("a\tb\x1b"), "a\\tb\\u{1b}");
    }
}
