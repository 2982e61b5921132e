//! The table `[campaign]`: many power cuts of one job file, each written, cut and judged.

use std::path::PathBuf;

use super::diagnostic::{Issue, Issues, Place};
use super::kind::{Choice, choose, integer, text, time, window, with_nearest};
use super::resolve::Level;
use super::spec::JobSpec;
use super::table::find;
use super::value::{Data, Outcome, Value};
use crate::base::cut::TriggerMode;
use crate::base::random;
use crate::base::units::SECOND_NS;

/// What a file says of its campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignSpec {
    /// How often the power is cut.
    pub cycles: u64,
    /// When in a cycle it is cut: between these times after its writing began, in nanoseconds.
    pub window_ns: (u64, u64),
    /// What the moments come from; `None` draws one.
    pub seed: Option<u64>,
    /// The command that cuts the power.
    pub power_off: String,
    /// The command that brings it back.
    pub power_on: Option<String>,
    /// A command that succeeds when the device is back.
    pub wait_ready: Option<String>,
    /// How long `power_off` may take, in nanoseconds.
    pub power_off_timeout_ns: u64,
    /// How long `power_on` may take.
    pub power_on_timeout_ns: u64,
    /// How long the device may take to come back.
    pub ready_timeout_ns: u64,
    /// How long the judging may take.
    pub judge_timeout_ns: u64,
    /// The serial number of the device.
    pub serial: Option<String>,
    /// What the next cycle makes of the one before.
    pub between: Between,
    /// The directory of the evidence; `None` for beside the file.
    pub evidence: Option<PathBuf>,
    /// What ends the campaign early.
    pub stop_on: StopOn,
}

/// What a cycle makes of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Between {
    /// Every cycle is a new run that writes anew.
    #[default]
    Rewrite,
    /// The writing goes on where the cycle before was cut.
    Continue,
}

/// What ends a campaign before its last cycle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopOn {
    /// Nothing.
    #[default]
    Never,
    /// A broken promise.
    Violation,
}

impl CampaignSpec {
    /// When after the start of its writing the power of cycle `cycle` is cut, in nanoseconds: a
    /// function of the seed and the number alone.
    #[must_use]
    pub fn moment_ns(&self, seed: u64, cycle: u64) -> u64 {
        let (from, to) = self.window_ns;
        from + random::below(random::at(seed, cycle), (to - from).saturating_add(1))
    }
}

/// An entry of the table.
struct Entry {
    name: &'static str,
    form: &'static str,
    set: fn(&mut Draft, &Value) -> Outcome<()>,
}

/// The table on its way.
#[derive(Default)]
struct Draft {
    cycles: Option<u64>,
    window_ns: Option<(u64, u64)>,
    seed: Option<u64>,
    power_off: Option<String>,
    power_on: Option<String>,
    wait_ready: Option<String>,
    power_off_timeout_ns: Option<u64>,
    power_on_timeout_ns: Option<u64>,
    ready_timeout_ns: Option<u64>,
    judge_timeout_ns: Option<u64>,
    serial: Option<String>,
    between: Between,
    evidence: Option<PathBuf>,
    stop_on: StopOn,
}

const MOST_CYCLES: u64 = 999_999;
const COMMAND: &str = "string: a command for sh -c";
const LIMIT: &str = "time above 0, such as \"60s\"";

