//! Which worker runs on which thread, and which thread on which CPU.

use crate::job::spec::CpusPolicy;

/// What matters of a worker here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// CPUs it may use, rising; never empty.
    pub cpus: Vec<u32>,
    /// Whether the job named them.
    pub chosen: bool,
    pub policy: CpusPolicy,
    /// Its engine blocks, so that it needs a thread of its own.
    pub blocking: bool,
    /// Position among the clones of its job.
    pub clone: u32,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// CPUs it is bound to; empty for wherever the kernel likes.
    pub cpus: Vec<u32>,
    /// Positions of its workers in the list of seats.
    pub workers: Vec<usize>,
}

/// Deals workers to threads: one reactor a CPU, each worker to the CPU of its set that has the
/// fewest; a thread for each worker of a blocking engine.
pub fn assign(seats: &[Seat]) -> Vec<Thread> {
    let mut threads: Vec<Thread> = Vec::new();
    // (cpu, thread) of the reactors so far.
    let mut reactors: Vec<(u32, usize)> = Vec::new();
    for (worker, seat) in seats.iter().enumerate() {
        if seat.blocking {
            let own = seat.cpus[seat.clone as usize % seat.cpus.len()];
            let cpus = match (seat.policy, seat.chosen) {
                (CpusPolicy::Split, _) => vec![own],
                (CpusPolicy::Shared, true) => seat.cpus.clone(),
                (CpusPolicy::Shared, false) => Vec::new(),
            };
            threads.push(Thread { cpus, workers: vec![worker] });
            continue;
        }
        let load = |cpu: u32| {
            reactors
                .iter()
                .find(|(other, _)| *other == cpu)
                .map_or(0, |(_, thread)| threads[*thread].workers.len())
        };
        let Some(cpu) = seat.cpus.iter().copied().min_by_key(|&cpu| load(cpu)) else { continue };
        match reactors.iter().find(|(other, _)| *other == cpu) {
            Some((_, thread)) => threads[*thread].workers.push(worker),
            None => {
                reactors.push((cpu, threads.len()));
                threads.push(Thread { cpus: vec![cpu], workers: vec![worker] });
            }
        }
    }
    threads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(cpus: &[u32], blocking: bool, clone: u32) -> Seat {
        Seat { cpus: cpus.to_vec(), chosen: true, policy: CpusPolicy::Shared, blocking, clone }
    }

    #[test]
    fn workers_spread_over_the_cpus_before_they_share_one() {
        let seats: Vec<Seat> = (0..5).map(|clone| seat(&[2, 3], false, clone)).collect();
        let threads = assign(&seats);
        assert_eq!(threads.len(), 2);
        assert_eq!(threads[0], Thread { cpus: vec![2], workers: vec![0, 2, 4] });
        assert_eq!(threads[1], Thread { cpus: vec![3], workers: vec![1, 3] });
    }

    #[test]
    fn a_worker_goes_where_it_may_and_fewest_are() {
        let threads = assign(&[seat(&[0], false, 0), seat(&[0, 1], false, 0), seat(&[0], false, 1)]);
        assert_eq!(threads[0].workers, [0, 2]);
        assert_eq!(threads[1], Thread { cpus: vec![1], workers: vec![1] });
    }

    #[test]
    fn blocking_workers_have_threads_of_their_own_and_split_gives_each_a_cpu() {
        let mut seats: Vec<Seat> = (0..3).map(|clone| seat(&[4, 5], true, clone)).collect();
        assert!(assign(&seats).iter().all(|thread| thread.cpus == [4, 5] && thread.workers.len() == 1));
        seats.iter_mut().for_each(|seat| seat.policy = CpusPolicy::Split);
        let cpus: Vec<Vec<u32>> = assign(&seats).into_iter().map(|thread| thread.cpus).collect();
        assert_eq!(cpus, [vec![4], vec![5], vec![4]]);
        seats.iter_mut().for_each(|seat| (seat.policy, seat.chosen) = (CpusPolicy::Shared, false));
        assert!(assign(&seats).iter().all(|thread| thread.cpus.is_empty()));
    }
}
