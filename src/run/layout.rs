//! Files get their length, and files that will be read their contents, before a stage starts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

use rustix::fs::FallocateFlags;

use crate::base::Op;
use crate::base::shape::Mix;
use crate::base::units::format_size;
use crate::engine::TargetFacts;
use crate::job::spec::Fallocate;
use crate::workload::{Content, ContentShape, Region, Step};

use super::outcome::Outcome;
use super::plan::{JobPlan, existing_size};
use super::{ErrorKind, Observer, Requests, RunError};

/// Bytes written at a time.
const CHUNK: u32 = 1 << 20;

/// Makes every regular file of `plan` long enough for `regions` (of all its clones). What a read
/// will find is written, not left as a hole: holes are read without the device.
///
/// A job that only reads never touches a file that holds something: one that is too short is refused.
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
    for (number, path) in plan.targets.iter().enumerate() {
        let ends = regions.iter().filter(|region| usize::from(region.target) == number);
        let needed = ends.map(|region| region.start + region.bytes).max().unwrap_or(0);
        let is_regular = std::fs::metadata(path).map_or(true, |metadata| {
            let kind = metadata.file_type();
            !kind.is_block_device() && !kind.is_char_device()
        });
        let present = existing_size(path);
        if !is_regular || present.is_some_and(|size| size >= needed) {
            continue;
        }
        let shown = path.display();
        if let Some(size) = present.filter(|&size| size > 0 && !plan.modifies()) {
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
            return Err(refuse(plan, path, present, needed));
        }
        if let Some(parent) =
            path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir())
        {
            return Err(RunError::environment(
                &plan.spec,
                format!(
                    "the directory {} does not exist: create it, or change directory or filename",
                    parent.display()
                ),
            ));
        }
        let failed = |error: &io::Error| {
            let _ = present.is_none() && std::fs::remove_file(path).is_ok();
            let hint = if error.kind() == io::ErrorKind::StorageFull {
                ": lower size, or fill_device = true"
            } else {
                ""
            };
            RunError::environment(
                &plan.spec,
                format!("cannot make {shown} {} long: {error}{hint}", format_size(needed)),
            )
        };
        if plan.spec.mix.issues(Op::Read) {
            observer.note(&format!("laying out {} ({})", path.display(), format_size(needed)));
        }
        extend(plan, path, present.unwrap_or(0), needed, requests).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn refuse(plan: &JobPlan, path: &Path, present: Option<u64>, needed: u64) -> RunError {
    let is = present.map_or("does not exist".to_owned(), |size| format!("is {} long", format_size(size)));
    RunError {
        kind: ErrorKind::Unsafe,
        message: format!(
            "job `{}` would make {} {} long (it {is}), and --readonly or readonly = true forbids that",
            plan.spec.name,
            path.display(),
            format_size(needed)
        ),
    }
}

fn extend(plan: &JobPlan, path: &Path, from: u64, to: u64, requests: &Requests) -> io::Result<()> {
    let with_contents = plan.spec.mix.issues(Op::Read);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if plan.spec.fill_device {
        return Ok(());
    }
    take_space(&file, plan.spec.fallocate, to, requests)?;
    if with_contents {
        write_contents(&file, plan.seed, from, to, requests)?;
    } else if plan.spec.mix == Mix::Trim || plan.spec.fallocate != Fallocate::Keep {
        // Trims need bytes to trim; fallocate on file systems without it leaves the length as it was.
        if file.metadata()?.len() < to {
            file.set_len(to)?;
        }
    }
    if with_contents {
        file.sync_all()?;
    }
    Ok(())
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

/// Tells of bytes at the end of a region that no block covers.
pub fn note_uncovered_end(plan: &JobPlan, fact: &TargetFacts, bytes: u64, outcome: &mut Outcome) {
    if plan.replay.is_some() {
        return;
    }
    let smallest = Op::ADDRESSED
        .into_iter()
        .filter(|&op| plan.spec.mix.issues(op))
        .map(|op| u64::from(plan.spec.bs.get(op).min()))
        .min()
        .unwrap_or(1);
    let left = bytes % smallest.max(1);
    if left > 0 && bytes > smallest {
        outcome.note(format!(
            "job `{}`: the last {left} bytes of the region on {} are no whole block and are left alone",
            plan.spec.name,
            fact.path.display()
        ));
    }
}
