//! One power cut: a run writes until the power goes, another judges, and the oracle says what it must find.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::drive::{Fault, LBA, Op, Plan, Random};
use super::mount::{CUT, DRIVE, Mounted};
use super::oracle::{Before, Expected, Job, Oracle};

/// Bytes of the drive.
pub const SIZE: usize = 256 << 10;

/// What came of the cuts so far.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    pub cuts: u64,
    pub blocks: u64,
    pub violations: u64,
    /// Blocks on which no verdict follows.
    pub open: u64,
    /// Blocks whose contents had to be replaced.
    pub undecided: u64,
    /// Violations by their names.
    pub kinds: BTreeMap<String, u64>,
}

impl Sum {
    pub fn add(&mut self, other: &Sum) {
        self.cuts += other.cuts;
        self.blocks += other.blocks;
        self.violations += other.violations;
        self.open += other.open;
        self.undecided += other.undecided;
        other.kinds.iter().for_each(|(kind, count)| *self.kinds.entry(kind.clone()).or_default() += count);
    }
}

/// A mounted drive, and what earlier runs left on it.
pub struct Bench<'a> {
    pub program: &'a str,
    pub mounted: &'a Mounted,
    /// Where job file, snapshot and reports go.
    pub directory: &'a Path,
    /// Where the drive is mounted.
    pub mount: &'a Path,
    pub writers: Vec<Option<u64>>,
}

/// A job by chance.
struct Drawn {
    text: String,
    job: Job,
    plan: Plan,
    continues: bool,
    judges_itself: bool,
}

const SHAPES: &[(&str, usize)] = &[
    ("rw = 'write'; bs = '4k'", 4096),
    ("rw = 'randwrite'; bs = '4k'", 4096),
    ("rw = 'randwrite'; bs = '4k'; norandommap = true", 4096),
    ("rw = 'randwrite'; bs = 512", 512),
    ("rw = 'randwrite'; bs = '4k'; verify_interval = 512", 512),
    ("rw = 'randwrite'; bs = '16k'; verify_interval = '16k'", 16384),
    ("rw = 'randwrite'; bssplit = '4k/50:8k/30:16k/20'", 4096),
    ("rw = 'randwrite'; bssplit = '4k/50:8k/30:16k/20'; norandommap = true", 4096),
    ("rw = 'write'; bs = '16k'; verify_interval = '4k'", 4096),
    ("rw = 'randrw'; bs = '8k'; verify_interval = '8k'; rwmixread = 30", 8192),
    ("rw = 'randwrite'; bs = '4k'; random_distribution = 'zipf:1.1'", 4096),
    ("rw = 'randtrimwrite'; bs = '4k'; trim_verify_zero = true", 4096),
    ("rw = 'randwrite'; bs = '4k'; trim_percentage = 30; trim_backlog = 5; trim_verify_zero = true", 4096),
];
const METHODS: &[&str] = &[
    "verify = 'crc32c'",
    "verify = 'crc32c'",
    "verify = 'crc32c'",
    "verify = 'md5'",
    "verify = 'xxhash'",
    "verify = 'sha512'",
    "verify = 'crc64nvme'",
    "verify = 'crc32c'; verify_offset = 64",
];
const FLUSHES: &[&str] = &[
    "",
    "fsync = 1",
    "fsync = 5",
    "fsync = 10",
    "fsync = 10",
    "fdatasync = 7",
    "fsync = 25",
    "sync = 'dsync'",
];

