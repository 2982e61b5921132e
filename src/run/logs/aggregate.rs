//! `--bandwidth-log`: the bandwidth of all jobs together.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use crate::base::clock::Clock;
use crate::base::{Op, PerOp};
use crate::reactor::{Live, WorkerState};
use crate::report::iolog;

use super::super::plan::JobPlan;
use super::{Shared, locked, open_beside};

/// Three files, one for each direction, with a line each interval.
pub struct Aggregate {
    files: PerOp<Shared>,
    interval_ns: u64,
    /// When the run began.
    origin_ns: u64,
    /// The last look at the stage, and what it had moved then.
    last: Option<(u64, PerOp<u64>)>,
}

impl Aggregate {
    /// Opens `NAME-read_bw.log` and its like.
    pub fn open(name: &str, plans: &[JobPlan], targets: &HashSet<PathBuf>) -> Result<Aggregate, String> {
        let open = |op: Op| {
            let path = format!("{name}-{}_bw.log", op.name());
            open_beside(Path::new(&path), targets, false, false)
        };
        let files = PerOp { read: open(Op::Read)?, write: open(Op::Write)?, trim: open(Op::Deallocate)? };
        files.iter().for_each(|(_, file)| locked(file).begin());
        let intervals = plans.iter().map(|plan| plan.spec.logs.report_bandwidth_ns());
        Ok(Aggregate {
            files,
            interval_ns: intervals.min().unwrap_or(u64::MAX),
            origin_ns: Clock::get().now_ns(),
            last: None,
        })
    }

    /// A stage begins.
    pub fn begin(&mut self, now_ns: u64) {
        self.last = Some((now_ns, PerOp::default()));
    }

    /// Writes a line for each direction if it is time. As in fio, nothing is while a job is in its ramp.
    pub fn look<'a>(&mut self, live: impl Iterator<Item = &'a Live> + Clone, now_ns: u64, ends: bool) {
        let Some((last_ns, before)) = &self.last else { return };
        let length_ns = now_ns.saturating_sub(*last_ns);
        if length_ns < self.interval_ns && !ends || length_ns == 0 {
            return;
        }
        let now = PerOp::from_fn(|op| live.clone().map(|live| live.bytes.get(op).load(Relaxed)).sum::<u64>());
        if !live.clone().any(|live| live.state() == WorkerState::Ramping) {
            for (op, file) in self.files.iter() {
                // Where a ramp ended in between, counts began anew.
                let (now, before) = (*now.get(op), *before.get(op));
                let rate = iolog::kib_a_second(now.checked_sub(before).unwrap_or(now), length_ns);
                let time_ns = now_ns.saturating_sub(self.origin_ns);
                let mut file = locked(file);
                file.add(|out| iolog::aggregate(time_ns, rate, op, out));
                file.flush();
            }
        }
        self.last = Some((now_ns, now));
    }

    /// What went wrong.
    pub fn end(&mut self) -> Vec<String> {
        let ended = self.files.iter().filter_map(|(_, file)| {
            let mut file = locked(file);
            file.end();
            file.take_trouble()
        });
        ended.collect()
    }
}
