//! One job file on sound targets: what must stand on them, counted without the judge, and what the
//! report must say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use fio_spdk::base::verify::{Method, Verdict, lengths};
use fio_spdk::base::{Op, random};
use fio_spdk::engine::sim::{self, Sim};
use fio_spdk::engine::{BufferArea, Engine, EngineOptions, Io, Queue, QueueConfig, Target, Wait};
use fio_spdk::job::{self, JobSpec};
use fio_spdk::report::{JobReport, Report};
use fio_spdk::run::{self, Ended, Observer, Progress, Requests, RunError, RunOptions};

/// What stands on a target before the job: no block that is written looks like this.
const MARK: u8 = 0xaa;

struct Deaf;

impl Observer for Deaf {
    fn note(&mut self, _text: &str) {}
    fn progress(&mut self, _progress: &Progress) {}
    fn so_far(&mut self, _report: &Report) {}
}

pub fn execute(jobs: Vec<JobSpec>) -> Result<Ended, RunError> {
    run::execute(jobs, &RunOptions::default(), &Requests::default(), &mut Deaf)
}

pub fn parse(text: &str) -> Result<Vec<JobSpec>, String> {
    job::parse(&[("job.toml".to_owned(), text.to_owned())], &[]).map_err(|wrong| wrong.to_string())
}

/// Lines of a job.
#[derive(Clone, Debug, Default)]
pub struct Case {
    lines: Vec<String>,
}

impl Case {
    pub fn add(&mut self, lines: impl AsRef<str>) {
        let parts = lines.as_ref().split(';').map(|part| part.trim().to_owned());
        self.lines.extend(parts.filter(|part| !part.is_empty()));
    }

    #[must_use]
    pub fn with(mut self, lines: impl AsRef<str>) -> Case {
        self.add(lines);
        self
    }

    pub fn has(&self, word: &str) -> bool {
        self.lines.iter().any(|line| line.contains(word))
    }
}

/// A job file, and what is done with it.
#[derive(Clone, Debug)]
pub struct Trial {
    pub jobs: Vec<Case>,
    /// Judged a second time by `verify_only`.
    pub again: bool,
    /// And a third time when some of the blocks have been spoilt.
    pub spoil: bool,
    pub seed: u64,
}

impl Trial {
    pub fn toml(&self) -> String {
        let job = |case: &Case| format!("[[job]]\n{}\n", case.lines.join("\n"));
        let then = match (self.again, self.spoil) {
            (false, _) => "",
            (true, false) => "# and again with --verify_only=true\n",
            (true, true) => "# and again with --verify_only=true, and so once more with some blocks spoilt\n",
        };
        format!("{then}{}", self.jobs.iter().map(job).collect::<String>())
    }

    fn specs(&self, directory: &Path) -> Result<Vec<JobSpec>, String> {
        parse(&format!("[global]\ndirectory = {directory:?}\n{}", self.toml()))
    }

    /// Not all work together: what the job file's rules refuse is no trial.
    pub fn is_valid(&self) -> bool {
        self.specs(Path::new("/")).is_ok()
    }

    /// Runs it; how many blocks were judged.
    pub fn attempt(&self, directory: &Path) -> Result<u64, String> {
        let mut specs = self.specs(directory)?;
        let targets = Targets::of(&specs);
        targets.clear_up();
        targets.mark();
        let result = self.judge(&mut specs, &targets);
        targets.clear_up();
        result
    }

