//! What a job's options of places come to on the bytes that a worker owns.

use std::path::Path;

use crate::base::Op;
use crate::base::shape::{Amount, Distribution};
use crate::job::JobSpec;
use crate::job::spec::places::DedupeMode;
use crate::workload::Region;

use super::RunError;

/// Where a region begins, rounded up to `offset_align` if it is a share of the target.
pub fn aligned(spec: &JobSpec, start: u64) -> u64 {
    let is_share = |amount| matches!(amount, Amount::Percent(_));
    match spec.places.offset_align {
        0 => start,
        align if is_share(spec.offset) || is_share(spec.offset_increment) => {
            start.checked_next_multiple_of(align).unwrap_or(start)
        }
        _ => start,
    }
}

/// Blocks and zones that are named by number and size must lie in the region.
pub fn check_reaches(spec: &JobSpec, op: Op, path: &Path, bytes: u64) -> Result<(), RunError> {
    let end = match spec.random_distribution.get(op) {
        Distribution::Sequence { blocks, .. } => {
            let (unit, longest) = (u64::from(*spec.blockalign.get(op)), u64::from(spec.sizes_of(op).max()));
            blocks.iter().max().map_or(0, |&last| last.saturating_mul(unit).saturating_add(longest))
        }
        Distribution::ZonedAbs(zones) => {
            zones.iter().fold(0, |sum: u64, zone| sum.saturating_add(zone.bytes))
        }
        _ => return Ok(()),
    };
    if !spec.random || end <= bytes {
        return Ok(());
    }
    Err(RunError::bad_job(
        spec,
        format!(
            "random_distribution reaches to byte {end} of a region of {} that has {bytes}: change it, or size",
            path.display()
        ),
    ))
}

/// Whether a random workload visits each block once a pass.
pub fn visits_each_once(spec: &JobSpec, op: Op) -> bool {
    let places = spec.places();
    let runs = spec.rw_modifier.is_some_and(|run| run > 1);
    spec.covers()
        && !(runs && places.identical)
        && *spec.random_distribution.get(op) == Distribution::Random
        && *spec.percentage_random.get(op) == 100
}

/// How many blocks are repeated again and again; 0 where each duplicate repeats the newest one.
pub fn working_set(spec: &JobSpec, regions: &[Region]) -> u64 {
    if spec.places.dedupe_mode == DedupeMode::Repeat {
        return 0;
    }
    let bytes: u64 = regions.iter().map(|region| region.bytes).sum();
    let blocks = bytes / u64::from(spec.sizes_of(Op::Write).min().max(1));
    let share = u128::from(blocks) * u128::from(spec.places.dedupe_working_set) / 100;
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}
