//! Where snapshots go: into the file that counts, or into the copy that a server keeps.
//!
//! The copy is stored by a thread of its own: the client's is the one that counts, and a disk of the server
//! that hangs or crawls holds neither a trigger nor checkpoints up.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::clock::Clock;

use super::state_file::StateFile;

/// How long what goes on when the client has a snapshot waits for the server's own copy.
const OWN_WITHIN: Duration = Duration::from_secs(2);
/// How long the end of the run waits for the disk.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Where a snapshot goes.
#[derive(Debug)]
pub enum Place {
    /// The file that counts.
    Here(StateFile),
    /// The server's copy.
    Beside(OwnCopy),
}

impl Place {
    /// The place of a file.
    ///
    /// # Errors
    /// If there is no thread for a copy.
    pub fn of(file: StateFile, path: &Path, is_copy: bool) -> Result<Place, String> {
        if !is_copy {
            return Ok(Place::Here(file));
        }
        let copy = OwnCopy::start(file, path.to_owned());
        copy.map(Place::Beside).map_err(|why| format!("cannot start a thread: {why}"))
    }

    /// Stores what counts; has a copy stored.
    ///
    /// # Errors
    /// Why it could not be stored, in a sentence.
    pub fn store(&mut self, path: &Path, bytes: Vec<u8>) -> Result<(), String> {
        match self {
            Place::Here(file) => file
                .store(&bytes)
                .map_err(|why| format!("the snapshot {} could not be stored: {why}", path.display())),
            Place::Beside(copy) => {
                copy.store(bytes);
                Ok(())
            }
        }
    }

    /// Takes the space for the next time.
    pub fn prepare(&mut self) {
        if let Place::Here(file) = self {
            // What is wrong is told when it is needed.
            let _ = file.prepare();
        }
    }

    /// Waits for a copy, but not for long.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn settle(&self) -> Result<(), String> {
        match self {
            Place::Here(_) => Ok(()),
            Place::Beside(copy) => copy.settle(OWN_WITHIN),
        }
    }
}

/// What lies before the thread.
#[derive(Debug, Default)]
struct Desk {
    /// The last that came: one that waits is left out.
    next: Option<Vec<u8>>,
    is_busy: bool,
    trouble: Option<String>,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is written when its disk has time.
#[derive(Debug)]
pub struct OwnCopy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    clock: Clock,
}

impl OwnCopy {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the system.
    fn start(mut file: StateFile, path: PathBuf) -> std::io::Result<OwnCopy> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("own copy".to_owned()).spawn(move || {
            let mut desk = seen.desk();
            loop {
                if let Some(bytes) = desk.next.take() {
                    desk.is_busy = true;
                    drop(desk);
                    let stored = file.store(&bytes);
                    desk = seen.desk();
                    desk.is_busy = false;
                    desk.trouble = stored.err().map(|why| why.to_string());
                    seen.changed.notify_all();
                    drop(desk);
                    // What is wrong is told by the next one.
                    let _ = file.prepare();
                    desk = seen.desk();
                } else if desk.is_over {
                    return;
                } else {
                    desk = seen.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
                }
            }
        })?;
        Ok(OwnCopy { shared, thread: Some(thread), path, clock: Clock::get() })
    }

    /// Has these bytes stored, in the place of those that still wait.
    fn store(&self, bytes: Vec<u8>) {
        self.shared.desk().next = Some(bytes);
        self.shared.changed.notify_all();
    }

    /// Waits for the disk, but no longer than this.
    ///
    /// # Errors
    /// What is wrong with the last one, as a sentence.
    fn settle(&self, within: Duration) -> Result<(), String> {
        let within_ns = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = self.clock.now_ns().saturating_add(within_ns);
        let mut desk = self.shared.desk();
        let path = self.path.display();
        loop {
            if let Some(why) = &desk.trouble {
                return Err(format!("the snapshot {path} could not be stored: {why}"));
            }
            if !desk.is_busy && desk.next.is_none() {
                return Ok(());
            }
            let left = until_ns.saturating_sub(self.clock.now_ns());
            if left == 0 {
                return Err(format!("its disk has not stored {path} within {} ms", within.as_millis()));
            }
            let waited = self.shared.changed.wait_timeout(desk, Duration::from_nanos(left));
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for OwnCopy {
    fn drop(&mut self) {
        self.shared.desk().is_over = true;
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else { return };
        let _ = self.settle(LEAVE_WITHIN);
        let until_ns = self.clock.now_ns().saturating_add(1_000_000_000);
        while !thread.is_finished() && self.clock.now_ns() < until_ns {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