const ENTRIES: &[Entry] = &[
    Entry {
        name: "cycles",
        form: "integer from 1 to 999999",
        set: |draft, value| {
            draft.cycles = Some(integer(value, 1, MOST_CYCLES)?);
            Ok(())
        },
    },
    Entry {
        name: "window",
        form: "time, or two with .. between them: \"20s..40s\"",
        set: |draft, value| {
            draft.window_ns = Some(window(value)?);
            Ok(())
        },
    },
    Entry {
        name: "seed",
        form: "integer",
        set: |draft, value| {
            draft.seed = Some(integer(value, 0, u64::MAX)?);
            Ok(())
        },
    },
    Entry { name: "power_off", form: COMMAND, set: |draft, value| command(value, &mut draft.power_off) },
    Entry { name: "power_on", form: COMMAND, set: |draft, value| command(value, &mut draft.power_on) },
    Entry { name: "wait_ready", form: COMMAND, set: |draft, value| command(value, &mut draft.wait_ready) },
    Entry {
        name: "power_off_timeout",
        form: LIMIT,
        set: |draft, value| limit(value, &mut draft.power_off_timeout_ns),
    },
    Entry {
        name: "power_on_timeout",
        form: LIMIT,
        set: |draft, value| limit(value, &mut draft.power_on_timeout_ns),
    },
    Entry {
        name: "ready_timeout",
        form: LIMIT,
        set: |draft, value| limit(value, &mut draft.ready_timeout_ns),
    },
    Entry {
        name: "judge_timeout",
        form: LIMIT,
        set: |draft, value| limit(value, &mut draft.judge_timeout_ns),
    },
    Entry { name: "serial", form: "string", set: |draft, value| filled(value, &mut draft.serial) },
    Entry {
        name: "between",
        form: "\"rewrite\" or \"continue\"",
        set: |draft, value| {
            const WORDS: &[Choice] =
                &[Choice { name: "rewrite", also: &[] }, Choice { name: "continue", also: &[] }];
            draft.between =
                if choose(value, WORDS)? == "continue" { Between::Continue } else { Between::Rewrite };
            Ok(())
        },
    },
    Entry {
        name: "evidence",
        form: "path of a directory",
        set: |draft, value| {
            let mut path = None;
            filled(value, &mut path)?;
            draft.evidence = path.map(PathBuf::from);
            Ok(())
        },
    },
    Entry {
        name: "stop_on",
        form: "\"never\" or \"violation\"",
        set: |draft, value| {
            const WORDS: &[Choice] =
                &[Choice { name: "never", also: &[] }, Choice { name: "violation", also: &[] }];
            draft.stop_on =
                if choose(value, WORDS)? == "violation" { StopOn::Violation } else { StopOn::Never };
            Ok(())
        },
    },
];

fn filled(value: &Value, field: &mut Option<String>) -> Outcome<()> {
    let text = text(value)?;
    if text.trim().is_empty() || text.contains('\0') {
        return Err(value.bad("this is empty, or holds a zero byte"));
    }
    *field = Some(text);
    Ok(())
}

fn command(value: &Value, field: &mut Option<String>) -> Outcome<()> {
    filled(value, field).map_err(|issue| match value.data {
        Data::Text(_) => issue.help("a command that does nothing is \"true\""),
        _ => issue,
    })
}

fn limit(value: &Value, field: &mut Option<u64>) -> Outcome<()> {
    let ns = time(value)?;
    if ns == 0 {
        return Err(value.bad("expected a time above 0: every wait has a limit"));
    }
    *field = Some(ns);
    Ok(())
}

/// Reads the table. `None` if there is an issue.
pub(crate) fn read(
    header: &Place,
    table: Vec<(String, Place, Value)>,
    issues: &mut Issues,
) -> Option<CampaignSpec> {
    let before = issues.len();
    let mut draft = Draft::default();
    for (name, key, value) in table {
        if issues.stops() {
            break;
        }
        let Some(entry) = ENTRIES.iter().find(|entry| entry.name == name) else {
            issues.push(unknown(&name, &key));
            continue;
        };
        if let Err(mut issue) = (entry.set)(&mut draft, &value) {
            issue.place.get_or_insert_with(|| value.place.clone());
            issue.message = format!("`{name}`: {}", issue.message);
            if issue.label.is_empty() {
                issue.label = format!("expected {}", entry.form);
            }
            issues.push(issue);
        }
    }
    if issues.len() > before {
        return None;
    }
    for (missing, name, example) in [
        (draft.cycles.is_none(), "cycles", "cycles = 100"),
        (draft.window_ns.is_none(), "window", "window = \"20s..40s\""),
        (draft.power_off.is_none(), "power_off", "power_off = \"pdu off 3\""),
    ] {
        if missing {
            let issue = Issue::new(format!("a campaign needs `{name}`")).at(header);
            issues.push(issue.help(format!("for example {example}")));
        }
    }
    Some(CampaignSpec {
        cycles: draft.cycles?,
        window_ns: draft.window_ns?,
        seed: draft.seed,
        power_off: draft.power_off?,
        power_on: draft.power_on,
        wait_ready: draft.wait_ready,
        power_off_timeout_ns: draft.power_off_timeout_ns.unwrap_or(60 * SECOND_NS),
        power_on_timeout_ns: draft.power_on_timeout_ns.unwrap_or(60 * SECOND_NS),
        ready_timeout_ns: draft.ready_timeout_ns.unwrap_or(120 * SECOND_NS),
        judge_timeout_ns: draft.judge_timeout_ns.unwrap_or(24 * 3_600 * SECOND_NS),
        serial: draft.serial,
        between: draft.between,
        evidence: draft.evidence,
        stop_on: draft.stop_on,
    })
}

