//! `fio-spdk campaign`: power cuts by the hundred. Each cycle writes under load, cuts the power,
//! waits for the device and judges it by the snapshot.
//!
//! Writing and judging are children of this process, which itself touches no device: one that hangs
//! hangs a child, and every wait for a child has a limit. What has ended stands in the evidence, on
//! stable storage, before the next cycle begins, so that the same command goes on after any end.

mod child;
mod cycle;
mod device;
mod evidence;
mod record;

use std::path::{Path, PathBuf};

use crate::base::random;
use crate::job::{self, Between, CampaignSpec, JobSpec, StopOn};
use crate::run;

use super::streams::{self, stderr, stderr_line};
use super::{
    EXIT_INCONCLUSIVE, EXIT_IO, EXIT_OK, EXIT_UNSAFE, EXIT_USAGE, EXIT_VIOLATION, output, signals, terminal,
};
use child::{Watch, span};
use cycle::{Bench, Ran};
use evidence::{Begin, Evidence};
use record::{Cycle, Outcome};

/// So many cycles that fail one after the other end the campaign: the device is gone.
const MOST_FAILURES: usize = 3;

/// A campaign as asked for.
#[derive(Debug, Default)]
pub struct Request {
    pub file: String,
    pub overrides: Vec<(String, String)>,
    pub destroy: Vec<String>,
    pub check: bool,
}

/// Runs a campaign, or goes on with it; gives the exit code.
pub fn run(request: &Request) -> u8 {
    if request.file == "-" {
        stderr_line!("error: a campaign needs a file: one from standard input could not be gone on with");
        return EXIT_USAGE;
    }
    let (jobs, spec, text) = match job::load_campaign(&request.file, &request.overrides) {
        Ok(loaded) => loaded,
        Err(wrong) => {
            stderr!("{}", wrong.render(terminal::stderr_in_colour()));
            return if wrong.refused_only() { EXIT_UNSAFE } else { EXIT_USAGE };
        }
    };
    if request.check {
        return output::print(&format!("a campaign of {}, nothing wrong\n", cycles(spec.cycles)));
    }
    if let Err(why) = run::check_engines(&jobs) {
        stderr_line!("error: {why}");
        return EXIT_IO;
    }
    let folder = evidence_folder(&request.file, &spec);
    let begin = || begin(&jobs, &spec, &request.overrides);
    let evidence = match Evidence::open(&folder, &text, &request.overrides, begin) {
        Ok(evidence) => evidence,
        Err(why) => {
            stderr_line!("error: {why}");
            return EXIT_USAGE;
        }
    };
    let environment = |what: &str, why: std::io::Error| {
        stderr_line!("error: {what}: {why}");
        EXIT_IO
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(why) => return environment("this program cannot be found", why),
    };
    let requests = match signals::listen() {
        Ok(requests) => requests,
        Err(why) => return environment("cannot listen to signals", why),
    };
    let lock = match evidence.lock() {
        Ok(lock) => lock,
        Err(why) => return environment("the evidence cannot be locked", why),
    };
    let targets = evidence.begin.targets.clone();
    let bench = Bench {
        program,
        spec: &spec,
        jobs: &jobs,
        targets: &targets,
        destroy: &request.destroy,
        seed: evidence.begin.seed,
        watch: Watch::new(requests),
        lock,
    };
    Campaign { bench, evidence, file: &request.file }.run()
}

/// Beside the file, and named as it.
fn evidence_folder(file: &str, spec: &CampaignSpec) -> PathBuf {
    spec.evidence.clone().unwrap_or_else(|| Path::new(file).with_extension("campaign"))
}

/// What a campaign begins with.
fn begin(jobs: &[JobSpec], spec: &CampaignSpec, overrides: &[(String, String)]) -> Result<Begin, String> {
    let mut targets = device::targets(jobs)?;
    if let Some(serial) = &spec.serial {
        let [target] = &mut targets[..] else {
            return Err("`serial` is for a campaign with one target, and here are several or none".to_owned());
        };
        let Some(known) = &mut target.known else {
            return Err(format!("`serial` is that of a device, and {} is none", target.path));
        };
        if known.serial.as_ref().is_some_and(|known| known != serial) {
            let found = known.serial.as_deref().unwrap_or_default();
            return Err(format!(
                "{} has the serial number {}, and the campaign is to be of {serial}: set filename to that device, \
                 which `fio-spdk devices` lists",
                target.path,
                crate::base::host::printable(found)
            ));
        }
        if known.serial.is_none() {
            return Err(format!("{} has no serial number: leave `serial` out", target.path));
        }
    }
    Ok(Begin { seed: spec.seed.unwrap_or_else(fresh_seed), targets, overrides: overrides.to_vec() })
}

/// Small enough to be typed.
fn fresh_seed() -> u64 {
    let bits = crate::base::clock::unix_time_ns() ^ u64::from(std::process::id()) << 40;
    random::at(bits, 0) >> 32
}

struct Campaign<'a> {
    bench: Bench<'a>,
    evidence: Evidence,
    file: &'a str,
}

