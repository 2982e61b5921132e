//! The commands before and after a job.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::base::clock::Clock;
use crate::base::host::output_file::{self, Start};
use crate::base::units::SECOND_NS;

use super::outcome::Outcome;
use super::plan::JobPlan;
use super::{Observer, Requests, RunError};

const TICK: Duration = Duration::from_millis(10);
/// How long a command has after it was asked to end.
const GRACE_NS: u64 = 2 * SECOND_NS;
/// How long a command after a job has where the run was ended by a signal.
const LAST_NS: u64 = 10 * SECOND_NS;

/// Where the output of a job's command goes, in the current directory as in fio.
fn output(plan: &JobPlan, when: &str) -> PathBuf {
    PathBuf::from(format!("{}.{when}.txt", plan.spec.name.replace('/', "_")))
}

/// Finds, before anything is written, what stands in the way of a job's commands.
pub fn check(plan: &JobPlan) -> Result<(), RunError> {
    let host = &plan.spec.host;
    for (command, when) in [(&host.prerun, "prerun"), (&host.postrun, "postrun")] {
        let path = output(plan, when);
        if command.is_none() || !plan.uses_files() {
            continue;
        }
        // Followed to the end: a link may lead to a target.
        let place = std::fs::canonicalize(&path).unwrap_or(path.clone());
        let is_target = |target: &PathBuf| {
            std::fs::canonicalize(target).unwrap_or(target.clone()) == place || *target == path
        };
        if plan.targets.iter().any(is_target) {
            let why = format!(
                "{} is a target, and the output of exec_{when} would go there: name the job otherwise",
                path.display()
            );
            return Err(RunError::bad_job(&plan.spec, why));
        }
    }
    Ok(())
}

/// Whether the commands of a job run. One that judges changes nothing, and a command may: one that formats
/// the device before the writing would destroy what is to be judged.
fn runs(plan: &JobPlan) -> bool {
    !plan.spec.create_only && !plan.only_judges()
}

/// Runs the command before a job.
pub fn before(plan: &JobPlan, requests: &Requests, observer: &mut dyn Observer) -> Result<(), RunError> {
    let Some(command) = plan.spec.host.prerun.as_ref().filter(|_| runs(plan)) else {
        return Ok(());
    };
    let path = output(plan, "prerun");
    observer.note(&format!(
        "job `{}`: running exec_prerun; its output is in {}",
        plan.spec.name,
        path.display()
    ));
    let ended = Running::start(command, &path).and_then(|running| running.end(requests, false));
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(RunError::environment(
            &plan.spec,
            format!(
                "exec_prerun failed ({status}), so nothing was started; its output is in {}",
                path.display()
            ),
        )),
        Err(why) => Err(RunError::environment(&plan.spec, format!("exec_prerun: {why}"))),
    }
}

/// Runs the command after a job; what goes wrong becomes a note.
pub fn after(plan: &JobPlan, has_fired: bool, outcome: &mut Outcome, requests: &Requests) {
    let Some(command) = plan.spec.host.postrun.as_ref().filter(|_| runs(plan)) else { return };
    let name = &plan.spec.name;
    if has_fired || requests.abandon() {
        let why = if has_fired { "a trigger has fired" } else { "the user did not want to wait" };
        outcome.note(format!("job `{name}`: exec_postrun was not run, as {why}"));
        return;
    }
    let path = output(plan, "postrun");
    let ended = Running::start(command, &path).and_then(|running| running.end(requests, true));
    let shown = path.display();
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => {
            outcome.note(format!("job `{name}`: exec_postrun failed ({status}); its output is in {shown}"));
        }
        Err(why) => {
            outcome.note(format!("job `{name}`: exec_postrun: {why}"));
        }
    }
}

/// A command in a process group of its own, which ends as a whole.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(command: &str, path: &std::path::Path) -> Result<Running, String> {
        let file = output_file::open(path, Start::Empty)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new("sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("sh could not be started: {error}"))?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Running { child, group })
    }

    /// Waits for the end. A signal to the run ends it: at once if it came meanwhile, and one that had come
    /// before leaves it `LAST_NS` where it runs `after` a job.
    fn end(mut self, requests: &Requests, after: bool) -> Result<ExitStatus, String> {
        let clock = Clock::get();
        let begun_ns = clock.now_ns();
        let was_ended = after && requests.signal().is_some();
        let mut asked_ns = None;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    if asked_ns.is_some() {
                        // What it has started and not waited for.
                        self.kill(Signal::KILL);
                    }
                    return Ok(status);
                }
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            let now_ns = clock.now_ns();
            let ends = if was_ended { now_ns > begun_ns + LAST_NS } else { requests.signal().is_some() };
            if ends && asked_ns.is_none() {
                self.kill(Signal::TERM);
                asked_ns = Some(now_ns);
            }
            if requests.abandon() || asked_ns.is_some_and(|asked_ns| now_ns > asked_ns + GRACE_NS) {
                self.kill(Signal::KILL);
                return self.child.wait().map_err(|error| error.to_string());
            }
            std::thread::sleep(TICK);
        }
    }

    fn kill(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}
