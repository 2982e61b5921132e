//! fio's grammar of byte patterns: `0x` hexadecimal strings, decimals, `"text"` and `'file'`,
//! one after the other without separators; in `verify_pattern` also `%o`, the offset of the I/O.

use std::fs::File;
use std::io::Read;

use super::spec::JobSpec;
use super::value::{Data, Outcome, Value, quote};
use crate::base::verify::{Method, Pattern};

/// Longest pattern. It stands in every report, so it is kept within reason.
const MAX_BYTES: usize = 1 << 20;

/// `buffer_pattern`.
pub(crate) fn set_buffer_pattern(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let text = match &value.data {
        Data::Text(text) => text,
        Data::Integer(_) => {
            return Err(value
                .bad("a number does not say how many bytes it has")
                .help("put the pattern in quotes, for example \"0xdeadbeef\""));
        }
        _ => return Err(value.wrong("a string")),
    };
    let pattern = parse(text, false).map_err(|why| value.bad(why))?;
    job.content.buffer_pattern = Some(pattern.bytes);
    Ok(())
}

/// `buffer_pattern` in TOML.
pub(crate) fn show_buffer_pattern(job: &JobSpec) -> Option<String> {
    job.content.buffer_pattern.as_deref().map(|bytes| quote(&show(bytes, &[])))
}

/// `verify_pattern`. Without a method to check by, it is fio's: a header, and the pattern.
pub(crate) fn set_verify_pattern(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let pattern = match &value.data {
        Data::Text(text) => parse(text, true).map_err(|why| value.bad(why))?,
        Data::Integer(Some(number)) => match u8::try_from(*number) {
            Ok(byte) => Pattern { bytes: vec![byte], offsets: Vec::new() },
            // TOML does not tell `0xdeadbeef` from the same number in decimal, fio does.
            Err(_) => {
                return Err(value
                    .bad("a number of more than one byte does not say in which order they come")
                    .help("put the pattern in quotes, for example \"0xdeadbeef\""));
            }
        },
        _ => return Err(value.wrong("a string, or a number from 0 to 255")),
    };
    job.verify.pattern = Some(pattern);
    job.verify.method.get_or_insert(Method::PatternHdr);
    Ok(())
}

/// `verify_pattern` in TOML.
pub(crate) fn show_verify_pattern(job: &JobSpec) -> Option<String> {
    job.verify.pattern.as_ref().map(|pattern| quote(&show(&pattern.bytes, &pattern.offsets)))
}

/// Length of what `%o` stands for.
const OFFSET_BYTES: usize = 8;

/// A text that [`parse`] makes these bytes of.
fn show(bytes: &[u8], offsets: &[usize]) -> String {
    let mut text = String::new();
    let mut at = 0;
    for &offset in offsets {
        push_shown(&mut text, &bytes[at..offset]);
        text.push_str("%o");
        at = (offset + OFFSET_BYTES).min(bytes.len());
    }
    push_shown(&mut text, &bytes[at..]);
    text
}

fn push_shown(text: &mut String, bytes: &[u8]) {
    use std::fmt::Write;
    if !bytes.is_empty() {
        text.push_str("0x");
    }
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

/// The bytes that `text` describes, with the places of `%o` where that is allowed.
pub(crate) fn parse(text: &str, formats: bool) -> Result<Pattern, String> {
    let (mut out, mut offsets) = (Vec::new(), Vec::new());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("the pattern is empty".to_owned());
    }
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' => {
                let body = &rest[1..];
                let end = body.find(first).ok_or_else(|| format!("the {first} is never closed"))?;
                if first == '"' {
                    out.extend_from_slice(&body.as_bytes()[..end]);
                } else {
                    out.extend(read_file(&body[..end])?);
                }
                &body[end + 1..]
            }
            '%' if !formats => return Err("formats such as %o are for `verify_pattern` only".to_owned()),
            '%' => {
                let after = rest.strip_prefix("%o").ok_or("the only format is %o, the offset of the I/O")?;
                offsets.push(out.len());
                out.extend([0; OFFSET_BYTES]);
                after
            }
            _ => match hexadecimal(rest) {
                Some(digits) => {
                    push_hex(&mut out, digits);
                    &rest[2 + digits.len()..]
                }
                None => push_decimal(&mut out, rest)?,
            },
        };
        if out.len() > MAX_BYTES {
            return Err(format!("the pattern is longer than {MAX_BYTES} bytes"));
        }
    }
    if out.is_empty() {
        Err("the pattern has no bytes".to_owned())
    } else {
        Ok(Pattern { bytes: out, offsets })
    }
}

