//! A thread that reads a log ahead of whoever issues it.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use crate::base::replay::{CHUNK, LogFeed, LogSource, LogStream, ReplayRules, log_stream};

/// How long to wait for a chunk to come back.
const PAUSE: Duration = Duration::from_micros(200);

/// A log that has been looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// What to do with it.
    pub rules: ReplayRules,
    /// The target of each name, in the order in which names appear.
    pub targets: Vec<Option<u16>>,
}

impl LogSource for LogFile {
    fn open(&self) -> Result<LogStream, String> {
        let reader = Reader::open(&self.path, &self.rules)
            .map_err(|trouble| format!("{}: {trouble}", self.path.display()))?;
        let (feed, stream) = log_stream();
        let file = self.clone();
        std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || file.read(reader, &feed))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(stream)
    }
}

impl LogFile {
    /// Until the log ends, or nobody listens any more.
    fn read(&self, mut reader: Reader, feed: &LogFeed) {
        loop {
            let Ok(chunk) = feed.chunk() else { return };
            let Some(mut chunk) = chunk else {
                std::thread::sleep(PAUSE);
                continue;
            };
            let mut goes_on = Ok(true);
            while chunk.len() < CHUNK && matches!(goes_on, Ok(true)) {
                goes_on = match reader.next_io() {
                    Ok(None) => Ok(false),
                    Ok(Some(mut io)) => match self.targets.get(usize::from(io.target)).copied().flatten() {
                        Some(target) => {
                            io.target = target;
                            chunk.push(io);
                            Ok(true)
                        }
                        None => Err(format!("{}: the log has changed since the start", reader.place())),
                    },
                    Err(trouble) => Err(trouble.to_string()),
                };
            }
            if !chunk.is_empty() {
                feed.send(chunk);
            }
            match goes_on {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => return feed.fail(format!("{}: {why}", self.path.display())),
            }
        }
    }
}
