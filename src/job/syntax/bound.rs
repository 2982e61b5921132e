//! How much of a text the parser may make something of.
//!
//! The parser keeps a value of some hundred bytes for each sign of a text, and a message for each error: 16 MiB of
//! `= =` took 2.8 GB. So the text is looked through first, by the same lexer and grammar, keeping nothing.

use std::ops::Range;

use toml_parser::decoder::Encoding;
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Raw, Source, Span};

use crate::job::diagnostic::MOST_ISSUES;

/// A text with more names, values, signs and spaces than this is not a job file. One of 4096 jobs with 20 options
/// each has half of them.
pub(super) const MOST_TOKENS: usize = 1_000_000;
/// How deep tables and arrays are followed, as in the crate `toml`.
const DEEPEST: u32 = 80;

/// Where a text has more tokens than may be.
pub(super) fn too_large(text: &str) -> Option<Range<usize>> {
    let token = Source::new(text).lex().nth(MOST_TOKENS)?;
    Some(token.span().start()..token.span().end())
}

/// The beginning of a text that has no more errors of syntax than are shown, and how many follow.
pub(super) fn first_errors(text: &str) -> (&str, usize) {
    let source = Source::new(text);
    let tokens = source.lex().into_vec();
    let mut errors = Counter { seen: 0, cut: None };
    let mut values = Decoder { source };
    let mut receiver = ValidateWhitespace::new(&mut values, source);
    let mut receiver = RecursionGuard::new(&mut receiver, DEEPEST);
    parse_document(&tokens, &mut receiver, &mut errors);
    match errors.cut {
        Some(at) => (&text[..text.floor_char_boundary(at)], errors.seen - MOST_ISSUES),
        None => (text, 0),
    }
}

/// Counts errors.
struct Counter {
    seen: usize,
    /// Where the first one begins that is not shown.
    cut: Option<usize>,
}

impl ErrorSink for Counter {
    fn report_error(&mut self, error: ParseError) {
        self.seen += 1;
        if self.seen > MOST_ISSUES && self.cut.is_none() {
            let span = error.unexpected().or_else(|| error.context());
            self.cut = span.map(|span| span.start());
        }
    }
}

/// Reads names and values to find what is wrong within them, and forgets them.
struct Decoder<'i> {
    source: Source<'i>,
}

impl<'i> Decoder<'i> {
    fn raw(&self, span: Span, encoding: Option<Encoding>) -> Option<Raw<'i>> {
        let raw = self.source.get(span)?;
        Some(Raw::new_unchecked(raw.as_str(), encoding, span))
    }
}

impl EventReceiver for Decoder<'_> {
    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, errors: &mut dyn ErrorSink) {
        if let Some(raw) = self.raw(span, encoding) {
            raw.decode_key(&mut (), errors);
        }
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, errors: &mut dyn ErrorSink) {
        if let Some(raw) = self.raw(span, encoding) {
            let _ = raw.decode_scalar(&mut (), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_behind_the_first_hundred_are_counted_and_not_kept() {
        let shown = |text: &str| {
            let (understood, more) = first_errors(text);
            (understood.len(), more)
        };
        assert_eq!(shown("a = 1\n= 2\n"), (12 - 1 - 1, 0));
        let (understood, more) = shown(&"= =\n".repeat(10_000));
        assert!(understood < 1000 && more > 9_000, "{understood} {more}");
        // Many errors within one value.
        let (understood, more) = shown(&format!("a = \"{}\"\n", "\\q".repeat(10_000)));
        assert!(understood < 1000 && more > 9_000, "{understood} {more}");
        let (understood, more) = shown(&format!("a = [{}]\n", "=,".repeat(10_000)));
        assert!(understood < 1000 && more > 9_000, "{understood} {more}");
    }

    #[test]
    fn a_text_without_end_is_refused_where_it_becomes_too_long() {
        assert_eq!(too_large("a = 1\n"), None);
        let text = "1,".repeat(MOST_TOKENS / 2);
        // The end of the text counts too.
        assert_eq!(too_large(&format!("{text},")), Some(MOST_TOKENS..MOST_TOKENS + 1));
    }
}