/// The digits after `0x`, up to where the next `0x` begins.
fn hexadecimal(text: &str) -> Option<&str> {
    let body = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let end = body.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(body.len());
    let stops_at_x = body[end..].starts_with(['x', 'X']);
    // In `0xff0x14` the second zero belongs to the second number.
    let end = if stops_at_x && body[..end].ends_with('0') { end - 1 } else { end };
    (end > 0).then_some(&body[..end])
}

fn push_hex(out: &mut Vec<u8>, digits: &str) {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    // With an odd number of digits the first stands alone.
    let (head, tail) = digits.as_bytes().split_at(digits.len() % 2);
    out.extend(head.iter().map(|&digit| nibble(digit)));
    out.extend(tail.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
}

/// Appends a decimal as its little-endian bytes without leading zeros; gives what follows it.
fn push_decimal<'a>(out: &mut Vec<u8>, text: &'a str) -> Result<&'a str, String> {
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - sign);
    let mut end = sign + digits;
    // In `-100xab` the zero belongs to the hexadecimal number.
    if text[end..].starts_with(['x', 'X']) && text[..end].ends_with('0') && digits > 1 {
        end -= 1;
    }
    let number: i32 = text[..end].parse().map_err(|_| {
        let shown: String = text.chars().take(20).collect();
        format!("`{shown}` is no hexadecimal string (0x...), decimal of 32 bits, \"text\" or 'file'")
    })?;
    let bytes = number.to_le_bytes();
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(1, |last| last + 1);
    out.extend_from_slice(&bytes[..length]);
    Ok(&text[end..])
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("cannot read `{path}`: {why}");
    // A pipe or a terminal could make us wait for ever.
    let is_file = std::fs::metadata(path).map_err(|why| failed(&why))?.is_file();
    if !is_file {
        return Err(failed(&"not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|why| failed(&why))?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|why| failed(&why))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<u8>, String> {
        super::parse(text, false).map(|pattern| pattern.bytes)
    }

    /// The examples of fio's lib/pattern.c that hold no format.
    #[test]
    fn patterns_mean_the_same_bytes_as_in_fio() {
        let cases: [(&str, &[u8]); 12] = [
            ("\"abcd\"", b"abcd"),
            ("-1024", &[0x00, 0xfc, 0xff, 0xff]),
            ("66", &[0x42]),
            ("0xFF0X1", &[0xff, 0x01]),
            ("\"123\"0xFFeeCC", &[0x31, 0x32, 0x33, 0xff, 0xee, 0xcc]),
            ("-100xab\"1\"\"2\"", &[0xf6, 0xff, 0xff, 0xff, 0xab, 0x31, 0x32]),
            ("0xdeadbeef", &[0xde, 0xad, 0xbe, 0xef]),
            ("0xabc", &[0x0a, 0xbc]),
            ("0xff0x14", &[0xff, 0x14]),
            ("0", &[0]),
            ("256", &[0, 1]),
            ("00x1", &[0, 1]),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text).as_deref(), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_explained() {
        for (text, word) in [
            ("", "empty"),
            ("\"\"", "no bytes"),
            ("\"abc", "never closed"),
            ("%o", "verify_pattern"),
            ("0x", "no hexadecimal"),
            ("3000000000", "32 bits"),
            ("'/nowhere/at/all'", "cannot read"),
            ("'/dev/zero'", "regular file"),
            ("deadbeef", "0x..."),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn a_file_is_taken_as_it_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1, 2, 0, 255]).unwrap();
        let text = format!("0x7'{}'9", file.path().display());
        assert_eq!(parse(&text), Ok(vec![7, 1, 2, 0, 255, 9]));
    }

    /// The examples of fio's lib/pattern.c and documentation that hold formats.
    #[test]
    fn offsets_stand_where_fio_puts_them() {
        for (text, bytes, offsets) in [
            ("%o", [0; 8].to_vec(), vec![0]),
            ("0xff%o\"abcd\"-12", [&[0xff][..], &[0; 8], b"abcd\xf4\xff\xff\xff"].concat(), vec![1]),
            ("%o%o1", [&[0; 16][..], &[1]].concat(), vec![0, 8]),
        ] {
            let pattern = super::parse(text, true).unwrap();
            assert_eq!((&pattern.bytes, &pattern.offsets), (&bytes, &offsets), "{text}");
            assert_eq!(super::parse(&show(&bytes, &offsets), true), Ok(pattern));
        }
        assert!(super::parse("%p", true).unwrap_err().contains("%o"));
    }
}
