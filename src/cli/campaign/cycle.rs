//! One cycle: write under load, cut, wait for the device, judge.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::base::host::output_file;
use crate::base::units::SECOND_NS;
use crate::job::{self, CampaignSpec, JobSpec};

use super::super::{EXIT_INCONCLUSIVE, EXIT_OK, EXIT_UNSAFE, EXIT_USAGE, EXIT_VIOLATION};
use super::child::{Ended, OnSignal, Watch, last_line, span};
use super::device::{self, Lost, Target};
use super::record::{Cycle, Outcome};

/// How long a writing child may take until it writes: files are laid out first.
const START_NS: u64 = 600 * SECOND_NS;
/// How long a child may take to end, on top of what its jobs wait for their devices.
const END_NS: u64 = 30 * SECOND_NS;
/// How long listing the devices may take.
const LIST_NS: u64 = 30 * SECOND_NS;
/// How often it is asked whether the device is back.
const ASK_NS: u64 = SECOND_NS / 2;

/// Files of a cycle.
const JOB: &str = "job.toml";
const SNAPSHOT: &str = "job.state";
/// What the devices of the campaign are known by, beside the cycles.
const DEVICES: &str = "devices.json";
const CUT_BEGUN: &str = "power_off.begun";
const CUT_ENDED: &str = "power_off.exit";

/// What all cycles share.
pub struct Bench<'a> {
    pub program: PathBuf,
    pub spec: &'a CampaignSpec,
    pub jobs: &'a [JobSpec],
    pub targets: &'a [Target],
    pub destroy: &'a [String],
    pub seed: u64,
    pub watch: Watch,
    /// Locked while a campaign is at work.
    pub lock: File,
}

/// What came of an attempt.
pub enum Ran {
    /// It has ended.
    Ended(Cycle),
    /// A signal ended it on the way.
    Interrupted,
    /// The writing child refused to start: its exit code and what it said.
    Refused(u8, String),
}

/// A cycle at work.
struct Attempt<'a> {
    bench: &'a Bench<'a>,
    folder: &'a Path,
    cycle: Cycle,
    /// The power was cut, or nearly.
    cut: bool,
    /// What could not be judged, and why.
    doubts: Vec<String>,
}

