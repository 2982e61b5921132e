//! `fio-spdk state show`: what a person and a program read of a snapshot.

mod common;

use common::{Lab, at, number};

#[test]
fn a_snapshot_is_readable_by_people_and_programs() {
    let lab = Lab::new();
    let job = [
        "--name=j",
        "--filename=data",
        "--rw=randwrite",
        "--size=1m",
        "--bs=8k",
        "--fsync=10",
        "--verify=md5",
    ];
    lab.run(&[&job[..], &["--numjobs=2", "--offset_increment=1m"]].concat()).expect(0);
    let shown = lab.run(&["state", "show", "fio-spdk.state"]).expect(0).stdout;
    for line in [
        "when the writing ended",
        "job j, stage 1, seed",
        "  bs = \"8k\"",
        "  verify = \"md5\"",
        "target 0: data, 2MiB",
        "owns bytes 1048576 to 2097152 of target 0",
        "writes: 128 issued, 120 durable, 8 completed but not durable, 0 in flight, 0 failed",
        "flushes: 12 completed",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    let json = lab.run(&["state", "show", "--json", "fio-spdk.state"]).expect(0).json();
    assert_eq!(at(&json, "/cause"), "ended");
    let worker = at(&json, "/jobs/0/workers/1");
    assert_eq!((number(worker, "/number"), number(worker, "/regions/0/start")), (2, 1 << 20));
    assert_eq!(number(worker, "/writes/issued"), 128);
    // A flush of the worker that ends last makes all durable that the other one has written.
    let mut durable = [0, 1].map(|at| number(&json, &format!("/jobs/0/workers/{at}/writes/durable")));
    durable.sort_unstable();
    assert!([[120, 120], [120, 128]].contains(&durable), "{durable:?}");
    assert_eq!(at(worker, "/open_end"), false);
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let lab = Lab::new();
    lab.file("job.toml", "[[job]]\n").file("empty", "");
    lab.run(&["state", "show", "job.toml"]).expect(2).says("job.toml: it is no snapshot");
    lab.run(&["state", "show", "empty"]).expect(2).says("no snapshot");
    lab.run(&["state", "show", "missing"]).expect(2).says("No such file");
    lab.run(&["state"]).expect(2);
}
