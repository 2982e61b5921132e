//! Sets of error numbers, small enough to be copied along with a worker's options.

/// Error numbers from 1 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrnoSet([u64; 4]);

impl ErrnoSet {
    /// The largest number it can hold.
    pub const MOST: i32 = 255;

    /// Adds a number; false if it is not one from 1 to [`MOST`](ErrnoSet::MOST).
    pub fn insert(&mut self, errno: i32) -> bool {
        match usize::try_from(errno) {
            Ok(number) if (1..=255).contains(&number) => {
                self.0[number / 64] |= 1 << (number % 64);
                true
            }
            _ => false,
        }
    }

    /// Whether the number is in it.
    #[must_use]
    pub fn contains(&self, errno: i32) -> bool {
        let word = usize::try_from(errno).ok().and_then(|number| self.0.get(number / 64));
        word.is_some_and(|word| word >> (errno % 64) & 1 == 1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The numbers, rising.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        (1..=ErrnoSet::MOST).filter(|&errno| self.contains(errno))
    }
}

/// fio's `ignore_error`: of which errors a worker goes on, where that is said by their numbers. An empty
/// set says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListedErrors {
    /// Of reads.
    pub read: ErrnoSet,
    /// Of writes, trims and flushes.
    pub write: ErrnoSet,
    /// Of verification: its only error is EILSEQ.
    pub verify: bool,
}

impl ListedErrors {
    /// The set that counts for a command.
    #[must_use]
    pub fn of(&self, op: super::Op) -> &ErrnoSet {
        if op == super::Op::Read { &self.read } else { &self.write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut set = ErrnoSet::default();
        assert!(set.is_empty() && !set.contains(0) && !set.contains(-5) && !set.contains(1 << 20));
        assert!([5, 28, 64, 122, 255].into_iter().all(|errno| set.insert(errno)));
        assert!([0, -1, 256].into_iter().all(|errno| !set.insert(errno)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [5, 28, 64, 122, 255]);
    }
}
