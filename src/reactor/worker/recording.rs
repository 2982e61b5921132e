//! Writing down what is issued (`write_iolog`). Nothing is left out: where who writes it down is behind,
//! the worker waits.

use super::*;
use crate::base::replay::Recorded;

impl<Q: Queue> Worker<Q> {
    /// [`prepare`](Self::prepare), and what it prepared is written down.
    #[inline(never)]
    pub(super) fn prepare_recorded(&mut self, room: u32) {
        let Some(recorder) = &mut self.recorder else { return };
        let room = room.min(u32::try_from(recorder.room()).unwrap_or(u32::MAX));
        let from = self.batch.len();
        self.prepare(room);
        let now_ns = self.clock.now_ns();
        let Some(recorder) = &mut self.recorder else { return };
        for io in &self.batch[from..] {
            // What the verification reads back is no part of the workload.
            let own = self.verification.as_ref().is_some_and(|verification| verification.is_own(io));
            if !own {
                recorder.record(now_ns, recorded(io));
            }
        }
    }

    /// Whether a flush can be written down.
    pub(super) fn has_room_to_record(&mut self) -> bool {
        self.recorder.as_mut().is_none_or(|recorder| recorder.room() > 0)
    }

    /// Writes down the newest I/O of the batch.
    #[cold]
    pub(super) fn record_newest(&mut self) {
        let now_ns = self.now_ns;
        if let (Some(recorder), Some(io)) = (&mut self.recorder, self.batch.last()) {
            recorder.record(now_ns, recorded(io));
        }
    }
}

fn recorded(io: &Io) -> Recorded {
    let Io { offset, len, target, op, data_only, .. } = *io;
    Recorded { time_ns: 0, offset, len, target, op, data_only }
}
