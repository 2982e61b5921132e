//! Counts and histograms.

use super::{Reader, few, small};
use crate::base::ioprio::IoPriority;
use crate::base::{Op, Status};
use crate::remote::wire::bench;
use crate::stats::{
    BatchCounts, BlockCounts, BlockState, ByPriority, DepthFound, ErrorCount, Histogram, HistogramParts,
    LatencyStats, OpStats, WorkerStats,
};

/// Different ends that blocks came to.
const MOST_BLOCK_COUNTS: usize = 1 << 20;
/// Linux's error numbers end here.
const MOST_ERRNO: i32 = 4095;

pub(super) fn to(stats: &WorkerStats) -> bench::WorkerStats {
    bench::WorkerStats {
        read: Some(op_to(&stats.ops.read)),
        write: Some(op_to(&stats.ops.write)),
        trim: Some(op_to(&stats.ops.trim)),
        flush: histogram_to(&stats.flush),
        depth_at_submit: stats.depth_at_submit.to_vec(),
        batch_submit: stats.batch_submit.levels().to_vec(),
        batch_complete: stats.batch_complete.levels().to_vec(),
        busy_turns: stats.busy_turns,
        idle_turns: stats.idle_turns,
        start_ns: stats.start_ns,
        end_ns: stats.end_ns,
        depth_found: stats
            .depth_found
            .map(|found| bench::DepthFound { depth: found.depth, is_settled: found.is_settled }),
        by_priority: stats.by_priority.as_ref().map(|all| by_priority_to(all)),
        blocks: stats.blocks.as_ref().map(|all| blocks_to(all)),
        errors: stats.errors().map(error_to).collect(),
        paused_ns: stats.paused_ns,
    }
}

pub(super) fn from(stats: Option<&bench::WorkerStats>, reader: &mut Reader) -> Result<WorkerStats, String> {
    let mut made = WorkerStats::default();
    let Some(stats) = stats else { return Ok(made) };
    for (op, theirs) in [(Op::Read, &stats.read), (Op::Write, &stats.write), (Op::Deallocate, &stats.trim)] {
        if let Some(theirs) = theirs {
            *made.ops.get_mut(op) = op_from(theirs, reader)?;
        }
    }
    made.flush = histogram_from(stats.flush.as_ref(), reader)?;
    made.depth_at_submit = levels_from(&stats.depth_at_submit, reader)?;
    made.batch_submit = BatchCounts::from_levels(levels_from(&stats.batch_submit, reader)?);
    made.batch_complete = BatchCounts::from_levels(levels_from(&stats.batch_complete, reader)?);
    made.busy_turns = reader.count(stats.busy_turns)?;
    made.idle_turns = reader.count(stats.idle_turns)?;
    (made.start_ns, made.end_ns, made.paused_ns) = (stats.start_ns, stats.end_ns, stats.paused_ns);
    // How long it took is added up.
    reader.time(made.runtime_ns())?;
    made.depth_found =
        stats.depth_found.map(|found| DepthFound { depth: found.depth, is_settled: found.is_settled });
    if let Some(all) = &stats.by_priority {
        made.by_priority = Some(Box::new(by_priority_from(all, reader)?));
    }
    if let Some(all) = &stats.blocks {
        made.blocks = Some(Box::new(blocks_from(all, reader)?));
    }
    // More kinds of errors than here are counted apart are refused there.
    let errors = stats.errors.iter().take(1000).map(|error| error_from(error, reader));
    made.set_errors(&errors.collect::<Result<Vec<_>, _>>()?)?;
    Ok(made)
}

/// Levels that only a newer version has count for the last one here.
fn levels_from<const N: usize>(counts: &[u64], reader: &mut Reader) -> Result<[u64; N], String> {
    let mut levels = [0; N];
    for (index, &count) in counts.iter().enumerate() {
        levels[index.min(N - 1)] += reader.count(count)?;
    }
    Ok(levels)
}

