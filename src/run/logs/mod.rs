//! The files of logs, and the threads that write them: one a job, beside the reactors.

mod aggregate;
mod file;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::PerOp;
use crate::base::clock::{Clock, system_clock_ns};
use crate::base::host::affinity;
use crate::base::shape::BlockSizes;
use crate::engine::Targets;
use crate::job::spec::{LogName, LogsSpec, WindowValue};
use crate::reactor::{LogShape, LogSource, LogTap, log_pipe};
use crate::report::iolog::{LogFormat, LogKind, incomplete};
use crate::stats::LogKinds;

use super::assign::Thread;
use super::outcome::Outcome;
use super::plan::JobPlan;
use super::{ErrorKind, Requests, RunError, RunOptions, recording};

pub use aggregate::Aggregate;
use file::LogFile;

/// How often a writer looks when there is nothing to do: nobody wakes it.
const LOOK: Duration = Duration::from_millis(2);
/// Looks between two flushes of lines that wait.
const FLUSH_LOOKS: u32 = 50;
/// Looks after a second signal before nobody waits for the writers any more: a second.
const PATIENCE: u32 = 500;
/// Chunks of one worker that are taken before it is the next one's turn.
const CHUNKS_A_TURN: usize = 32;

type Shared = Arc<Mutex<LogFile>>;

fn locked(file: &Shared) -> std::sync::MutexGuard<'_, LogFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All logs of a run.
#[derive(Default)]
pub struct Logs {
    /// By number of the worker.
    files: HashMap<u32, Vec<(LogKind, Shared)>>,
    /// `--bandwidth-log`.
    pub aggregate: Option<Aggregate>,
    /// Why the logs are not what was asked for.
    pub trouble: Vec<String>,
}

impl Logs {
    /// Opens the files of all jobs, and changes nothing in them yet.
    pub fn open(plans: &[JobPlan], options: &RunOptions) -> Result<Logs, RunError> {
        let mut by_path: HashMap<PathBuf, Shared> = HashMap::new();
        let targets = targets(plans);
        let mut logs = Logs::default();
        for plan in plans.iter().filter(|plan| plan.spec.logs.is_on() && !plan.spec.create_only) {
            let spec = &plan.spec.logs;
            for worker in plan.first_worker..plan.first_worker + plan.spec.numjobs {
                let mut files = Vec::new();
                for (kind, name) in kinds(spec) {
                    let path = path(spec, kind, &name.prefix(&plan.spec.name), worker);
                    let file = match by_path.get(&path) {
                        Some(file) => Arc::clone(file),
                        None => {
                            let file = open_beside(&path, &targets, !spec.per_job, spec.compressed)
                                .map_err(|why| RunError::environment(&plan.spec, why))?;
                            by_path.entry(path).or_insert(file).clone()
                        }
                    };
                    files.push((kind, file));
                }
                logs.files.insert(worker, files);
            }
        }
        if let Some(name) = &options.bandwidth_log {
            let failed = |message| RunError { kind: ErrorKind::Environment, message };
            logs.aggregate = Some(Aggregate::open(name, plans, &targets).map_err(failed)?);
        }
        Ok(logs)
    }
}

/// The names of what is read and written, other logs too: none may be one of it.
fn targets(plans: &[JobPlan]) -> HashSet<PathBuf> {
    let files = plans.iter().filter(|plan| plan.target_kind() == Targets::Files);
    let targets = files.flat_map(|plan| &plan.targets).map(|path| absolute(path));
    let read = plans.iter().flat_map(|plan| &plan.spec.replay.read).map(|path| absolute(Path::new(path)));
    let written = plans.iter().flat_map(recording::paths).map(|path| absolute(&path));
    targets.chain(read).chain(written).collect()
}

fn absolute(path: &Path) -> PathBuf {
    let there = std::fs::canonicalize(path);
    there.or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

fn open_beside(
    path: &Path,
    targets: &HashSet<PathBuf>,
    appends: bool,
    compresses: bool,
) -> Result<Shared, String> {
    if targets.contains(&absolute(path)) {
        return Err(format!(
            "the log {} would be written over what a job of the run reads or writes",
            path.display()
        ));
    }
    Ok(Arc::new(Mutex::new(LogFile::open(path, appends, compresses)?)))
}

/// Which logs a job writes.
fn kinds(spec: &LogsSpec) -> Vec<(LogKind, &LogName)> {
    let wanted = [
        (LogKind::Lat, &spec.latency),
        (LogKind::Slat, &spec.latency),
        (LogKind::Clat, &spec.latency),
        (LogKind::Histogram, &spec.histogram),
        (LogKind::Bandwidth, &spec.bandwidth),
        (LogKind::Iops, &spec.iops),
    ];
    wanted.into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?))).collect()
}

