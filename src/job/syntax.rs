//! TOML with the usual slips explained.

mod bound;

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnostic::{Issue, Issues, MOST_ISSUES, Place};
use super::table::{find, refused};
use super::value::{Value, entries, place, quote};

/// Slips are looked for in this many rounds at most.
const ROUNDS: usize = 50;
/// In texts longer than this, one round has to do.
const LONG_TEXT: usize = 1 << 20;

/// So many errors of the parser are looked at: one slip often confuses it more than once.
const MOST_ERRORS: usize = 4 * MOST_ISSUES;

/// What could be made of a text.
pub(crate) struct Document {
    pub entries: Vec<(String, Place, Value)>,
    /// Where it is no TOML.
    pub issues: Issues,
    /// Lines that the entries may have misunderstood.
    pub broken: Vec<Range<usize>>,
}

/// Reads the text of source `index`. A line with a slip that is confined to it is explained and
/// then blanked, so that the parser finds what is wrong below it.
pub(crate) fn read(index: usize, original: &str) -> Document {
    let mut text = original.to_owned();
    let mut issues = Issues::default();
    if let Some(at) = bound::too_large(original) {
        let message = format!("there are more than {} names, values and signs here", bound::MOST_TOKENS);
        let issue = Issue::new(message).at(&place(at, index, 0));
        issues.push(issue.help("is this a job file, or the target of one?"));
        return Document { entries: Vec::new(), issues, broken: Vec::new() };
    }
    let rounds = if text.len() > LONG_TEXT { 1 } else { ROUNDS };
    for round in 1.. {
        let (understood, more) = bound::first_errors(&text);
        // The line that was cut, if one was, is not the one that was written.
        let cut = (understood.len() < text.len()).then(|| line_of(&text, understood.len()));
        let (document, errors) = DeTable::parse_recoverable(understood);
        let mut broken: Vec<Range<usize>> = Vec::new();
        let (mut slips, mut others) = (Vec::new(), Vec::new());
        // Those that the first look did not see, such as keys that are set twice, may be many.
        let more = more + errors.len().saturating_sub(MOST_ERRORS);
        for error in errors.iter().take(MOST_ERRORS) {
            let span = error.span().unwrap_or(0..0);
            let line = line_of(&text, span.start);
            // One slip often confuses the parser more than once.
            if broken.contains(&line) {
                continue;
            }
            broken.push(line.clone());
            let slip = if cut.as_ref() == Some(&line) { None } else { slip(index, &text, line.clone()) };
            match slip {
                Some(issue) => slips.push((issue, line)),
                // An array that is not closed swallows line after line.
                None if error.message().contains("array elements") && among(&others, error.message()) => {}
                None => {
                    let message = match error.message() {
                        "duplicate key" => "this is set twice in the same table".to_owned(),
                        "invalid basic string, expected `\"`" => "the string is never closed".to_owned(),
                        other => format!("not valid TOML: {other}"),
                    };
                    others.push(Issue::new(message).at(&place(span, index, 0)));
                }
            }
        }
        if slips.is_empty() || round >= rounds || issues.stops() {
            issues.extend(slips.into_iter().map(|(issue, _)| issue));
            issues.extend(others);
            issues.count_more(more);
            broken.sort_by_key(|line| line.start);
            return Document { entries: entries(document.get_ref(), index, 0), issues, broken };
        }
        // What else is wrong may only follow from the slips: the next round tells.
        for (issue, line) in slips {
            issues.push(issue);
            text.replace_range(line.clone(), &" ".repeat(line.len()));
        }
    }
    Document { entries: Vec::new(), issues, broken: Vec::new() }
}

/// Whether a message is among the issues already.
fn among(issues: &[Issue], message: &str) -> bool {
    issues.iter().any(|issue| issue.message.ends_with(message))
}

/// Explains a line that is wrong in one of the usual ways, most of them from fio's job files.
fn slip(index: usize, text: &str, line: Range<usize>) -> Option<Issue> {
    let raw = &text[line.clone()];
    let code = raw.split('#').next().unwrap_or(raw).trim();
    let whole = |part: &str| {
        let start = line.start + raw.find(part).unwrap_or(0);
        Place { source: index, span: start..start + part.len() }
    };
    if code.starts_with(';') {
        return Some(Issue::new("a comment begins with `#` in TOML").at(&whole(code)));
    }
    let known = |key: &str| find(key).is_some() || refused().any(|(name, _)| *name == key);
    let Some((key, value)) = code.split_once('=') else {
        let (_, option) = find(code)?;
        let value = if option.is_flag() { "true" } else { "..." };
        let issue = Issue::new(format!("`{code}` has no value")).at(&whole(code));
        return Some(issue.help(format!("write {code} = {value}")));
    };
    let (key, value) = (key.trim(), value.trim());
    if !known(key) {
        return None;
    }
    if value.is_empty() {
        return Some(Issue::new(format!("`{key}` has no value")).at(&whole(code)));
    }
    let bare = !value.starts_with(['"', '\'', '[', '{']) && !value.contains(char::is_control);
    if !bare || value.len() > 100 || DeValue::parse(value).is_ok() {
        return None;
    }
    let start = line.start + raw.find('=')? + 1;
    let start = start + text[start..line.end].find(value)?;
    let at = Place { source: index, span: start..start + value.len() };
    let flag = find(key).is_some_and(|(_, option)| option.is_flag());
    let (message, write) = match value.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" if flag => ("expected true or false", "true".to_owned()),
        "no" | "off" | "false" if flag => ("expected true or false", "false".to_owned()),
        _ => ("texts, and numbers with a unit, need quotes", quote(value)),
    };
    let issue = Issue::new(format!("`{key}`: {message}")).at(&at);
    Some(issue.help(format!("write {key} = {write}")))
}

/// The bytes of the line that holds `at`.
pub(crate) fn line_of(text: &str, at: usize) -> std::ops::Range<usize> {
    let bytes = text.as_bytes();
    let at = at.min(bytes.len());
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |after| at + after);
    start..end
}