fn op_to(stats: &OpStats) -> bench::OpStats {
    bench::OpStats {
        ios: stats.ios,
        bytes: stats.bytes,
        failed: stats.failed,
        short_ios: stats.short_ios,
        slat: histogram_to(&stats.latency.slat),
        clat: histogram_to(&stats.latency.clat),
        lat: histogram_to(&stats.latency.lat),
        response: histogram_to(&stats.latency.response),
        unmeasured: stats.unmeasured,
    }
}

fn op_from(stats: &bench::OpStats, reader: &mut Reader) -> Result<OpStats, String> {
    Ok(OpStats {
        ios: reader.count(stats.ios)?,
        bytes: reader.count(stats.bytes)?,
        failed: reader.count(stats.failed)?,
        short_ios: reader.count(stats.short_ios)?,
        unmeasured: reader.count(stats.unmeasured)?,
        latency: LatencyStats {
            slat: histogram_from(stats.slat.as_ref(), reader)?,
            clat: histogram_from(stats.clat.as_ref(), reader)?,
            lat: histogram_from(stats.lat.as_ref(), reader)?,
            response: histogram_from(stats.response.as_ref(), reader)?,
        },
    })
}

/// None where nothing was counted.
fn histogram_to(histogram: &Histogram) -> Option<bench::Histogram> {
    let parts = histogram.to_parts();
    let (buckets, counts) = parts.buckets.iter().copied().unzip();
    (histogram.count() > 0).then(|| bench::Histogram {
        buckets,
        counts,
        min_ns: parts.min_ns,
        max_ns: parts.max_ns,
        sum_ns: Some(wide_to(parts.sum_ns)),
        sum_of_squares: parts.sum_of_squares,
    })
}

fn histogram_from(histogram: Option<&bench::Histogram>, reader: &mut Reader) -> Result<Histogram, String> {
    reader.histograms_left =
        reader.histograms_left.checked_sub(1).ok_or("it has more histograms than its jobs can have")?;
    let Some(histogram) = histogram else { return Ok(Histogram::default()) };
    if histogram.buckets.len() != histogram.counts.len() {
        return Err("a histogram has another number of counts than of buckets".to_owned());
    }
    let pairs = histogram.buckets.iter().copied().zip(histogram.counts.iter().copied());
    let made = Histogram::from_parts(&HistogramParts {
        buckets: pairs.collect(),
        min_ns: histogram.min_ns,
        max_ns: histogram.max_ns,
        sum_ns: wide_from(histogram.sum_ns.as_ref()),
        sum_of_squares: histogram.sum_of_squares,
    })?;
    reader.count(made.count())?;
    Ok(made)
}

/// A number of 128 bits.
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
pub(super) fn wide_to(number: u128) -> bench::Uint128 {
    bench::Uint128 { high: (number >> 64) as u64, low: number as u64 }
}

pub(super) fn wide_from(number: Option<&bench::Uint128>) -> u128 {
    number.map_or(0, |number| u128::from(number.high) << 64 | u128::from(number.low))
}

fn op_number(op: Op) -> i32 {
    let op = match op {
        Op::Read => bench::Op::Read,
        Op::Write => bench::Op::Write,
        Op::Deallocate => bench::Op::Trim,
        Op::Flush => bench::Op::Flush,
    };
    op.into()
}

/// `None` for a command that only a newer version has.
fn op_of(number: i32) -> Option<Op> {
    match bench::Op::try_from(number) {
        Ok(bench::Op::Read) => Some(Op::Read),
        Ok(bench::Op::Write) => Some(Op::Write),
        Ok(bench::Op::Trim) => Some(Op::Deallocate),
        Ok(bench::Op::Flush) => Some(Op::Flush),
        Ok(bench::Op::Unknown) | Err(_) => None,
    }
}

fn by_priority_to(all: &ByPriority) -> bench::ByPriority {
    let one = |(op, priority, clat): (Op, IoPriority, &Histogram)| bench::PriorityLatency {
        op: op_number(op),
        priority: u32::from(priority.0),
        clat: histogram_to(clat),
    };
    bench::ByPriority { latencies: all.entries().map(one).collect() }
}

