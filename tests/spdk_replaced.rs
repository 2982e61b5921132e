//! Another drive at the address of a controller that SPDK drives: in a later stage, after a reset, and when it comes
//! back in a campaign. The made-up SPDK of the feature `spdk-fake` puts it there.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use fio_spdk::job;
use fio_spdk::report::Report;
use fio_spdk::run::{self, Observer, Progress, Requests, RunOptions};
use spdk_sys::fake::{Drive, Knob};

struct Silent;

impl Observer for Silent {
    fn note(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn so_far(&mut self, _: &Report) {}
}

#[test]
fn a_run_whose_drive_is_replaced_in_a_reset_is_refused_as_unsafe() {
    let id = "trtype=PCIe traddr=0000:0d:00.0 ns=1";
    let drive = Drive::at("trtype=PCIe traddr=0000:0d:00.0").unwrap();
    let toml = format!(
        "[global]\nioengine = \"spdk\"\nfilename = \"{id}\"\nrw = \"randwrite\"\nbs = \"4k\"\nsize = \"1m\"\n\
         time_based = true\ncommand_timeout = \"60s\"\ntimeout_action = \"reset\"\n\
         [[job]]\nruntime = \"10m\"\n[[job]]\nstonewall = true\nruntime = \"10m\"\n"
    );
    let jobs = job::parse(&[("jobs".to_owned(), toml)], &[]).unwrap();
    let swap = std::thread::spawn(move || {
        // Under way: the guard's reads are a few.
        while drive.get(Knob::Commands) < 20_000 {
            std::thread::yield_now();
        }
        drive.set(Knob::Swap, 78);
        // A fatal status asks for a reset.
        drive.set(Knob::Csts, 3);
    });
    let ended = run::execute(jobs, &RunOptions::default(), &Requests::default(), &mut Silent).unwrap();
    swap.join().unwrap();
    let failure = ended.failure.unwrap();
    assert_eq!(failure.kind, run::ErrorKind::Unsafe, "{failure}");
    assert!(failure.message.contains("SWAP00000078") && failure.message.contains("FAKE"), "{failure}");
    assert_eq!(drive.get(Knob::Commands), 0, "the other drive has got nothing");
    assert_eq!(ended.report.jobs.len(), 1, "no other stage began");
}

/// A drive that outlives the processes, and at whose address a command can put another one.
#[test]
fn a_stage_that_opens_the_controller_again_refuses_another_drive_and_writes_nothing() {
    let lab = common::Lab::new();
    std::fs::create_dir(lab.path("drive,mb1")).unwrap();
    lab.file("drive,mb1/serial", "FIRST");
    let id = format!("trtype=VFIOUSER traddr={} ns=1", lab.path("drive,mb1").display());
    // Other options of the controller: it is attached again.
    let jobs = |between: &str| {
        format!(
            "[global]\nioengine = \"spdk\"\nfilename = \"{id}\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"1m\"\n\
             [[job]]\nname = \"one\"\n{between}\
             [[job]]\nname = \"two\"\nstonewall = true\nnum_io_queues = 3\nvolatile_write_cache = false\n"
        )
    };
    lab.file("same.toml", jobs(""));
    lab.run(&["same.toml"]).expect(0);
    lab.file("other.toml", jobs("exec_postrun = \"echo SECOND > drive,mb1/serial\"\n"));
    lab.run(&["other.toml"]).expect(6).says("FIRST").says("SECOND").says("nothing was written");
    let other = std::fs::read(lab.path("drive,mb1/SECOND.ns1")).unwrap();
    assert!(other.iter().all(|&byte| byte == 0), "the other drive was written to");
}

/// A campaign on a drive that outlives its processes.
fn campaign(cycles: u32, power_on: &str) -> common::Lab {
    let lab = common::Lab::new();
    std::fs::create_dir(lab.path("drive,mb1")).unwrap();
    lab.file("drive,mb1/serial", "FIRST");
    let id = format!("trtype=VFIOUSER traddr={} ns=1", lab.path("drive,mb1").display());
    lab.file(
        "c.toml",
        format!(
            "[campaign]\ncycles = {cycles}\nwindow = \"100ms..200ms\"\nseed = 7\npower_off = \"true\"\n\
             power_on = \"{power_on}\"\n\
             [[job]]\nname = \"w\"\nioengine = \"spdk\"\nfilename = \"{id}\"\nrw = \"randwrite\"\n\
             bs = \"4k\"\nsize = \"1m\"\nfsync = 4\nverify = \"crc32c\"\ntime_based = true\nruntime = \"1h\"\n"
        ),
    );
    lab
}

#[test]
fn a_campaign_ends_when_another_drive_comes_back_and_writes_nothing_to_it() {
    campaign(2, "true").run(&["campaign", "c.toml"]).expect(0);
    let swap = "test $FIO_SPDK_CYCLE = 1 || echo SECOND > drive,mb1/serial";
    let lab = campaign(3, swap);
    let done = lab.run(&["campaign", "c.toml"]).expect(6).says("FIRST").says("SECOND");
    assert!(done.stdout.contains("1 of 3 cycles"), "{done:?}");
    // Again right before the next write.
    let done = lab.run(&["campaign", "c.toml"]).expect(6).says("FIRST").says("SECOND");
    assert!(done.stdout.contains("1 of 3 cycles"), "{done:?}");
    let other = std::fs::read(lab.path("drive,mb1/SECOND.ns1")).unwrap();
    assert!(other.iter().all(|&byte| byte == 0), "the other drive was written to");
}
