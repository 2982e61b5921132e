//! Which blocks are read back, in which order: everything that was promised, once, and nothing else.

use crate::base::verify::VerifyOrder;
use crate::engine::Io;
use crate::verify::judge::Place;
use crate::workload::{Ahead, Issued, Mutations, Region, Step, WorkloadError, WorkloadSpec};

use super::checker::Frozen;

/// Bytes of a region looked through at once, in blocks, before the reactor turns on.
const SLICE_BLOCKS: u64 = 1 << 14;

/// One read to judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SweepRead {
    pub place: Place,
    pub len: u32,
}

impl SweepRead {
    /// All that an I/O reads.
    pub(super) fn all_of(io: &Io) -> SweepRead {
        SweepRead { place: Place { target: io.target, offset: io.offset }, len: io.len }
    }

    /// The whole logical blocks of `lba` bytes that have it in them: what a device can read.
    pub(super) fn in_logical_blocks(self, lba: u64) -> SweepRead {
        let lba = lba.max(1);
        let before = self.place.offset % lba;
        let offset = self.place.offset - before;
        let len = (before + u64::from(self.len)).next_multiple_of(lba);
        SweepRead { place: Place { offset, ..self.place }, len: as_len(len) }
    }

    /// Where in the buffer of an I/O, which may have read more, its bytes are.
    pub(super) fn range_in(self, io: &Io) -> std::ops::Range<usize> {
        let from = usize::try_from(self.place.offset.saturating_sub(io.offset)).unwrap_or(0);
        from..from + self.len as usize
    }
}

/// What a look for the next read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Read(SweepRead),
    /// Nothing yet: look again next turn.
    Later,
    End,
}

/// The way through the promised blocks.
#[derive(Debug)]
pub(super) struct Sweep {
    order: Order,
    block_bytes: u64,
    most_bytes: u64,
    /// Logical blocks of the targets.
    lbas: Box<[u64]>,
    /// Why it ended too soon.
    trouble: Option<String>,
}

#[derive(Debug)]
enum Order {
    Sequential { regions: Box<[Region]>, region: usize, at: u64 },
    Written { mutations: Box<Mutations>, rest: Option<(Step, u64)> },
}

impl Sweep {
    /// Reads at most `most_bytes` at a time, blocks of `block_bytes` of targets with logical blocks of `lbas`
    /// bytes.
    pub(super) fn new(
        spec: &WorkloadSpec,
        issued: Issued,
        order: VerifyOrder,
        block_bytes: u32,
        most_bytes: u32,
        lbas: Box<[u64]>,
    ) -> Result<Sweep, WorkloadError> {
        let order = match order {
            VerifyOrder::Sequential => {
                let mut regions = spec.regions.clone();
                regions.sort_by_key(|region| (region.target, region.start));
                let at = regions.first().map_or(0, |region| region.start);
                Order::Sequential { regions: regions.into(), region: 0, at }
            }
            VerifyOrder::Written => {
                Order::Written { mutations: Box::new(Mutations::new(spec, issued)?), rest: None }
            }
        };
        let block_bytes = u64::from(block_bytes);
        Ok(Sweep {
            order,
            block_bytes,
            most_bytes: (u64::from(most_bytes) / block_bytes).max(1) * block_bytes,
            lbas,
            trouble: None,
        })
    }

    /// The place before which everything has been read, by target and offset; `None` where it is not read
    /// by offset.
    pub(super) fn frontier(&self) -> Option<(u16, u64)> {
        match &self.order {
            Order::Sequential { regions, region, at } => {
                Some(regions.get(*region).map_or((u16::MAX, u64::MAX), |region| (region.target, *at)))
            }
            Order::Written { .. } => None,
        }
    }

    /// Why there are no more reads, if that is not as it should be. Told once.
    pub(super) fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The next read.
    pub(super) fn next(&mut self, frozen: &mut Frozen) -> Looked {
        let (block, most, lbas) = (self.block_bytes, self.most_bytes, &self.lbas);
        let lba = |target: u16| lbas.get(usize::from(target)).copied().unwrap_or(1).max(1);
        match &mut self.order {
            Order::Sequential { regions, region, at } => {
                let Some(here) = regions.get(*region) else { return Looked::End };
                let end = here.start + here.bytes;
                let until = at.saturating_add(SLICE_BLOCKS * block).min(end);
                let Some(touched) = frozen.next_touched(here.target, *at, until) else {
                    *at = until;
                    if until == end {
                        *region += 1;
                        *at = regions.get(*region).map_or(0, |next| next.start);
                    }
                    return Looked::Later;
                };
                *at = touched.offset + block;
                if !frozen.judges(&touched.newest) {
                    return Looked::Later;
                }
                let from = touched.offset - touched.offset % lba(here.target);
                while *at < end && *at - from < most {
                    let goes_on =
                        frozen.newest(here.target, *at).is_some_and(|newest| frozen.judges(&newest));
                    if !goes_on {
                        break;
                    }
                    *at += block;
                }
                let place = Place { target: here.target, offset: touched.offset };
                Looked::Read(SweepRead { place, len: as_len(*at - touched.offset) })
            }
            Order::Written { mutations, rest } => {
                let (step, done) = match rest.take() {
                    Some(next) => next,
                    None => match mutations.look() {
                        Ahead::Step(step) => (step, 0),
                        Ahead::Later => return Looked::Later,
                        Ahead::End => return Looked::End,
                        Ahead::Failed(why) => {
                            self.trouble = Some(why);
                            return Looked::End;
                        }
                    },
                };
                written(step, done, frozen, block, (most, lba(step.target)), rest)
            }
        }
    }
}

/// The next stretch of `step`, from byte `done` of it on, that no later mutation has touched.
fn written(
    step: Step,
    mut done: u64,
    frozen: &mut Frozen,
    block: u64,
    (most, lba): (u64, u64),
    rest: &mut Option<(Step, u64)>,
) -> Looked {
    let len = u64::from(step.len);
    let mut is_last = |done: u64| {
        frozen.newest(step.target, step.offset + done).is_some_and(|newest| {
            newest.op == step.op && newest.sequence == step.sequence && frozen.judges(&newest)
        })
    };
    while done < len && !is_last(done) {
        done += block;
    }
    let first = done;
    let before = (step.offset + first) % lba;
    while done < len && before + done - first < most && is_last(done) {
        done += block;
    }
    if done < len {
        *rest = Some((step, done));
    }
    if first >= len {
        return Looked::Later;
    }
    let place = Place { target: step.target, offset: step.offset + first };
    Looked::Read(SweepRead { place, len: as_len(done - first) })
}

fn as_len(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