fn by_priority_from(all: &bench::ByPriority, reader: &mut Reader) -> Result<ByPriority, String> {
    let mut entries = Vec::new();
    for one in &all.latencies {
        let Some(op) = op_of(one.op) else {
            reader.note(
                "latencies by priority of a command that this version does not know are left out".into(),
            );
            continue;
        };
        let priority = IoPriority(small("an I/O priority", one.priority)?);
        // Each is looked for among all others.
        few("I/O priorities", entries.len(), 1000)?;
        entries.push((op, priority, histogram_from(one.clat.as_ref(), reader)?));
    }
    Ok(ByPriority::from_entries(entries))
}

fn blocks_to(all: &BlockCounts) -> bench::BlockCounts {
    let one = |(state, trims, blocks): (BlockState, u32, u64)| {
        let state = match state {
            BlockState::Untouched => bench::BlockState::Untouched,
            BlockState::Trimmed => bench::BlockState::Trimmed,
            BlockState::TrimFailed => bench::BlockState::TrimFailed,
            BlockState::WriteFailed => bench::BlockState::WriteFailed,
        };
        bench::BlockCount { state: state.into(), trims, blocks }
    };
    bench::BlockCounts { counts: all.entries().map(one).collect() }
}

fn blocks_from(all: &bench::BlockCounts, reader: &mut Reader) -> Result<BlockCounts, String> {
    few("counts of blocks", all.counts.len(), MOST_BLOCK_COUNTS)?;
    let mut entries = Vec::new();
    for one in &all.counts {
        let state = match bench::BlockState::try_from(one.state) {
            Ok(bench::BlockState::Untouched) => BlockState::Untouched,
            Ok(bench::BlockState::Trimmed) => BlockState::Trimmed,
            Ok(bench::BlockState::TrimFailed) => BlockState::TrimFailed,
            Ok(bench::BlockState::WriteFailed) => BlockState::WriteFailed,
            Ok(bench::BlockState::Unknown) | Err(_) => {
                reader.note("blocks that ended as this version does not know are left out".to_owned());
                continue;
            }
        };
        entries.push((state, one.trims, reader.count(one.blocks)?));
    }
    BlockCounts::from_entries(entries)
}

fn error_to(error: &ErrorCount) -> bench::ErrorCount {
    let nvme = error.status.nvme().map(|(code_type, code, do_not_retry)| bench::NvmeStatus {
        code_type: u32::from(code_type),
        code: u32::from(code),
        do_not_retry,
    });
    bench::ErrorCount {
        op: op_number(error.op),
        status: Some(bench::Status { errno: error.status.errno(), nvme, text: error.status.to_string() }),
        count: error.count,
        first_offset: error.first_offset,
    }
}

fn error_from(error: &bench::ErrorCount, reader: &mut Reader) -> Result<ErrorCount, String> {
    let count = reader.count(error.count)?;
    let op = op_of(error.op).unwrap_or_else(|| {
        let note = "errors of a command that this version does not know are told as those of writes";
        reader.note(note.to_owned());
        Op::Write
    });
    let status = error.status.as_ref().ok_or("an error without its status")?;
    let status = match &status.nvme {
        Some(nvme) if nvme.code_type < 8 => {
            let code_type = small("a status code type", nvme.code_type)?;
            Status::from_nvme(code_type, small("a status code", nvme.code)?, nvme.do_not_retry)
        }
        Some(nvme) => return Err(format!("an error has the status code type {}", nvme.code_type)),
        None if (1..=MOST_ERRNO).contains(&status.errno) => Status::from_errno(status.errno),
        None => return Err(format!("an error has the number {}", status.errno)),
    };
    if status.is_ok() {
        return Err("an error whose status is success".to_owned());
    }
    Ok(ErrorCount { op, status, count, first_offset: error.first_offset })
}
