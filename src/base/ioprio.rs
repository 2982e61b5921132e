//! Which I/O priority a command carries (fio: `cmdprio_percentage`, `cmdprio_bssplit`): a function of the
//! command, its length and its number, so that who sends it and who counts it need not tell each other.

use super::{Op, PerOp, random};

/// Classes as the kernel numbers them (linux/ioprio.h).
pub const CLASS_RT: u16 = 1;
/// Highest level.
pub const MAX_LEVEL: u16 = 7;
/// Highest hint.
pub const MAX_HINT: u16 = 1023;

/// An I/O priority as the kernel writes it: class, hint and level. 0 is that of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoPriority(pub u16);

impl IoPriority {
    /// The priority of `class` (0 to 3), `level` (0 to 7) and `hint` (0 to 1023).
    #[must_use]
    pub const fn new(class: u16, level: u16, hint: u16) -> IoPriority {
        IoPriority((class & 7) << 13 | (hint & MAX_HINT) << 3 | level & MAX_LEVEL)
    }

    /// 1 real time, 2 best effort, 3 idle.
    #[must_use]
    pub const fn class(self) -> u16 {
        self.0 >> 13
    }

    /// From 0, the highest, to 7.
    #[must_use]
    pub const fn level(self) -> u16 {
        self.0 & MAX_LEVEL
    }

    /// What the device is told beside it.
    #[must_use]
    pub const fn hint(self) -> u16 {
        self.0 >> 3 & MAX_HINT
    }
}

/// A share of the commands of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityShare {
    /// Length in bytes; 0 for any.
    pub bytes: u32,
    /// Percent of the commands of this length.
    pub percent: u32,
    /// What they carry.
    pub priority: IoPriority,
}

/// Which commands carry which priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandPriorities {
    /// Shares, of one length at most 100 percent.
    pub shares: PerOp<Vec<PriorityShare>>,
    /// That of the thread, which the others carry; 0 where it has none of its own.
    pub usual: IoPriority,
    /// What is drawn comes from it.
    pub seed: u64,
}

impl CommandPriorities {
    /// Whether no command carries any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.iter().all(|(_, shares)| shares.is_empty())
    }

    /// The priority of the command `op` of `len` bytes that is number `sequence`.
    #[inline]
    #[must_use]
    pub fn of(&self, op: Op, len: u32, sequence: u64) -> IoPriority {
        if op == Op::Flush {
            return IoPriority::default();
        }
        let bits = random::at(self.seed ^ (op as u64) << 60, sequence);
        let mut drawn = random::below(bits, 100);
        for share in self.shares.get(op).iter().filter(|share| share.bytes == 0 || share.bytes == len) {
            match drawn.checked_sub(u64::from(share.percent)) {
                None => return share.priority,
                Some(left) => drawn = left,
            }
        }
        self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_has_the_bits_of_the_kernel() {
        let priority = IoPriority::new(CLASS_RT, 3, 5);
        assert_eq!(priority.0, 1 << 13 | 5 << 3 | 3);
        assert_eq!((priority.class(), priority.level(), priority.hint()), (1, 3, 5));
    }

    #[test]
    fn commands_carry_their_shares_of_priorities() {
        let share = |bytes, percent, level| PriorityShare {
            bytes,
            percent,
            priority: IoPriority::new(CLASS_RT, level, 0),
        };
        let mut rule = CommandPriorities::default();
        assert!(rule.is_empty());
        rule.shares.read = vec![share(4096, 20, 0), share(4096, 30, 1), share(8192, 100, 2)];
        let count = |op, len, level| {
            let wanted = IoPriority::new(CLASS_RT, level, 0);
            (0..10_000).filter(|&k| rule.of(op, len, k) == wanted).count()
        };
        assert!((1850..2150).contains(&count(Op::Read, 4096, 0)));
        assert!((2850..3150).contains(&count(Op::Read, 4096, 1)));
        assert_eq!(count(Op::Read, 8192, 2), 10_000);
        assert!((0..100).all(|k| rule.of(Op::Read, 512, k).0 == 0 && rule.of(Op::Write, 4096, k).0 == 0));
    }
}
