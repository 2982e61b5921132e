//! What was checked is what is opened: links that are repointed and files that are replaced between the checks
//! of a run and its stages, and two runs that want one file.
//!
//! Nothing here waits for a moment: targets are replaced by commands of the jobs themselves, by a thread that
//! does nothing else for as long as runs start, or while a run is known to be at work.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use common::{KIB, Lab, MARK, Running, jobs, number, with};
use rustix::process::Signal;

const ENGINES: [&str; 2] = ["psync", "io_uring"];
/// Runs that race with a thread that repoints a link.
const TRIES: usize = 12;

/// Two stages: the first writes `one` and then runs `command`, the second has these lines.
fn two_stages(lab: &Lab, engine: &str, command: &str, second: &str) {
    let text = format!(
        "[global]\nioengine = \"{engine}\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"64k\"\n\
         [[job]]\nname = \"first\"\nfilename = \"one\"\nexec_postrun = {command:?}\n\
         [[job]]\nname = \"second\"\nstonewall = true\n{second}\n"
    );
    lab.file("j.toml", text);
}

#[track_caller]
fn untouched(lab: &Lab, name: &str) {
    assert!(lab.bytes(name).iter().all(|&byte| byte == MARK), "{name} was written to");
}

#[test]
fn a_link_that_is_repointed_between_stages_ends_the_run_and_nothing_is_written_there() {
    for engine in ENGINES {
        let lab = Lab::new();
        lab.marked("allowed", 64 * KIB).marked("victim", 64 * KIB);
        symlink("allowed", lab.path("link")).expect("a link");
        two_stages(&lab, engine, "ln -sfn victim link", "filename = \"link\"");
        let done = lab.run(&["j.toml", "--output-format=json"]).expect(6).says("/allowed").says("/victim");
        untouched(&lab, "victim");
        untouched(&lab, "allowed");
        let json = done.json();
        assert_eq!(jobs(&json).len(), 1, "what the first stage measured is kept");
        assert_eq!(number(&json, "/jobs/0/write/total_ios"), 16);
    }
}

#[test]
fn a_target_that_the_jobs_own_command_replaces_is_not_opened() {
    let lab = Lab::new();
    lab.marked("allowed", 64 * KIB).marked("victim", 64 * KIB);
    symlink("allowed", lab.path("link")).expect("a link");
    let job = ["--name=j", "--filename=link", "--rw=write", "--bs=4k", "--size=64k"];
    lab.run(&with(&job, &["--exec_prerun=ln -sfn victim link"])).expect(6).says("/victim");
    untouched(&lab, "victim");
    lab.file("other", vec![MARK; 64 << 10]);
    let reads =
        ["--name=j", "--filename=allowed", "--rw=read", "--size=64k", "--exec_prerun=mv other allowed"];
    lab.run(&reads).expect(6).says("inode");
}

#[test]
fn a_file_that_another_stage_of_the_run_removed_is_made_again() {
    let lab = Lab::new();
    two_stages(&lab, "psync", "true", "filename = \"one\"");
    let text = String::from_utf8(lab.bytes("j.toml")).expect("text");
    lab.file("j.toml", text.replace("filename = \"one\"\nexec", "filename = \"one\"\nunlink = true\nexec"));
    lab.run(&["j.toml"]).expect(0);
    assert_eq!(lab.bytes("one").len(), 64 << 10);
    // By anything else it is replaced.
    two_stages(&lab, "psync", "rm two", "filename = \"two\"");
    lab.marked("two", 64 * KIB);
    lab.run(&["j.toml"]).expect(6).says("cannot be followed");
    assert!(!lab.path("two").exists());
}

#[test]
fn a_file_that_appears_before_it_is_made_is_left_alone() {
    let lab = Lab::new();
    lab.marked("victim", 64 * KIB);
    for command in ["cp victim new", "ln -s victim new"] {
        two_stages(&lab, "psync", command, "filename = \"new\"");
        lab.run(&["j.toml"]).expect(6).says("led to nothing");
        untouched(&lab, "new");
        untouched(&lab, "victim");
        fs::remove_file(lab.path("new")).expect("it is there");
    }
    // A link to nothing is followed once.
    symlink("there", lab.path("dangling")).expect("a link");
    two_stages(&lab, "psync", "true", "filename = \"dangling\"");
    lab.run(&["j.toml"]).expect(0);
    assert_eq!(lab.bytes("there").len(), 64 << 10);
    fs::remove_file(lab.path("there")).expect("it is there");
    two_stages(&lab, "psync", "ln -sfn victim dangling", "filename = \"dangling\"");
    lab.run(&["j.toml"]).expect(6);
    untouched(&lab, "victim");
}

