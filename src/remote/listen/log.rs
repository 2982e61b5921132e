//! The server's log: standard error, a line an event.

use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::base::host::printable;

/// So many lines at once; then one a second.
const BURST: u32 = 20;
/// Longer lines are cut, in characters.
const LONGEST: usize = 500;

/// So many lines wait for a standard error that takes none; what comes then is counted.
const MOST_WAITING: usize = 1024;

/// What the thread that writes is told.
enum Order {
    Line(String),
    /// To say when all before it is written.
    Flush(SyncSender<()>),
}

/// Writes a line to the server's log, with the time before it. What the line says may come from others.
/// It never waits: whoever reads standard error may be slow, or have stopped.
pub fn log(text: &str) {
    let text = printable(&text.chars().take(LONGEST).collect::<String>());
    let line = format!("{} {text}\n", humantime::format_rfc3339_seconds(SystemTime::now()));
    match writer() {
        Some(writer) => queue(writer, &LOST, line),
        // Without a thread there is this one.
        None => write(&line),
    }
}

/// Waits until the log is written, but no longer than this.
pub fn flush(within: Duration) {
    let Some(writer) = writer() else { return };
    let (done, is_done) = sync_channel(1);
    if writer.try_send(Order::Flush(done)).is_ok() {
        let _ = is_done.recv_timeout(within);
    }
}

/// Lines for which there was no room, since the last one that had some.
static LOST: Mutex<u64> = Mutex::new(0);

fn queue(writer: &SyncSender<Order>, lost: &Mutex<u64>, line: String) {
    let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
    if *lost > 0 {
        let told = Order::Line(format!("{} lines are missing here: nobody read them in time\n", *lost));
        match writer.try_send(told) {
            Ok(()) => *lost = 0,
            Err(_) => {
                *lost += 1;
                return;
            }
        }
    }
    if let Err(TrySendError::Full(_)) = writer.try_send(Order::Line(line)) {
        *lost += 1;
    }
}

/// The thread that writes; `None` if there can be none.
fn writer() -> Option<&'static SyncSender<Order>> {
    static WRITER: OnceLock<Option<SyncSender<Order>>> = OnceLock::new();
    let start = || {
        let (sender, orders) = sync_channel(MOST_WAITING);
        let write_all = move || {
            for order in orders {
                match order {
                    Order::Line(line) => write(&line),
                    Order::Flush(done) => drop(done.send(())),
                }
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write_all).ok().map(|_| sender)
    };
    WRITER.get_or_init(start).as_ref()
}

fn write(line: &str) {
    // Without a place to write to there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
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

    #[test]
    fn lines_that_nobody_reads_are_counted_and_nobody_waits_for_them() {
        let (writer, orders) = sync_channel(2);
        let lost = Mutex::new(0);
        for number in 0..5 {
            queue(&writer, &lost, format!("{number}"));
        }
        let next = || match orders.try_recv() {
            Ok(Order::Line(line)) => line,
            _ => String::new(),
        };
        assert_eq!((next(), next(), next()), ("0".to_owned(), "1".to_owned(), String::new()));
        queue(&writer, &lost, "5".to_owned());
        assert_eq!(
            (next(), next()),
            ("3 lines are missing here: nobody read them in time\n".to_owned(), "5".to_owned())
        );
    }

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
