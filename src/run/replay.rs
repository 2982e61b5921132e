//! Jobs that replay logs: what a log holds is found out before anything starts, and the job is made
//! to fit it: its targets, its commands, its lengths.

use std::collections::HashMap;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::host::Sysfs;
use crate::base::host::block::{DeviceNumber, by_number};
use crate::base::host::pin::Identity;
use crate::base::replay::Log;
use crate::base::shape::{BlockSizes, Mix};
use crate::base::units::format_time_ns;
use crate::base::verify::{BadInterval, gcd};
use crate::base::{Op, PerOp};
use crate::engine::TargetFacts;
use crate::job::JobSpec;
use crate::reactor::ReplayTally;
use crate::trace::{LogFile, MergePart, Name, OpScan, Scan, files_of, merge, scan};
use crate::workload::Region;

use super::plan::JobPlan;
use super::{RunError, verification};

/// Buffers are at least so long: what is read back is read in blocks.
const LEAST_BUFFER: u32 = 4096;

/// From one in so many on it is told that I/Os were late.
const LATE_SHARE: u64 = 1000;

/// What is known of the logs of a job.
#[derive(Clone, Debug)]
pub struct ReplayPlan {
    /// The job as it was asked for.
    pub asked: JobSpec,
    /// The clones take them in turn.
    logs: Vec<OneLog>,
}

#[derive(Clone, Debug)]
struct OneLog {
    path: PathBuf,
    scan: Scan,
    log: Log,
    /// The target of each name.
    targets: Vec<Option<u16>>,
}

/// Looks through the logs of all jobs that replay some, and makes the jobs fit them. Gives what the
/// user should know.
pub fn resolve(plans: &mut [JobPlan]) -> Result<Vec<String>, RunError> {
    let mut notes = Vec::new();
    for plan in plans.iter_mut().filter(|plan| plan.spec.replay.is_on()) {
        let paths = match &plan.spec.replay.merge_into {
            Some(into) => vec![merged(&plan.spec, into, &mut notes)?],
            None => plan.spec.replay.read.iter().map(PathBuf::from).collect(),
        };
        fit(plan, &paths, &mut notes)?;
    }
    Ok(notes)
}

