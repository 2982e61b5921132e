//! The files of the jobs: their names, what must hold of them before anything is written, and what
//! becomes of them at the end.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::base::clock::Clock;
use crate::base::host::pin::{Pin, RemoveError};
use crate::base::units::format_size;
use crate::base::{Op, Status, random};
use crate::engine::TargetFacts;
use crate::job::JobSpec;
use crate::job::spec::FileType;
use crate::workload::Region;

use super::outcome::Outcome;
use super::plan::JobPlan;
use super::{ErrorKind, Requests, RunError, RunOptions, pinning};

/// Targets are counted in 16 bits.
pub const MOST_TARGETS: usize = u16::MAX as usize;
/// Bytes read at a time into the page cache.
const CHUNK: usize = 1 << 20;

/// The files that a job names by `directory`, its own name and numbers (fio: `filename_format`), worker
/// after worker.
pub fn names(spec: &JobSpec) -> Result<Vec<PathBuf>, RunError> {
    let count = spec.numjobs as usize * spec.nrfiles as usize;
    if count > MOST_TARGETS {
        return Err(too_many(spec, count));
    }
    let directory = spec.directory.clone().unwrap_or_default();
    let format = spec.files.filename_format.as_deref().unwrap_or("$jobname.$jobnum.$filenum");
    let plain = spec.name.replace('/', "_");
    let names = (0..spec.numjobs)
        .flat_map(|clone| (0..spec.nrfiles).map(move |file| (clone, file)))
        .map(|(clone, file)| directory.join(filled(format, &plain, clone, file)));
    Ok(names.collect())
}

/// `format` with its words replaced.
fn filled(format: &str, name: &str, clone: u32, file: u32) -> String {
    let mut out = String::with_capacity(format.len() + name.len());
    let mut rest = format;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let values = [
            ("$jobname", name.to_owned()),
            ("$jobnum", clone.to_string()),
            ("$filenum", file.to_string()),
            ("$clientuid", String::new()),
        ];
        let found = values.into_iter().find_map(|(word, value)| Some((rest.strip_prefix(word)?, value)));
        let (behind, value) = found.unwrap_or((&rest[1..], "$".to_owned()));
        out.push_str(&value);
        rest = behind;
    }
    out + rest
}

/// The regular files below the job's `opendir` that hold a block, by name. Links are not followed.
pub fn found_below(spec: &JobSpec, root: &Path) -> Result<Vec<PathBuf>, RunError> {
    let blocks = Op::ADDRESSED.into_iter().filter(|&op| spec.mix.issues(op));
    let least = blocks.map(|op| u64::from(spec.bs.get(op).max())).max().unwrap_or(1);
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |error: io::Error| {
            RunError::environment(spec, format!("opendir: cannot read {}: {error}", folder.display()))
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() >= least) {
                found.push(entry.path());
            }
        }
        if found.len() > MOST_TARGETS {
            return Err(too_many(spec, found.len()));
        }
    }
    if found.is_empty() {
        let why = format!("opendir: below {} is no file with a block of {least} bytes", root.display());
        return Err(RunError::bad_job(spec, why));
    }
    found.sort();
    Ok(found)
}

fn too_many(spec: &JobSpec, count: usize) -> RunError {
    let why = format!("{count} files are more than {MOST_TARGETS}: lower nrfiles or numjobs");
    RunError::bad_job(spec, why)
}

/// Makes the directories that a `filename_format` names.
pub fn make_directories(plans: &[JobPlan], options: &RunOptions) -> Result<(), RunError> {
    for plan in plans.iter().filter(|plan| plan.uses_files() && !options.readonly && !plan.spec.readonly) {
        let Some(format) = &plan.spec.files.filename_format else { continue };
        if !format.contains('/') || !plan.spec.files.allow_create {
            continue;
        }
        for pin in plan.pins.iter() {
            let Some(folder) = pin.missing_directory() else { continue };
            pin.make_directories().map_err(|error| {
                RunError::environment(&plan.spec, format!("cannot make {}: {error}", folder.display()))
            })?;
        }
    }
    Ok(())
}

/// The size that `filesize` gives a target which now has `known` bytes.
pub fn wanted_bytes(plan: &JobPlan, target: u16, known: Option<u64>) -> Option<u64> {
    let (from, to) = plan.spec.files.filesize?;
    if let Some(size) = known.filter(|size| (from..=to).contains(size)) {
        return Some(size);
    }
    if from == to {
        return Some(from);
    }
    let bits = random::at(random::derive(plan.seed, 11), u64::from(target));
    let drawn = from + random::below(bits, to - from + 1);
    let blocks = Op::ADDRESSED.into_iter().filter(|&op| plan.spec.mix.issues(op));
    let block = blocks.map(|op| u64::from(plan.spec.bs.get(op).min())).min().unwrap_or(1).max(1);
    Some((drawn / block * block).max(from))
}

