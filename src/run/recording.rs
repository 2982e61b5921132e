//! Threads that write down what workers issue (`write_iolog`).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::TryRecvError;

use crate::base::host::output_file::{self, Start};
use crate::base::replay::{Recorder, RecorderFeed, recorder};
use crate::trace::LogWriter;

use super::outcome::Outcome;
use super::plan::JobPlan;
use super::{RunError, replay};

/// How often to look whether there is something: nobody who waits has to be woken by a reactor.
const TICK: Duration = Duration::from_millis(2);

/// A log that is being written.
pub struct Recording {
    path: PathBuf,
    thread: Option<JoinHandle<io::Result<()>>>,
    ends: Arc<AtomicBool>,
    held_back: Arc<std::sync::atomic::AtomicU64>,
}

/// Where the log of a clone lies.
fn path_of(plan: &JobPlan, path: &Path, clone: u32) -> PathBuf {
    if plan.spec.numjobs == 1 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{clone}"));
    PathBuf::from(name)
}

/// Where the logs lie that a job's clones write.
pub fn paths(plan: &JobPlan) -> Vec<PathBuf> {
    let path = plan.spec.replay.write.as_deref();
    path.map_or_else(Vec::new, |path| {
        (0..plan.spec.numjobs).map(|clone| path_of(plan, path, clone)).collect()
    })
}

/// Refuses logs that would overwrite each other, or what they are of.
pub fn check(plans: &[JobPlan]) -> Result<(), RunError> {
    let mut known: HashSet<PathBuf> = HashSet::new();
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut used: Option<HashSet<PathBuf>> = None;
    for plan in plans {
        let bad = |why: String| RunError::bad_job(&plan.spec, format!("write_iolog: {why}"));
        for path in paths(plan) {
            let used = used.get_or_insert_with(|| {
                let read = plans.iter().flat_map(|plan| &plan.spec.replay.read).map(Path::new);
                let targets = plans.iter().flat_map(|plan| &plan.targets).map(PathBuf::as_path);
                targets.chain(read).map(real).collect()
            });
            replay::writable_log(&path).map_err(bad)?;
            if used.contains(&real(&path)) {
                return Err(bad(format!(
                    "{} is what a job of the run reads or writes itself",
                    path.display()
                )));
            }
            if !known.insert(path.clone()) {
                return Err(bad(format!(
                    "{} is the log of another job too: each needs its own",
                    path.display()
                )));
            }
        }
        if plan.spec.replay.write.is_none() {
            continue;
        }
        if let Some(name) = plan.targets.iter().find(|name| name.to_string_lossy().contains(['\n', '\r'])) {
            return Err(bad(format!("{name:?} cannot stand in a log: its name has several lines")));
        }
    }
    Ok(())
}

/// Begins to write down what a clone issues, if the job asks for that.
pub fn begin(plan: &JobPlan, clone: u32) -> Result<Option<(Recorder, Recording)>, RunError> {
    let Some(path) = &plan.spec.replay.write else { return Ok(None) };
    let path = path_of(plan, path, clone);
    let failed = |error: io::Error| {
        RunError::environment(&plan.spec, format!("cannot write the log {}: {error}", path.display()))
    };
    let names = plan.targets.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let out = BufWriter::with_capacity(1 << 18, output_file::open(&path, Start::Empty).map_err(failed)?);
    let log = LogWriter::new(out, names).map_err(failed)?;
    let (recorder, feed) = recorder();
    let ends = Arc::new(AtomicBool::new(false));
    let held_back = Arc::clone(&feed.held_back);
    let told = Arc::clone(&ends);
    let thread = std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || write(log, &feed, &told))
        .map_err(failed)?;
    Ok(Some((recorder, Recording { path, thread: Some(thread), ends, held_back })))
}

/// Until the worker has ended, or its end is not waited for any more. What cannot be written does not
/// hold the worker up.
fn write(mut log: LogWriter<BufWriter<File>>, feed: &RecorderFeed, ends: &AtomicBool) -> io::Result<()> {
    let mut trouble = Ok(());
    loop {
        match feed.full.try_recv() {
            Ok(mut chunk) => {
                if trouble.is_ok() {
                    trouble = chunk.iter().try_for_each(|io| log.record(io));
                }
                chunk.clear();
                // A worker that has ended needs no more.
                let _ = feed.empty.try_send(chunk);
            }
            Err(TryRecvError::Empty) if !ends.load(Acquire) => std::thread::sleep(TICK),
            Err(_) => break,
        }
    }
    trouble.and_then(|()| log.close())
}

impl Recording {
    /// Waits until all is written; tells what was not. `entry` is the job's.
    pub fn end(mut self, outcome: &mut Outcome, entry: usize) {
        self.ends.store(true, Release);
        let Some(thread) = self.thread.take() else { return };
        let shown = self.path.display();
        let held_back = self.held_back.load(Relaxed);
        if held_back > 0 {
            outcome.note(format!(
                "write_iolog {shown}: the job waited {held_back} times for the log to be written"
            ));
        }
        if let Ok(Err(error)) = thread.join() {
            let message = format!("write_iolog: cannot write {shown}: {error}; the log is not whole");
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            outcome.entries[entry].error.get_or_insert(crate::report::JobError {
                errno,
                message,
                is_missed: false,
            });
        }
    }
}
