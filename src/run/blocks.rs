//! The blocks that a job watches (`block_error_percentiles`): how large, how many, in how much memory.

use crate::base::Op;
use crate::base::shape::BlockSizes;
use crate::base::units::format_size;
use crate::job::JobSpec;
use crate::reactor::blocks_in;
use crate::stats::BlockLife;
use crate::workload::Region;

use super::RunError;
use super::plan::{self, JobPlan};

/// Most blocks of one worker: a gibibyte of them.
const MOST: u64 = 1 << 28;

/// The length of a block, if the job watches any.
pub fn block_bytes(spec: &JobSpec) -> Option<u64> {
    let op = if spec.mix.issues(Op::Deallocate) { Op::Deallocate } else { Op::Write };
    match spec.sizes_of(op) {
        BlockSizes::Fixed(bytes) if spec.order.block_error_percentiles => Some(u64::from(*bytes)),
        _ => None,
    }
}

fn count(spec: &JobSpec, regions: &[Region]) -> u64 {
    let of = |bytes| regions.iter().fold(0_u64, |all, region| all.saturating_add(blocks_in(region, bytes)));
    block_bytes(spec).map_or(0, of)
}

/// Refuses regions of one worker with more blocks than can be watched.
pub fn check(spec: &JobSpec, regions: &[Region]) -> Result<(), RunError> {
    let blocks = count(spec, regions);
    if blocks <= MOST {
        return Ok(());
    }
    Err(RunError::bad_job(
        spec,
        format!(
            "block_error_percentiles would watch {blocks} blocks of {} in one worker, {MOST} at most: set a smaller \
             size or a larger bs of trims",
            format_size(block_bytes(spec).unwrap_or(0))
        ),
    ))
}

/// Memory for the blocks of all workers of `plan`, as far as its targets are known yet.
pub fn memory(plan: &JobPlan) -> u64 {
    if block_bytes(&plan.spec).is_none() {
        return 0;
    }
    let sizes = plan::sizes_now(plan);
    let clones = (0..plan.spec.numjobs).filter_map(|clone| plan::regions(plan, clone, &sizes, 1).ok());
    let blocks = clones.fold(0_u64, |all, regions| all.saturating_add(count(&plan.spec, &regions)));
    blocks.saturating_mul(size_of::<BlockLife>() as u64)
}
