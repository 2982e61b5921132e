//! What verdicts rest on is said before the run, in the report and in the snapshot; and where it does not hold,
//! nothing that hangs on it is held against a drive.

#![allow(clippy::unwrap_used, reason = "a trial that cannot be set up has nothing to say")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fio_spdk::base::host::affinity;
use fio_spdk::base::premises::{Flushes, Premises};
use fio_spdk::base::verify::Verdict;
use fio_spdk::engine::sim;
use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::report::exit::ended_code;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use fio_spdk::verify::snapshot::Snapshot;

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Observer for Heard {
    fn note(&mut self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

/// A directory with a simulated drive and a snapshot.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        Lab { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs one job with the lines of `more` on the drive; what was said before it ended, and its report.
    fn run(&self, more: &str) -> (Vec<String>, Report) {
        let drive = self.path("drive");
        let text = format!(
            "[[job]]\nname = \"j\"\nioengine = \"sim\"\nfilename = \"{}\"\nsize = \"256k\"\nbs = \"4k\"\n\
             io_size = \"1g\"\nrw = \"randwrite\"\nrandseed = 1\nverify = \"crc32c\"\nfsync = 10\ndo_verify = \
             false\n{more}\n",
            drive.display()
        );
        let heard = Heard::default();
        let jobs =
            job::parse(&[("premises.toml".to_owned(), text)], &[]).unwrap_or_else(|why| panic!("{why}"));
        let options = RunOptions { state: Some(self.path("j.state")), ..RunOptions::default() };
        let ended = run::execute(jobs, &options, &Requests::default(), &mut heard.clone());
        let report = ended.unwrap_or_else(|why| panic!("{why}")).report;
        let notes = heard.0.lock().unwrap().clone();
        (notes, report)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::decode(&std::fs::read(self.path("j.state")).unwrap()).unwrap()
    }

    /// Changes what the snapshot says of the premises.
    fn change(&self, how: impl Fn(&mut Premises)) {
        let mut snapshot = self.snapshot();
        snapshot
            .jobs
            .iter_mut()
            .flat_map(|job| &mut job.targets)
            .for_each(|target| how(&mut target.premises));
        std::fs::write(self.path("j.state"), snapshot.encode()).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        sim::forget(self.path("drive").display().to_string());
    }
}

fn lost(report: &Report) -> u64 {
    let tallies = report.jobs.iter().filter_map(|job| job.verify.as_ref());
    tallies.map(|tally| tally.violations()).sum()
}

/// A cut of a drive that loses what it has flushed: what a drive looks like whose flushes the kernel drops.
const CUT: &str = "sim_faults = { lying_flush = 1.0 }\ntrigger_ios = 200";

#[test]
fn a_verifying_job_says_its_premises_at_the_start_in_the_report_and_in_the_snapshot() {
    let lab = Lab::new();
    let (heard, report) = lab.run("sim_atomic_unit = \"8k\"\ntrigger_ios = 200");
    let line = "cache on (sim_cache); flushes reach the drive (sent as commands); aligned units of 8 KiB whole \
                (sim_atomic_unit); deallocated blocks read zeros (simulated); power-loss protection not reported";
    let said: Vec<&String> = heard.iter().filter(|note| note.contains("premises: ")).collect();
    assert_eq!(said.len(), 1, "{heard:?}");
    assert!(said[0].ends_with(&format!("premises: {line}")), "{said:?}");
    assert_eq!(report.targets[0].premises.as_ref().unwrap().line(), line);
    let premises = &lab.snapshot().jobs[0].targets[0].premises;
    assert_eq!((premises.volatile_cache, premises.flushes), (Some(true), Flushes::Command));
    assert_eq!(premises.atomic.unit_bytes, 8192);
}

#[test]
fn what_flushes_made_durable_is_not_demanded_if_they_did_not_reach_the_drive() {
    for (policy, demands) in [("auto", false), ("fsynced", false), ("completed", true)] {
        let lab = Lab::new();
        lab.run(CUT);
        let judging = format!("verify_state_load = true\nverify_policy = \"{policy}\"");
        // The drive is at fault, as long as the flushes reached it.
        let (_, report) = lab.run(&judging);
        assert!(lost(&report) > 0, "{policy}");
        assert_eq!(ended_code(&report, None), 1);
        lab.change(|premises| premises.flushes = Flushes::Dropped);
        let (_, report) = lab.run(&judging);
        assert_eq!(
            (lost(&report) > 0, ended_code(&report, None)),
            (demands, if demands { 1 } else { 5 }),
            "{policy}"
        );
        let why = "queue/write_cache is \"write through\"";
        let says = |text: &String| text.contains(why);
        assert!(demands || report.notes.iter().any(says), "{:?}", report.notes);
        let doubts = &report.jobs[0].verify.as_ref().unwrap().doubts;
        assert!(demands || doubts.keys().any(says), "{doubts:?}");
    }
}

#[test]
fn what_was_promised_under_a_cache_that_changed_is_not_demanded() {
    let lab = Lab::new();
    lab.run(CUT);
    lab.change(|premises| premises.broken = "the write cache changed while the job ran".to_owned());
    let (_, report) = lab.run("verify_state_load = true");
    assert_eq!((lost(&report), ended_code(&report, None)), (0, 5));
    assert!(report.notes.iter().any(|note| note.contains("changed while the job ran")), "{:?}", report.notes);
    assert!(report.targets[0].premises.as_ref().unwrap().line().contains("BROKEN"));
}

#[test]
fn a_flush_of_one_worker_is_demanded_of_all_on_the_drive() {
    for (lies, code) in [(false, 0), (true, 1)] {
        let lab = Lab::new();
        let drive = lab.path("drive");
        // Only the second job flushes.
        let text = |more: &str| {
            let faults = if lies && more.is_empty() {
                "sim_faults = { lying_flush = 1.0 }\ntrigger_ios = 2000"
            } else {
                more
            };
            let faults = if faults.is_empty() { "trigger_ios = 2000" } else { faults };
            format!(
                "[global]\nioengine = \"sim\"\nfilename = \"{}\"\nsize = \"64k\"\nbs = \"4k\"\nio_size = \
                 \"1g\"\nrw = \"randwrite\"\nrandseed = 1\nverify = \"crc32c\"\ndo_verify = false\n{faults}\n\
                 [[job]]\nname = \"a\"\n[[job]]\nname = \"b\"\noffset = \"64k\"\nfsync = 5\n",
                drive.display()
            )
        };
        let run = |more: &str| {
            let jobs = job::parse(&[("two.toml".to_owned(), text(more))], &[]);
            let mut jobs = jobs.unwrap_or_else(|why| panic!("{why}"));
            // On one thread they take turns.
            let cpu = affinity::available().unwrap()[0];
            jobs.iter_mut().for_each(|job| job.cpus_allowed = Some(vec![cpu]));
            let options = RunOptions { state: Some(lab.path("j.state")), ..RunOptions::default() };
            let ended = run::execute(jobs, &options, &Requests::default(), &mut Heard::default());
            ended.unwrap_or_else(|why| panic!("{why}")).report
        };
        run("");
        let report = run("verify_state_load = true");
        let demanded: Vec<u64> =
            report.jobs.iter().map(|job| job.verify.as_ref().unwrap().demanded).collect();
        assert!(demanded.iter().all(|&demanded| demanded > 0), "{demanded:?}");
        assert_eq!(ended_code(&report, None), code, "{report:#?}");
    }
}

#[test]
fn damage_is_found_whatever_became_of_flushes() {
    let lab = Lab::new();
    lab.run("sim_faults = { bit_flip = 0.2 }\ntrigger_ios = 200");
    lab.change(|premises| premises.flushes = Flushes::Dropped);
    let (_, report) = lab.run("verify_state_load = true");
    let corrupt: u64 = report.jobs.iter().map(|job| job.verify.as_ref().unwrap().of(Verdict::Corrupt)).sum();
    assert!(corrupt > 0 && ended_code(&report, None) == 1);
}

#[test]
fn a_drive_below_a_path_that_drops_flushes_is_never_accused() {
    for seed in 0..10 {
        let lab = Lab::new();
        let drive = format!("sim_path_flushes = false\nsim_seed = {seed}\n");
        let (heard, _) = lab.run(&format!("{drive}trigger_ios = {}", 200 + seed));
        assert!(heard.iter().any(|note| note.contains("flushes do NOT reach the drive")), "{heard:?}");
        let (_, report) = lab.run(&format!("{drive}verify_state_load = true"));
        let tally = report.jobs[0].verify.as_ref().unwrap();
        assert_eq!(lost(&report), 0, "{tally:#?}");
        assert_eq!((tally.demanded, ended_code(&report, None)), (0, 5), "{tally:#?}");
        assert!(tally.of(Verdict::AllowedLoss) > 0, "{tally:#?}");
    }
}
