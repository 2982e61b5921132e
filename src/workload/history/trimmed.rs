//! Histories where some writes are trimmed a while after: visits of a block in the order of their
//! writes and the same visits in the order of their trims, merged.

use crate::base::Op;

use super::super::trim::TrimPlan;
use super::Mutation;
use super::passes::Passes;

/// Of the mutations older than `than`: writes come before the first number, trims are of writes
/// before the second.
pub(super) fn bounds(plan: &TrimPlan, than: &Mutation) -> (u64, u64) {
    if than.op == Op::Deallocate {
        let write = plan.write_of(than.sequence);
        (plan.due_at(write), write)
    } else {
        (than.sequence, plan.due(than.sequence))
    }
}

/// The newest mutation of a block among the first `writes` writes and the trims of the first
/// `trims`.
pub(super) fn below(
    plan: &TrimPlan,
    passes: &mut Passes,
    (region, offset): (usize, u64),
    writes: u64,
    trims: u64,
) -> Option<Mutation> {
    let written = passes.before(region, offset, writes)?;
    let mut bound = trims;
    while let Some(visit) = passes.before(region, offset, bound) {
        // Trims come in the order of their writes: from here on down all are older than the write.
        if plan.due_at(visit.index) <= written.index {
            break;
        }
        if plan.chooses(visit.index) {
            let trim = Mutation::of(Op::Deallocate, &visit);
            return Some(Mutation { sequence: plan.rank(visit.index), ..trim });
        }
        bound = visit.index;
    }
    Some(Mutation::of(Op::Write, &written))
}