impl Bench<'_> {
    /// Runs cycle `number` in `folder`, which is not there yet. It goes on from the snapshot of the
    /// cycle whose directory is `before`, if there is one.
    pub fn run(&self, number: u64, folder: &Path, before: Option<&Path>) -> Ran {
        let cycle = Cycle {
            number,
            moment_ns: self.spec.moment_ns(self.seed, number),
            continues: before.is_some(),
            ..Cycle::default()
        };
        let mut attempt = Attempt { bench: self, folder, cycle, cut: false, doubts: Vec::new() };
        let begun_ns = self.watch.now_ns();
        let steps = attempt.steps(before);
        if let Err(Stop::Refused(code, why)) = steps {
            return Ran::Refused(code, why);
        }
        if let Err(Stop::Failed(why)) = steps {
            attempt.cycle.why.push(why);
        }
        if self.watch.signal().is_some() && !attempt.is_judged() {
            return Ran::Interrupted;
        }
        attempt.took("all", self.watch.now_ns() - begun_ns);
        Ran::Ended(attempt.conclude())
    }

    /// Brings the device back that an attempt at cycle `number` has left in `folder`, if it had cut
    /// the power.
    pub fn restore(&self, number: u64, folder: &Path) -> Result<(), String> {
        if !folder.join(CUT_BEGUN).exists() {
            return Ok(());
        }
        let cycle = Cycle { number, ..Cycle::default() };
        let mut attempt = Attempt { bench: self, folder, cycle, cut: true, doubts: Vec::new() };
        attempt.power_on();
        if let Err(Stop::Failed(why)) = attempt.wait_ready() {
            attempt.cycle.why.push(why);
        }
        if attempt.cycle.why.is_empty() { Ok(()) } else { Err(attempt.cycle.why.join("; ")) }
    }

    /// A run of this program.
    fn child(&self, arguments: &[OsString]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

/// Why a cycle goes no further.
enum Stop {
    Failed(String),
    Refused(u8, String),
    Interrupted,
}

impl Stop {
    fn of(lost: Lost) -> Stop {
        if lost.is_replaced { Stop::Refused(EXIT_UNSAFE, lost.why) } else { Stop::Failed(lost.why) }
    }
}

impl Attempt<'_> {
    fn steps(&mut self, before: Option<&Path>) -> Result<(), Stop> {
        let names = self.begin(before)?;
        self.describe(&names, "device-before.json");
        let written = self.write(before.is_some())?;
        if self.cut {
            // The device is not left without power, whatever has gone wrong and whoever wants to end.
            self.power_on();
        }
        if self.interrupted() {
            return Err(Stop::Interrupted);
        }
        if !self.cut {
            let why = written.unwrap_or_else(|| self.not_cut());
            return Err(Stop::Failed(why));
        }
        self.cycle.why.extend(written);
        let names = self.wait_ready()?;
        self.describe(&names, "device-after.json");
        if !self.folder.join(SNAPSHOT).exists() {
            return Err(Stop::Failed("there is no snapshot to judge by".to_owned()));
        }
        self.judge(&names)
    }

    fn interrupted(&self) -> bool {
        self.bench.watch.signal().is_some()
    }

    /// Judging has come to its end, so the cycle counts.
    fn is_judged(&self) -> bool {
        self.cycle.judge_exit.is_some_and(|code| code < 128)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn took(&mut self, what: &str, ns: u64) {
        self.cycle.took_ns.push((what.to_owned(), ns));
    }

    /// Finds the targets, and writes the jobs: gives their old and new names.
    fn begin(&mut self, before: Option<&Path>) -> Result<Vec<(String, String)>, Stop> {
        let wrong = |why: std::io::Error| Stop::Failed(format!("{}: {why}", self.folder.display()));
        fs::create_dir(self.folder).map_err(wrong)?;
        let names = self.locate().map_err(Stop::of)?;
        let jobs = device::renamed(self.bench.jobs, &names);
        output_file::write(&self.path(JOB), job::print(&jobs).as_bytes()).map_err(wrong)?;
        if let Some(before) = before {
            fs::copy(before.join(SNAPSHOT), self.path(SNAPSHOT)).map_err(wrong)?;
        }
        self.cycle.targets = names.iter().map(|(_, now)| now.clone()).collect();
        Ok(names)
    }

    fn locate(&self) -> Result<Vec<(String, String)>, Lost> {
        self.bench.targets.iter().map(|target| Ok((target.path.clone(), target.locate()?))).collect()
    }

    /// Stores what `fio-spdk devices` says of the targets. Nothing depends on it.
    fn describe(&self, names: &[(String, String)], file: &str) {
        let paths: Vec<String> = names.iter().map(|(_, now)| now.clone()).collect();
        let list = self.path("devices.out");
        let mut said = Value::Null;
        if self.bench.targets.iter().any(|target| target.known.is_some()) {
            let mut command = self.bench.child(&["devices".into(), "--json".into()]);
            self.bench.watch.run_shell(&mut command, &list, OnSignal::Tell, LIST_NS);
            said = json_of(&list);
            // It is of other devices too.
            let _ = fs::remove_file(&list);
        }
        let _ = output_file::write(
            &self.path(file),
            format!("{:#}\n", device::described(&said, &paths)).as_bytes(),
        );
    }

    /// Writes until the power is cut. Gives what went wrong.
    fn write(&mut self, continues: bool) -> Result<Option<String>, Stop> {
        let log = self.path("write.log");
        let ended = self.run_writer(continues, &log);
        self.took("write", ended.took_ns);
        self.cycle.write_exit = ended.code();
        self.cut = self.path(CUT_BEGUN).exists();
        let code = ended.code().and_then(|code| u8::try_from(code).ok());
        if let Some(code @ (EXIT_USAGE | EXIT_UNSAFE)) = code.filter(|_| !self.cut) {
            return Err(Stop::Refused(code, last_line(&log)));
        }
        let report = json_of(&self.path("write.json"));
        let trigger = report.pointer("/fio-spdk/trigger").filter(|trigger| trigger.is_object());
        self.cycle.cut_ns = trigger.and_then(|trigger| trigger.get("at_ns")?.as_u64()).filter(|_| self.cut);
        let failure = trigger.and_then(|trigger| trigger.get("failure")?.as_str());
        if let Some(failure) = failure {
            return Ok(Some(failure.to_owned()));
        }
        let command = fs::read_to_string(self.path(CUT_ENDED)).unwrap_or_default();
        if self.cut && !matches!(command.trim(), "" | "0") {
            return Ok(Some(format!("power_off ended with exit code {}", command.trim())));
        }
        match code {
            // So far nothing was judged.
            Some(EXIT_OK | EXIT_INCONCLUSIVE) => Ok(None),
            Some(EXIT_VIOLATION) => {
                Ok(Some("a promise was broken before the cut: see write.json".to_owned()))
            }
            _ => Ok(ended.trouble().map(|why| told("the writing", &why, &log))),
        }
    }

    fn run_writer(&self, continues: bool, log: &Path) -> Ended {
        let spec = self.bench.spec;
        let mut arguments: Vec<OsString> = vec![
            self.path(JOB).into(),
            option("trigger", self.trigger().into()),
            option("trigger_timeout", format!("{}ns", self.cycle.moment_ns).into()),
            option("state_dir", self.folder.into()),
            option("output", self.path("write.json").into()),
            self.same_devices(),
        ];
        if continues {
            arguments.push(option("verify_state_continue", "true".into()));
        }
        arguments.extend(self.bench.destroy.iter().map(|device| option("destroy", device.into())));
        let mut command = self.own_child(arguments);
        let waits_ns = self.bench.jobs.iter().map(|job| job.reap_timeout_ns).max().unwrap_or(0);
        let (begun, ended) = (self.path(CUT_BEGUN), self.path(CUT_ENDED));
        let (mut begun_ns, mut ended_ns) = (None, None);
        let moment_ns = self.cycle.moment_ns;
        self.bench.watch.run(&mut command, log, OnSignal::Tell, &mut |since_ns| {
            // Looked for in this order: once there, neither file goes away.
            if ended_ns.is_none() && ended.exists() {
                ended_ns = Some(since_ns);
            }
            if begun_ns.is_none() && begun.exists() {
                begun_ns = Some(since_ns);
            }
            let told = |limit_ns: u64, from_ns: u64, text: &dyn Fn(String) -> String| {
                (since_ns - from_ns > limit_ns).then(|| text(span(limit_ns)))
            };
            match (begun_ns, ended_ns) {
                (_, Some(ended_ns)) => told(waits_ns.saturating_add(END_NS), ended_ns, &|limit| {
                    format!("did not end within {limit} after the cut")
                }),
                (Some(begun_ns), None) => told(spec.power_off_timeout_ns, begun_ns, &|limit| {
                    format!("waited for power_off, which took longer than {limit}")
                }),
                (None, None) => told(moment_ns.saturating_add(START_NS), 0, &|limit| {
                    format!("did not come to its cut within {limit}")
                }),
            }
        })
    }

    /// Each child compares the devices that it opens with those that the first one wrote to.
    fn same_devices(&self) -> OsString {
        option("same-devices", self.folder.with_file_name(DEVICES).into())
    }

    /// What the trigger runs: `power_off`, with its output and its marks in this directory.
    fn trigger(&self) -> String {
        let file = |name: &str| shell_quoted(&self.path(name).to_string_lossy());
        format!(
            ": > {}; sh -c {} > {} 2>&1; code=$?; echo $code > {}; exit $code",
            file(CUT_BEGUN),
            shell_quoted(&self.bench.spec.power_off),
            file("power_off.log"),
            file(CUT_ENDED)
        )
    }

    fn not_cut(&self) -> String {
        let wrote = self.cycle.took_ns.iter().find(|(what, _)| what == "write").map_or(0, |(_, ns)| *ns);
        format!(
            "the writing ended after {}, before the cut that was due after {}: it must go on for longer (time_based \
             and runtime, or more to write)",
            span(wrote),
            span(self.cycle.moment_ns)
        )
    }

    fn power_on(&mut self) {
        let Some(text) = &self.bench.spec.power_on else { return };
        let log = self.path("power_on.log");
        let ended = self.command(text, &log, OnSignal::Finish, self.bench.spec.power_on_timeout_ns);
        self.took("power_on", ended.took_ns);
        if let Some(why) = ended.trouble() {
            self.cycle.why.push(told("power_on", &why, &log));
        }
    }

    /// Waits until the device is back: gives the old and new names of the targets.
    fn wait_ready(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let watch = &self.bench.watch;
        let limit_ns = self.bench.spec.ready_timeout_ns;
        let begun_ns = watch.now_ns();
        let mut first = true;
        let mut last_why: Option<Lost> = None;
        loop {
            let spent_ns = watch.now_ns() - begun_ns;
            let left_ns = limit_ns.saturating_sub(spent_ns);
            if left_ns == 0 && !first {
                let lost = last_why.unwrap_or_default();
                let why = format!("the device was not back within {}: {}", span(limit_ns), lost.why);
                return Err(Stop::of(Lost { why, ..lost }));
            }
            first = false;
            let found = self.is_ready(left_ns).map_err(Lost::from).and_then(|()| self.locate());
            if self.interrupted() {
                return Err(Stop::Interrupted);
            }
            match found {
                Ok(names) => {
                    self.took("ready", watch.now_ns() - begun_ns);
                    self.cycle.targets = names.iter().map(|(_, now)| now.clone()).collect();
                    return Ok(names);
                }
                // An answer says more than that the last time to ask was too short for one.
                Err(why) if last_why.is_none() || watch.now_ns() - begun_ns < limit_ns => {
                    last_why = Some(why)
                }
                Err(_) => {}
            }
            watch.pause(ASK_NS.min(limit_ns.saturating_sub(watch.now_ns() - begun_ns)));
        }
    }

    fn is_ready(&self, limit_ns: u64) -> Result<(), String> {
        let Some(text) = &self.bench.spec.wait_ready else { return Ok(()) };
        let log = self.path("wait_ready.log");
        let ended = self.command(text, &log, OnSignal::Tell, limit_ns);
        ended.trouble().map_or(Ok(()), |why| Err(told("wait_ready", &why, &log)))
    }

    /// Judges what stands there by the snapshot.
    fn judge(&mut self, names: &[(String, String)]) -> Result<(), Stop> {
        let mut job = self.path(JOB);
        let mut jobs = device::renamed(self.bench.jobs, names);
        // What the others do is load.
        jobs.retain(CampaignSpec::judges);
        let text = job::print(&jobs);
        if fs::read_to_string(&job).ok().as_ref() != Some(&text) {
            let folder = self.path("judge");
            job = folder.join(JOB);
            let made = fs::create_dir(&folder).and_then(|()| output_file::write(&job, text.as_bytes()));
            made.map_err(|why| Stop::Failed(format!("{}: {why}", job.display())))?;
        }
        let arguments: Vec<OsString> = vec![
            job.into(),
            "--verify_state_load".into(),
            option("state_dir", self.folder.into()),
            option("verdicts", self.path("verdicts.jsonl").into()),
            option("output", self.path("judge.json").into()),
            self.same_devices(),
        ];
        let log = self.path("judge.log");
        let limit_ns = self.bench.spec.judge_timeout_ns;
        let mut command = self.own_child(arguments);
        let ended = self.bench.watch.run_shell(&mut command, &log, OnSignal::Tell, limit_ns);
        self.took("judge", ended.took_ns);
        self.cycle.judge_exit = ended.code();
        let report = json_of(&self.path("judge.json"));
        self.cycle.take(&report);
        self.doubts = doubts(&report);
        match ended.code().and_then(|code| u8::try_from(code).ok()) {
            Some(EXIT_OK | EXIT_VIOLATION | EXIT_INCONCLUSIVE) => Ok(()),
            // Another device has come back.
            Some(code @ EXIT_UNSAFE) => Err(Stop::Refused(code, last_line(&log))),
            _ => match ended.trouble() {
                Some(why) => Err(Stop::Failed(told("the judging", &why, &log))),
                None => Ok(()),
            },
        }
    }

    fn own_child(&self, mut arguments: Vec<OsString>) -> Command {
        arguments.extend(["--output-format=json".into(), "--eta=never".into()]);
        let mut command = self.bench.child(&arguments);
        // A run that outlives us keeps the lock: nobody may write beside it.
        if let Ok(lock) = self.bench.lock.try_clone() {
            command.stdin(lock);
        }
        self.tell_environment(&mut command);
        command
    }

    /// Runs a command of the user's.
    fn command(&self, text: &str, log: &Path, on_signal: OnSignal, limit_ns: u64) -> Ended {
        let mut command = Command::new("sh");
        command.arg("-c").arg(text).stdin(Stdio::null());
        self.tell_environment(&mut command);
        self.bench.watch.run_shell(&mut command, log, on_signal, limit_ns)
    }

    /// What the user's commands may want to know.
    fn tell_environment(&self, command: &mut Command) {
        command.env("FIO_SPDK_CYCLE", self.cycle.number.to_string());
        command.env("FIO_SPDK_EVIDENCE", self.folder);
    }

    /// Says how the cycle ended.
    fn conclude(mut self) -> Cycle {
        self.cycle.outcome = outcome(&self.cycle);
        if self.cycle.outcome == Outcome::Inconclusive {
            self.cycle.why = self.doubts;
        }
        self.cycle
    }
}

/// What the exit codes of both children and the troubles on the way come to.
fn outcome(cycle: &Cycle) -> Outcome {
    let was = |exit: Option<i32>, code: u8| exit == Some(i32::from(code));
    if was(cycle.judge_exit, EXIT_VIOLATION) || was(cycle.write_exit, EXIT_VIOLATION) {
        Outcome::Violation
    } else if !cycle.why.is_empty() {
        Outcome::Failed
    } else if was(cycle.judge_exit, EXIT_OK) {
        Outcome::Clean
    } else {
        Outcome::Inconclusive
    }
}

/// Why blocks were not judged, as the judging child reports it.
fn doubts(report: &Value) -> Vec<String> {
    let jobs = report.get("jobs").and_then(Value::as_array).into_iter().flatten();
    let mut doubts = Vec::new();
    for verify in jobs.filter_map(|job| job.get("verify")) {
        let reasons = verify.get("not_checked_why").and_then(Value::as_object);
        doubts
            .extend(reasons.into_iter().flatten().map(|(why, count)| format!("{count} not checked: {why}")));
        let others = verify.get("inconclusive_why").and_then(Value::as_array);
        doubts.extend(others.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }
    doubts
}

fn option(name: &str, value: OsString) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(value);
    option
}

/// What went wrong, and the last that its log says.
fn told(what: &str, why: &str, log: &Path) -> String {
    let said = last_line(log);
    if said.is_empty() { format!("{what} {why}") } else { format!("{what} {why}: {said}") }
}

fn json_of(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

/// One word for `sh`, whatever it holds.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_reaches_the_shell_as_it_is() {
        let text = "printf %s 'it''s' \"$HOME\" `x` \\ \n;";
        let script = format!("printf %s {}", shell_quoted(text));
        let said = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&said), text);
    }

    #[test]
    fn a_violation_goes_above_troubles_and_these_above_doubt() {
        let of = |write, judge, why: &[&str]| {
            let why = why.iter().map(|why| (*why).to_owned()).collect();
            outcome(&Cycle { write_exit: write, judge_exit: judge, why, ..Cycle::default() })
        };
        assert_eq!(of(Some(0), Some(0), &[]), Outcome::Clean);
        assert_eq!(of(Some(5), Some(0), &[]), Outcome::Clean);
        assert_eq!(of(Some(0), Some(5), &[]), Outcome::Inconclusive);
        assert_eq!(of(Some(0), Some(0), &["late"]), Outcome::Failed);
        assert_eq!(of(Some(0), Some(1), &["late"]), Outcome::Violation);
        assert_eq!(of(Some(1), None, &["late"]), Outcome::Violation);
        assert_eq!(of(None, None, &["killed"]), Outcome::Failed);
    }

    #[test]
    fn doubts_have_their_reasons() {
        let job = |verify: Value| json!({ "jobs": [{ "verify": verify }] });
        let report = job(json!({ "checked": 5, "not_checked_why": { "the device is gone": 3 } }));
        assert_eq!(doubts(&report), ["3 not checked: the device is gone"]);
        let nothing = json!({ "checked": 0, "inconclusive_why": ["a.0: there was nothing to check"] });
        assert_eq!(doubts(&job(nothing)), ["a.0: there was nothing to check"]);
        assert!(doubts(&job(json!({ "checked": 5 }))).is_empty() && doubts(&Value::Null).is_empty());
    }
}