fn path(spec: &LogsSpec, kind: LogKind, prefix: &str, worker: u32) -> PathBuf {
    let number = if spec.per_job { format!(".{worker}") } else { String::new() };
    let end = if spec.compressed { ".gz" } else { "" };
    PathBuf::from(format!("{prefix}_{}{number}.log{end}", kind.name()))
}

/// What a worker of this job hands over. Logs whose windows are alike share them.
fn shape(spec: &LogsSpec) -> LogShape {
    let each = spec.logs_ios() && spec.window_ns == 0;
    let mut windows: Vec<(LogKinds, u64)> = Vec::new();
    let wanted = [
        (LogKinds { latency: spec.latency.is_some(), ..LogKinds::default() }, spec.window_ns),
        (LogKinds { bandwidth: spec.bandwidth.is_some(), ..LogKinds::default() }, spec.bandwidth_window_ns()),
        (LogKinds { iops: spec.iops.is_some(), ..LogKinds::default() }, spec.iops_window_ns()),
    ];
    for (kinds, ns) in wanted.into_iter().filter(|(kinds, ns)| *ns > 0 && *kinds != LogKinds::default()) {
        match windows.iter_mut().find(|(_, other_ns)| *other_ns == ns) {
            Some((others, _)) => {
                others.latency |= kinds.latency;
                others.bandwidth |= kinds.bandwidth;
                others.iops |= kinds.iops;
            }
            None => windows.push((kinds, ns)),
        }
    }
    LogShape {
        entries: each.then_some(spec.entries),
        windows,
        maxima: spec.latency.is_some() && spec.window_ns > 0 && spec.window_value != WindowValue::Average,
        histogram: spec.histogram.as_ref().map(|_| (spec.histogram_ns, spec.coarseness)),
    }
}

/// Bytes of memory that the logs of one worker of this job take before it starts.
pub fn memory(spec: &LogsSpec) -> u64 {
    if spec.is_on() { shape(spec).memory() } else { 0 }
}

/// One worker as the thread that writes sees it.
struct Feed {
    name: String,
    source: LogSource,
    format: LogFormat,
    files: Vec<(LogKind, Shared)>,
    block_bytes: PerOp<u64>,
    /// What a clock is ahead of `base::clock`, in nanoseconds, where its time is logged.
    clock_ns: Option<i128>,
    begun: bool,
    logged: u64,
    has_slat: bool,
}

/// The logs of the jobs of one stage, before it begins.
#[derive(Default)]
pub struct StageLogs {
    /// By job: where its thread may run, and what it writes.
    jobs: Vec<(Option<Vec<u32>>, Vec<Feed>)>,
}

impl StageLogs {
    /// Another job.
    pub fn add_job(&mut self, plan: &JobPlan) {
        self.jobs.push((plan.spec.logs.cpus.clone(), Vec::new()));
    }

    /// The worker's end of its logs, for a worker of the job added last.
    pub fn tap(&mut self, logs: &Logs, plan: &JobPlan, clone: u32) -> Option<LogTap> {
        let files = logs.files.get(&(plan.first_worker + clone))?;
        let spec = &plan.spec.logs;
        let (tap, source) = log_pipe(shape(spec));
        let clock_ns = spec.alternate_epoch.then(|| {
            let time_ns = system_clock_ns(spec.clock_id).unwrap_or(0);
            i128::from(time_ns) - i128::from(Clock::get().now_ns())
        });
        let block_bytes = PerOp::from_fn(|op| match plan.spec.bs.get(op) {
            BlockSizes::Fixed(bytes) => u64::from(*bytes),
            _ => 0,
        });
        let (_, feeds) = self.jobs.last_mut()?;
        feeds.push(Feed {
            name: format!("{}.{clone}", plan.spec.name),
            source,
            format: LogFormat::of(&plan.spec),
            files: files.clone(),
            block_bytes,
            clock_ns,
            begun: false,
            logged: 0,
            has_slat: false,
        });
        Some(tap)
    }