impl Drawn {
    fn new(seed: u64, mount: &Path, flushes_are_shared: bool) -> Drawn {
        let mut random = Random(seed);
        let (shape, interval) = random.one(SHAPES);
        let flush = random.one(FLUSHES);
        let mut method = random.one(METHODS);
        if shape.contains("512") && method.contains("verify_offset") {
            method = METHODS[0];
        }
        let clones = random.one(&[1, 1, 2, 4]);
        let size = random.one(&[16_usize, 32, 64]) << 10;
        let (engine, clones, depth) = match random.below(6) {
            0 => ("ioengine = 'io_uring'; iodepth = 1", 1, 1),
            1 => ("ioengine = 'io_uring'; iodepth = 4", 1, 4),
            _ => ("ioengine = 'psync'", clones, clones),
        };
        let fault = (random.below(3) > 0).then(|| (random.one(&Fault::ALL), random.one(&[10, 30, 100, 300])));
        let trims = shape.contains("trim");
        let (amount, _) = random.one(&[("io_size = '1g'", 0), ("loops = 20", 0), ("io_size = '1g'", 0)]);
        let cut_at = 5 + random.below(250);
        let cuts_by_trigger = random.below(4) == 0 && !trims;
        let continues = random.below(5) == 0 && !trims;
        let judges_itself = depth == 1 && !cuts_by_trigger && !continues && random.below(4) == 0;
        let completed_is_promised = !continues && random.below(8) == 0;
        let mut lines = format!(
            "{shape}; {method}; {flush}; {engine}; {amount}; size = {size}; numjobs = {clones}; \
             offset_increment = {size}; filename = {:?}; randseed = {}; do_verify = {judges_itself}",
            mount.join(DRIVE).display().to_string(),
            random.below(1 << 30),
        );
        if fault.is_some_and(|(fault, _)| fault == Fault::LateWrite) {
            lines.push_str("; continue_on_error = 'write'");
        }
        // A file counts as cached where a snapshot is judged; a run that judges itself has to be told.
        match (completed_is_promised, judges_itself) {
            (true, _) => lines.push_str("; verify_policy = 'completed'"),
            (false, true) => lines.push_str("; verify_policy = 'fsynced'"),
            (false, false) => {}
        }
        if cuts_by_trigger {
            let cut = mount.join(CUT);
            let _ = write!(lines, "; trigger_ios = {cut_at}; trigger = 'stat {}'", cut.display());
        }
        let text: String =
            lines.split("; ").filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
        let plan = Plan {
            seed,
            atomic: random.one(&[512, 512, 4096]),
            cut_at: (!cuts_by_trigger).then_some(cut_at),
            power_returns: judges_itself,
            fault,
            depth,
        };
        let job = Job {
            interval,
            threads_wait: engine.contains("psync"),
            flushes_are_shared,
            completed_is_promised,
        };
        let text = format!("[[job]]\nname = 'cut'\n{text}").replace('\'', "\"");
        Drawn { text, job, plan, continues, judges_itself }
    }
}

/// A block on which the program and the oracle do not agree, or another reason to fail.
pub struct Failure(pub String);

/// What the program found.
struct Judged {
    code: Option<i32>,
    promised: u64,
    checked: u64,
    /// Violations by offset.
    violations: BTreeMap<usize, Value>,
    said: String,
}

