//! The options of snapshots and triggers. They hold for the whole run: all its jobs say the same.

use super::{SNAPSHOTS, choice, entry};
use crate::base::cut::TriggerMode;
use crate::job::kind::{Kind, Number, show_time, text, window};
use crate::job::spec::JobSpec;
use crate::job::table::OptionDef;
use crate::job::value::{Outcome, Value, quote};

fn set_path(value: &Value) -> Outcome<std::path::PathBuf> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a path"));
    }
    Ok(path.into())
}

fn set_timeout(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    job.trigger.timeout_ns = Some(window(value)?);
    Ok(())
}

fn show_timeout(job: &JobSpec) -> Option<String> {
    let (from, to) = job.trigger.timeout_ns?;
    let (from_text, to_text) = (show_time(from), show_time(to));
    let bare = |text: &str| text.trim_matches('"').to_owned();
    Some(if from == to { from_text } else { quote(&format!("{}..{}", bare(&from_text), bare(&to_text))) })
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SNAPSHOTS,
        "verify_state_save",
        &[],
        "true",
        Kind::Flag(|job| &mut job.state.save),
        "Leaves a snapshot of what was promised when the writing of a job that verifies ends, for any \
         reason: in `state_dir`, named as the job file with `.state`. For engine \
         `null` only with a trigger or `state_checkpoint`, for `sim` also with `state_dir` or \
         `sim_cut_after`.",
    ),
    entry(
        SNAPSHOTS,
        "verify_state_load",
        &[],
        "false",
        Kind::Flag(|job| &mut job.state.load),
        "Writes nothing, but judges exactly what the snapshot says was promised. It must be of a run \
         of this job, and the target must be the same device. The snapshot stays as it is.",
    ),
    entry(
        SNAPSHOTS,
        "verify_state_continue",
        &[],
        "false",
        Kind::Flag(|job| &mut job.state.go_on),
        "Goes on writing where the run that left the snapshot was cut off: the same run, the next \
         write, and everything that was durable then is still promised. The new snapshot replaces the \
         old one.",
    )
    .refused_beside_log("begin the replay anew"),
    entry(
        SNAPSHOTS,
        "allow_foreign_state",
        &[],
        "false",
        Kind::Flag(|job| &mut job.state.allow_foreign),
        "Lets `verify_state_load` and `verify_state_continue` use a snapshot that belongs to another user than \
         root and the one that runs this. Without it such a snapshot is refused (exit code 2): its contents \
         decide what is judged and what is written next, and in a directory such as `/tmp` anyone could have \
         put it there.",
    ),
    entry(
        SNAPSHOTS,
        "state_dir",
        &["aux-path"],
        "beside the job file",
        Kind::Special {
            form: "path of a directory",
            words: &[],
            set: |job, value| {
                job.state.dir = Some(set_path(value)?);
                Ok(())
            },
            show: |job| job.state.dir.as_ref().map(|path| quote(&path.to_string_lossy())),
        },
        "Where snapshots lie. Never on the device under test. With `--client`, a directory on the client.",
    ),
    entry(
        SNAPSHOTS,
        "state_checkpoint",
        &[],
        "\"0s\"",
        Kind::Time(Number::U64(|job| &mut job.state.checkpoint_ns)),
        "Leaves a snapshot this often while the job runs, for cuts that nobody announces: the process \
         is killed, the plug is pulled. What was written after the last one may stand, and need not. \
         0 never.",
    ),
    entry(
        SNAPSHOTS,
        "trigger",
        &[],
        "",
        Kind::Special {
            form: "string: a command for sh -c",
            words: &[],
            set: |job, value| {
                job.trigger.command = Some(text(value)?);
                Ok(())
            },
            show: |job| job.trigger.command.as_deref().map(quote),
        },
        "What a trigger runs, when the snapshot is on stable storage: the command that cuts the power. With \
         `--client` it runs on the client.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_remote",
        &["trigger-remote"],
        "",
        Kind::Special {
            form: "string: a command for sh -c",
            words: &[],
            set: |job, value| {
                job.trigger.remote = Some(text(value)?);
                Ok(())
            },
            show: |job| job.trigger.remote.as_deref().map(quote),
        },
        "What the server runs when a trigger has fired and the client has the snapshot on stable storage. \
         It must stand in `commands` of the server's server.toml, letter by letter.",
    ),
    entry(
        SNAPSHOTS,
        "detach",
        &[],
        "false",
        Kind::Flag(|job| &mut job.state.detach),
        "A run that a server does goes on when its client is gone; a client can take it over again. \
         Otherwise it ends in order then.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_file",
        &["trigger-file"],
        "",
        Kind::Special {
            form: "path of a file",
            words: &[],
            set: |job, value| {
                job.trigger.file = Some(set_path(value)?);
                Ok(())
            },
            show: |job| job.trigger.file.as_ref().map(|path| quote(&path.to_string_lossy())),
        },
        "The trigger fires when this file appears; it is removed.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_timeout",
        &["trigger-timeout"],
        "never",
        Kind::Special {
            form: "time, or two with .. between them: \"30s\", \"20s..40s\"",
            words: &[],
            set: set_timeout,
            show: show_timeout,
        },
        "The trigger fires this long after the start; of two times, at a random moment between them \
         that comes from `trigger_seed`.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_ios",
        &["trigger-ios"],
        "never",
        Kind::Integer { min: 1, max: u64::MAX, field: Number::MaybeU64(|job| &mut job.trigger.ios) },
        "The trigger fires when so many I/Os have completed, over all workers.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_seed",
        &["trigger-seed"],
        "another one each run",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::MaybeU64(|job| &mut job.trigger.seed) },
        "What the moment in the window of `trigger_timeout` comes from. The report says which it was.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_mode",
        &["trigger-mode"],
        "\"stop\"",
        Kind::Choice {
            choices: &[choice("stop", &[]), choice("continue", &[])],
            set: |job, word| {
                job.trigger.mode = match word {
                    "continue" => TriggerMode::Continue,
                    _ => TriggerMode::Stop,
                }
            },
            get: |job| match job.trigger.mode {
                TriggerMode::Stop => "stop",
                TriggerMode::Continue => "continue",
            },
        },
        "`stop` issues nothing more once a trigger has fired; `continue` keeps the device under full \
         load while the command cuts its power: what is written then may stand, and need not.",
    ),
    entry(
        SNAPSHOTS,
        "trigger_always",
        &["trigger-always"],
        "false",
        Kind::Flag(|job| &mut job.trigger.always),
        "Runs the command even if the snapshot could not be stored. Otherwise it is not run then: \
         nothing could be judged after the cut.",
    ),
];