    /// Starts the threads, and empties the files.
    pub fn start(self, threads: &[Thread]) -> std::io::Result<RunningLogs> {
        let mut running = RunningLogs { stop: Vec::new(), threads: Vec::new() };
        let unpinned = unpinned(threads);
        for (cpus, feeds) in self.jobs.into_iter().filter(|(_, feeds)| !feeds.is_empty()) {
            feeds.iter().flat_map(|feed| &feed.files).for_each(|(_, file)| locked(file).begin());
            let (stop, stopped) = bounded(0);
            let cpus = cpus.or_else(|| unpinned.clone());
            let thread = std::thread::Builder::new().name("logs".to_owned());
            running.threads.push(thread.spawn(move || write_all(feeds, cpus.as_deref(), &stopped))?);
            running.stop.push(stop);
        }
        Ok(running)
    }
}

/// The CPUs that no worker is bound to; `None` if there are none.
fn unpinned(threads: &[Thread]) -> Option<Vec<u32>> {
    let mut cpus = affinity::available().ok()?;
    cpus.retain(|cpu| !threads.iter().any(|thread| thread.cpus.contains(cpu)));
    (!cpus.is_empty()).then_some(cpus)
}

/// The threads of one stage. Dropped, they end by themselves.
pub struct RunningLogs {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl RunningLogs {
    /// All workers have ended, or nobody waits for them: waits until everything is written. What is
    /// missing in the logs is told.
    pub fn end(mut self, outcome: &mut Outcome, requests: &Requests) {
        self.stop.clear();
        for thread in self.threads {
            let mut patience = PATIENCE;
            while !thread.is_finished() && patience > 0 {
                std::thread::sleep(LOOK);
                patience -= u32::from(requests.abandon());
            }
            let trouble = if thread.is_finished() {
                thread.join().unwrap_or_else(|_| vec!["a thread that writes logs died".to_owned()])
            } else {
                vec!["logs are not complete: what they are written on does not answer".to_owned()]
            };
            for trouble in trouble {
                outcome.note(trouble.clone());
                outcome.logs.trouble.push(trouble);
            }
        }
    }
}

/// The life of a thread: writes what comes until it is told that nothing more will. Gives back what
/// went wrong.
fn write_all(mut feeds: Vec<Feed>, cpus: Option<&[u32]>, stopped: &Receiver<()>) -> Vec<String> {
    let bound = cpus.map_or(Ok(()), affinity::bind);
    let mut trouble: Vec<String> = bound.err().map(|why| format!("logs: {why}")).into_iter().collect();
    let (mut stops, mut looks) = (false, 0);
    loop {
        let mut moved = false;
        for feed in &mut feeds {
            moved |= feed.write();
        }
        if moved {
            continue;
        }
        if stops {
            break;
        }
        looks += 1;
        if looks % FLUSH_LOOKS == 0 {
            feeds.iter().for_each(Feed::flush);
        }
        // What came before this is seen on another look.
        stops = stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
    }
    for feed in &mut feeds {
        trouble.extend(feed.end());
    }
    trouble
}

impl Feed {
    /// Writes what has come; true if there was anything.
    fn write(&mut self) -> bool {
        self.begin();
        let Feed { source, format, files, block_bytes, logged, has_slat, .. } = self;
        let mut moved = false;
        let mut chunks = 0;
        while chunks < CHUNKS_A_TURN
            && source.take_ios(|ios| {
                *logged += ios.len() as u64;
                *has_slat |= ios.first().is_some_and(|io| io.has_slat);
                for (kind, file) in files.iter().filter(|(kind, _)| *kind != LogKind::Histogram) {
                    locked(file).add(|out| ios.iter().for_each(|io| format.io(*kind, io, out)));
                }
            })
        {
            (moved, chunks) = (true, chunks + 1);
        }
        while source.take_window(|window| {
            for (kind, file) in files.iter().filter(|(kind, _)| belongs(*kind, window.kinds)) {
                locked(file).add(|out| format.window(*kind, window, out));
            }
        }) {
            moved = true;
        }
        while source.take_histogram(|histogram| {
            for (_, file) in files.iter().filter(|(kind, _)| *kind == LogKind::Histogram) {
                locked(file).add(|out| format.histogram(histogram, block_bytes, out));
            }
        }) {
            moved = true;
        }
        moved
    }

    /// From the moment of counting on it is known what a clock says.
    fn begin(&mut self) {
        let start_ns = self.source.start_ns();
        if !self.begun && start_ns > 0 {
            self.begun = true;
            let epoch_ns = self.clock_ns.map_or(0, |clock_ns| clock_ns + i128::from(start_ns));
            self.format.epoch_ns = u64::try_from(epoch_ns).unwrap_or(0);
        }
    }