impl Bench<'_> {
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(self.program);
        command.arg("cut.toml").args(arguments).current_dir(self.directory).stdin(Stdio::null());
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn judge(&self, arguments: &[&str]) -> Result<Judged, Failure> {
        let verdicts = self.directory.join("verdicts");
        let _ = std::fs::remove_file(&verdicts);
        let mut all = vec!["--output-format=json", "--verdicts=verdicts"];
        all.extend(arguments);
        let (code, out, said) = self.run(&all);
        let json: Value = serde_json::from_str(&out)
            .map_err(|why| Failure(format!("no report ({why}), exit code {code:?}: {said}")))?;
        let jobs = json["jobs"].as_array().cloned().unwrap_or_default();
        let sum = |name: &str| jobs.iter().map(|job| job["verify"][name].as_u64().unwrap_or(0)).sum();
        let lines = std::fs::read_to_string(&verdicts).unwrap_or_default();
        let mut violations = BTreeMap::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).map_err(|why| Failure(format!("{why}: {line}")))?;
            let offset = line["offset"].as_u64().unwrap_or(u64::MAX) as usize;
            if violations.insert(offset, line).is_some() {
                return Err(Failure(format!("two violations at {offset}")));
            }
        }
        let counted: u64 = sum("violations");
        if counted != violations.len() as u64 {
            return Err(Failure(format!(
                "{counted} violations are counted, and {} listed",
                violations.len()
            )));
        }
        Ok(Judged { code, promised: sum("promised"), checked: sum("checked"), violations, said })
    }

    /// One cut, with a job drawn by `seed`.
    pub fn cut(&mut self, seed: u64, flushes_are_shared: bool) -> Result<Sum, Failure> {
        let drawn = Drawn::new(seed, self.mount, flushes_are_shared);
        let failed = |why: Failure| Failure(format!("{}\n{}\n{:?}", why.0, drawn.text, drawn.plan));
        std::fs::write(self.directory.join("cut.toml"), &drawn.text).expect("a job file");
        let _ = std::fs::remove_file(self.directory.join("cut.state"));
        let before = self.mounted.drive(|drive| drive.read(0, SIZE));
        self.mounted.drive(|drive| drive.begin(drawn.plan.clone(), true));
        let result = if drawn.judges_itself {
            let judged = self.judge(&[]);
            self.check(&drawn, &before, judged, true)
        } else {
            self.write_and_judge(&drawn, &before)
        };
        self.settle(&before, seed);
        result.map_err(failed)
    }

    fn write_and_judge(&self, drawn: &Drawn, before: &[u8]) -> Result<Sum, Failure> {
        let mut arguments: Vec<&str> = Vec::new();
        let runs = 1 + usize::from(drawn.continues);
        for run in 0..runs {
            if run > 0 {
                arguments.push("--verify_state_continue=1");
                let plan = Plan { seed: drawn.plan.seed ^ 0x5eed, ..drawn.plan.clone() };
                self.mounted.drive(|drive| drive.begin(plan, false));
            }
            let (code, _, said) = self.run(&arguments);
            if !self.directory.join("cut.state").exists() {
                return Err(Failure(format!("no snapshot, exit code {code:?}: {said}")));
            }
            // A job that ended before its time loses its power then.
            self.mounted.drive(|drive| {
                if drive.has_power {
                    drive.cut(&[]);
                }
            });
        }
        self.repair(drawn, before);
        self.mounted.drive(|drive| drive.begin(Plan { depth: 1, atomic: LBA, ..Plan::default() }, false));
        let commands = self.mounted.drive(|drive| drive.log.len());
        let judged = self.judge(&["--verify_state_load=1"]);
        let changed = self.mounted.drive(|drive| {
            let judging = drive.log.split_off(commands);
            judging.iter().any(|command| matches!(command.op, Op::Write | Op::Trim))
        });
        if changed {
            return Err(Failure("judging has written to the drive".to_owned()));
        }
        self.check(drawn, before, judged, false)
    }

    fn with_oracle<T>(&self, drawn: &Drawn, before: &[u8], ask: impl FnOnce(&Oracle) -> T) -> T {
        let (log, full, image) =
            self.mounted.drive(|drive| (drive.log.clone(), drive.full.clone(), drive.read(0, SIZE)));
        let before = Before { image: before, writers: &self.writers };
        ask(&Oracle { job: &drawn.job, log: &log, full: &full, before, image: &image })
    }

    /// Replaces what is not decided.
    fn repair(&self, drawn: &Drawn, before: &[u8]) {
        let newest: Vec<(usize, Vec<u8>)> = self.with_oracle(drawn, before, |oracle| {
            let is_open = |offset: &usize| oracle.judge(*offset) == Expected::Undecided;
            let blocks = (0..SIZE).step_by(drawn.job.interval).filter(is_open);
            blocks.filter_map(|offset| Some((offset, oracle.newest(offset)?.to_vec()))).collect()
        });
        newest.iter().for_each(|(offset, bytes)| self.mounted.drive(|drive| drive.replace(*offset, bytes)));
    }

    fn check(
        &self,
        drawn: &Drawn,
        before: &[u8],
        judged: Result<Judged, Failure>,
        itself: bool,
    ) -> Result<Sum, Failure> {
        let mut judged = judged?;
        let mut sum = Sum { cuts: 1, ..Sum::default() };
        let mut wrong = String::new();
        self.with_oracle(drawn, before, |oracle| {
            for offset in (0..SIZE).step_by(drawn.job.interval) {
                let expected = oracle.judge(offset);
                let found = judged.violations.remove(&offset);
                let verdict = found.as_ref().and_then(|found| found["verdict"].as_str().map(str::to_owned));
                sum.blocks += u64::from(expected != Expected::Untouched);
                sum.violations += u64::from(verdict.is_some());
                if let Some(kind) = &verdict {
                    *sum.kinds.entry(kind.clone()).or_default() += 1;
                }
                let agrees = match (&expected, &verdict) {
                    (Expected::Open, _) => {
                        sum.open += 1;
                        true
                    }
                    (Expected::Undecided, _) => {
                        sum.undecided += 1;
                        itself
                    }
                    (Expected::Untouched, kind) => kind.as_ref().is_none_or(|kind| kind == "misplaced"),
                    (Expected::Broken(kinds), Some(kind)) => kinds.contains(&kind.as_str()),
                    (Expected::Broken(_), None) => false,
                    (_, kind) => kind.is_none(),
                };
                if !agrees && wrong.len() < 4000 {
                    let _ = writeln!(
                        wrong,
                        "block {offset}: the oracle says {expected:?}, the program {}",
                        found.map_or("nothing".to_owned(), |found| format!("{found:#}"))
                    );
                    history(oracle, offset, drawn.job.interval, &mut wrong);
                }
            }
        });
        if !judged.violations.is_empty() {
            let _ = writeln!(wrong, "violations where no block is: {:#?}", judged.violations);
        }
        if (judged.promised, judged.checked) != (sum.blocks, sum.blocks) {
            let _ = writeln!(
                wrong,
                "{} blocks were written, {} promised, {} checked",
                sum.blocks, judged.promised, judged.checked
            );
        }
        let codes: &[i32] = if sum.violations > 0 {
            &[1]
        } else if itself {
            &[0, 4, 5]
        } else {
            &[0, 5]
        };
        if !judged.code.is_some_and(|code| codes.contains(&code)) {
            let _ = writeln!(
                wrong,
                "exit code {:?} with {} violations: {}",
                judged.code, sum.violations, judged.said
            );
        }
        if wrong.is_empty() { Ok(sum) } else { Err(Failure(wrong)) }
    }

    /// Who has written what is on the drive now.
    fn settle(&mut self, before: &[u8], seed: u64) {
        let (log, image) = self.mounted.drive(|drive| (drive.log.clone(), drive.read(0, SIZE)));
        for (lba, stored) in image.chunks(LBA).enumerate() {
            let offset = lba * LBA;
            let stores = |command: &super::drive::Command| {
                command.op == Op::Write
                    && command.offset <= offset
                    && offset < command.offset + command.bytes.len()
                    && command.bytes[offset - command.offset..][..LBA] == *stored
            };
            if let Some(number) = log.iter().rposition(stores) {
                self.writers[lba] = Some(seed << 20 | number as u64);
            } else if *stored != before[offset..offset + LBA] {
                self.writers[lba] = None;
            }
        }
    }
}

