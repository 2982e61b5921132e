//! Small helpers for text that people read.

pub(super) use crate::base::printable::printable;
use crate::base::units::{SECOND_NS, format_count, format_time_ns};
use crate::job::spec::MeasuringSpec;

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
#[must_use]
pub fn span(ns: u64) -> String {
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

/// How rates are written: `significant_figures` and `unit_base`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    figures: u8,
    bits: bool,
}

impl Style {
    /// Where no job says otherwise.
    pub(super) const USUAL: Style = Style { figures: 4, bits: false };

    /// That of a job.
    pub(super) fn of(measuring: &MeasuringSpec) -> Style {
        Style { figures: measuring.figures, bits: measuring.bits }
    }

    /// The unit for rates up to `most` bytes a second, and what to multiply these by.
    pub(super) fn scale(self, most: f64) -> (f64, &'static str) {
        let bits = if self.bits { 8.0 } else { 1.0 };
        match (most * bits < 1_048_576.0, self.bits) {
            (true, false) => (bits / 1024.0, "KiB/s"),
            (false, false) => (bits / 1_048_576.0, "MiB/s"),
            (true, true) => (bits / 1024.0, "Kibit/s"),
            (false, true) => (bits / 1_048_576.0, "Mibit/s"),
        }
    }

    /// A bare number.
    pub(super) fn number(self, value: f64) -> String {
        if self.figures == 4 { rounded(value) } else { figured(value, self.figures) }
    }

    /// A rate or count: `12.3k`.
    pub(super) fn count(self, value: f64) -> String {
        if self.figures == 4 {
            return format_count(value);
        }
        let mut scaled = value;
        let mut unit = 0;
        let units = ["", "k", "M", "G", "T"];
        while scaled >= 1000.0 && unit + 1 < units.len() {
            scaled /= 1000.0;
            unit += 1;
        }
        let text = figured(scaled, self.figures);
        let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{short}{}", units[unit])
    }

    /// Bytes a second, in bytes or bits, in both conventions.
    pub(super) fn bandwidth(self, bytes_a_second: f64) -> String {
        if self.figures == 4 && !self.bits {
            return bandwidth(bytes_a_second);
        }
        let (rate, unit) = if self.bits { (bytes_a_second * 8.0, "bit") } else { (bytes_a_second, "B") };
        let (binary, decimal, big, small) = if rate < 1_048_576.0 {
            (rate / 1024.0, rate / 1000.0, "Ki", "k")
        } else {
            (rate / 1_048_576.0, rate / 1_000_000.0, "Mi", "M")
        };
        let (binary, decimal) = (figured(binary, self.figures), figured(decimal, self.figures));
        format!("{binary}{big}{unit}/s ({decimal}{small}{unit}/s)")
    }
}

/// A number of 0 or more with so many significant figures; below 1, with one less behind the point.
fn figured(value: f64, figures: u8) -> String {
    let mut digits = 1;
    let mut bound = 10.0;
    while value >= bound && digits < 300 {
        digits += 1;
        bound *= 10.0;
    }
    let figures = usize::from(figures);
    if digits <= figures {
        return format!("{value:.*}", figures - digits);
    }
    let unit = 10_f64.powi(i32::try_from(digits - figures).unwrap_or(0));
    format!("{:.0}", (value / unit).round() * unit)
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
    fn rates_have_the_figures_and_the_unit_that_the_job_asks_for() {
        let style = |figures, bits| Style { figures, bits };
        assert_eq!(style(4, false).bandwidth(60_307_456.0), bandwidth(60_307_456.0));
        assert_eq!(style(7, false).bandwidth(60_307_456.0), "57.51367MiB/s (60.30746MB/s)");
        assert_eq!(style(4, true).bandwidth(60_307_456.0), "460.1Mibit/s (482.5Mbit/s)");
        assert_eq!(style(2, false).bandwidth(3_328_000_000.0), "3200MiB/s (3300MB/s)");
        let counts = [1, 2, 4, 6].map(|figures| style(figures, false).count(123_456.0));
        assert_eq!(counts, ["100k", "120k", "123.5k", "123.456k"]);
        assert_eq!(style(3, false).count(0.5), "0.5");
        assert_eq!(
            (style(4, false).number(56.349), style(2, false).number(56.349)),
            ("56.35".to_owned(), "56".to_owned())
        );
        assert_eq!(style(4, true).scale(200_000.0), (8.0 / 1_048_576.0, "Mibit/s"));
        assert_eq!(figured(f64::MAX, 3).len(), 309);
    }

    #[test]
    fn long_text_is_wrapped_and_hangs() {
        assert_eq!(wrapped("note: ", "aa bb cc", 11), "note: aa bb\n      cc\n");
        assert_eq!(wrapped("", "abcdef gh", 6), "abcd\n  ef\n  gh\n");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
