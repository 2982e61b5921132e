//! The server's log: standard error, a line an event.

use std::io::Write;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::base::host::printable;

/// Lines of one kind at once; then one a second.
const BURST: u32 = 20;
/// How often suppressed lines are reported.
const REPORT_EVERY: Duration = Duration::from_secs(60);
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

/// What a line of the log is about. Each kind has a limit of its own, so that a flood of one hides no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection could not be accepted.
    Accept,
    /// A connection was refused.
    Refused,
    /// A call was refused.
    Call,
    /// A client watches a run, or takes it over.
    Attach,
    /// A client that drove or watched is gone.
    Gone,
    /// A client ends a run.
    Stop,
    /// A run begins or has ended.
    Run,
    /// The files of a run, or its process, could not be made, kept or removed.
    Trouble,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Accept,
        Kind::Refused,
        Kind::Call,
        Kind::Attach,
        Kind::Gone,
        Kind::Stop,
        Kind::Run,
        Kind::Trouble,
    ];

    /// What its suppressed lines are called.
    const fn name(self) -> &'static str {
        match self {
            Kind::Accept => "connections that could not be accepted",
            Kind::Refused => "refused connections",
            Kind::Call => "refused calls",
            Kind::Attach => "clients that attached",
            Kind::Gone => "clients that are gone",
            Kind::Stop => "requests to end a run",
            Kind::Run => "lines about runs",
            Kind::Trouble => "lines about files and processes of runs",
        }
    }
}

/// A log that a flood does not fill: of each [`Kind`], 20 lines at once and then one a second. The
/// others are counted, and their number is logged once a minute.
pub struct Log {
    write: Box<dyn Fn(&str) + Send + Sync>,
    buckets: [Mutex<Bucket>; Kind::ALL.len()],
}

struct Bucket {
    left: u32,
    filled: Instant,
    suppressed: u64,
    /// When the first of them came.
    since: Instant,
}

impl Log {
    /// A log that writes lines with `write`.
    #[must_use]
    pub fn new(write: Box<dyn Fn(&str) + Send + Sync>) -> Log {
        let now = Instant::now();
        let bucket = |_| Mutex::new(Bucket { left: BURST, filled: now, suppressed: 0, since: now });
        Log { write, buckets: std::array::from_fn(bucket) }
    }

    /// The log of this process.
    #[must_use]
    pub fn shared() -> Arc<Log> {
        static SHARED: OnceLock<Arc<Log>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(|| Arc::new(Log::new(Box::new(log)))))
    }

    /// That a connection was refused, and why.
    pub fn refused(&self, peer: &str, why: &str) {
        self.line(Kind::Refused, &format!("refused {peer}: {why}"));
    }

    /// A line that a peer can cause.
    pub fn line(&self, kind: Kind, text: &str) {
        self.line_at(kind, text, Instant::now());
    }

    /// Logs how many lines were suppressed: those of the last minute if a minute has passed, or all if
    /// `all`. To be called now and then, as after a flood no other line may come.
    pub fn report_suppressed(&self, all: bool) {
        self.report_at(all, Instant::now());
    }

    fn bucket(&self, kind: Kind) -> MutexGuard<'_, Bucket> {
        self.buckets[kind as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_at(&self, all: bool, now: Instant) {
        for kind in Kind::ALL {
            let mut bucket = self.bucket(kind);
            let passed = now.saturating_duration_since(bucket.since);
            if bucket.suppressed == 0 || !(all || passed >= REPORT_EVERY) {
                continue;
            }
            let suppressed = std::mem::take(&mut bucket.suppressed);
            drop(bucket);
            let (name, seconds) = (kind.name(), passed.as_secs().max(1));
            (self.write)(&format!("... and {suppressed} more {name} in the last {seconds} s"));
        }
    }

    fn line_at(&self, kind: Kind, text: &str, now: Instant) {
        self.report_at(false, now);
        let mut bucket = self.bucket(kind);
        let seconds = now.saturating_duration_since(bucket.filled).as_secs();
        if seconds > 0 {
            bucket.left = BURST.min(bucket.left.saturating_add(u32::try_from(seconds).unwrap_or(BURST)));
            bucket.filled = now;
        }
        if bucket.left == 0 {
            if bucket.suppressed == 0 {
                bucket.since = now;
            }
            bucket.suppressed += 1;
            return;
        }
        bucket.left -= 1;
        drop(bucket);
        (self.write)(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn log() -> (Log, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        (Log::new(Box::new(move |line| seen.lock().unwrap().push(line.to_owned()))), lines)
    }

    #[test]
    fn a_flood_of_any_kind_is_counted_and_hides_no_other_kind() {
        let (log, lines) = log();
        let begun = Instant::now();
        for _ in 0..1000 {
            Kind::ALL.iter().for_each(|&kind| log.line_at(kind, kind.name(), begun));
        }
        let count = |text: &str| lines.lock().unwrap().iter().filter(|line| *line == text).count();
        for kind in Kind::ALL {
            assert_eq!(count(kind.name()), BURST as usize, "{kind:?}");
        }
        assert_eq!(lines.lock().unwrap().len(), Kind::ALL.len() * BURST as usize);
        // It goes on for a minute.
        for second in 1..60 {
            log.line_at(Kind::Attach, "again", begun + Duration::from_secs(second));
            log.line_at(Kind::Attach, "and again", begun + Duration::from_secs(second));
        }
        assert_eq!((count("again"), count("and again")), (59, 0));
        log.report_at(false, begun + REPORT_EVERY);
        assert_eq!(count("... and 1039 more clients that attached in the last 60 s"), 1);
        assert_eq!(count("... and 980 more refused calls in the last 60 s"), 1);
        let before = lines.lock().unwrap().len();
        log.report_at(true, begun + 2 * REPORT_EVERY);
        assert_eq!(lines.lock().unwrap().len(), before, "each is counted once");
    }

    #[test]
    fn what_was_suppressed_is_reported_though_nothing_follows() {
        let (log, lines) = log();
        let begun = Instant::now();
        for _ in 0..=BURST {
            log.line_at(Kind::Refused, "refused", begun);
        }
        log.report_at(false, begun + Duration::from_secs(3));
        assert_eq!(lines.lock().unwrap().len(), BURST as usize, "not yet");
        log.report_at(true, begun + Duration::from_secs(3));
        assert_eq!(
            lines.lock().unwrap().last().unwrap(),
            "... and 1 more refused connections in the last 3 s"
        );
    }
}