/// What happened to a block, for a failure.
fn history(oracle: &Oracle, offset: usize, interval: usize, out: &mut String) {
    for command in oracle.log {
        let touches = command.offset < offset + interval && offset < command.offset + command.bytes.len();
        if touches || command.op == Op::Flush && command.replied.is_some_and(|(_, ok)| ok) {
            let _ = writeln!(
                out,
                "  {:?} {} {} thread {} power {} arrived {} replied {:?}",
                command.op,
                command.offset,
                command.bytes.len(),
                command.thread,
                command.power,
                command.arrived,
                command.replied
            );
        }
    }
    let stored = &oracle.image[offset..offset + interval];
    for (at, piece) in stored.chunks(LBA).enumerate() {
        let covers = |command: &&super::drive::Command| {
            command.offset <= offset && offset + interval <= command.offset + command.bytes.len()
        };
        let same = |command: &&super::drive::Command| {
            command.bytes[offset - command.offset + at * LBA..][..LBA] == *piece
        };
        let whose: Vec<u64> =
            oracle.log.iter().filter(covers).filter(same).map(|command| command.arrived).collect();
        let old = oracle.before.image[offset + at * LBA..][..LBA] == *piece;
        let _ =
            writeln!(out, "  LBA {at}: of the writes that arrived at {whose:?}; as before the run: {old}");
    }
}
