//! What a run writes beside its targets (report, logs, snapshot, what its commands print) never lands on a
//! target, by whatever name; and what it lays out for a job that only reads was checked as if it were written.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{KIB, Lab, MARK, with};

const READS: &[&str] = &["--name=j", "--filename=ta", "--rw=read", "--bs=4k", "--size=64k"];

fn lab() -> Lab {
    let lab = Lab::new();
    lab.marked("ta", 64 * KIB);
    fs::hard_link(lab.path("ta"), lab.path("other")).expect("a hard link");
    symlink("ta", lab.path("link")).expect("a link");
    lab
}

#[track_caller]
fn untouched(lab: &Lab) {
    assert_eq!(lab.bytes("ta").len(), 64 << 10, "the target is whole");
    assert!(lab.bytes("ta").iter().all(|&byte| byte == MARK), "the target was written to");
}

#[test]
fn a_report_does_not_replace_a_target() {
    let lab = lab();
    for name in ["ta", "other", "link"] {
        lab.run(&with(READS, &[&format!("--output={name}")])).expect(6).says("target");
        untouched(&lab);
    }
    // A sink may be both.
    let sink =
        ["--name=j", "--filename=/dev/null", "--rw=write", "--bs=4k", "--size=64k", "--output=/dev/null"];
    lab.run(&sink).expect(0);
}

#[test]
fn a_log_does_not_replace_a_target() {
    let lab = lab();
    for option in ["--write_iolog=other", "--verdicts=other"] {
        let done = lab.run(&with(READS, &[option]));
        assert_ne!(done.code, Some(0), "{done:#?}");
        done.says("target");
        untouched(&lab);
    }
    fs::rename(lab.path("other"), lab.path("other_bw.1.log")).expect("it is there");
    let done = lab.run(&with(READS, &["--write_bw_log=other"]));
    assert_ne!(done.code, Some(0), "{done:#?}");
    done.says("target");
    untouched(&lab);
}

#[test]
fn what_a_command_prints_does_not_replace_a_target() {
    let lab = lab();
    let file = lab.path("j.prerun.txt");
    let names: [&dyn Fn(); 2] = [&|| symlink("ta", &file).expect("a link"), &|| {
        fs::hard_link(lab.path("ta"), &file).expect("a hard link")
    }];
    for make in names {
        make();
        let done = lab.run(&with(READS, &["--exec_prerun=echo overwritten"]));
        assert_ne!(done.code, Some(0), "{done:#?}");
        untouched(&lab);
        fs::remove_file(&file).expect("it is there");
    }
}

#[test]
fn a_later_stage_records_into_no_target() {
    let lab = lab();
    lab.file(
        "j.toml",
        "[global]\nfilename = \"ta\"\nrw = \"read\"\nbs = \"4k\"\nsize = \"64k\"\n\
         [[job]]\nname = \"a\"\nexec_postrun = \"ln -s ta io.log\"\n\
         [[job]]\nname = \"b\"\nstonewall = true\nwrite_iolog = \"io.log\"\n",
    );
    let done = lab.run(&["j.toml"]);
    assert_ne!(done.code, Some(0), "{done:#?}");
    untouched(&lab);
}

#[test]
fn a_target_is_not_taken_for_a_trigger_or_a_snapshot() {
    let lab = lab();
    lab.run(&with(READS, &["--trigger_file=ta", "--trigger=true"])).expect(6).says("trigger_file");
    untouched(&lab);
    lab.marked("v.state", 64 * KIB);
    lab.file(
        "v.toml",
        "[[job]]\nname = \"v\"\nfilename = \"v.state\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"64k\"\nverify = \"crc32c\"\n",
    );
    lab.run(&["v.toml"]).expect(6).says("snapshot");
    assert!(lab.bytes("v.state").iter().all(|&byte| byte == MARK));
}

#[test]
fn a_merged_log_does_not_replace_the_target() {
    let lab = lab();
    // A header of blktrace and no event: what is refused comes before it is read.
    lab.file("b1", [0; 48]).file("b2", [0; 48]);
    let merge = [
        "--name=j",
        "--read_iolog=b1:b2",
        "--merge_blktrace_file=other",
        "--replay_redirect=ta",
        "--readonly",
    ];
    let done = lab.run(&merge);
    assert_ne!(done.code, Some(0), "{done:#?}");
    done.says("is the target");
    untouched(&lab);
}

#[test]
fn what_is_laid_out_for_a_reader_is_checked_as_if_it_were_written() {
    let lab = Lab::new();
    // A file of the kernel is empty to stat(2).
    let kernels = ["--name=j", "--rw=read", "--bs=4k", "--size=4k", "--filename=/proc/self/comm"];
    lab.run(&kernels).expect(6).says("a file of the kernel");
    let missing = ["--name=j", "--rw=read", "--bs=4k", "--size=64k", "--filename=/dev/fio-spdk-is-not-there"];
    lab.run(&missing).expect(6).says("there is no such device");
    assert!(!std::path::Path::new("/dev/fio-spdk-is-not-there").exists());
    // What a reader usually finds is laid out as before.
    let usual = ["--name=j", "--rw=read", "--bs=4k", "--size=64k", "--filename=new"];
    lab.run(&usual).expect(0);
    assert_eq!(lab.bytes("new").len(), 64 << 10);
}

#[test]
fn a_target_that_is_replaced_while_the_last_job_runs_is_noted() {
    let lab = lab();
    lab.file("new", vec![MARK; 64 << 10]);
    let replaced =
        with(READS, &["--time_based=1", "--runtime=1h", "--trigger-ios=100", "--trigger=mv new ta"]);
    let done = lab.run(&replaced).expect(0);
    // Lines are broken where the terminal ends.
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains("its numbers are of what it led to first"), "{}", done.stdout);
}