    fn judge(&self, specs: &mut [JobSpec], targets: &Targets) -> Result<u64, String> {
        let run = |specs: &[JobSpec]| execute(specs.to_vec()).map_err(|why| why.to_string());
        let clean = |ended: Ended, expected: &[u64], when: &str| {
            let why = ended.failure.map(|why| why.to_string());
            let why = why.or_else(|| objection(&ended.report.jobs, expected));
            why.map_or(Ok(()), |why| Err(format!("{when}: {why}")))
        };
        let ended = run(specs)?;
        let blocks = targets.blocks_to_judge(specs);
        let expected: Vec<u64> = blocks.iter().map(|blocks| blocks.len() as u64).collect();
        let sum = expected.iter().sum();
        clean(ended, &expected, "first")?;
        if self.again {
            specs.iter_mut().for_each(|spec| spec.verify.only = true);
            clean(run(specs)?, &expected, "verify_only")?;
        }
        if targets.blocks_to_judge(specs) != blocks {
            return Err("judging has changed the target".to_owned());
        }
        if self.spoil && specs.iter().all(|spec| spec.verify.method != Some(Method::Null)) {
            let all: Vec<&Block> = blocks.iter().flatten().collect();
            let some = |at: usize| random::at(self.seed, at as u64).is_multiple_of(2);
            let spoilt: Vec<&Block> =
                all.iter().enumerate().filter(|(at, _)| some(*at)).map(|(_, block)| *block).collect();
            targets.spoil(&spoilt);
            let found = run(specs)?.report.jobs;
            let tallies: Vec<_> = found.iter().filter_map(|report| report.verify.as_ref()).collect();
            let violations: u64 = tallies.iter().map(|tally| tally.violations()).sum();
            let checked: u64 = tallies.iter().map(|tally| tally.checked).sum();
            let wanted = (spoilt.len() as u64, sum);
            if (violations, checked) != wanted {
                return Err(format!("spoilt and checked are {:?}, not {wanted:?}", (violations, checked)));
            }
        }
        Ok(sum)
    }
}

// --- what must hold ---

/// What is wrong with the reports of a job file on sound targets, if anything is; `expected` is how many
/// blocks each of the workers must have judged.
fn objection(reports: &[JobReport], expected: &[u64]) -> Option<String> {
    if reports.len() == expected.len() {
        return reports.iter().zip(expected).find_map(|(report, &blocks)| objection_to(report, blocks));
    }
    // Reported as a group.
    let [report] = reports else { return Some(format!("{} reports", reports.len())) };
    objection_to(report, expected.iter().sum())
}

fn objection_to(report: &JobReport, expected: u64) -> Option<String> {
    if let Some(error) = &report.error {
        return Some(format!("an error: {}", error.message));
    }
    let Some(tally) = &report.verify else { return Some("no result of verification".to_owned()) };
    let mut wrong = String::new();
    for verdict in Verdict::ALL.into_iter().filter(|v| !matches!(v, Verdict::Ok | Verdict::Unwritten)) {
        if tally.of(verdict) > 0 {
            let example = tally.examples.iter().find(|finding| finding.verdict == verdict);
            let _ = write!(wrong, "{} blocks are {verdict:?}, such as {example:#?}; ", tally.of(verdict));
        }
    }
    let counts = (tally.promised, tally.checked, tally.of(Verdict::Ok));
    if counts != (expected, expected, expected) {
        let _ = write!(wrong, "promised, checked, ok: {counts:?} instead of {expected}; ");
    }
    if !tally.not_checked.is_empty() || tally.transient > 0 {
        let _ = write!(wrong, "not checked {:?}, transient {}", tally.not_checked, tally.transient);
    }
    (!wrong.is_empty()).then_some(wrong)
}

// --- the targets, seen without the judge ---

/// A block that must be judged, and where in it is a byte that every method looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    path: PathBuf,
    offset: u64,
    telling: u64,
}

/// What one worker owns of one target.
struct Range {
    path: PathBuf,
    start: u64,
    bytes: u64,
}

/// All targets of a job file, with their lengths.
struct Targets {
    spec: JobSpec,
    lengths: BTreeMap<PathBuf, u64>,
}

/// What clone number `clone` works on.
fn ranges(spec: &JobSpec, clone: u32) -> Vec<Range> {
    let directory = spec.directory.clone().unwrap();
    let size = spec.size.unwrap().of(0);
    let start = spec.offset.of(0) + u64::from(clone) * spec.offset_increment.of(0);
    if spec.filename.is_empty() {
        let path = |file| directory.join(format!("{}.{clone}.{file}", spec.name));
        let bytes = size / u64::from(spec.nrfiles);
        return (0..spec.nrfiles).map(|file| Range { path: path(file), start, bytes }).collect();
    }
    let bytes = size / spec.filename.len() as u64;
    spec.filename.iter().map(|name| Range { path: directory.join(name), start, bytes }).collect()
}

impl Targets {
    fn of(specs: &[JobSpec]) -> Targets {
        let mut lengths = BTreeMap::new();
        for spec in specs {
            for range in (0..spec.numjobs).flat_map(|clone| ranges(spec, clone)) {
                let length: &mut u64 = lengths.entry(range.path).or_default();
                *length = (*length).max(range.start + range.bytes);
            }
        }
        Targets { spec: specs[0].clone(), lengths }
    }

