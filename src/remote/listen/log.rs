//! The server's log: standard error, a line an event.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::base::host::printable;

/// So many lines at once; then one a second.
const BURST: u32 = 20;
/// Longer lines are cut, in characters.
const LONGEST: usize = 500;

/// Writes a line to the server's log, with the time before it. What the line says may come from others.
pub fn log(text: &str) {
    let text = printable(&text.chars().take(LONGEST).collect::<String>());
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    // Without a place to write to there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{time} {text}");
}

/// A log that a flood does not fill.
pub struct Log {
    write: Box<dyn Fn(&str) + Send + Sync>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    left: u32,
    filled: Instant,
    dropped: u64,
}

impl Log {
    /// A log that writes lines with `write`.
    #[must_use]
    pub fn new(write: Box<dyn Fn(&str) + Send + Sync>) -> Log {
        Log { write, bucket: Mutex::new(Bucket { left: BURST, filled: Instant::now(), dropped: 0 }) }
    }

    /// That somebody was refused, and why.
    pub fn refused(&self, peer: &str, why: &str) {
        self.line(&format!("refused {peer}: {why}"));
    }

    /// A line that peers cause.
    pub fn line(&self, text: &str) {
        self.line_at(text, Instant::now());
    }

    fn line_at(&self, text: &str, now: Instant) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.saturating_duration_since(bucket.filled).as_secs();
        if seconds > 0 {
            bucket.left = BURST.min(bucket.left.saturating_add(u32::try_from(seconds).unwrap_or(BURST)));
            bucket.filled = now;
        }
        if bucket.left == 0 {
            bucket.dropped += 1;
            return;
        }
        bucket.left -= 1;
        let dropped = std::mem::take(&mut bucket.dropped);
        drop(bucket);
        if dropped > 0 {
            (self.write)(&format!("{dropped} more refusals are not told"));
        }
        (self.write)(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let log = Log::new(Box::new(move |line| seen.lock().unwrap().push(line.to_owned())));
        let begun = Instant::now();
        for _ in 0..1000 {
            log.line_at("refused", begun);
        }
        assert_eq!(lines.lock().unwrap().len(), BURST as usize);
        log.line_at("refused too", begun + Duration::from_secs(2));
        let lines = lines.lock().unwrap();
        assert_eq!(lines[BURST as usize..], ["980 more refusals are not told", "refused too"]);
    }
}
