//! What an I/O does, and tables with one entry for each kind that carries data.

/// The command of one I/O, in NVMe's words. fio's name for `Deallocate` is trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Device to buffer.
    Read = 0,
    /// Buffer to device.
    Write = 1,
    /// Tell the device that a range is no longer needed (NVMe Dataset Management, ATA TRIM).
    Deallocate = 2,
    /// Make completed writes durable (NVMe Flush, fsync).
    Flush = 3,
}

impl Op {
    /// The three commands that a workload addresses to blocks, in the order of reports.
    pub const ADDRESSED: [Op; 3] = [Op::Read, Op::Write, Op::Deallocate];

    /// fio's name: `read`, `write`, `trim`, `sync`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Deallocate => "trim",
            Op::Flush => "sync",
        }
    }

    /// Whether the command changes what stands on the device.
    #[must_use]
    pub const fn modifies(self) -> bool {
        matches!(self, Op::Write | Op::Deallocate)
    }
}

/// One value for reads, one for writes, one for trims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerOp<T> {
    /// For reads.
    pub read: T,
    /// For writes.
    pub write: T,
    /// For trims.
    pub trim: T,
}

impl<T> PerOp<T> {
    /// The same value three times.
    pub fn all(value: T) -> Self
    where
        T: Clone,
    {
        PerOp { read: value.clone(), write: value.clone(), trim: value }
    }

    /// A value made for each command.
    pub fn from_fn(mut make: impl FnMut(Op) -> T) -> Self {
        PerOp { read: make(Op::Read), write: make(Op::Write), trim: make(Op::Deallocate) }
    }

    /// The value for `op`. A flush carries no data and counts as a write here.
    pub fn get(&self, op: Op) -> &T {
        match op {
            Op::Read => &self.read,
            Op::Write | Op::Flush => &self.write,
            Op::Deallocate => &self.trim,
        }
    }

    /// The value for `op`, to change it. A flush counts as a write here.
    pub fn get_mut(&mut self, op: Op) -> &mut T {
        match op {
            Op::Read => &mut self.read,
            Op::Write | Op::Flush => &mut self.write,
            Op::Deallocate => &mut self.trim,
        }
    }

    /// The three values with their commands, in the order of reports.
    pub fn iter(&self) -> impl Iterator<Item = (Op, &T)> {
        [(Op::Read, &self.read), (Op::Write, &self.write), (Op::Deallocate, &self.trim)].into_iter()
    }

    /// The three values, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Op, &mut T)> {
        [(Op::Read, &mut self.read), (Op::Write, &mut self.write), (Op::Deallocate, &mut self.trim)]
            .into_iter()
    }
}