/// Where files ended that are appended to: as they were `before` they were laid out. Devices do not grow.
pub fn ends(before: &[Option<u64>], facts: &[TargetFacts]) -> Vec<Option<u64>> {
    let end = |(&size, fact): (&Option<u64>, &TargetFacts)| {
        if fact.is_block_device { Some(fact.size_bytes) } else { size }
    };
    before.iter().zip(facts).map(end).collect()
}

/// What must hold of the files before anything is written; sentences about what will be lost.
pub fn check(plans: &[JobPlan], options: &RunOptions) -> Result<Vec<String>, RunError> {
    let mut sentences = Vec::new();
    let mut made: HashSet<usize> = HashSet::new();
    for plan in plans.iter().filter(|plan| plan.uses_files()) {
        let files = &plan.spec.files;
        if unlinks(plan) && options.readonly {
            let name = &plan.spec.name;
            let message =
                format!("job `{name}` would remove its files (unlink), and --readonly forbids that");
            return Err(RunError { kind: ErrorKind::Unsafe, message });
        }
        if files.filetype.is_some() || !files.allow_create {
            for pin in plan.pins.iter() {
                check_kind(plan, pin, made.contains(&pin.entry_number()))?;
            }
        }
        if unlinks(plan) {
            let there = plan.pins.iter().filter_map(|pin| Some((pin.path(), regular(pin)?)));
            sentences.extend(there.map(|(path, size)| {
                let size = format_size(size);
                format!("{} (existing file, {size}) will be removed at the end", path.display())
            }));
        }
        made.extend(plan.pins.iter().map(|pin| pin.entry_number()));
    }
    sentences.dedup();
    Ok(sentences)
}

/// A target is what `filetype` says, and is there if it may not be made. `made`: an earlier job makes it.
fn check_kind(plan: &JobPlan, pin: &Pin, made: bool) -> Result<(), RunError> {
    let (spec, files, shown) = (&plan.spec, &plan.spec.files, pin.path().display());
    let Some(file) = pin.file() else {
        if !files.allow_create && !made {
            let why = format!("{shown} is not there, and allow_file_create = false forbids to make it");
            return Err(RunError::bad_job(spec, why));
        }
        return match files.filetype {
            None | Some(FileType::File) => Ok(()),
            Some(_) => {
                Err(RunError::bad_job(spec, format!("{shown} is not there, and filetype wants a device")))
            }
        };
    };
    let kind = file.kind();
    let (fits, wanted) = match files.filetype {
        None => (true, ""),
        Some(FileType::File) => (kind.is_file(), "a regular file"),
        Some(FileType::Block) => (kind.is_block_device(), "a block device"),
        Some(FileType::Char) => (kind.is_char_device(), "a character device"),
    };
    if fits {
        Ok(())
    } else {
        Err(RunError::bad_job(spec, format!("{shown} is not {wanted}, as filetype wants")))
    }
}

/// Whether the files of a job are removed at its end. What is judged stays.
fn unlinks(plan: &JobPlan) -> bool {
    plan.spec.files.unlink && !plan.only_judges()
}

/// The size of a target that is a regular file and was not named by a link.
fn regular(pin: &Pin) -> Option<u64> {
    let is_link = fs::symlink_metadata(pin.path()).is_ok_and(|named| named.file_type().is_symlink());
    pin.file().filter(|file| !is_link && file.kind().is_file())?.size()
}

/// Reads `regions` of the targets into the page cache.
pub fn pre_read(plan: &JobPlan, regions: &[Region], requests: &Requests) -> Result<(), RunError> {
    let mut buffer = vec![0; CHUNK];
    for region in regions {
        let pin = plan.pin(region.target.into());
        read_through(&pin, region, &mut buffer, requests).map_err(|error| {
            let shown = pin.path().display();
            RunError::environment(&plan.spec, format!("pre_read: cannot read {shown}: {error}"))
        })?;
    }
    Ok(())
}

fn read_through(pin: &Pin, region: &Region, buffer: &mut [u8], requests: &Requests) -> io::Result<()> {
    let mut file = pin.existing()?.open(OFlags::RDONLY)?;
    file.seek(SeekFrom::Start(region.start))?;
    let mut rest = file.take(region.bytes);
    while rest.read(buffer)? > 0 {
        if let Some(signal) = requests.signal() {
            return Err(io::Error::other(format!("ended by signal {signal}")));
        }
    }
    Ok(())
}

