//! Jobs on simulated drives, run in process: what the report says, and what the drive has done.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use fio_spdk::base::host::affinity;
use fio_spdk::base::random;
use fio_spdk::base::sim::Fault;
use fio_spdk::base::verify::Verdict;
use fio_spdk::base::{Op, PerOp};
use fio_spdk::engine::sim::{self, Sin};
use fio_spdk::job::{self, JobSpec};
use fio_spdk::report::{JobReport, Report};
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use fio_spdk::stats::VerifyTally;
use fio_spdk::workload::{Limit, Region, TrimRule, Workload, WorkloadSpec};

/// One violation, as `--verdicts` has it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub verdict: Verdict,
    pub offset: u64,
    pub rereads: usize,
    pub line: String,
}

/// A run that has ended.
pub struct Played {
    pub toml: String,
    pub jobs: Vec<JobReport>,
    pub seen: Vec<Seen>,
    pub sins: Vec<Sin>,
}

impl Played {
    /// The result of the last job.
    #[track_caller]
    pub fn tally(&self) -> &VerifyTally {
        let tally = self.jobs.last().and_then(|job| job.verify.as_ref());
        tally.unwrap_or_else(|| panic!("nothing was verified: {}", self.replay()))
    }

    pub fn error(&self) -> Option<i32> {
        self.jobs.last()?.error.as_ref().map(|error| error.errno)
    }

    /// One command that does the same again.
    pub fn replay(&self) -> String {
        format!("\n\nreplay:\n{} /dev/stdin <<'END'\n{}END\n", env!("CARGO_BIN_EXE_fio-spdk"), self.toml)
    }

    /// Fails with the command that replays the run.
    #[track_caller]
    pub fn fail(&self, why: &str) -> ! {
        panic!("{why}\nsins: {:#?}\nseen: {:#?}\n{:#?}{}", self.sins, self.seen, self.tally(), self.replay());
    }

    #[track_caller]
    pub fn assert(&self, holds: bool, why: &str) {
        if !holds {
            self.fail(why);
        }
    }

    /// Every verdict that was given is one of these, and all that was promised was checked.
    #[track_caller]
    pub fn only(&self, verdicts: &[Verdict]) {
        let tally = self.tally();
        for (verdict, count) in Verdict::ALL.iter().zip(tally.counts) {
            self.assert(count == 0 || verdicts.contains(verdict), &format!("{count} blocks are {verdict}"));
        }
        self.assert(tally.promised == tally.checked && tally.checked > 0, "not all was checked");
    }