    fn are_simulated(&self) -> bool {
        self.spec.ioengine == "sim"
    }

    fn mark(&self) {
        self.lengths.iter().for_each(|(path, &bytes)| {
            self.store(path, vec![MARK; usize::try_from(bytes).unwrap()]);
        });
    }

    fn store(&self, path: &Path, mut bytes: Vec<u8>) {
        if self.are_simulated() {
            sim_io(&self.spec, path, Op::Write, &mut bytes);
        } else {
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn load(&self, path: &Path) -> Vec<u8> {
        if !self.are_simulated() {
            return std::fs::read(path).unwrap();
        }
        let mut stands = vec![0; usize::try_from(self.lengths[path]).unwrap()];
        sim_io(&self.spec, path, Op::Read, &mut stands);
        stands
    }

    /// Blocks that must have been judged, by worker: those that were written, and where it matters
    /// the trimmed.
    fn blocks_to_judge(&self, specs: &[JobSpec]) -> Vec<Vec<Block>> {
        let images: BTreeMap<&PathBuf, Vec<u8>> =
            self.lengths.keys().map(|path| (path, self.load(path))).collect();
        let workers = specs.iter().flat_map(|spec| (0..spec.numjobs).map(move |clone| (spec, clone)));
        workers
            .map(|(spec, clone)| {
                let sizes = lengths(spec.mix, spec.random, &spec.bs, &spec.blockalign, spec.rw_modifier);
                let interval = u64::from(spec.verify.effective_interval(&sizes).unwrap());
                let has_header = spec.verify.method.unwrap().has_header();
                let telling = 8 + if has_header { u64::from(spec.verify.offset) } else { 0 };
                let trims = spec.mix.issues(Op::Deallocate) || spec.verify.trim_percentage > 0;
                let mut blocks = Vec::new();
                for Range { path, start, bytes } in ranges(spec, clone) {
                    for offset in
                        (start..=(start + bytes).saturating_sub(interval)).step_by(interval as usize)
                    {
                        let block = &images[&path][offset as usize..(offset + interval) as usize];
                        let is = |byte: u8| block.iter().all(|&at| at == byte);
                        let is_trimmed = is(0) && trims && !spec.verify.trim_verify_zero;
                        if !is(MARK) && !is_trimmed {
                            blocks.push(Block { path: path.clone(), offset, telling });
                        }
                    }
                }
                blocks
            })
            .collect()
    }

    /// Changes a byte in each of `blocks`.
    fn spoil(&self, blocks: &[&Block]) {
        for path in self.lengths.keys() {
            let mut stands = self.load(path);
            for block in blocks.iter().filter(|block| block.path == *path) {
                stands[(block.offset + block.telling) as usize] ^= 0x55;
            }
            self.store(path, stands);
        }
    }

    fn clear_up(&self) {
        for path in self.lengths.keys() {
            if self.are_simulated() {
                sim::forget(path);
            } else {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Reads or writes a simulated drive from one end to the other.
fn sim_io(spec: &JobSpec, path: &Path, op: Op, bytes: &mut [u8]) {
    let target = Target { path: path.to_owned(), size_hint: bytes.len() as u64, pin: None };
    let options = EngineOptions { writes: true, reads: true, sim: spec.sim, ..EngineOptions::default() };
    let engine = Sim::open(&[target], &options).unwrap();
    let mut area = BufferArea::new(1, u32::try_from(bytes.len()).unwrap()).unwrap();
    let mut queue = engine.queue(&QueueConfig { depth: 1 }, &area).unwrap().0;
    let mut buffer = area.take().unwrap();
    buffer[..bytes.len()].copy_from_slice(bytes);
    let mut io = Io {
        buffer,
        offset: 0,
        sequence: 0,
        submit_ns: 0,
        len: u32::try_from(bytes.len()).unwrap(),
        moved: 0,
        target: 0,
        op,
        data_only: false,
    };
    while io.moved < io.len {
        let mut done = Vec::new();
        queue.submit(&mut vec![io]);
        while done.is_empty() {
            queue.poll(Wait { min: 1, timeout_ns: 0 }, 1, &mut done).unwrap();
        }
        let back = done.pop().unwrap();
        assert!(back.status.is_ok());
        io = back.io;
        io.moved += back.bytes;
    }
    bytes.copy_from_slice(&io.buffer[..bytes.len()]);
    area.give_back(io.buffer);
}