/// Flushes the file systems that the job's files are on, and devices themselves (fio: `end_syncfs`).
pub fn sync_file_systems(plan: &JobPlan, outcome: &mut Outcome) {
    let clock = Clock::get();
    let begun_ns = clock.now_ns();
    let mut done = HashSet::new();
    for pin in plan.pins.iter() {
        let Some(held) = pin.file() else { continue };
        let Ok(metadata) = held.metadata() else { continue };
        let is_device = metadata.file_type().is_block_device();
        if !done.insert((is_device, if is_device { metadata.rdev() } else { metadata.dev() })) {
            continue;
        }
        let synced = held.open(OFlags::RDONLY).and_then(|file| {
            if is_device { file.sync_data() } else { rustix::fs::syncfs(&file).map_err(io::Error::from) }
        });
        if let Err(error) = synced {
            let status = Status::from_errno(error.raw_os_error().unwrap_or(libc::EIO));
            let entry = outcome.entries.iter_mut().rev().find(|entry| entry.spec.name == plan.spec.name);
            if let Some(entry) = entry {
                entry.failed(
                    &format!("{}: end_syncfs of {}", plan.spec.name, pin.path().display()),
                    Op::Flush,
                    status,
                );
            }
            return;
        }
    }
    let took_ms = (clock.now_ns() - begun_ns) / 1_000_000;
    let count = done.len();
    outcome
        .note(format!("job `{}`: end_syncfs flushed {count} file system(s) in {took_ms} ms", plan.spec.name));
}

/// What a stage finds where its jobs will `unlink`.
pub struct Leftovers {
    /// By job: which of its targets were there before.
    there: Vec<Vec<bool>>,
    /// Entries of the report before the stage.
    entries: usize,
}

impl Leftovers {
    /// Looks before the stage of `plans` makes its files.
    pub fn look(plans: &[JobPlan], outcome: &Outcome) -> Leftovers {
        let there = plans.iter().map(|plan| {
            let pins = plan.pins.iter().filter(|_| unlinks(plan));
            pins.map(|pin| pin.file().is_some()).collect()
        });
        Leftovers { there: there.collect(), entries: outcome.entries.len() }
    }

    /// Removes what the jobs of the stage say by `unlink`. Of a stage that could not start (`ran` is
    /// false), only what it had made; of one that found something wrong, nothing; and never what has taken
    /// the place of a file: that is given back as the reason to end the run.
    pub fn remove(
        self,
        plans: &[JobPlan],
        ran: bool,
        requests: &Requests,
        outcome: &mut Outcome,
    ) -> Option<RunError> {
        let mut replaced = None;
        let of_stage = outcome.entries.get(self.entries..).unwrap_or_default();
        let is_bad = of_stage.iter().any(|entry| {
            entry.error.is_some() || entry.verify.as_ref().is_some_and(|tally| tally.violations() > 0)
        });
        let kept = match (ran && is_bad, requests.abandon()) {
            (true, _) => Some("are kept as evidence of what went wrong (unlink)"),
            (_, true) => Some("are left, as workers still wait for them (unlink)"),
            _ => None,
        };
        for (plan, there) in plans.iter().zip(self.there).filter(|(plan, _)| unlinks(plan)) {
            if let Some(why) = kept {
                outcome.note(format!("job `{}`: its files {why}", plan.spec.name));
                continue;
            }
            let mut left = Vec::new();
            for (pin, was_there) in plan.pins.iter().zip(there) {
                if !ran && was_there || pin.file().is_none() {
                    continue;
                }
                let removed = if ran { pin.remove() } else { pin.remove_made() };
                let why = match removed {
                    Ok(()) => continue,
                    Err(RemoveError::Replaced(by)) => {
                        replaced.get_or_insert_with(|| pinning::refuse(plan, &by));
                        "it was replaced".to_owned()
                    }
                    Err(RemoveError::NotRegular) => "it is not a regular file".to_owned(),
                    Err(RemoveError::Io(error)) => error.to_string(),
                };
                left.push(format!("{}: {why}", pin.path().display()));
            }
            if let Some(first) = left.first() {
                let more =
                    if left.len() > 1 { format!(", and {} more", left.len() - 1) } else { String::new() };
                outcome.note(format!("job `{}`: unlink leaves {first}{more}", plan.spec.name));
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_format_are_replaced_once() {
        assert_eq!(filled("$jobname.$jobnum.$filenum", "a$filenum", 1, 22), "a$filenum.1.22");
        assert_eq!(filled("x/$clientuid$filenum-$filenum", "j", 1, 3), "x/3-3");
    }
}
