//! The sequence lock of the program under loom, which runs every order of its loads and stores that the memory
//! model allows: `ci/loom`.
#![cfg(loom)]

#[path = "../../src/base/seqlock.rs"]
pub mod seqlock;

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use crate::seqlock::SeqLock;

    /// What was written together: all words have the same number.
    fn number(read: Option<Vec<u64>>) -> Option<u64> {
        let numbers = read?;
        let first = numbers.first().copied().unwrap_or(0);
        assert!(numbers.iter().all(|&number| number == first), "torn: {numbers:?}");
        Some(first)
    }

    #[test]
    fn no_read_is_torn_and_none_is_older_than_the_one_before() {
        loom::model(|| {
            let lock = Arc::new(SeqLock::new(2));
            let writer = Arc::clone(&lock);
            let thread = thread::spawn(move || (1..=3).for_each(|number| writer.write([number; 2])));
            let (first, second) = (number(lock.read()), number(lock.read()));
            if let (Some(first), Some(second)) = (first, second) {
                assert!(second >= first, "{second} after {first}");
            }
            thread.join().unwrap();
            assert_eq!(number(lock.read()), Some(3));
        });
    }

    #[test]
    fn a_read_beside_one_write_never_gives_up() {
        loom::model(|| {
            let lock = Arc::new(SeqLock::new(2));
            lock.write([1, 1]);
            let writer = Arc::clone(&lock);
            let thread = thread::spawn(move || writer.write([2, 2]));
            assert!(number(lock.read()).is_some_and(|number| number == 1 || number == 2));
            thread.join().unwrap();
        });
    }
}
