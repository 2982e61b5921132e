//! Where a client keeps what a server's run has promised: `<job>.<server>.<run>.state`, and
//! `<job>.<server>.state`, a link to that of the newest run.
//!
//! Each server's has a thread of its own: a slow disk delays neither the wire nor other servers. The
//! names come from this side and from the run's id, which is 32 hexadecimal digits, never from what a
//! server sends.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::base::host::printable;
use crate::base::verify::RunId;
use crate::job::JobSpec;
use crate::remote::MOST_MESSAGE_BYTES;
use crate::remote::wire::bench;
use crate::run::StateFile;
use crate::verify::snapshot::{Cause, Snapshot};

/// Bytes of a snapshot for each job, each worker and each I/O in flight: far more than it takes.
const JOB_BYTES: u64 = 64 << 10;
const WORKER_BYTES: u64 = 16 << 10;
const IO_BYTES: u64 = 64;
/// How long the end waits for a disk.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Stable storage for the snapshots of one run.
pub(super) trait Shelf: fmt::Debug + Send {
    /// When this has come back well, `bytes` are on stable storage, in the place of those before.
    fn store(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Takes the space for the next time.
    fn prepare(&mut self) {}
}

impl Shelf for StateFile {
    fn store(&mut self, bytes: &[u8]) -> io::Result<()> {
        StateFile::store(self, bytes)
    }

    fn prepare(&mut self) {
        // What is wrong is told by the next store.
        let _ = StateFile::prepare(self);
    }
}

/// Makes the [`Shelf`] of a file.
pub(super) type Joiner = Arc<dyn Fn(&Path, u64) -> Result<Box<dyn Shelf>, String> + Send + Sync>;

/// Files.
pub(super) fn files() -> Joiner {
    Arc::new(|path, bytes| Ok(Box::new(StateFile::reserve(path, bytes)?)))
}

/// Where the state of a server's runs lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory.
    pub dir: PathBuf,
    /// The job, in names of files; `None`: what the server says when it accepts.
    pub job: Option<String>,
    /// The server, in names of files.
    pub server: String,
    /// What one snapshot takes at most.
    pub bytes: u64,
    /// The link is never set back to a run of an earlier time.
    pub only_newer: bool,
    /// The jobs keep state: an empty snapshot is not one of theirs.
    pub keeps_state: bool,
}

impl Place {
    /// The place of jobs of this side.
    pub fn of_jobs(state: &Path, jobs: &[JobSpec], server: String) -> Place {
        let told = jobs.first().and_then(|job| job.state.dir.clone());
        let dir = told.unwrap_or_else(|| match state.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        });
        let name = state.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let job = name.strip_suffix(".state").unwrap_or(&name).to_owned();
        let most = MOST_MESSAGE_BYTES as u64;
        let bytes = |job: &JobSpec| {
            let worker = WORKER_BYTES.saturating_add(IO_BYTES.saturating_mul(u64::from(job.iodepth)));
            JOB_BYTES.saturating_add(worker.saturating_mul(u64::from(job.numjobs)))
        };
        let bytes = jobs.iter().map(bytes).fold(0, u64::saturating_add).min(most);
        let keeps_state = jobs.iter().any(keeps_state);
        Place { dir, job: Some(job), server, bytes, only_newer: false, keeps_state }
    }

    /// The place of a run that is attached to.
    pub fn of_any(dir: &Path, server: String) -> Place {
        let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir.to_owned() };
        Place { dir, job: None, server, bytes: 0, only_newer: true, keeps_state: false }
    }

    fn job(&self) -> &str {
        self.job.as_deref().unwrap_or("run")
    }

    /// The link to the newest run's.
    pub fn link(&self) -> PathBuf {
        self.of(format!("{}.{}.state", self.job(), self.server))
    }

    fn file(&self, run: &str) -> PathBuf {
        self.of(format!("{}.{}.{run}.state", self.job(), self.server))
    }

    /// A file in the directory, as a person would write it.
    fn of(&self, name: String) -> PathBuf {
        if self.dir.as_os_str() == "." { PathBuf::from(name) } else { self.dir.join(name) }
    }

    /// Whether a run could keep its state here: the directory is there, can be written to, and has
    /// room; what stands in the link's place is one.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let link = self.link();
        if fs::symlink_metadata(&link).is_ok_and(|there| !there.file_type().is_symlink()) {
            return Err(format!(
                "{} is there and no link to a run's state: move it away, or set state_dir",
                shown(&link)
            ));
        }
        StateFile::reserve(&link, self.bytes)
            .map(drop)
            .map_err(|why| format!("{why}: set state_dir to a directory on this machine"))
    }
}

