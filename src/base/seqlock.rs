//! Numbers that change together: one thread writes them, any thread reads them, and neither waits for the
//! other.
//!
//! Two copies take turns (a sequence lock with a spare copy): a write goes to the copy that holds the older
//! numbers, so that the newer ones can be read meanwhile. A writer that stops in the middle of a write, for
//! a moment or for ever, leaves its last complete write to the readers. A read has to be repeated only if
//! the writer begins two writes while it lasts, and it gives up after [`MOST_TRIES`].

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
use loom::thread::yield_now;
#[cfg(not(loom))]
use std::thread::yield_now;

/// How often a reader tries before it gives up: far more often than a live writer can be in its way, and
/// less than a second.
pub const MOST_TRIES: u32 = if cfg!(loom) { 2 } else { 10_000 };

/// Numbers that one thread writes and any thread reads.
#[derive(Debug)]
pub struct SeqLock {
    /// How many writes have begun.
    begun: AtomicU64,
    /// How many are complete. Write `n` is in copy `n % 2`; before the first both are empty.
    complete: AtomicU64,
    copies: [Copy; 2],
}

#[derive(Debug)]
struct Copy {
    len: AtomicU64,
    words: Box<[AtomicU64]>,
}

impl Copy {
    fn new(words: usize) -> Copy {
        Copy { len: AtomicU64::new(0), words: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl SeqLock {
    /// Room for `words` numbers; there are none yet.
    #[must_use]
    pub fn new(words: usize) -> SeqLock {
        SeqLock {
            begun: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            copies: [Copy::new(words), Copy::new(words)],
        }
    }

    /// Memory that one for `words` numbers takes, in bytes.
    #[must_use]
    pub const fn bytes(words: usize) -> usize {
        2 * size_of::<u64>() * words + size_of::<SeqLock>()
    }

    /// Puts `numbers` in place of those that are there; what is beyond the room is left out. Only one thread
    /// may call this. Allocates nothing.
    pub fn write(&self, numbers: impl IntoIterator<Item = u64>) {
        let number = self.begin();
        let copy = self.copy_of(number);
        let mut len = 0;
        for (word, number) in copy.words.iter().zip(numbers) {
            word.store(number, Ordering::Relaxed);
            len += 1;
        }
        copy.len.store(len, Ordering::Relaxed);
        self.complete.store(number, Ordering::Release);
    }

    /// Announces a write, and gives its number.
    #[inline]
    fn begin(&self) -> u64 {
        let number = self.begun.load(Ordering::Relaxed) + 1;
        self.begun.store(number, Ordering::Relaxed);
        // A reader that sees a word of this write sees that the write has begun.
        fence(Ordering::Release);
        number
    }

    #[inline]
    fn copy_of(&self, number: u64) -> &Copy {
        &self.copies[usize::from(!number.is_multiple_of(2))]
    }

    /// The numbers of the last complete write; `None` if the writer was in the way each time.
    #[must_use]
    pub fn read(&self) -> Option<Vec<u64>> {
        let mut numbers = Vec::new();
        for _ in 0..MOST_TRIES {
            let complete = self.complete.load(Ordering::Acquire);
            let copy = self.copy_of(complete);
            let len = usize::try_from(copy.len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            numbers.clear();
            numbers.extend(copy.words.iter().take(len).map(|word| word.load(Ordering::Relaxed)));
            fence(Ordering::Acquire);
            // The next write goes to the other copy; the one after it comes to this one.
            if self.begun.load(Ordering::Relaxed) <= complete + 1 {
                return Some(numbers);
            }
            yield_now();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn what_was_written_last_is_read_and_what_has_no_room_is_left_out() {
        let lock = SeqLock::new(3);
        assert_eq!(lock.read(), Some(vec![]));
        lock.write([7, 8]);
        assert_eq!(lock.read(), Some(vec![7, 8]));
        lock.write([1, 2, 3, 4]);
        assert_eq!(lock.read(), Some(vec![1, 2, 3]));
        lock.write([]);
        assert_eq!(lock.read(), Some(vec![]));
    }

    #[test]
    fn a_writer_that_stops_in_the_middle_of_a_write_leaves_the_last_complete_one() {
        let lock = SeqLock::new(2);
        lock.write([1, 1]);
        lock.write([2, 2]);
        // As if the thread had died with one of the two words stored.
        let number = lock.begin();
        lock.copy_of(number).words[0].store(3, Ordering::Relaxed);
        assert_eq!(lock.read(), Some(vec![2, 2]));
        assert_eq!(lock.read(), Some(vec![2, 2]), "and again");
    }

    #[test]
    fn a_reader_that_never_finds_a_complete_write_gives_up() {
        let lock = SeqLock::new(1);
        lock.write([1]);
        // Counters that no writer leaves behind: whatever spoils them, the reader comes back.
        lock.begun.store(9, Ordering::Relaxed);
        assert_eq!(lock.read(), None);
    }

    #[test]
    fn numbers_that_were_written_together_are_read_together() {
        let (lock, ended) = (Arc::new(SeqLock::new(4)), Arc::new(AtomicBool::new(false)));
        let (writer, end) = (Arc::clone(&lock), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            (1..=50_000).for_each(|number| writer.write([number; 4]));
            end.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !ended.load(Ordering::Acquire) {
            let Some(numbers) = lock.read() else { continue };
            let first = numbers.first().copied().unwrap_or(0);
            assert!(
                numbers.iter().all(|&number| number == first) && first >= last,
                "{numbers:?} after {last}"
            );
            last = first;
        }
        thread.join().unwrap();
        assert_eq!(lock.read(), Some(vec![50_000; 4]));
    }
}
