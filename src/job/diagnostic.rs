//! What is wrong with a job: where, what, and the nearest right thing.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

/// A text that options came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Path of the file, or [`COMMAND_LINE`].
    pub name: String,
    /// All of it.
    pub text: String,
}

/// The origin of what was given as `--name=value`.
pub const COMMAND_LINE: &str = "command line";

/// Bytes of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which source.
    pub source: usize,
    /// Which bytes.
    pub span: Range<usize>,
}

/// A mistake on its way to a [`Diagnostic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Where; `None` is filled in with the whole value of the option.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What stands at the mark.
    pub label: String,
    /// What to do.
    pub help: Vec<String>,
    /// Whether nothing is wrong with the job but that it may destroy data.
    pub refusal: bool,
}

impl Issue {
    pub(crate) fn new(message: impl Into<String>) -> Issue {
        Issue { place: None, message: message.into(), label: String::new(), help: Vec::new(), refusal: false }
    }

    pub(crate) fn at(mut self, place: &Place) -> Issue {
        self.place = Some(place.clone());
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Issue {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Issue {
        self.help.push(help.into());
        self
    }
}

/// One mistake in a job file or on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line.
    pub message: String,
    /// What stands at the mark: what was expected there. May be empty.
    pub label: String,
    /// What to do about it.
    pub help: Vec<String>,
    /// The file, or [`COMMAND_LINE`].
    pub file: String,
    /// Line, from 1; 0 if the file could not be read at all.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Whether the job is well-formed but may destroy data that it was told to leave alone.
    pub refusal: bool,
    excerpt: String,
    mark: Range<usize>,
}

/// Longer lines are shown in part.
const LONG_LINE: usize = 300;
/// What is shown of a long line before and after the mark.
const AROUND: usize = 60;
/// More mistakes than these are counted, not shown.
const SHOWN: usize = 100;

impl Diagnostic {
    pub(crate) fn new(issue: Issue, sources: &[Source]) -> Diagnostic {
        let mut made = Diagnostic {
            message: issue.message,
            label: issue.label,
            help: issue.help,
            file: String::new(),
            line: 1,
            column: 1,
            refusal: issue.refusal,
            excerpt: String::new(),
            mark: 0..0,
        };
        let Some(place) = issue.place else { return made };
        let Some(source) = sources.get(place.source) else { return made };
        made.file.clone_from(&source.name);
        made.locate(&source.text, &place.span);
        made
    }

    /// A mistake that concerns a file as a whole.
    pub(crate) fn of_file(file: &str, message: String, help: Option<String>) -> Diagnostic {
        let mut made = Diagnostic::new(Issue::new(message), &[]);
        file.clone_into(&mut made.file);
        (made.line, made.column) = (0, 0);
        made.help.extend(help);
        made
    }

    fn locate(&mut self, text: &str, span: &Range<usize>) {
        // At the very end there is nothing to mark: go back to the last character.
        let mut start = floor(text, span.start.min(text.len()));
        if start == text.len() && start == span.end.min(text.len()) {
            start = text.trim_end().len();
        }
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let end = ceil(text, span.end.clamp(start, line_end));
        self.line = text[..line_start].matches('\n').count() + 1;
        self.column = text[line_start..start].chars().count() + 1;
        let (from, to) = if line_end - line_start > LONG_LINE {
            let from = floor(text, start.saturating_sub(AROUND).max(line_start));
            (from, ceil(text, (end.min(start + AROUND) + AROUND).min(line_end)))
        } else {
            (line_start, line_end)
        };
        let mark = start - from..end.min(to) - from;
        // Control characters would move the mark or talk to the terminal.
        let mut excerpt = String::new();
        let mut moved = 0..0;
        for (at, c) in text[from..to].char_indices() {
            if at == mark.start {
                moved.start = excerpt.len();
            }
            if at == mark.end {
                moved.end = excerpt.len();
            }
            excerpt.push(if c == '\t' { ' ' } else { visible(c) });
        }
        if mark.start >= to - from {
            moved.start = excerpt.len();
        }
        if mark.end >= to - from {
            moved.end = excerpt.len();
        }
        if moved.is_empty() {
            moved = moved.start..moved.start;
        }
        self.excerpt = excerpt;
        self.mark = moved;
    }

    /// The mistake as text, with the line it is on. In colour only where that is asked for.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let message = printable(&self.message);
        let label = printable(&self.label);
        let title = Level::ERROR.primary_title(message.as_str());
        let mut group = Group::with_title(title);
        let file = printable(&self.file);
        let origin = Origin::path(file.as_str());
        if self.line == 0 {
            group = group.element(origin);
        } else {
            group = group.element(origin.line(self.line).char_column(self.column));
            let mark = AnnotationKind::Primary.span(self.mark.clone());
            let mark = if label.is_empty() { mark } else { mark.label(label.as_str()) };
            group =
                group.element(Snippet::source(self.excerpt.as_str()).line_start(self.line).annotation(mark));
        }
        let help: Vec<String> = self.help.iter().map(|text| printable(text)).collect();
        group = group.elements(help.iter().map(|text| Element::from(Level::HELP.message(text.as_str()))));
        without_gap(&renderer.render(&[group]))
    }
}

/// All mistakes of a set of job files. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(list: Vec<Diagnostic>) -> Diagnostics {
        debug_assert!(!list.is_empty());
        Diagnostics { list }
    }

    /// The mistakes in the order of files and lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether all are refusals of jobs that are right but not allowed (exit code 6).
    #[must_use]
    pub fn refused_only(&self) -> bool {
        self.list.iter().all(|one| one.refusal)
    }

    /// All mistakes as text, one after the other.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for one in self.list.iter().take(SHOWN) {
            out.push_str(&one.render(colour));
            out.push_str("\n\n");
        }
        if self.list.len() > SHOWN {
            out.push_str(&format!("... and {} more\n", self.list.len() - SHOWN));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Takes out the `:::` that the renderer puts between an origin and a snippet of its own. The
/// origin is given apart because the snippet may begin in the middle of a long line.
fn without_gap(rendered: &str) -> String {
    const GAP: usize = 3;
    let lines = rendered.split('\n').enumerate();
    let kept: Vec<&str> =
        lines.filter(|(index, line)| *index != GAP || !line.contains(":::")).map(|(_, line)| line).collect();
    kept.join("\n")
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

fn visible(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

/// Text of the user's within a message: one line, of bounded length, without control characters.
fn printable(text: &str) -> String {
    const LONGEST: usize = 400;
    let mut out: String = text.chars().take(LONGEST).map(visible).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// The known name nearest to `word`, if it is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes time with the square of the length; no option is that long.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let length = word.chars().count();
    let allowed = (length / 3).max(1);
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(length) <= allowed)
        .map(|name| (strsim::osa_distance(&word, name), name))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}