/// Whether a run of this job leaves a snapshot of what was promised, wherever it runs. Engines without a
/// device leave one in some cases only.
pub(super) fn keeps_state(job: &JobSpec) -> bool {
    let lasts = !matches!(job.ioengine.as_str(), "null" | "sim") && !job.files.unlink;
    let writes = job.verify.method.is_some() && job.mix.modifies() && !job.verify.only;
    job.state.save && writes && lasts
}

/// A job file that a server names, as part of a file's name here.
pub(super) fn job_name(job_file: &str) -> String {
    let stem = Path::new(job_file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = stem.unwrap_or_default().chars().take(100).map(plain).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "run".to_owned() } else { name.to_owned() }
}

/// Whether `run` is a run's id as the protocol has it.
pub(super) fn is_run_id(run: &str) -> bool {
    run.len() == 32 && run.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What came of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its number.
    pub number: u64,
    /// Its length, and where it is: nowhere if nothing was promised.
    pub result: Result<(u64, Option<PathBuf>), String>,
    /// What the file holds now.
    pub held: Option<Held>,
}

/// What a stored snapshot comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Why it was taken.
    pub cause: Cause,
    /// Writes and trims that had been issued.
    pub issued: u64,
}

/// What the thread does next.
#[derive(Debug, Default)]
struct Desk {
    run: Option<(Place, String)>,
    /// Which run the snapshots tell of, where that is known.
    tells_of: Vec<RunId>,
    /// The snapshot of the earlier run that this one continues.
    baseline: Option<Snapshot>,
    /// The trigger's: no later one takes its place.
    trigger: Option<bench::Snapshot>,
    /// The last of the others that came: one that waits is answered by a later one.
    snapshot: Option<bench::Snapshot>,
    /// The snapshots from now on may be counted from 1 again.
    is_anew: bool,
    /// The newest run's state is wanted.
    wanted: Option<PathBuf>,
    busy: bool,
    over: bool,
}

impl Desk {
    /// What is stored next: what a power cut waits for comes first, unless an earlier one waits too.
    fn next_snapshot(&mut self) -> Option<bench::Snapshot> {
        let number = |snapshot: &Option<bench::Snapshot>| snapshot.as_ref().map_or(u64::MAX, |it| it.number);
        if number(&self.snapshot) < number(&self.trigger) || self.trigger.is_none() {
            return self.snapshot.take();
        }
        self.trigger.take()
    }
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

/// Who is told what came of it, from the thread.
pub(super) trait Told: Send {
    /// A snapshot is stored, or is not.
    fn stored(&self, stored: Stored);
    /// The newest run's state, or why there is none.
    fn state(&self, state: Result<Vec<u8>, String>);
    /// No space for the run.
    fn no_room(&self, why: String);
}

/// The store of one server.
#[derive(Debug)]
pub(super) struct Evidence {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Evidence {
    /// Starts its thread.
    pub fn open(joiner: Joiner, told: Box<dyn Told>) -> io::Result<Evidence> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let keep = move || {
            let keeper = Keeper {
                joiner,
                told,
                place: None,
                shelf: None,
                is_linked: false,
                last: None,
                held: None,
                baseline: None,
            };
            keeper.work(&seen);
        };
        let thread = std::thread::Builder::new().name("evidence".to_owned()).spawn(keep)?;
        Ok(Evidence { shared, thread: Some(thread) })
    }

    fn change(&self, change: impl FnOnce(&mut Desk)) {
        change(&mut self.shared.desk());
        self.shared.changed.notify_all();
    }

    /// Takes the space for a run that a server has accepted.
    pub fn begin(&self, place: Place, run: String) {
        self.change(|desk| desk.run = Some((place, run)));
    }

    /// A conversation begins: a run that has ended meanwhile counts its snapshots anew. To be said by who
    /// hears them, before the first one.
    pub fn anew(&self) {
        self.change(|desk| desk.is_anew = true);
    }

