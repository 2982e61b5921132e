//! What is wrong with a job: where, what, and the nearest right thing.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use crate::base::printable::{printable, visible};

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
        let mut message = message.into();
        message.truncate(floor(&message, LONGEST_MESSAGE.min(message.len())));
        Issue { place: None, message, label: String::new(), help: Vec::new(), refusal: false }
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
        let mut help = help.into();
        help.truncate(floor(&help, LONGEST_MESSAGE.min(help.len())));
        self.help.push(help);
        self
    }
}

/// Mistakes as they are found: the first [`MOST_ISSUES`] are kept, the others only counted, so that a text that is
/// nothing but mistakes takes no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Issues {
    kept: Vec<Issue>,
    /// How many there were beside.
    more: usize,
    /// Some of those are not refusals.
    more_are_wrong: bool,
    /// It was not looked for all.
    stopped: bool,
}

impl Issues {
    pub(crate) fn push(&mut self, issue: Issue) {
        if self.kept.len() < MOST_ISSUES {
            self.kept.push(issue);
        } else {
            self.more += 1;
            self.more_are_wrong |= !issue.refusal;
        }
    }

    /// Counts mistakes of which nothing else is known.
    pub(crate) fn count_more(&mut self, more: usize) {
        self.more += more;
        self.more_are_wrong |= more > 0;
    }

    /// Takes in those of another list, and its count.
    pub(crate) fn append(&mut self, other: Issues) {
        self.more += other.more;
        self.more_are_wrong |= other.more_are_wrong;
        self.stopped |= other.stopped;
        self.extend(other.kept);
    }

    /// How many there are, with those that are not kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.len() + self.more
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.more == 0
    }

    /// Whether further ones would only be counted, which is not worth the time that it takes to find them: whoever asks
    /// looks for no more then.
    pub(crate) fn stops(&mut self) -> bool {
        self.stopped |= self.kept.len() >= MOST_ISSUES;
        self.stopped
    }

    /// Those that are kept.
    pub(crate) fn kept(&self) -> &[Issue] {
        &self.kept
    }

    pub(crate) fn kept_mut(&mut self) -> &mut [Issue] {
        &mut self.kept
    }

    /// Leaves out those that are kept and do not fit.
    pub(crate) fn retain(&mut self, fits: impl FnMut(&Issue) -> bool) {
        self.kept.retain(fits);
    }

    /// The mistakes in the order of sources and places, each once; `None` if there are none.
    pub(crate) fn into_diagnostics(mut self, sources: &[Source]) -> Option<Diagnostics> {
        if self.is_empty() {
            return None;
        }
        self.kept.sort_by_key(|issue| issue.place.as_ref().map(|place| (place.source, place.span.start)));
        let mut once: Vec<Issue> = Vec::new();
        for issue in self.kept {
            if !once.iter().rev().take_while(|seen| seen.place == issue.place).any(|seen| *seen == issue) {
                once.push(issue);
            }
        }
        let list = once.into_iter().map(|issue| Diagnostic::new(issue, sources)).collect();
        Some(Diagnostics {
            list,
            more: self.more,
            more_are_wrong: self.more_are_wrong,
            stopped: self.stopped,
        })
    }
}

impl Extend<Issue> for Issues {
    fn extend<I: IntoIterator<Item = Issue>>(&mut self, issues: I) {
        issues.into_iter().for_each(|issue| self.push(issue));
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
/// More mistakes than these are counted, not kept and not shown.
pub(crate) const MOST_ISSUES: usize = 100;
/// A longer message holds text of the user's that is cut, in bytes.
const LONGEST_MESSAGE: usize = 4096;

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
        let message = bounded(&self.message);
        let label = bounded(&self.label);
        let title = Level::ERROR.primary_title(message.as_str());
        let mut group = Group::with_title(title);
        let file = bounded(&self.file);
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
        let help: Vec<String> = self.help.iter().map(|text| bounded(text)).collect();
        group = group.elements(help.iter().map(|text| Element::from(Level::HELP.message(text.as_str()))));
        without_gap(&renderer.render(&[group]))
    }
}

/// All mistakes of a set of job files. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many there were beside those in the list.
    more: usize,
    /// Some of those are not refusals.
    more_are_wrong: bool,
    /// It was not looked for all.
    stopped: bool,
}

impl Diagnostics {
    pub(crate) fn new(list: Vec<Diagnostic>) -> Diagnostics {
        debug_assert!(!list.is_empty());
        Diagnostics { list, more: 0, more_are_wrong: false, stopped: false }
    }

    /// The mistakes in the order of files and lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many of them are listed: the first hundred.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether all are refusals of jobs that are right but not allowed (exit code 6).
    #[must_use]
    pub fn refused_only(&self) -> bool {
        !self.more_are_wrong && self.list.iter().all(|one| one.refusal)
    }

    /// All mistakes as text, one after the other.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for one in &self.list {
            out.push_str(&one.render(colour));
            out.push_str("\n\n");
        }
        match (self.more, self.stopped) {
            (0, false) => {}
            (more, false) => out.push_str(&format!("... and {more} more\n")),
            (_, true) => out.push_str("... and perhaps more: what follows was not read\n"),
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

/// Text of the user's within a message: one line, of bounded length, without control characters.
fn bounded(text: &str) -> String {
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => printable(&text[..end]) + "…",
        None => printable(text),
    }
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