    fn flush(&self) {
        self.files.iter().for_each(|(_, file)| locked(file).flush());
    }

    /// Nothing more comes: says what is missing, in the logs too.
    fn end(&mut self) -> Vec<String> {
        let missing = self.source.missing();
        let mut trouble = Vec::new();
        if missing > 0 {
            let line = incomplete(missing, self.logged);
            let unlogged = |kind| kind == LogKind::Histogram || kind == LogKind::Slat && !self.has_slat;
            for (_, file) in self.files.iter().filter(|(kind, _)| !unlogged(*kind)) {
                locked(file).add(|out| out.extend_from_slice(line.as_bytes()));
            }
            trouble.push(format!(
                "{}: {missing} of {} I/Os are missing in its logs (not in this report), because they could not be \
                 written as fast as they came: raise log_entries, set log_avg_msec, or log to something faster",
                self.name,
                missing + self.logged
            ));
        }
        for (_, file) in &self.files {
            let mut file = locked(file);
            file.end();
            trouble.extend(file.take_trouble().map(|why| format!("{}: {why}", self.name)));
        }
        trouble
    }
}

fn belongs(kind: LogKind, kinds: LogKinds) -> bool {
    match kind {
        LogKind::Slat | LogKind::Clat | LogKind::Lat => kinds.latency,
        LogKind::Bandwidth => kinds.bandwidth,
        LogKind::Iops => kinds.iops,
        LogKind::Histogram => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(text: &str) -> LogsSpec {
        let file = format!("[[job]]\nioengine = \"null\"\nsize = \"1m\"\n{text}");
        crate::job::parse(&[("j".to_owned(), file)], &[]).unwrap().remove(0).logs
    }

    #[test]
    fn names_are_those_of_fio() {
        let names = |text: &str| -> Vec<String> {
            let spec = logs(text);
            let path = |(kind, name): (LogKind, &LogName)| path(&spec, kind, &name.prefix("a/b"), 7);
            kinds(&spec).into_iter().map(|each| path(each).display().to_string()).collect()
        };
        assert_eq!(names("write_bw_log = true"), ["a_b_bw.7.log"]);
        assert_eq!(names("write_bw_log = \"\""), ["a_b_bw.7.log"]);
        assert_eq!(names("write_lat_log = \"d/x\""), ["d/x_lat.7.log", "d/x_slat.7.log", "d/x_clat.7.log"]);
        let hist = "write_hist_log = \"h\"\nlog_hist_msec = 100\n";
        assert_eq!(names(&format!("{hist}per_job_logs = false")), ["h_clat_hist.log"]);
        assert_eq!(names(&format!("{hist}log_store_compressed = true")), ["h_clat_hist.7.log.gz"]);
        assert!(names("write_iops_log = false").is_empty());
    }

    #[test]
    fn logs_whose_windows_are_alike_share_them() {
        let all = "write_bw_log = true\nwrite_lat_log = true\nwrite_iops_log = true\n";
        let every = LogKinds { latency: true, bandwidth: true, iops: true };
        assert_eq!(shape(&logs(all)).entries, Some(65536));
        assert!(shape(&logs(&format!("{all}bwavgtime = 50"))).windows.is_empty(), "no windows, as in fio");
        let windows = |text: &str| shape(&logs(&format!("{all}log_avg_msec = 200\n{text}"))).windows;
        assert_eq!(windows("bwavgtime = \"1s\""), [(every, 200_000_000)]);
        let (bandwidth, others) =
            (LogKinds { bandwidth: true, ..LogKinds::default() }, LogKinds { bandwidth: false, ..every });
        assert_eq!(windows("bwavgtime = 50"), [(others, 200_000_000), (bandwidth, 50_000_000)]);
    }

    #[test]
    fn the_intervals_of_the_report_follow_the_windows_of_a_log() {
        let intervals = |text: &str| {
            let spec = logs(text);
            [spec.report_bandwidth_ns() / 1_000_000, spec.report_iops_ns() / 1_000_000]
        };
        assert_eq!(intervals(""), [500, 500]);
        assert_eq!(intervals("log_avg_msec = 100"), [500, 500]);
        assert_eq!(intervals("write_bw_log = true\nlog_avg_msec = 100"), [100, 500]);
        assert_eq!(intervals("write_bw_log = true\nlog_avg_msec = 100\nbwavgtime = \"2s\""), [2000, 500]);
        assert_eq!(intervals("iopsavgtime = 20"), [500, 20]);
    }
}
