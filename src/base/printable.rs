//! Text for people: what a file, a device, a server or a certificate is called must not drive the terminal
//! that shows it.
//!
//! Escaped are the control characters of ASCII and Latin-1 (C0, DEL, C1: a terminal takes U+009B for the start
//! of a sequence), the characters that turn the direction of text, and those that end a line. The escapes are
//! those of JSON and TOML strings, so that text in these formats stays valid and keeps its meaning.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal or a reader may be misled by this character.
#[must_use]
pub fn is_hazard(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks of direction, and embeddings, overrides and isolates.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Ends of lines and paragraphs.
            | '\u{2028}' | '\u{2029}')
}

/// Text on one line, for a terminal: hazardous characters are escaped, newlines and tabs too.
#[must_use]
pub fn printable(text: &str) -> String {
    escaped(text, |_| false).into_owned()
}

/// Text of several lines, for a terminal: newlines and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// One character for one, where columns must stay what they are.
#[must_use]
pub fn visible(c: char) -> char {
    if is_hazard(c) { char::REPLACEMENT_CHARACTER } else { c }
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let hazard = |c: char| is_hazard(c) && !stays(c);
    if !text.contains(hazard) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hazard(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of them have four digits.
            c => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_escaped() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}31m\x7f\0"), "a\\u001b[2Jb\\u009b31m\\u007f\\u0000");
        assert_eq!(printable("two\nlines\r\tx"), "two\\nlines\\r\\tx");
        for c in ('\0'..='\u{2fff}').filter(|&c| is_hazard(c)) {
            let text = printable(&c.to_string());
            assert!(!text.contains(is_hazard) && text.is_ascii(), "{c:?}: {text:?}");
            assert_eq!(visible(c), '\u{fffd}');
        }
    }

    #[test]
    fn text_that_turns_its_direction_or_ends_a_line_is_escaped() {
        for (c, escape) in [('\u{202a}', "\\u202a"), ('\u{202e}', "\\u202e"), ('\u{2066}', "\\u2066")] {
            assert_eq!(printable(&format!("a{c}b")), format!("a{escape}b"));
        }
        for c in ['\u{2069}', '\u{200e}', '\u{200f}', '\u{061c}', '\u{2028}', '\u{2029}', '\u{85}'] {
            assert!(!printable_lines(&format!("a{c}b")).contains(c));
        }
    }

    #[test]
    fn text_in_any_script_stays_and_so_do_lines_and_tabs_where_there_may_be_several() {
        let text = "Größe 数据 ディスク עברית 😀 \u{a0}\u{200b}é";
        assert_eq!(printable(text), text);
        assert!(matches!(printable_lines("a\n\tb\n"), Cow::Borrowed("a\n\tb\n")));
        assert_eq!(printable_lines("a\r\n\x08"), "a\\r\n\\u0008");
    }

    #[test]
    fn escaping_is_done_once_and_json_keeps_its_meaning() {
        let name = "a\u{9b}\u{202e}\u{7f}";
        assert_eq!(printable(&printable(name)), printable(name));
        let json = serde_json::json!({ "name": name });
        let text = format!("{json:#}\n");
        let safe = printable_lines(&text);
        assert!(!safe.contains(|c: char| is_hazard(c) && c != '\n'), "{safe:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), json);
    }
}