fn unknown(name: &str, key: &Place) -> Issue {
    let issue = Issue::new(format!("a campaign has no `{name}`")).at(key);
    if let Some((_, option)) = find(name) {
        return issue
            .help(format!("`{}` is an option of jobs: put it into `[global]` or a `[[job]]`", option.name));
    }
    let with_near = with_nearest(issue, name, ENTRIES.iter().map(|entry| entry.name));
    if with_near.help.is_empty() {
        let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        return with_near.help(format!("it has {}", names.join(", ")));
    }
    with_near
}

/// Options of jobs that a campaign sets itself.
const OWN: [(&str, &str); 10] = [
    ("trigger", "`power_off` of the campaign is the trigger"),
    ("trigger_remote", "`power_off` of the campaign is the trigger"),
    ("trigger_timeout", "`window` of the campaign says when"),
    ("trigger_seed", "`seed` of the campaign says when"),
    ("trigger_file", "`window` of the campaign says when"),
    ("trigger_ios", "`window` of the campaign says when"),
    ("state_dir", "each cycle's snapshot lies with its evidence: `evidence` of the campaign says where"),
    ("verify_state_save", "a campaign judges by snapshots"),
    ("verify_state_load", "a campaign judges after each cut"),
    ("verify_state_continue", "`between = \"continue\"` of the campaign does that"),
];

/// Finds options that a campaign sets itself.
pub(crate) fn refuse_own(level: &Level, issues: &mut Issues) {
    for setting in &level.settings {
        let name = super::options::OPTIONS[setting.option].name;
        if let Some((_, why)) = OWN.iter().find(|(own, _)| *own == name) {
            let issue = Issue::new(format!("a campaign sets `{name}` itself")).at(&setting.key);
            issues.push(issue.help(*why));
        }
    }
}

impl CampaignSpec {
    /// Whether a campaign judges what this job has written.
    #[must_use]
    pub fn judges(job: &JobSpec) -> bool {
        job.verify.method.is_some() && job.mix.modifies() && !job.verify.only
    }
}

/// Finds what makes jobs unfit for a campaign.
pub(crate) fn check(spec: &CampaignSpec, jobs: &[JobSpec], header: &Place, issues: &mut Issues) {
    let mut refuse = |why: &str, help: &str| issues.push(Issue::new(why).at(header).help(help));
    let judged = || jobs.iter().filter(|job| CampaignSpec::judges(job));
    if judged().next().is_none() {
        refuse(
            "no job of this campaign writes and verifies: nothing could be judged after a cut",
            "for example rw = \"randwrite\" and verify = \"crc32c\"",
        );
    }
    for job in judged().filter(|job| matches!(job.ioengine.as_str(), "null" | "sim")) {
        let why = format!(
            "job `{}`: what engine `{}` writes is gone when its process ends",
            job.name, job.ioengine
        );
        refuse(&why, "a campaign needs a file or device");
    }
    // A job of a later stage may not have begun when the power is cut.
    let begun = jobs.iter().skip_while(|job| !CampaignSpec::judges(job)).skip(1);
    let mut left = judged().count().saturating_sub(1);
    for job in begun {
        if left > 0 && job.stonewall {
            refuse(
                "jobs that verify stand in several stages, and the power is cut in one",
                "let them run together, without `stonewall` between them",
            );
            break;
        }
        left = left.saturating_sub(usize::from(CampaignSpec::judges(job)));
    }
    if spec.between == Between::Continue {
        if judged().any(|job| job.trigger.mode == TriggerMode::Continue) {
            refuse(
                "between = \"continue\" cannot go on where trigger_mode = \"continue\" was cut: nobody knows where \
                 that was",
                "leave one of them out",
            );
        }
        if judged().count() < jobs.len() {
            refuse(
                "between = \"continue\" needs jobs that all write and verify",
                "leave it, or the others, out",
            );
        }
    }
}
