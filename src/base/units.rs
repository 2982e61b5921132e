//! Sizes and times as people write and read them.

/// Parses a size as fio does: digits with an optional unit. `k`, `M`, `G`, `T`, `P` (also with `iB`
/// or `B`) are powers of 1024, fio's default; a bare number or `b` is bytes; `0x` starts a
/// hexadecimal number. Fractions are allowed where they make whole bytes (`"1.5k"`).
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = split_number(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(format!("`{unit}` is no unit of size: use k, M, G, T or P (powers of 1024)")),
    };
    scaled(number, 1 << shift)
        .ok_or_else(|| "expected a size such as 4096, \"4k\", \"1MiB\" or \"2T\"".to_owned())
}

/// Parses a time into nanoseconds. A bare number counts in `bare_unit_ns`.
/// Units: `ns`, `us`, `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn parse_time_ns(text: &str, bare_unit_ns: u64) -> Result<u64, String> {
    let text = text.trim();
    let (number, unit) = split_number(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => bare_unit_ns,
        "ns" | "nsec" => 1,
        "us" | "usec" => 1_000,
        "ms" | "msec" => 1_000_000,
        "s" | "sec" => SECOND_NS,
        "m" | "min" => 60 * SECOND_NS,
        "h" => 3_600 * SECOND_NS,
        "d" => 86_400 * SECOND_NS,
        _ => return Err(format!("`{unit}` is no unit of time: use ns, us, ms, s, m, h or d")),
    };
    scaled(number, scale).ok_or_else(|| "expected a time such as 30, \"30s\", \"100ms\" or \"2h\"".to_owned())
}

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

fn split_number(text: &str) -> (&str, &str) {
    if text.starts_with("0x") || text.starts_with("0X") {
        return (text, "");
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn scaled(number: &str, scale: u64) -> Option<u64> {
    if let Some(hex) = number.strip_prefix("0x").or_else(|| number.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok()?.checked_mul(scale);
    }
    let number = number.replace('_', "");
    let Some((whole, fraction)) = number.split_once('.') else {
        return number.parse::<u64>().ok()?.checked_mul(scale);
    };
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let digits = u32::try_from(fraction.len()).ok().filter(|n| (1..=12).contains(n))?;
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
    let divisor = 10_u128.pow(digits);
    if part % divisor != 0 {
        return None;
    }
    whole.checked_mul(scale)?.checked_add(u64::try_from(part / divisor).ok()?)
}

/// A size for people: `4KiB`, `1.5GiB`; exact where it is a whole number of a unit.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut whole = bytes;
    while unit + 1 < units.len() && whole >= 1024 && whole.is_multiple_of(1024) {
        whole /= 1024;
        unit += 1;
    }
    if whole < 10_000 {
        return format!("{whole}{}", units[unit]);
    }
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let mut scaled = whole as f64;
    while scaled >= 1024.0 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{}{}", four_digits(scaled), units[unit])
}

/// A rate or count for people: `12.3k`, `4.56M`.
#[must_use]
pub fn format_count(value: f64) -> String {
    let mut scaled = value;
    let mut unit = 0;
    let units = ["", "k", "M", "G", "T"];
    while scaled >= 1000.0 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(scaled), units[unit])
}

/// A duration for people: `850ns`, `12.3us`, `4.56ms`, `1.2s`.
#[must_use]
pub fn format_time_ns(ns: f64) -> String {
    let mut scaled = ns;
    let mut unit = 0;
    let units = ["ns", "us", "ms", "s"];
    while scaled >= 1000.0 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    format!("{}{}", four_digits(scaled), units[unit])
}

fn four_digits(value: f64) -> String {
    let text = match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 100.0 => format!("{v:.1}"),
        v if v >= 10.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_as_in_fio() {
        for (text, bytes) in [
            ("4k", 4096),
            ("4096", 4096),
            ("1MiB", 1 << 20),
            ("2T", 2 << 40),
            ("1.5k", 1536),
            ("0x1000", 4096),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for text in ["", "k", "4q", "-1", "1.3", "99999999P", "1.2.3k"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_size("4q").unwrap_err().contains("powers of 1024"));
    }

    #[test]
    fn times_count_in_the_unit_given() {
        assert_eq!(parse_time_ns("30", SECOND_NS), Ok(30 * SECOND_NS));
        assert_eq!(parse_time_ns("100ms", SECOND_NS), Ok(100_000_000));
        assert_eq!(parse_time_ns("2h", SECOND_NS), Ok(7_200 * SECOND_NS));
        assert_eq!(parse_time_ns("1.5s", SECOND_NS), Ok(1_500_000_000));
        assert!(parse_time_ns("5 parsecs", SECOND_NS).is_err());
    }

    #[test]
    fn numbers_for_people_have_four_digits_at_most() {
        assert_eq!(format_size(4096), "4KiB");
        assert_eq!(format_size(1 << 40), "1TiB");
        assert_eq!(format_size(1_000_000_001), "953.7MiB");
        assert_eq!(format_count(33_456_789.0), "33.46M");
        assert_eq!(format_time_ns(850.0), "850ns");
        assert_eq!(format_time_ns(1_234_567.0), "1.235ms");
    }
}