#[test]
fn a_directory_that_is_replaced_gets_no_files() {
    let lab = Lab::new();
    for name in ["real", "other"] {
        fs::create_dir(lab.path(name)).expect("a directory");
    }
    symlink("real", lab.path("work")).expect("a link");
    two_stages(&lab, "psync", "ln -sfn other work", "directory = \"work\"\nnrfiles = 2");
    lab.run(&["j.toml"]).expect(6);
    for name in ["real", "other"] {
        assert_eq!(fs::read_dir(lab.path(name)).expect("a directory").count(), 0, "{name}");
    }
}

/// Points a link at one and another name in turn, without a moment in which there is none.
struct Flipper {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flipper {
    fn new(lab: &Lab, link: &str, aims: [PathBuf; 2]) -> Flipper {
        let ends = Arc::new(AtomicBool::new(false));
        let (stop, link, beside) = (Arc::clone(&ends), lab.path(link), lab.path("beside"));
        symlink(&aims[0], &link).expect("a link");
        let flip = move || {
            for aim in aims.iter().cycle().take_while(|_| !stop.load(Relaxed)) {
                symlink(aim, &beside).and_then(|()| fs::rename(&beside, &link)).expect("a link");
            }
        };
        Flipper { ends, thread: Some(thread::spawn(flip)) }
    }
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn while_a_link_flips_a_run_writes_what_it_announced_or_nothing() {
    let names = ["left", "right"];
    for try_number in 0..TRIES {
        let lab = Lab::new();
        lab.marked("left", 64 * KIB).marked("right", 64 * KIB);
        two_stages(
            &lab,
            ENGINES[try_number % 2],
            "true",
            "filename = \"link\"\nnumjobs = 2\noffset_increment = \"64k\"",
        );
        let text = String::from_utf8(lab.bytes("j.toml")).expect("text");
        lab.file("j.toml", text.replace("filename = \"one\"", "filename = \"link\""));
        let flipper = Flipper::new(&lab, "link", names.map(|name| lab.path(name)));
        let done = lab.run(&["j.toml"]);
        drop(flipper);
        assert!(matches!(done.code, Some(0 | 6)), "{done:#?}");
        let touched = |name: &&str| lab.bytes(name).iter().any(|&byte| byte != MARK);
        for name in names.iter().filter(|name| touched(name)) {
            let announced = format!("/{name} (existing file");
            assert!(done.stderr.contains(&announced), "{name} was written to: {done:#?}");
        }
        let count = names.iter().filter(|name| touched(name)).count();
        assert!(count == 1 || count == 0 && done.code == Some(6), "{count}: {done:#?}");
    }
}

#[test]
fn unlink_leaves_what_has_taken_the_place_of_the_file() {
    let lab = Lab::new();
    lab.marked("data", 64 * KIB).marked("victim", 64 * KIB);
    let job =
        ["--name=j", "--filename=data", "--rw=randwrite", "--size=64k", "--time_based", "--runtime=60s"];
    let mut running = lab.spawn(&with(&job, &["--unlink", "--output-format=json"]));
    running.wait_for_worker("j.0");
    fs::rename(lab.path("data"), lab.path("kept")).expect("it is there");
    fs::rename(lab.path("victim"), lab.path("data")).expect("it is there");
    running.signal(Signal::INT);
    let done = running.end().expect(6).says("inode");
    untouched(&lab, "data");
    assert!(done.stdout.contains("it was replaced"), "{done:#?}");
    assert!(lab.bytes("kept").iter().any(|&byte| byte != MARK), "the run went on with its own file");
}

// Two runs on one file.

const VERIFIES: [&str; 7] = [
    "--name=j",
    "--rw=randwrite",
    "--bs=4k",
    "--size=1m",
    "--verify=crc32c",
    "--time_based",
    "--runtime=100s",
];

fn held(lab: &Lab, name: &str) -> Running {
    let filename = format!("--filename={name}");
    let mut running = lab.spawn(&with(&VERIFIES, &[&filename, "--output-format=json"]));
    running.wait_for_worker("j.0");
    running
}

#[test]
fn a_second_run_on_a_file_is_refused_by_any_name_and_the_first_is_unharmed() {
    let lab = Lab::new();
    let first = held(&lab, "data");
    fs::hard_link(lab.path("data"), lab.path("other")).expect("a link");
    symlink("data", lab.path("link")).expect("a link");
    let who = format!("fio-spdk (process {})", first.id());
    for name in ["data", "other", "link"] {
        let filename = format!("--filename={name}");
        for more in [["--rw=write", "--do_verify=0"], ["--rw=randwrite", "--verify=crc32c"]] {
            let job = ["--name=k", "--bs=4k", "--size=1m", filename.as_str()];
            lab.run(&with(&job, &more)).expect(6).says(&who);
        }
        let judges =
            ["--name=j", "--rw=randwrite", "--bs=4k", "--size=1m", "--verify=crc32c", "--verify_only"];
        lab.run(&with(&judges, &[&filename])).expect(6).says(&who);
        // Who neither writes nor verifies disturbs nobody.
        lab.run(&["--name=r", "--rw=read", "--size=1m", &filename]).expect(0);
    }
    first.signal(Signal::INT);
    let done = first.end().expect(130);
    assert_eq!(number(&done.json(), "/jobs/0/verify/violations"), 0, "{done:#?}");
    lab.run(&["--name=k", "--rw=write", "--size=1m", "--filename=other"]).expect(0);
}

#[test]
fn two_that_only_verify_share_a_file() {
    let lab = Lab::new();
    let write = ["--name=j", "--rw=randwrite", "--bs=4k", "--size=1m", "--filename=data", "--verify=crc32c"];
    lab.run(&write).expect(0);
    // As another run that only verifies holds it.
    let other = File::open(lab.path("data")).expect("it is there");
    other.try_lock_shared().expect("nobody has it");
    lab.run(&with(&write, &["--verify_only"])).expect(0);
    let own = format!("(process {})", std::process::id());
    lab.run(&write).expect(6).says(&own);
    other.unlock().expect("it was locked");
    lab.run(&write).expect(0);
}

#[test]
fn the_jobs_of_one_run_share_their_files() {
    let lab = Lab::new();
    lab.marked("data", 1 << 20);
    fs::hard_link(lab.path("data"), lab.path("other")).expect("a link");
    let text = "[global]\nioengine = \"psync\"\nbs = \"4k\"\nsize = \"256k\"\n\
                [[job]]\nname = \"a\"\nfilename = \"data\"\nrw = \"write\"\nverify = \"crc32c\"\nnumjobs = 2\noffset_increment = \"256k\"\n\
                [[job]]\nname = \"b\"\nfilename = \"other\"\nrw = \"write\"\nverify = \"crc32c\"\noffset = \"512k\"\n\
                [[job]]\nname = \"c\"\nfilename = \"data\"\nrw = \"read\"\nstonewall = true\n";
    lab.file("j.toml", text);
    lab.run(&["j.toml"]).expect(0);
}

#[test]
fn a_lock_ends_with_its_run_and_not_with_what_a_command_left_behind() {
    let lab = Lab::new();
    let job = ["--name=j", "--rw=write", "--size=64k", "--filename=data"];
    let lingers = "--exec_prerun=sleep 100 >/dev/null 2>&1 & echo $! > lingers";
    lab.run(&with(&job, &[lingers])).expect(0);
    let text = String::from_utf8(lab.bytes("lingers")).expect("a number");
    let lingers = Path::new("/proc").join(text.trim());
    let was_there = lingers.exists();
    File::open(lab.path("data")).expect("it is there").try_lock().expect("nobody has it");
    let pid = rustix::process::Pid::from_raw(text.trim().parse().expect("a number")).expect("a process");
    rustix::process::kill_process(pid, Signal::KILL).expect("it is ours");
    assert!(was_there);
    // The kernel releases it when the run is killed.
    let first = held(&lab, "data");
    first.signal(Signal::KILL);
    first.end();
    lab.run(&job).expect(0);
}

#[test]
fn a_file_that_layout_makes_is_locked_at_once() {
    let lab = Lab::new();
    let first = held(&lab, "new");
    let file = File::open(lab.path("new")).expect("it was made");
    assert!(file.try_lock_shared().is_err());
    first.signal(Signal::INT);
    first.end().expect(130);
    file.try_lock_shared().expect("the run has ended");
}

#[test]
fn a_stage_whose_directory_flips_leaves_no_files_of_its_own() {
    let lab = Lab::new();
    for name in ["left", "right"] {
        fs::create_dir(lab.path(name)).expect("a directory");
    }
    for _ in 0..TRIES {
        let flipper = Flipper::new(&lab, "work", ["left", "right"].map(|name| lab.path(name)));
        let job = [
            "--name=j",
            "--directory=work",
            "--nrfiles=3",
            "--rw=write",
            "--bs=4k",
            "--size=48k",
            "--unlink",
        ];
        let done = lab.run(&job);
        drop(flipper);
        fs::remove_file(lab.path("work")).expect("a link");
        assert!(matches!(done.code, Some(0 | 6)), "{done:#?}");
        for name in ["left", "right"] {
            let files = fs::read_dir(lab.path(name)).expect("a directory").count();
            assert_eq!(files, 0, "{name}: {done:#?}");
        }
    }
}
