//! Rates, pauses and demands of a job, in the words of the reactor.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::shape::Mix;
use crate::base::units::{format_count, format_size, format_time_ns};
use crate::base::{Op, PerOp, random};
use crate::reactor::{
    FloorConfig, FlowConfig, FlowGroup, Missed, PaceConfig, RateConfig, SearchConfig, ThinkConfig,
};

use super::plan::JobPlan;

/// What the seeds of random gaps are derived with, a number for each direction from here on.
const GAPS_TAG: u64 = 0x9a9;

/// The groups of workers that share by weights, by `flow_id`; those of a stage.
#[derive(Debug, Default)]
pub struct Flows(BTreeMap<u32, Arc<FlowGroup>>);

/// What a clone keeps to; `None` if nothing but its depth holds it back.
pub fn config(plan: &JobPlan, clone: u32, depth: u32, flows: &mut Flows) -> Option<PaceConfig> {
    let (spec, pace) = (&plan.spec, &plan.spec.pace);
    let seed = random::derive(plan.seed, u64::from(clone));
    let rates = PerOp::from_fn(|op| {
        let ranges = if op == Op::Deallocate { spec.commands.trim_ranges } else { 1 };
        let block = spec.bs.get(op).min().max(1).saturating_mul(ranges);
        let iops = u64::from(*pace.rate_iops.get(op)) * u64::from(block);
        let bytes_per_s = if *pace.rate.get(op) > 0 { *pace.rate.get(op) } else { iops };
        let poisson = pace.poisson.then(|| random::derive(seed, GAPS_TAG + op as u64));
        (bytes_per_s > 0 && spec.mix.issues(op)).then_some(RateConfig { bytes_per_s, block, poisson })
    });
    let think = (pace.thinktime_ns > 0).then(|| ThinkConfig {
        pause_ns: pace.thinktime_ns,
        spin_ns: pace.thinktime_spin_ns,
        blocks: pace.thinktime_blocks.or(if pace.thinktime_iotime_ns.is_none() { Some(1) } else { None }),
        at_issue: pace.thinktime_at_issue,
        every_ns: pace.thinktime_iotime_ns,
    });
    let flow = (pace.flow > 0).then(|| FlowConfig {
        group: Arc::clone(flows.0.entry(pace.flow_id).or_default()),
        weight: pace.flow,
        sleep_ns: pace.flow_sleep_ns,
    });
    let search = (pace.latency_target_ns > 0).then_some(SearchConfig {
        target_ns: pace.latency_target_ns,
        window_ns: pace.latency_window_ns,
        percentile: pace.latency_percentile,
        goes_on: pace.latency_run,
        depth,
    });
    let issued = |op: Op, rate: u64| if spec.mix.issues(op) { rate } else { 0 };
    let floor = FloorConfig {
        bytes_per_s: PerOp::from_fn(|op| issued(op, *pace.rate_min.get(op))),
        iops: PerOp::from_fn(|op| issued(op, u64::from(*pace.rate_iops_min.get(op)))),
        cycle_ns: pace.rate_cycle_ns,
    };
    let has_floor = floor.bytes_per_s != PerOp::default() || floor.iops != PerOp::default();
    let has_rate = rates.iter().any(|(_, rate)| rate.is_some());
    let is_paced = has_rate
        || has_floor
        || think.is_some()
        || flow.is_some()
        || search.is_some()
        || pace.thinkcycles > 0
        || pace.max_latency_ns != PerOp::default();
    is_paced.then(|| PaceConfig {
        // What verifies must be able to say afterwards which write was the how manyth.
        rates_decide: has_rate && spec.mix == Mix::ReadWrite && !plan.verifies(),
        rates,
        forgives_pauses: pace.rate_ignore_thinktime,
        think,
        cycles: pace.thinkcycles,
        flow,
        search,
        max_latency_ns: pace.max_latency_ns.clone(),
        floor: has_floor.then_some(floor),
    })
}

/// The errno that fio gives for it, and what to say.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub fn explain(missed: &Missed) -> (i32, String) {
    match *missed {
        Missed::Bandwidth { op, measured, demanded } => (
            libc::EIO,
            format!(
                "rate_min not met: {}/s of {}s measured, {}/s demanded",
                format_size(measured),
                op.name(),
                format_size(demanded)
            ),
        ),
        Missed::Iops { op, measured, demanded } => (
            libc::EIO,
            format!(
                "rate_iops_min not met: {} {}s a second measured, {} demanded",
                format_count(measured as f64),
                op.name(),
                format_count(demanded as f64)
            ),
        ),
        Missed::Latency { op, offset, took_ns, max_ns } => (
            libc::ETIMEDOUT,
            format!(
                "max_latency exceeded: a {} at offset {offset} took {}, {} demanded",
                op.name(),
                format_time_ns(took_ns as f64),
                format_time_ns(max_ns as f64)
            ),
        ),
        Missed::Target { target_ns, demanded, measured } => (
            libc::ETIMEDOUT,
            format!(
                "latency_target not met at depth 1: {measured:.2}% of the I/Os within {}, {demanded}% demanded",
                format_time_ns(target_ns as f64)
            ),
        ),
    }
}
