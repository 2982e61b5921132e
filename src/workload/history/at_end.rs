//! How many mutations a whole workload issues.

use crate::base::Op;
use crate::base::shape::{BlockSizes, Mix};

use super::super::stream::{Order, Stream};
use super::super::{Limit, MixRule, Workload, WorkloadError, WorkloadSpec};
use super::Issued;

impl Issued {
    /// How many mutations the workload that `spec` describes issues until it ends by itself; `None`
    /// if it never does. A formula where all lengths are alike or only passes count; else the
    /// workload is gone through, some nanoseconds an I/O.
    ///
    /// # Errors
    /// If a region holds no block.
    pub fn at_end(spec: &WorkloadSpec) -> Result<Option<Issued>, WorkloadError> {
        if let Some(log) = &spec.log {
            return Ok(Some(Issued { writes: log.writes, trims: log.trims }));
        }
        if spec.limit == Limit::default() {
            return Ok(None);
        }
        let steps = match one_length(spec) {
            Some(len) => steps_of_length(spec, len)?,
            None => steps_of_passes(spec)?,
        };
        let Some(steps) = steps else { return by_going_through(spec).map(Some) };
        let mut issued = match spec.mix {
            Mix::Read | Mix::Replayed { .. } => Issued::default(),
            Mix::Write => Issued { writes: steps, trims: 0 },
            Mix::Trim => Issued { writes: 0, trims: steps },
            Mix::TrimWrite => Issued { writes: steps / 2, trims: steps - steps / 2 },
            Mix::ReadWrite => Issued { writes: MixRule::of(spec).writes_of_first(steps), trims: 0 },
        };
        if let Some(plan) = spec.trim_plan() {
            issued.trims = plan.rank(plan.due(issued.writes));
        }
        Ok(Some(issued))
    }
}

/// The length of all I/Os, if there is only one.
fn one_length(spec: &WorkloadSpec) -> Option<u32> {
    if spec.places.sequential_sizes.is_some() {
        return None;
    }
    let mut only = None;
    for op in Op::ADDRESSED.into_iter().filter(|&op| spec.mix.issues(op)) {
        // A trim that precedes a write has its length.
        let op = if spec.mix == Mix::TrimWrite { Op::Write } else { op };
        let BlockSizes::Fixed(len) = spec.sizes.get(op) else { return None };
        if only.is_some_and(|only| only != *len) {
            return None;
        }
        only = Some(*len);
    }
    only
}

fn steps_of_length(spec: &WorkloadSpec, len: u32) -> Result<Option<u64>, WorkloadError> {
    let mut steps = spec.limit.ios.unwrap_or(u64::MAX);
    if let Some(bytes) = spec.limit.bytes {
        steps = steps.min(bytes.div_ceil(u64::from(len)));
    }
    if let Some(passes) = spec.limit.passes {
        let Some(stream) = only_stream(spec)? else { return Ok(None) };
        if matches!(stream.regions[0].order, Order::Walked(_)) {
            return Ok(None);
        }
        let drawn = matches!(stream.regions[0].order, Order::Drawn(_));
        let of_pass: u64 = if drawn {
            spec.regions.iter().map(|region| region.bytes.div_ceil(u64::from(len))).sum()
        } else {
            stream.regions.iter().map(|region| region.count).sum()
        };
        steps = steps.min(of_pass.saturating_mul(passes.max(1)).saturating_mul(steps_of_place(spec)));
    }
    Ok(Some(steps))
}

/// With several lengths: the pieces of all passes, if passes without repeats are the only limit.
fn steps_of_passes(spec: &WorkloadSpec) -> Result<Option<u64>, WorkloadError> {
    let Limit { bytes: None, ios: None, passes: Some(passes) } = spec.limit else { return Ok(None) };
    let Some(mut stream) = only_stream(spec)? else { return Ok(None) };
    if stream.regions[0].order.may_repeat() {
        return Ok(None);
    }
    let mut steps = 0_u64;
    for pass in 0..passes.max(1) {
        for region in &mut stream.regions {
            region.begin_pass(pass);
            steps = steps.saturating_add(region.count);
        }
    }
    Ok(Some(steps.saturating_mul(steps_of_place(spec))))
}

fn steps_of_place(spec: &WorkloadSpec) -> u64 {
    if spec.mix == Mix::TrimWrite { 2 } else { 1 }
}

/// The stream whose end is the workload's, where there is only one.
fn only_stream(spec: &WorkloadSpec) -> Result<Option<Stream>, WorkloadError> {
    match spec.mix {
        Mix::Read => spec.stream(Op::Read),
        Mix::Write => spec.stream(Op::Write),
        Mix::Trim | Mix::TrimWrite => spec.stream(Op::Deallocate),
        Mix::ReadWrite | Mix::Replayed { .. } => Ok(None),
    }
}

fn by_going_through(spec: &WorkloadSpec) -> Result<Issued, WorkloadError> {
    let mut workload = Workload::new(spec)?;
    let mut issued = Issued::default();
    while let Some(step) = workload.next() {
        match step.op {
            Op::Write => issued.writes += 1,
            Op::Deallocate => issued.trims += 1,
            Op::Read | Op::Flush => {}
        }
    }
    Ok(issued)
}
