//! Which worker runs on which thread, and which thread on which CPU.

use std::collections::BTreeMap;

use crate::base::host::thread_settings::ThreadSettings;
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
    /// What its thread is to have: workers that differ in it cannot share one.
    pub settings: ThreadSettings,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// CPUs it is bound to; empty for wherever the kernel likes.
    pub cpus: Vec<u32>,
    /// Positions of its workers in the list of seats.
    pub workers: Vec<usize>,
    /// What it has.
    pub settings: ThreadSettings,
}

/// Deals workers to threads: one reactor a CPU, or as many as its workers ask for different settings, each
/// worker to the CPU of its set that has the fewest; a thread for each worker of a blocking engine.
pub fn assign(seats: &[Seat]) -> Vec<Thread> {
    let mut threads: Vec<Thread> = Vec::new();
    // (cpu, thread) of the reactors so far.
    let mut reactors: Vec<(u32, usize)> = Vec::new();
    // Workers that have a CPU to themselves as long as there are enough, whatever their job.
    let mut load: BTreeMap<u32, usize> = BTreeMap::new();
    for (worker, seat) in seats.iter().enumerate() {
        let emptiest = seat.cpus.iter().copied().min_by_key(|cpu| load.get(cpu).copied().unwrap_or(0));
        let Some(cpu) = emptiest else { continue };
        let settings = seat.settings.clone();
        if seat.blocking {
            let cpus = match (seat.policy, seat.chosen) {
                (CpusPolicy::Split, _) => {
                    *load.entry(cpu).or_default() += 1;
                    vec![cpu]
                }
                (CpusPolicy::Shared, true) => seat.cpus.clone(),
                (CpusPolicy::Shared, false) => Vec::new(),
            };
            threads.push(Thread { cpus, workers: vec![worker], settings });
            continue;
        }
        *load.entry(cpu).or_default() += 1;
        let fits = |thread: usize| threads[thread].settings == settings;
        match reactors.iter().find(|(other, thread)| *other == cpu && fits(*thread)) {
            Some((_, thread)) => threads[*thread].workers.push(worker),
            None => {
                reactors.push((cpu, threads.len()));
                threads.push(Thread { cpus: vec![cpu], workers: vec![worker], settings });
            }
        }
    }
    threads
}

/// Tells of a CPU on which two threads poll because their workers differ in what they ask for.
pub fn crowded(threads: &[Thread], seats: &[Seat]) -> Option<String> {
    let polls = |thread: &&Thread| thread.workers.iter().all(|&worker| !seats[worker].blocking);
    let cpus: Vec<u32> =
        threads.iter().filter(polls).filter_map(|thread| thread.cpus.first().copied()).collect();
    let twice = |(index, cpu): (usize, &u32)| cpus[..index].contains(cpu).then_some(*cpu);
    let cpu = cpus.iter().enumerate().find_map(twice)?;
    Some(format!(
        "CPU {cpu} is shared by several polling threads, as the jobs on it ask for different nice values, I/O priorities, \
         memory policies or names: give each CPUs of its own (cpus_allowed)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(cpus: &[u32], blocking: bool) -> Seat {
        let settings = ThreadSettings::default();
        Seat { cpus: cpus.to_vec(), chosen: true, policy: CpusPolicy::Shared, blocking, settings }
    }

    fn thread(cpus: &[u32], workers: &[usize]) -> Thread {
        Thread { cpus: cpus.to_vec(), workers: workers.to_vec(), settings: ThreadSettings::default() }
    }

    #[test]
    fn workers_spread_over_the_cpus_before_they_share_one() {
        let seats: Vec<Seat> = (0..5).map(|_| seat(&[2, 3], false)).collect();
        let threads = assign(&seats);
        assert_eq!(threads.len(), 2);
        assert_eq!(threads[0], thread(&[2], &[0, 2, 4]));
        assert_eq!(threads[1], thread(&[3], &[1, 3]));
    }

    #[test]
    fn a_worker_goes_where_it_may_and_fewest_are() {
        let threads = assign(&[seat(&[0], false), seat(&[0, 1], false), seat(&[0], false)]);
        assert_eq!(threads[0].workers, [0, 2]);
        assert_eq!(threads[1], thread(&[1], &[1]));
    }

    #[test]
    fn blocking_workers_have_threads_of_their_own_and_split_gives_each_a_cpu() {
        let mut seats: Vec<Seat> = (0..3).map(|_| seat(&[4, 5], true)).collect();
        assert!(assign(&seats).iter().all(|thread| thread.cpus == [4, 5] && thread.workers.len() == 1));
        seats.iter_mut().for_each(|seat| seat.policy = CpusPolicy::Split);
        let cpus: Vec<Vec<u32>> = assign(&seats).into_iter().map(|thread| thread.cpus).collect();
        assert_eq!(cpus, [vec![4], vec![5], vec![4]]);
        seats.iter_mut().for_each(|seat| (seat.policy, seat.chosen) = (CpusPolicy::Shared, false));
        assert!(assign(&seats).iter().all(|thread| thread.cpus.is_empty()));
    }

    #[test]
    fn split_gives_workers_of_several_jobs_a_cpu_each_while_there_are_some() {
        let mut seats =
            vec![seat(&[4, 5, 6], true), seat(&[4, 5, 6], true), seat(&[4], true), seat(&[4, 6], false)];
        seats.iter_mut().for_each(|seat| seat.policy = CpusPolicy::Split);
        let cpus: Vec<Vec<u32>> = assign(&seats).into_iter().map(|thread| thread.cpus).collect();
        assert_eq!(cpus, [vec![4], vec![5], vec![4], vec![6]]);
    }

    #[test]
    fn workers_that_ask_for_different_things_do_not_share_a_thread() {
        let mut seats: Vec<Seat> = (0..4).map(|_| seat(&[7], false)).collect();
        (seats[1].settings.nice, seats[3].settings.nice) = (5, 5);
        let threads = assign(&seats);
        assert_eq!(threads.iter().map(|thread| thread.workers.clone()).collect::<Vec<_>>(), [[0, 2], [1, 3]]);
        assert_eq!((threads[0].settings.nice, threads[1].settings.nice), (0, 5));
        assert!(crowded(&threads, &seats).is_some_and(|note| note.contains("CPU 7")));
        assert_eq!(crowded(&threads[1..], &seats), None);
    }
}
