//! Whether what is planned can be done on the targets as they are: asked before anything is written.

use std::collections::HashSet;

use super::*;

/// Finds, before anything is written, what would make a later stage fail: sizes that are missing or
/// lie beyond a device, blocks that no region holds, more memory than the machine has.
pub fn check_before_start(plans: &[JobPlan]) -> Result<(), RunError> {
    let mut made: HashSet<&Path> = HashSet::new();
    for plan in plans {
        cpus(plan)?;
        // What an earlier job makes cannot be looked at yet: its own stage checks it.
        if !plan.targets.iter().any(|target| made.contains(target.as_path())) {
            check_as_it_is(plan)?;
        }
        made.extend(plan.targets.iter().map(PathBuf::as_path));
    }
    for stage in stages(plans) {
        verification::check_overlap(stage)?;
    }
    Ok(())
}

fn check_as_it_is(plan: &JobPlan) -> Result<(), RunError> {
    let spec = &plan.spec;
    let mut sizes = sizes_now(plan);
    let mut lba = 1;
    let mut facts = Vec::new();
    let is_there = match plan.target_kind() {
        Targets::Files => (0..plan.targets.len()).all(|target| plan.pin(target).file().is_some()),
        Targets::Namespaces => true,
        Targets::MadeUp => false,
    };
    if is_there {
        match open_job::probe(plan) {
            Ok(opened) => {
                facts = opened.facts().to_vec();
                sizes = known_sizes(&facts);
                lba = granularity(&facts);
            }
            // No O_DIRECT: certain to fail later. Missing permissions are not: see the stage.
            Err(error) if error.errno == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                return Err(RunError::bad_job(spec, error));
            }
            Err(error) if plan.uses_namespaces() => return Err(RunError::environment(spec, error)),
            Err(_) => {}
        }
    }
    for clone in 0..spec.numjobs {
        let regions = regions(plan, clone, &sizes, lba)?;
        if !facts.is_empty() {
            check_alignment(plan, &facts, &regions)?;
        }
        Workload::new(&workload(plan, clone, regions)).map_err(|error| RunError::bad_job(spec, error))?;
    }
    Ok(())
}

/// A region in which not one I/O has room is a mistake, such as an `offset` at the end of the target.
pub(super) fn check_holds_blocks(
    plan: &JobPlan,
    path: &Path,
    start: u64,
    bytes: u64,
) -> Result<(), RunError> {
    let spec = &plan.spec;
    for op in Op::ADDRESSED.into_iter().filter(|&op| spec.mix.issues(op)) {
        // Where places are drawn, each length must find room at each of them.
        let drawn = spec.random && !visits_each_once(spec, op);
        let longest = spec.all_sizes_of(op).map(BlockSizes::max).max().unwrap_or(1);
        let needed = if drawn { longest } else { spec.sizes_of(op).min() };
        if bytes < u64::from(needed) {
            return Err(RunError::bad_job(
                spec,
                format!(
                    "the region of {} from offset {start} has {bytes} bytes, too few for a block of {needed}: \
                     change size, offset or bs",
                    path.display()
                ),
            ));
        }
        check_reaches(spec, op, path, bytes)?;
    }
    Ok(())
}

/// Blocks and offsets that the target's logical block does not divide are refused before the start.
pub fn check_alignment(plan: &JobPlan, facts: &[TargetFacts], all: &[Region]) -> Result<(), RunError> {
    let spec = &plan.spec;
    if let Some(replay) = &plan.replay {
        return replay.check_alignment(plan, facts);
    }
    for region in all {
        let fact = &facts[usize::from(region.target)];
        let lba = fact.lba_bytes.max(1);
        // Files of the kernel take any offset through the page cache; what is no file has none.
        if lba == 1 || (plan.uses_files() && !spec.direct) {
            continue;
        }
        let path = fact.path.display();
        let bad = |what: &str, value: u64| {
            RunError::bad_job(
                spec,
                format!(
                    "{what} {value} is no multiple of the logical block of {path}, {lba} bytes, as {} needs",
                    if plan.uses_files() { "direct = true" } else { &spec.ioengine }
                ),
            )
        };
        for op in Op::ADDRESSED.into_iter().filter(|&op| spec.mix.issues(op)) {
            let of = |sizes: &BlockSizes| match sizes {
                BlockSizes::Fixed(size) => vec![*size],
                BlockSizes::Range { min, .. } => vec![*min],
                BlockSizes::Split(list) => list.iter().map(|(size, _)| *size).collect(),
                BlockSizes::Unaligned { min, max } => vec![*min, *max, min + 1],
            };
            let lengths: Vec<u32> = spec.all_sizes_of(op).flat_map(of).collect();
            if let Some(size) = lengths.iter().find(|&&size| !size.is_multiple_of(lba)) {
                return Err(bad("bs", u64::from(*size)));
            }
            let align = *spec.blockalign.get(op);
            if !align.is_multiple_of(lba) {
                return Err(bad("blockalign", u64::from(align)));
            }
            if let Some(hole) =
                spec.rw_modifier.filter(|hole| !spec.random && !hole.is_multiple_of(u64::from(lba)))
            {
                return Err(bad("the hole of rw", hole));
            }
        }
        let step = spec.places().strides.map_or(0, |strides| strides.step());
        if !step.is_multiple_of(u64::from(lba)) {
            return Err(bad("zonerange + zoneskip", step));
        }
        if !region.start.is_multiple_of(u64::from(lba)) {
            return Err(bad("offset", region.start));
        }
    }
    Ok(())
}