/// Makes one log of several, and gives its path.
fn merged(spec: &JobSpec, into: &Path, notes: &mut Vec<String>) -> Result<PathBuf, RunError> {
    let bad = |why: String| RunError::bad_job(spec, format!("merge_blktrace_file: {why}"));
    writable_log(into).map_err(bad)?;
    // Nothing is pinned yet: the merged log says which targets there are.
    let folder = spec.directory.clone().unwrap_or_default();
    let redirect = spec.replay.rules.redirect.iter().chain(&spec.filename);
    if let Some(target) = redirect.map(|name| folder.join(name)).find(|target| is_same(target, into)) {
        return Err(bad(format!("{} is the target {}: name another file", into.display(), target.display())));
    }
    let replay = &spec.replay;
    let mut parts = Vec::new();
    for (at, name) in replay.read.iter().enumerate() {
        let path = PathBuf::from(name);
        for file in files_of(&path).map_err(|why| bad(format!("{name}: {why}")))? {
            if is_same(&file, into) {
                return Err(bad(format!("{} is one of the logs to be merged", into.display())));
            }
        }
        let scalar = replay.merge_scalars.get(at).copied().unwrap_or(100.0);
        let iterations = replay.merge_iterations.get(at).copied().unwrap_or(1);
        parts.push(MergePart { path, scalar, iterations });
    }
    let count = merge(&parts, into).map_err(bad)?;
    notes.push(format!(
        "job `{}`: {count} I/Os of {} logs are in {}",
        spec.name,
        parts.len(),
        into.display()
    ));
    Ok(into.to_owned())
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|about| Identity::of(&about));
    match (identity(one), identity(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Whether a log may be put there: where there is nothing yet, or a regular file.
pub fn writable_log(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if let Ok(metadata) = std::fs::metadata(path) {
        let kind = metadata.file_type();
        if kind.is_block_device() {
            return Err(format!("{shown} is a device, and would be overwritten by a log"));
        }
        return if kind.is_file() { Ok(()) } else { Err(format!("{shown} is no regular file")) };
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent.filter(|parent| !parent.is_dir()) {
        Some(parent) => Err(format!("the directory {} does not exist", parent.display())),
        None => Ok(()),
    }
}

/// Makes a job fit its logs.
fn fit(plan: &mut JobPlan, paths: &[PathBuf], notes: &mut Vec<String>) -> Result<(), RunError> {
    let asked = plan.spec.clone();
    let rules = asked.replay.rules.clone();
    let mut targets: Vec<PathBuf> = Vec::new();
    let mut numbers: HashMap<PathBuf, usize> = HashMap::new();
    let mut logs = Vec::new();
    for path in paths {
        let bad = |why: String| RunError::bad_job(&asked, format!("read_iolog {}: {why}", path.display()));
        let scan = scan(path, &rules).map_err(|trouble| bad(trouble.to_string()))?;
        if scan.is_empty() {
            return Err(bad("there is no I/O in it that could be replayed".to_owned()));
        }
        let mut of_names = Vec::with_capacity(scan.extents.len());
        for extent in &scan.extents {
            if !extent.touched {
                of_names.push(None);
                continue;
            }
            let target = target_of(&asked, &extent.name, notes).map_err(bad)?;
            let at = *numbers.entry(target).or_insert_with_key(|target| {
                targets.push(target.clone());
                targets.len() - 1
            });
            of_names.push(Some(u16::try_from(at).map_err(|_| bad("it names too many files".to_owned()))?));
        }
        let source = LogFile { path: path.clone(), rules: rules.clone(), targets: of_names.clone() };
        let log = Log {
            source: Arc::new(source),
            path: path.clone(),
            writes: scan.ops.write.ios,
            trims: scan.ops.trim.ios,
            bytes: scan.ops.iter().map(|(_, op)| op.bytes).fold(0, u64::saturating_add),
            lengths: scan.lengths.clone().unwrap_or_default().into(),
        };
        logs.push(OneLog { path: path.clone(), scan, log, targets: of_names });
    }
    plan.targets = targets;
    plan.targets_per_clone = 0;
    // For reports: where its files are comes from the log.
    plan.spec.filename = plan.targets.iter().map(|target| target.to_string_lossy().into_owned()).collect();
    shape(&mut plan.spec, &logs);
    if asked.verify.method.is_some() {
        check_blocks(&plan.spec, &logs)?;
    }
    plan.replay = Some(Arc::new(ReplayPlan { asked, logs }));
    Ok(())
}

/// Where what the log calls `name` is here.
fn target_of(spec: &JobSpec, name: &Name, notes: &mut Vec<String>) -> Result<PathBuf, String> {
    if spec.ioengine == crate::engine::SPDK {
        return Ok(PathBuf::from(spec.filename.first().cloned().unwrap_or_default()));
    }
    let folder = spec.directory.clone().unwrap_or_default();
    match (&spec.replay.rules.redirect, name) {
        (Some(redirect), _) => Ok(folder.join(redirect)),
        (None, Name::Path(path)) => Ok(folder.join(path)),
        (None, &Name::Device { major, minor }) => {
            let number = DeviceNumber { major, minor };
            let found = by_number(&Sysfs::default(), number).ok_or_else(|| {
                format!("it is of the device {number}, which this machine does not have: set replay_redirect")
            })?;
            let path = PathBuf::from(format!("/dev/{}", found.name.replace('!', "/")));
            let note =
                format!("job `{}`: the device {number} of the log is {} here", spec.name, path.display());
            if !notes.contains(&note) {
                notes.push(note);
            }
            Ok(path)
        }
    }
}

/// Commands and lengths of a job are those of its logs.
fn shape(spec: &mut JobSpec, logs: &[OneLog]) {
    let all = PerOp::from_fn(|op| {
        logs.iter().fold(OpScan::default(), |sum, one| {
            let of = one.scan.ops.get(op);
            OpScan {
                ios: sum.ios + of.ios,
                longest: sum.longest.max(of.longest),
                divisor: gcd(sum.divisor, of.divisor),
                ..sum
            }
        })
    });
    let has = |op| all.get(op).ios > 0;
    spec.mix = Mix::Replayed { reads: has(Op::Read), writes: has(Op::Write), trims: has(Op::Deallocate) };
    (spec.random, spec.rw_modifier) = (false, None);
    // What is written and what is trimmed is judged in the same blocks.
    let changed = gcd(all.write.divisor, all.trim.divisor);
    spec.bs = PerOp::from_fn(|op| {
        let of = all.get(op);
        if of.ios == 0 {
            return BlockSizes::Fixed(LEAST_BUFFER);
        }
        let divisor = if op.modifies() { changed } else { of.divisor };
        let min = u32::try_from(divisor).unwrap_or(u32::MAX).min(of.longest).max(1);
        let max = of.longest.max(1);
        if min == max { BlockSizes::Fixed(max) } else { BlockSizes::Range { min, max } }
    });
    spec.blockalign = PerOp::from_fn(|op| spec.bs.get(op).min());
}

/// Writes and trims of the log can be cut into blocks with room for what those begin with.
fn check_blocks(spec: &JobSpec, logs: &[OneLog]) -> Result<(), RunError> {
    let verify = &spec.verify;
    let narrowest = logs.iter().flat_map(|one| {
        let ops = [Op::Write, Op::Deallocate, Op::Read].into_iter().map(|op| one.scan.ops.get(op));
        ops.filter(|op| op.ios > 0).map(|op| (op.divisor, one.path.display(), op.narrowed.as_str()))
    });
    let (divisor, log, place) = match narrowest.min_by_key(|(divisor, ..)| *divisor) {
        Some((divisor, log, place)) => (divisor, log.to_string(), place),
        None => return Ok(()),
    };
    let bad = |why: String| Err(RunError::bad_job(spec, why));
    if logs.iter().any(|one| one.scan.lengths.is_none()) {
        return bad(
            "the log has too many different lengths of writes to verify them: leave verify out".to_owned()
        );
    }
    let what = format!("offsets and lengths in {log} are multiples of {divisor} only ({place})");
    let help = "set replay_align, or leave verify out";
    let interval = match verification::interval(spec) {
        Ok(interval) => interval,
        Err(BadInterval::TooSmall { least, .. }) => {
            return bad(format!("blocks of verify need at least {least} bytes; {what}: {help}"));
        }
        Err(BadInterval::Uneven) => return bad("verify_interval is no multiple of 8".to_owned()),
        Err(BadInterval::DoesNotDivide { .. }) => {
            return bad(format!("verify_interval does not divide what the log writes; {what}"));
        }
    };
    let (at, front) = (verify.offset, verify.front_bytes());
    if at > interval.saturating_sub(front) || at > 0 && at < front {
        return bad(format!(
            "with verify_offset = {at} the header does not fit into a block of {interval} bytes"
        ));
    }
    if let Some(part) = verify.pattern_interval.filter(|&part| !interval.is_multiple_of(part)) {
        return bad(format!(
            "verify_pattern_interval of {part} does not divide the blocks of {interval} bytes"
        ));
    }
    Ok(())
}

/// How a replay kept to the times of its log, where the reader should know.
pub fn how_it_kept_time(name: &str, tally: &ReplayTally) -> Option<String> {
    if let Some(trouble) = &tally.trouble {
        return Some(format!("{name}: the rest of the log was not replayed: {trouble}"));
    }
    // A few of many are late on any machine.
    (tally.late * LATE_SHARE > tally.ios).then(|| {
        format!(
            "{name}: {} of {} I/Os of the log were issued more than 1 ms after they were due, the latest by {}: \
             the target or iodepth does not allow for the log's pace",
            tally.late,
            tally.ios,
            format_time_ns(tally.latest_ns as f64)
        )
    })
}

impl ReplayPlan {
    fn of(&self, clone: u32) -> &OneLog {
        &self.logs[clone as usize % self.logs.len()]
    }

    /// The log of a clone.
    pub fn log(&self, clone: u32) -> Log {
        self.of(clone).log.clone()
    }

    /// The longest I/O that needs a buffer, and room for reading blocks back.
    pub fn longest(&self, spec: &JobSpec) -> u32 {
        let lengths = [Op::Read, Op::Write]
            .into_iter()
            .flat_map(|op| self.logs.iter().map(move |one| one.scan.ops.get(op).longest));
        lengths.chain([LEAST_BUFFER, spec.verify.interval.unwrap_or(0)]).max().unwrap_or(LEAST_BUFFER)
    }

    /// What tells these logs from others that change something else.
    pub fn sum(&self) -> String {
        let sums: Vec<String> = self.logs.iter().map(|one| format!("{:016x}", one.scan.sum)).collect();
        sums.join(":")
    }

    /// The bytes of each target that the log of `clone` reaches. `sizes` are those of devices.
    pub fn regions(
        &self,
        plan: &JobPlan,
        clone: u32,
        size: impl Fn(u16) -> Option<u64>,
    ) -> Result<Vec<Region>, RunError> {
        let one = self.of(clone);
        let mut regions: Vec<Region> = Vec::new();
        for (extent, target) in one.scan.extents.iter().zip(&one.targets) {
            let Some(target) = *target else { continue };
            if let Some(size) = size(target).filter(|&size| extent.end > size) {
                return Err(RunError::bad_job(
                    &plan.spec,
                    format!(
                        "read_iolog {}: {}: the I/O ends at {}, beyond the end of {} ({size} bytes): \
                         replay_scale divides offsets",
                        one.path.display(),
                        extent.farthest,
                        extent.end,
                        plan.targets[usize::from(target)].display()
                    ),
                ));
            }
            match regions.iter_mut().find(|region| region.target == target) {
                Some(region) => region.bytes = region.bytes.max(extent.end),
                None => regions.push(Region { target, start: 0, bytes: extent.end }),
            }
        }
        Ok(regions)
    }

    /// Offsets and lengths must be multiples of the logical block of each target.
    pub fn check_alignment(&self, plan: &JobPlan, facts: &[TargetFacts]) -> Result<(), RunError> {
        for fact in facts {
            let lba = u64::from(fact.lba_bytes.max(1));
            if plan.uses_files() && !plan.spec.direct {
                continue;
            }
            for one in &self.logs {
                let odd = one.scan.ops.iter().find(|(_, op)| op.divisor % lba != 0);
                let Some((op, of)) = odd else { continue };
                return Err(RunError::bad_job(
                    &plan.spec,
                    format!(
                        "read_iolog {}: {}: offset or length of the {} is no multiple of the logical block of {}, \
                         {lba} bytes: set replay_align{}",
                        one.path.display(),
                        of.narrowed,
                        op.name(),
                        fact.path.display(),
                        if plan.uses_files() { ", or direct = false" } else { "" }
                    ),
                ));
            }
        }
        Ok(())
    }
}