impl Campaign<'_> {
    fn run(mut self) -> u8 {
        say(&self.opening());
        let ended = self.restore().and_then(|()| self.cycles());
        say(&record::table(&self.evidence.done, self.bench.spec.cycles));
        let worst = record::worst(&self.evidence.done);
        // A broken promise must not hide behind anything.
        if worst == Outcome::Violation {
            return EXIT_VIOLATION;
        }
        ended.err().unwrap_or(match worst {
            Outcome::Violation => EXIT_VIOLATION,
            Outcome::Failed => EXIT_IO,
            Outcome::Inconclusive => EXIT_INCONCLUSIVE,
            Outcome::Clean => EXIT_OK,
        })
    }

    fn opening(&self) -> String {
        let (spec, done) = (self.bench.spec, self.evidence.done.len());
        let (from, to) = spec.window_ns;
        let window = if from == to {
            format!("after {}", span(from))
        } else {
            format!("{} to {} after the start", span(from), span(to))
        };
        let mut text = format!(
            "campaign {}: {}, cut {window}, seed {}; evidence in {}\n",
            self.file,
            cycles(spec.cycles),
            self.bench.seed,
            self.evidence.folder().display()
        );
        if done > 0 {
            let done = cycles(done as u64);
            text.push_str(&format!("{done} ended before; the campaign goes on behind that\n"));
        }
        if let Some(aside) = &self.evidence.unfinished {
            text.push_str(&format!("cycle {} had not ended: {}\n", self.evidence.next(), aside.display()));
        }
        text
    }

    /// A cycle that was cut off may have left the device without power.
    fn restore(&self) -> Result<(), u8> {
        let Some(aside) = &self.evidence.unfinished else { return Ok(()) };
        let back = self.bench.restore(self.evidence.next(), aside);
        self.check_signal()?;
        back.map_err(|why| {
            stderr_line!("error: cycle {} was cut off, and now: {why}", self.evidence.next());
            EXIT_IO
        })
    }

    /// Runs what is left. `Err` is the exit code of an end that came too early.
    fn cycles(&mut self) -> Result<(), u8> {
        let spec = self.bench.spec;
        let mut failures = 0;
        let mut is_first = true;
        while self.evidence.next() <= spec.cycles {
            let stops =
                |cycle: &Cycle| spec.stop_on == StopOn::Violation && cycle.outcome == Outcome::Violation;
            if self.evidence.done.iter().any(stops) {
                say("a promise was broken: the campaign ends here (stop_on = \"violation\")\n");
                return Ok(());
            }
            if failures == MOST_FAILURES {
                stderr_line!(
                    "error: {failures} cycles failed one after the other, so the campaign ends: the same command goes \
                     on when the cause is removed"
                );
                return Err(EXIT_IO);
            }
            let cycle = self.cycle(is_first)?;
            is_first = false;
            failures = if cycle.outcome == Outcome::Failed { failures + 1 } else { 0 };
            say(&cycle.told(spec.cycles));
            if let Err(why) = self.evidence.add(cycle) {
                stderr_line!(
                    "error: the evidence in {} cannot be written: {why}",
                    self.evidence.folder().display()
                );
                return Err(EXIT_IO);
            }
            self.check_signal()?;
        }
        Ok(())
    }

    fn cycle(&self, is_first: bool) -> Result<Cycle, u8> {
        self.check_signal()?;
        let number = self.evidence.next();
        let folder = self.evidence.of(number);
        let before = self.before();
        match self.bench.run(number, &folder, before.as_deref()) {
            Ran::Ended(cycle) => Ok(cycle),
            Ran::Interrupted => {
                self.check_signal()?;
                Err(EXIT_IO)
            }
            // Another device, or one that is in use now: nothing is tried again before a person has looked.
            Ran::Refused(EXIT_UNSAFE, why)
                if !is_first || before.is_some() || folder.join("judge.log").exists() =>
            {
                stderr_line!("error: cycle {number}: {why}");
                Err(EXIT_UNSAFE)
            }
            // What is wrong at once will be wrong a thousand times.
            Ran::Refused(code, _) if is_first && before.is_none() => {
                let said = std::fs::read_to_string(folder.join("write.log")).unwrap_or_default();
                stderr_line!("{}", said.trim_end());
                Err(code)
            }
            Ran::Refused(code, why) => Ok(Cycle {
                number,
                moment_ns: self.bench.spec.moment_ns(self.bench.seed, number),
                continues: before.is_some(),
                write_exit: Some(i32::from(code)),
                outcome: Outcome::Failed,
                why: vec![format!("the writing was refused: {why}")],
                ..Cycle::default()
            }),
        }
    }

    /// The directory of the cycle that the next one goes on from, if it does. After a cycle that
    /// failed or was cut off nobody knows how far it wrote: the next one writes anew.
    fn before(&self) -> Option<PathBuf> {
        let last = self.evidence.done.last()?;
        let known = last.outcome != Outcome::Failed && !self.evidence.next_was_begun();
        (self.bench.spec.between == Between::Continue && known).then(|| self.evidence.of(last.number))
    }

    fn check_signal(&self) -> Result<(), u8> {
        match self.bench.watch.signal() {
            Some(signal) => Err(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            None => Ok(()),
        }
    }
}

fn cycles(count: u64) -> String {
    if count == 1 { "1 cycle".to_owned() } else { format!("{count} cycles") }
}

/// Prints. That nobody reads it does not stop the campaign, whose evidence is in files.
fn say(text: &str) {
    let _ = streams::write_stdout(text);
}
