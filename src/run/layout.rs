//! Files get their length, and files that will be read their contents, before a stage starts.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags};

use crate::base::Op;
use crate::base::host::pin::{CreateError, Pin};
use crate::base::shape::Mix;
use crate::base::units::format_size;
use crate::engine::TargetFacts;
use crate::job::spec::Fallocate;
use crate::workload::{Content, ContentShape, Region, Step};

use super::outcome::Outcome;
use super::plan::{JobPlan, existing_size};
use super::{ErrorKind, Observer, Requests, RunError, pinning};

/// Bytes written at a time.
const CHUNK: u32 = 1 << 20;

/// Files that are laid out at the same time at most.
const MOST_AT_ONCE: usize = 64;

/// A file that is too short.
struct Short {
    pin: Arc<Pin>,
    /// Its length, if it is there.
    present: Option<u64>,
    /// What it must have.
    needed: u64,
}

/// Makes every regular file of `plan` long enough for `regions` (of all its clones). What a read
/// will find is written, not left as a hole: holes are read without the device. So is what `overwrite`
/// will find.
///
/// A job that only reads never touches a file that holds something: one that is too short is refused.
/// All files are looked at before the first one is touched.
///
/// # Errors
/// If `readonly` forbids it, or the machine cannot.
pub fn lay_out(
    plan: &JobPlan,
    regions: &[Region],
    readonly: bool,
    requests: &Requests,
    observer: &mut dyn Observer,
) -> Result<(), RunError> {
    let mut ends = vec![0; plan.targets.len()];
    for region in regions {
        let end: &mut u64 = &mut ends[usize::from(region.target)];
        *end = (*end).max(region.start + region.bytes);
    }
    let mut short = Vec::new();
    for (target, needed) in ends.into_iter().enumerate() {
        let pin = plan.pin(target);
        let present = existing_size(&pin);
        if present.is_some_and(|size| size >= needed) || is_special(&pin) {
            continue;
        }
        let file = Short { pin, present, needed };
        check(plan, &file, readonly)?;
        short.push(file);
    }
    if fills(plan) && !plan.spec.files.create_on_open {
        note(&short, observer);
    }
    if plan.spec.files.create_serialize || short.len() < 2 {
        return short.iter().try_for_each(|file| make(plan, file, requests));
    }
    // As many threads as workers; of files that are shared, one each.
    let by_worker = usize::from(plan.targets_per_clone).max(1);
    let share = by_worker.max(short.len().div_ceil(MOST_AT_ONCE));
    std::thread::scope(|scope| {
        let make_all = |files: &[Short]| files.iter().try_for_each(|file| make(plan, file, requests));
        let spawn = |files| std::thread::Builder::new().spawn_scoped(scope, move || make_all(files));
        let threads: Vec<_> = short.chunks(share).map(spawn).collect();
        let results = threads.into_iter().map(|thread| {
            let died = || Err(RunError::environment(&plan.spec, "a thread that laid out files has died"));
            let none = |why| RunError::environment(&plan.spec, format!("cannot start a thread: {why}"));
            thread.map_err(none)?.join().unwrap_or_else(|_| died())
        });
        // All are waited for, whatever the first says.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Whether a file gets contents.
fn fills(plan: &JobPlan) -> bool {
    plan.spec.mix.issues(Op::Read) || plan.spec.files.overwrite
}

/// Whether a target is a device.
fn is_special(pin: &Pin) -> bool {
    pin.file().is_some_and(|file| file.kind().is_block_device() || file.kind().is_char_device())
}

/// Says what takes its time: each of a few files, or all of many at once.
fn note(short: &[Short], observer: &mut dyn Observer) {
    if short.len() <= 8 {
        for file in short {
            observer.note(&format!(
                "laying out {} ({})",
                file.pin.path().display(),
                format_size(file.needed)
            ));
        }
    } else {
        let bytes = short.iter().map(|file| file.needed).sum();
        observer.note(&format!("laying out {} files ({})", short.len(), format_size(bytes)));
    }
}

/// Whether the file may be made longer.
fn check(plan: &JobPlan, file: &Short, readonly: bool) -> Result<(), RunError> {
    let (needed, shown) = (file.needed, file.pin.path().display());
    if let Some(size) = file.present.filter(|&size| size > 0 && !plan.modifies()) {
        return Err(RunError::bad_job(
            &plan.spec,
            format!(
                "{shown} is {} long and the job reads up to {}: lower size, or remove the file so that it is laid out anew",
                format_size(size),
                format_size(needed)
            ),
        ));
    }
    if plan.spec.verify.only {
        let why = format!("there is nothing to judge: {shown} is not there, or empty");
        return Err(RunError::bad_job(&plan.spec, why));
    }
    if readonly {
        return Err(refuse(plan, file));
    }
    if file.present.is_none() && !plan.spec.files.allow_create {
        let why = format!("{shown} is not there, and allow_file_create = false forbids to make it");
        return Err(RunError::bad_job(&plan.spec, why));
    }
    file.pin.missing_directory().map_or(Ok(()), |parent| {
        Err(RunError::environment(
            &plan.spec,
            format!(
                "the directory {} does not exist: create it, or change directory or filename",
                parent.display()
            ),
        ))
    })
}

fn refuse(plan: &JobPlan, file: &Short) -> RunError {
    let is =
        file.present.map_or("does not exist".to_owned(), |size| format!("is {} long", format_size(size)));
    RunError {
        kind: ErrorKind::Unsafe,
        message: format!(
            "job `{}` would make {} {} long (it {is}), and --readonly or readonly = true forbids that",
            plan.spec.name,
            file.pin.path().display(),
            format_size(file.needed)
        ),
    }
}

/// Makes one file long enough; one that was not there is gone again if that fails.
fn make(plan: &JobPlan, short: &Short, requests: &Requests) -> Result<(), RunError> {
    let (pin, needed) = (&short.pin, short.needed);
    let failed = |error: io::Error| {
        let hint = if error.kind() == io::ErrorKind::StorageFull {
            ": lower size, or fill_device = true"
        } else {
            ""
        };
        let (shown, needed) = (pin.path().display(), format_size(needed));
        RunError::environment(&plan.spec, format!("cannot make {shown} {needed} long: {error}{hint}"))
    };
    if let Some(signal) = requests.signal() {
        return Err(failed(io::Error::other(format!("ended by signal {signal}"))));
    }
    let file = match pin.file() {
        Some(held) => held.open(OFlags::RDWR).map_err(failed)?,
        None => match pin.create() {
            Ok(file) => file,
            Err(CreateError::Appeared(replaced)) => return Err(pinning::refuse(plan, &replaced)),
            Err(CreateError::Locked(by)) => {
                let shown = pin.path().display();
                let message = format!("job `{}`: {shown} was made and is being used by {by}", plan.spec.name);
                return Err(RunError { kind: ErrorKind::Unsafe, message });
            }
            Err(CreateError::Io(error)) => return Err(failed(error)),
        },
    };
    // A directory on the way may have been replaced.
    let made = match pin.check() {
        Ok(()) => extend(plan, &file, short.present.unwrap_or(0), needed, requests).map_err(failed),
        Err(replaced) => Err(pinning::refuse(plan, &replaced)),
    };
    if made.is_err() && short.present.is_none() {
        // What cannot be removed is empty or incomplete, and the error says what happened.
        let _ = pin.remove_made();
    }
    made
}

fn extend(plan: &JobPlan, file: &File, from: u64, to: u64, requests: &Requests) -> io::Result<()> {
    let with_contents = fills(plan);
    if plan.spec.fill_device || plan.spec.files.create_on_open {
        return Ok(());
    }
    take_space(file, plan.spec.fallocate, to, requests)?;
    if with_contents {
        write_contents(file, plan.seed, from, to, requests)?;
    } else if plan.spec.mix == Mix::Trim || plan.spec.fallocate != Fallocate::Keep {
        // Trims need bytes to trim; fallocate on file systems without it leaves the length as it was.
        if file.metadata()?.len() < to {
            file.set_len(to)?;
        }
    }
    if with_contents && plan.spec.files.create_fsync {
        file.sync_all()?;
    }
    Ok(())
}

/// Says what no block of the job reaches.
pub fn note_uncovered_ends(plan: &JobPlan, facts: &[TargetFacts], regions: &[Region], outcome: &mut Outcome) {
    // Windows end where they end, and each by itself.
    if plan.replay.is_some() || plan.spec.places.strided {
        return;
    }
    let smallest = Op::ADDRESSED
        .into_iter()
        .filter(|&op| plan.spec.mix.issues(op))
        .map(|op| u64::from(plan.spec.bs.get(op).min()))
        .min()
        .unwrap_or(1);
    let left = |region: &Region| region.bytes % smallest.max(1);
    let mut uneven = regions.iter().filter(|region| left(region) > 0 && region.bytes > smallest);
    let Some(first) = uneven.next() else { return };
    let (left, others) = (left(first), uneven.count());
    let more = if others > 0 { format!("; so it is with {others} more") } else { String::new() };
    outcome.note(format!(
        "job `{}`: the last {left} bytes of the region on {} are no whole block and are left alone{more}",
        plan.spec.name,
        facts[usize::from(first.target)].path.display()
    ));
}

fn take_space(file: &File, how: Fallocate, to: u64, requests: &Requests) -> io::Result<()> {
    let flags = match how {
        Fallocate::None => return Ok(()),
        Fallocate::Truncate => return file.set_len(to),
        Fallocate::Native | Fallocate::Posix => FallocateFlags::empty(),
        Fallocate::Keep => FallocateFlags::KEEP_SIZE,
    };
    match rustix::fs::fallocate(file, flags, 0, to) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) if how != Fallocate::Posix => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            write_contents(file, 0, 0, to, requests)
        }
        other => Ok(other?),
    }
}

fn write_contents(file: &File, seed: u64, from: u64, to: u64, requests: &Requests) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK as usize];
    let mut content = Content::new(ContentShape { refill: true, ..ContentShape::default() }, seed);
    let mut offset = from;
    while offset < to {
        if let Some(signal) = requests.signal() {
            return Err(io::Error::other(format!("ended by signal {signal}")));
        }
        let len = u32::try_from(to - offset).unwrap_or(CHUNK).min(CHUNK);
        let step = Step { offset, sequence: offset, len, target: 0, op: Op::Write };
        let bytes = &mut buffer[..len as usize];
        content.update(bytes, &step);
        file.write_all_at(bytes, offset)?;
        offset += u64::from(len);
    }
    Ok(())
}