    /// What the snapshots of this run say they tell of.
    pub fn expect(&self, run: RunId) {
        self.change(|desk| desk.tells_of.push(run));
    }

    /// The run continues the one of this snapshot: all of its own hold no less.
    pub fn continues(&self, earlier: Snapshot) {
        self.change(|desk| {
            desk.tells_of.push(earlier.run);
            desk.baseline = Some(earlier);
        });
    }

    /// Stores a snapshot. One that still waits for its turn is left out: this one answers it.
    pub fn store(&self, snapshot: bench::Snapshot) {
        self.change(|desk| desk.snapshot = Some(snapshot));
    }

    /// Stores the snapshot of a trigger, before any other that waits. Only the first one is taken.
    pub fn store_of_trigger(&self, snapshot: bench::Snapshot) {
        self.change(|desk| {
            desk.trigger.get_or_insert(snapshot);
        });
    }

    /// Reads the state behind `link`.
    pub fn fetch(&self, link: PathBuf) {
        self.change(|desk| desk.wanted = Some(link));
    }

    /// Whether nothing waits to be stored.
    pub fn is_idle(&self) -> bool {
        let desk = self.shared.desk();
        !desk.busy && desk.snapshot.is_none() && desk.trigger.is_none()
    }
}

impl Drop for Evidence {
    /// Waits for what is being stored, so that no half file stays; not for ever.
    fn drop(&mut self) {
        self.change(|desk| desk.over = true);
        let Some(thread) = self.thread.take() else { return };
        let mut left = LEAVE_WITHIN;
        while !thread.is_finished() && !left.is_zero() {
            let step = Duration::from_millis(2);
            std::thread::sleep(step);
            left = left.saturating_sub(step);
        }
        if thread.is_finished() {
            // A panic in it has been told by the panic's own message.
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct Keeper {
    joiner: Joiner,
    told: Box<dyn Told>,
    place: Option<(Place, String)>,
    shelf: Option<Box<dyn Shelf>>,
    is_linked: bool,
    last: Option<u64>,
    /// The snapshot that was stored last.
    held: Option<Snapshot>,
    /// The snapshot of the earlier run that this one continues.
    baseline: Option<Snapshot>,
}

impl Keeper {
    fn work(mut self, shared: &Shared) {
        let mut desk = shared.desk();
        loop {
            desk.busy = false;
            if let Some((place, run)) = desk.run.take() {
                desk.busy = true;
                drop(desk);
                self.begin(place, run);
            } else if let Some(link) = desk.wanted.take() {
                drop(desk);
                self.told.state(read(&link));
            // One may come before the other thread has heard of its run.
            } else if self.place.is_some()
                && let Some(snapshot) = desk.next_snapshot()
            {
                desk.busy = true;
                if std::mem::take(&mut desk.is_anew) {
                    self.last = None;
                }
                let mut tells_of = std::mem::take(&mut desk.tells_of);
                self.baseline = desk.baseline.take().or(self.baseline.take());
                drop(desk);
                let result = self.store(&snapshot, &mut tells_of);
                let held = self.held.as_ref();
                let held = held.map(|held| Held { cause: held.cause, issued: held.issued() });
                self.told.stored(Stored { number: snapshot.number, result, held });
                if let Some(shelf) = &mut self.shelf {
                    shelf.prepare();
                }
                shared.desk().tells_of.append(&mut tells_of);
            } else if desk.over {
                return;
            } else {
                let waited = shared.changed.wait(desk);
                desk = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            desk = shared.desk();
        }
    }

    fn begin(&mut self, place: Place, run: String) {
        if self.place.as_ref() == Some(&(place.clone(), run.clone())) {
            // It is come back to.
            return;
        }
        (self.shelf, self.is_linked, self.last, self.held) = (None, false, None, None);
        let path = place.file(&run);
        let bytes = place.bytes;
        self.place = Some((place, run));
        match (self.joiner)(&path, bytes) {
            Ok(shelf) => self.shelf = Some(shelf),
            Err(why) => self.told.no_room(why),
        }
    }

    fn store(
        &mut self,
        snapshot: &bench::Snapshot,
        tells_of: &mut Vec<RunId>,
    ) -> Result<(u64, Option<PathBuf>), String> {
        if let Some(last) = self.last.filter(|&last| snapshot.number < last) {
            return Err(format!("snapshot {} came behind snapshot {last}", snapshot.number));
        }
        let bytes = snapshot.content.len() as u64;
        if bytes == 0 {
            let keeps_state = self.place.as_ref().is_some_and(|(place, _)| place.keeps_state);
            return match keeps_state {
                true => Err(format!("snapshot {} is empty, and the jobs keep state", snapshot.number)),
                false => Ok((0, None)),
            };
        }
        let decoded = Snapshot::decode(&snapshot.content)
            .map_err(|why| format!("what came as snapshot {} is none: {why}", snapshot.number))?;
        if tells_of.is_empty() {
            tells_of.push(decoded.run);
        } else if !tells_of.contains(&decoded.run) {
            return Err(format!("snapshot {} tells of another run, {}", snapshot.number, decoded.run));
        }
        if snapshot.cause() == bench::SnapshotCause::Trigger && decoded.cause != Cause::Trigger {
            return Err(format!("snapshot {} was not taken by a trigger", snapshot.number));
        }
        let (Some((place, run)), Some(shelf)) = (&self.place, &mut self.shelf) else {
            return Err("there is no room for it".to_owned());
        };
        let path = place.file(run);
        let is_first = self.last.is_none();
        if self.held.is_none() {
            self.held = crate::run::read_snapshot(&path).ok();
        }
        let is_trigger = snapshot.cause() == bench::SnapshotCause::Trigger;
        let earlier = self.baseline.as_ref();
        if earlier.is_some_and(|earlier| *earlier == decoded || earlier.holds_more_than(&decoded)) {
            let number = snapshot.number;
            return Err(format!("snapshot {number} holds no more than the one that this run continues"));
        }
        if self.held.as_ref().is_some_and(|held| held.holds_more_than(&decoded)) && (!is_first || is_trigger)
        {
            return Err(format!(
                "snapshot {} holds less than the one that is stored here: it is not put in its place",
                snapshot.number
            ));
        }
        // The first that a server sends may be a copy that its disk had before a machine went down: what
        // had come here until then says more.
        if !is_first || !self.held.as_ref().is_some_and(|held| held.is_ahead_of(&decoded)) {
            shelf.store(&snapshot.content).map_err(|why| format!("{}: {why}", shown(&path)))?;
            self.held = Some(decoded.clone());
        }
        self.last = Some(snapshot.number);
        if !self.is_linked {
            set_link(place, run, &decoded).map_err(|why| format!("{}: {why}", shown(&place.link())))?;
            self.is_linked = true;
        }
        Ok((bytes, Some(path)))
    }
}

/// Sets the link to this run's state, at once, and sees to it that it lasts.
fn set_link(place: &Place, run: &str, snapshot: &Snapshot) -> io::Result<()> {
    let link = place.link();
    if fs::symlink_metadata(&link).is_ok_and(|there| !there.file_type().is_symlink()) {
        return Err(io::Error::other("it is there and no link to a run's state: move it away"));
    }
    if place.only_newer {
        let there = crate::run::read_snapshot(&link);
        if there.is_ok_and(|there| there.taken_unix_ns > snapshot.taken_unix_ns) {
            return Ok(());
        }
    }
    let file = place.file(run);
    let target = file.file_name().unwrap_or_default();
    let beside = place.dir.join(format!("{}.{}.{run}.link", place.job(), place.server));
    match fs::remove_file(&beside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &beside)?;
    fs::rename(&beside, &link)?;
    File::open(&place.dir)?.sync_all()
}

/// The snapshot behind a link, as it is, if it is one.
fn read(link: &Path) -> Result<Vec<u8>, String> {
    let named = |why: &dyn fmt::Display| format!("{}: {why}", shown(link));
    let there = fs::metadata(link).map_err(|why| named(&why))?;
    // Not opened otherwise: a pipe would wait for its other end.
    if !there.is_file() {
        return Err(named(&"not a snapshot: no regular file"));
    }
    let most = MOST_MESSAGE_BYTES as u64;
    let mut bytes = Vec::new();
    let file = File::open(link).map_err(|why| named(&why))?;
    file.take(most).read_to_end(&mut bytes).map_err(|why| named(&why))?;
    if bytes.len() as u64 >= most {
        return Err(named(&"too large to be sent to a server"));
    }
    Snapshot::decode(&bytes).map_err(|why| named(&why))?;
    Ok(bytes)
}

/// A path for a person.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