    pub fn spec(&self) -> &JobSpec {
        &self.jobs[self.jobs.len() - 1].spec
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

/// A name that no other drive of this process has.
pub fn drive() -> String {
    format!("drive{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a job file on drives that exist already, and leaves them.
#[track_caller]
pub fn play_on(drive: &str, toml: &str) -> Played {
    let jobs = job::parse(&[("sin.toml".to_owned(), toml.to_owned())], &[]);
    let mut jobs = jobs.unwrap_or_else(|why| panic!("{why}\n{toml}"));
    // Trials that run beside each other would all take the first CPU.
    let cpus = affinity::available().unwrap();
    let cpu = cpus[NEXT.fetch_add(1, Ordering::Relaxed) as usize % cpus.len()];
    jobs.iter_mut().for_each(|job| job.cpus_allowed = Some(vec![cpu]));
    let verdicts = tempfile::NamedTempFile::new().unwrap();
    let options = RunOptions { verdicts: Some(verdicts.path().to_owned()), ..RunOptions::default() };
    let ended = run::execute(jobs, &options, &Requests::default(), &mut Silent);
    let ended = ended.unwrap_or_else(|why| panic!("{why}\n{toml}"));
    let lines = std::fs::read_to_string(verdicts.path()).unwrap();
    Played {
        toml: toml.to_owned(),
        jobs: ended.report.jobs,
        seen: lines.lines().map(seen).collect(),
        sins: sim::committed(PathBuf::from(drive)),
    }
}

/// Runs one job on a drive of its own.
#[track_caller]
pub fn play(lines: &str) -> Played {
    let drive = drive();
    let toml = format!("[[job]]\nioengine = \"sim\"\nfilename = \"{drive}\"\nverify = \"crc32c\"\n{lines}");
    let played = play_on(&drive, &toml);
    sim::forget(&drive);
    played
}

/// A violation from its line, whether that is JSON or not.
fn seen(line: &str) -> Seen {
    let plain = |text: &str| text.to_lowercase().replace('_', "");
    let named = plain(field(line, "verdict"));
    let verdict = Verdict::ALL.into_iter().find(|verdict| plain(verdict.name()) == named);
    let rereads = field(line, "rereads").split(',').filter(|word| word.chars().any(char::is_alphabetic));
    Seen {
        verdict: verdict.unwrap_or_else(|| panic!("no verdict: {line}")),
        offset: field(line, "offset").parse().unwrap_or_else(|_| panic!("no offset: {line}")),
        rereads: rereads.count(),
        line: line.to_owned(),
    }
}

/// What stands behind a name, up to the next comma; of a list, up to its end.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let is_name = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let at = line.match_indices(name).map(|(at, _)| at).find(|&at| is_name(at));
    let rest = at.map_or("", |at| line[at + name.len()..].trim_start_matches(['"', ':', ' ']));
    match rest.strip_prefix('[') {
        Some(list) => &list[..list.find(']').unwrap_or(list.len())],
        None => &rest[..rest.find([',', '"', '}', ' ']).unwrap_or(rest.len())],
    }
}

/// One command of the job, by the drive's number of it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    pub op: Op,
    pub offset: u64,
    pub len: u32,
}

/// The commands that the one worker of `spec` issues, in order: those of its workload, and a flush
/// behind every so many writes. Jobs here end by `number_ios` and have `io_size` and `randseed`.
pub fn commands(spec: &JobSpec) -> Vec<Command> {
    let bytes = spec.size.map_or(0, |size| size.of(0));
    let verify = &spec.verify;
    let trim = TrimRule {
        percent: verify.trim_percentage,
        backlog: verify.trim_backlog,
        batch: verify.trim_backlog_batch,
    };
    let seed = random::derive(random::derive(spec.randseed.expect("a seed"), 0), 0);
    let mut workload = Workload::new(&WorkloadSpec {
        regions: vec![Region { target: 0, start: spec.offset.of(0), bytes }],
        service: fio_spdk::base::shape::FileService::default(),
        mix: spec.mix,
        read_percent: spec.rwmixread,
        random: spec.random,
        coverage: !spec.norandommap,
        modifier: spec.rw_modifier,
        sizes: spec.bs.clone(),
        align: PerOp::clone(&spec.blockalign),
        distribution: spec.random_distribution.clone(),
        percentage_random: PerOp::clone(&spec.percentage_random),
        places: fio_spdk::base::shape::Places::default(),
        trim: (trim.percent > 0).then_some(trim),
        log: None,
        seed,
        limit: Limit { ios: spec.number_ios, ..Limit::default() },
    })
    .unwrap();
    let mut all = Vec::new();
    let mut writes = 0;
    while let Some(step) = workload.next() {
        all.push(Command { op: step.op, offset: step.offset, len: step.len });
        writes += u64::from(step.op == Op::Write);
        if step.op == Op::Write && spec.fsync > 0 && writes.is_multiple_of(u64::from(spec.fsync)) {
            all.push(Command { op: Op::Flush, offset: 0, len: 0 });
        }
    }
    all
}

/// Whether two stretches meet.
pub fn meets(offset: u64, len: u64, other: u64, other_len: u64) -> bool {
    offset < other + other_len && other < offset + len
}

/// How many bytes are between commands that may be in flight together, in commands.
pub fn slack(spec: &JobSpec) -> u64 {
    8 * u64::from(spec.iodepth) + 8
}

/// `sim_faults` with one fault.
pub fn rate(fault: Fault, rate: f64) -> String {
    format!("sim_faults = {{ {} = {rate} }}\n", fault.name())
}
