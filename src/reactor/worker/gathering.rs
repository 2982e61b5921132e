//! Deallocates of several ranges (`num_range`): steps of the workload, gathered into one I/O.

use super::*;
use crate::engine::ranges::{TrimRange, put};

impl<Q: Queue> Worker<Q> {
    /// Prepares up to `room` deallocates, beginning with the step that is held, of as many ranges as the
    /// job says: of fewer where the workload ends. What comes back is one I/O of all their bytes.
    #[inline(never)]
    pub(super) fn gather_trims(&mut self, room: u32) {
        for _ in 0..room {
            let Some(first) = self.held.take().or_else(|| self.workload.next()) else {
                self.exhausted = true;
                return;
            };
            let Some(mut buffer) = self.free.pop() else { unreachable!("as many buffers as the depth") };
            let (mut range, mut len) = (first, 0);
            for index in 0..self.config.trim_ranges {
                put(&mut buffer, index as usize, TrimRange { offset: range.offset, len: range.len });
                len += range.len;
                if index + 1 == self.config.trim_ranges {
                    break;
                }
                let Some(next) = self.workload.next() else {
                    self.exhausted = true;
                    break;
                };
                range = next;
            }
            self.push(buffer, &Step { len, ..first });
            if self.exhausted {
                return;
            }
        }
    }
}
