//! Where output goes, and what reaches the terminal, where others want to have it otherwise: links and files of
//! another user in a shared directory, FIFOs that nothing reads, names with control characters, and snapshots
//! that another user has written. What needs a second user needs root; where it cannot be had, a trial is
//! ignored and says why.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use common::{BINARY, Done, Lab, Running};
use fio_spdk::base::printable::is_hazard;
use libtest_mimic::{Arguments, Trial};

/// A name, what is checked, and why it is skipped if it is.
type Case = (&'static str, fn(), Option<&'static str>);

/// Another user: nobody.
const STRANGER: u32 = 65534;

const JOB: &str = "[global]\nioengine = \"psync\"\nbs = \"4k\"\nsize = \"64k\"\n\
                   [[job]]\nname = \"j\"\nfilename = \"/dev/null\"\nrw = \"write\"\n";
const VERIFIED: &str = "[global]\nioengine = \"psync\"\nbs = \"4k\"\nsize = \"64k\"\nfsync = 1\nverify = \"crc32c\"\n\
                        [[job]]\nname = \"j\"\nfilename = \"data\"\nrw = \"write\"\n";

fn main() {
    let arguments = Arguments::from_args();
    let root = (!rustix::process::geteuid().is_root()).then_some("not root, and another user is needed");
    let trials: [Case; 10] = [
        ("no_output_follows_a_link_of_another_user_in_a_shared_directory", strange_links, root),
        ("no_output_goes_into_a_file_of_another_user_in_a_shared_directory", strange_files, root),
        ("evidence_of_a_campaign_does_not_go_into_a_directory_of_another_user", strange_folder, root),
        ("a_snapshot_of_another_user_is_refused_unless_that_is_asked_for", strange_snapshot, root),
        ("no_output_goes_into_a_hard_link_in_a_shared_directory", hard_links, None),
        ("links_of_the_user_are_followed", own_links, None),
        ("a_fifo_that_nothing_reads_is_an_error_and_is_not_waited_for", fifo, None),
        ("descriptors_and_sinks_are_outputs", descriptors, None),
        ("no_control_character_of_a_name_reaches_the_terminal", hostile_names, None),
        ("a_run_keeps_the_snapshot_of_the_run_before", earlier_snapshots, None),
    ];
    let trials = trials.map(|(name, check, why)| {
        if let Some(why) = why {
            eprintln!("skipped: {name}: {why}");
        }
        let run = move || {
            check();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// A directory that every user can write to, without the sticky bit: the kernel protects nothing in it.
fn shared(lab: &Lab) {
    fs::create_dir(lab.path("shared")).unwrap();
    fs::set_permissions(lab.path("shared"), Permissions::from_mode(0o777)).unwrap();
}

/// Runs the program in the shared directory.
fn run_in(lab: &Lab, arguments: &[&str]) -> Done {
    let mut command = lab.command(BINARY);
    command.args(arguments).current_dir(lab.path("shared"));
    Running::of(command).end()
}

/// Every output of a run: options, the file it makes in the current directory, and what the job says more.
const OUTPUTS: [(&[&str], &str, &str); 9] = [
    (&["--output=out"], "out", ""),
    (&["--output=out", "--output-format=json"], "out", ""),
    (&["--verdicts=out"], "out", ""),
    (&["--write_bw_log=log"], "log_bw.1.log", ""),
    (&["--write_lat_log=log"], "log_clat.1.log", ""),
    (&["--write_iolog=out"], "out", ""),
    (&["--bandwidth-log=log"], "log-write_bw.log", ""),
    (&[], "j.prerun.txt", "exec_prerun = \"echo hello\"\n"),
    (&[], "job.state.lock", "verify = \"crc32c\"\n"),
];

/// Runs each output over what `put` puts at its name, and gives what it said; the user's own file stays.
fn each_output(put: impl Fn(&Lab, &Path), check: impl Fn(&Done, &str)) {
    for (options, name, more) in OUTPUTS {
        let lab = Lab::new();
        shared(&lab);
        lab.file("mine", "mine");
        let job = if more.contains("verify") { JOB.replace("/dev/null", "../data") } else { JOB.to_owned() };
        lab.file("shared/job.toml", job + more);
        put(&lab, &lab.path("shared").join(name));
        let done = run_in(&lab, &[&["job.toml"], options].concat());
        check(&done, name);
        assert_eq!(lab.bytes("mine"), b"mine", "{name}: {done:?}");
    }
}

fn is_refused(done: &Done, name: &str, why: &str) {
    assert!(matches!(done.code, Some(2 | 4)), "{name}: {done:?}");
    assert!(done.stderr.contains(why), "{name}: {done:?}");
}

fn strange_links() {
    let link = |lab: &Lab, at: &Path| {
        symlink(lab.path("mine"), at).unwrap();
        lchown(at, Some(STRANGER), None).unwrap();
    };
    each_output(link, |done, name| is_refused(done, name, "symbolic link of user 65534"));
    // Nor over a directory that a link of his leads to.
    let lab = Lab::new();
    shared(&lab);
    fs::create_dir(lab.path("other")).unwrap();
    symlink(lab.path("other"), lab.path("shared/folder")).unwrap();
    lchown(lab.path("shared/folder"), Some(STRANGER), None).unwrap();
    lab.file("shared/job.toml", JOB);
    let done = run_in(&lab, &["job.toml", "--output=folder/out"]).expect(2);
    is_refused(&done, "folder", "symbolic link of user 65534");
    assert!(!lab.path("other/out").exists());
}

fn strange_files() {
    let file = |_: &Lab, at: &Path| {
        fs::write(at, "theirs").unwrap();
        fs::set_permissions(at, Permissions::from_mode(0o666)).unwrap();
        chown(at, Some(STRANGER), None).unwrap();
    };
    each_output(file, |done, name| is_refused(done, name, "belongs to user 65534"));
}

fn hard_links() {
    let link = |lab: &Lab, at: &Path| fs::hard_link(lab.path("mine"), at).unwrap();
    each_output(link, |done, name| is_refused(done, name, "hard links"));
}

fn own_links() {
    for (options, name, more) in OUTPUTS.iter().filter(|(_, name, _)| !name.ends_with(".lock")) {
        let lab = Lab::new();
        shared(&lab);
        lab.file("shared/job.toml", JOB.to_owned() + more);
        symlink(lab.path("there"), lab.path("shared").join(name)).unwrap();
        run_in(&lab, &[&["job.toml"], *options].concat()).expect(0);
        assert!(lab.path("there").is_file(), "{name}");
    }
}

fn fifo() {
    let fifo = |_: &Lab, at: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    // Logs and recordings refuse whatever is not a file before it is opened.
    each_output(fifo, |done, name| assert!(matches!(done.code, Some(2 | 4)), "{name}: {done:?}"));
}

fn descriptors() {
    let lab = Lab::new();
    lab.file("job.toml", JOB);
    for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let done = lab.run(&["job.toml", &format!("--output={path}")]).expect(0);
        assert!(done.stdout.contains("j: write"), "{path}: {done:?}");
    }
    for option in ["--output=/dev/null", "--verdicts=/dev/null"] {
        lab.run(&["job.toml", option]).expect(0);
    }
    let script = format!("exec 3> three; {BINARY} job.toml --output=/dev/fd/3; echo behind >&3");
    let mut command = lab.command("sh");
    command.args(["-c", &script]);
    Running::of(command).end().expect(0);
    let three = String::from_utf8(lab.bytes("three")).unwrap();
    assert!(three.contains("j: write"), "{three}");
}

fn strange_folder() {
    let lab = Lab::new();
    let campaign = "[campaign]\ncycles = 1\nwindow = \"1s\"\npower_off = \"true\"\n";
    lab.file("c.toml", campaign.to_owned() + VERIFIED + "time_based = true\nruntime = \"1h\"\n");
    fs::create_dir(lab.path("c.campaign")).unwrap();
    chown(lab.path("c.campaign"), Some(STRANGER), None).unwrap();
    lab.run(&["campaign", "c.toml"]).expect(2).says("belongs to user 65534");
    assert!(!lab.path("data").exists());
}

fn strange_snapshot() {
    let lab = Lab::new();
    lab.file("job.toml", VERIFIED);
    lab.run(&["job.toml"]).expect(0);
    let load = ["job.toml", "--verify_state_load"];
    lab.run(&load).expect(0);
    chown(lab.path("job.state"), Some(STRANGER), None).unwrap();
    lab.run(&load).expect(2).says("user 65534").says("allow_foreign_state");
    let go_on = lab.run(&["job.toml", "--verify_state_continue"]).expect(2);
    assert!(go_on.stderr.contains("allow_foreign_state"), "{go_on:?}");
    lab.run(&[&load[..], &["--allow_foreign_state"]].concat()).expect(0);
    let shown = lab.run(&["state", "show", "job.state"]).expect(0);
    assert!(shown.stderr.contains("note:") && shown.stderr.contains("user 65534"), "{shown:?}");
    assert!(shown.stdout.contains("job j"), "{shown:?}");
}

/// A sequence that clears the screen in C0 and in C1, a change of direction, and a title that answers.
const NASTY: &str = "a\x1b[2J\u{9b}31m\u{202e}b\x1b]0;x\x07\u{2066}\x7f";

fn is_clean(done: &Done) {
    for (name, text) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
        let raw = text.chars().find(|&c| is_hazard(c) && c != '\n');
        assert_eq!(raw, None, "{name}: {done:?}");
    }
}

fn hostile_names() {
    let lab = Lab::new();
    let quoted = toml::Value::from(NASTY).to_string();
    let job = |more: &str| {
        format!(
            "[global]\nioengine = \"psync\"\nbs = \"4k\"\nsize = \"64k\"\n[[job]]\nrw = \"write\"\n{more}"
        )
    };
    let run = |arguments: &[&str]| {
        let mut command = lab.command(BINARY);
        command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument.as_bytes())));
        let done = Running::of(command).end();
        is_clean(&done);
        done
    };
    let shows = |done: &Done| {
        let said = (done.stdout.clone() + &done.stderr).to_lowercase();
        assert!(said.contains("\\u001b[2j"), "{done:?}");
    };
    // Names of targets, in reports of all formats, verdicts, snapshots and their display.
    lab.file(
        "target.toml",
        job(&format!("name = \"j\"\nfilename = {quoted}\nfsync = 1\nverify = \"crc32c\"\n")),
    );
    shows(&run(&["target.toml"]));
    for format in ["json", "json+", "normal,json"] {
        shows(&run(&["target.toml", &format!("--output-format={format}")]));
    }
    shows(&run(&["target.toml", "--output-format=json", "--status-interval=1ms"]));
    shows(&run(&["state", "show", "target.state"]));
    shows(&run(&["state", "show", "--json", "target.state"]));
    shows(&run(&["target.toml", "--print-job"]));
    fs::write(lab.path(NASTY), vec![7; 65536]).unwrap();
    shows(&run(&["target.toml", "--verify_state_load", "--verdicts=/dev/stdout"]).expect(1));
    let json = run(&["target.toml", "--output-format=json"]).json();
    assert!(json.to_string().contains('\u{202e}'), "JSON keeps its meaning: {json}");
    // Of jobs, of job files, of options, of outputs.
    lab.file("name.toml", job(&format!("name = {quoted}\nfilename = \"/dev/null\"\n")));
    run(&["name.toml"]);
    shows(&run(&[&format!("missing{NASTY}.toml")]).expect(2));
    shows(&run(&["target.toml", &format!("--{NASTY}=1")]).expect(2));
    shows(&run(&["target.toml", &format!("--output=missing/{NASTY}")]).expect(2));
    shows(&run(&["target.toml", &format!("--section={NASTY}")]).expect(2));
    shows(&run(&["state", "show", &format!("missing{NASTY}")]));
    shows(&run(&["block", "show", &format!("missing{NASTY}"), "0"]));
    shows(&run(&["target.toml", &format!("--client={NASTY}")]));
    lab.file("broken.toml", format!("[[job]]\nname = \"x\" # {NASTY}\nrw = \"nothing\"\n"));
    run(&["broken.toml"]).expect(2);
    // Of targets in logs that are replayed, whole and broken.
    let log =
        format!("fio version 2 iolog\n{NASTY} add\n{NASTY} open\n{NASTY} write 0 4096\n{NASTY} close\n");
    lab.file("good.log", &log).file("bad.log", log.replace("write 0", "write x"));
    for name in ["good.log", "bad.log"] {
        let replay = format!(
            "[[job]]\nname = \"r\"\nioengine = \"psync\"\nread_iolog = \"{name}\"\ndirectory = \"missing\"\n"
        );
        lab.file("replay.toml", replay);
        run(&["replay.toml"]);
    }
    // What commands of a job print.
    let command =
        "trigger = \"printf 'x\\\\033[2J'\"\ntrigger_ios = 1\ntime_based = true\nruntime = \"1h\"\n";
    lab.file(
        "trigger.toml",
        job(&format!("name = \"j\"\nfilename = \"data\"\nverify = \"crc32c\"\n{command}")),
    );
    shows(&run(&["trigger.toml"]));
}

fn earlier_snapshots() {
    let lab = Lab::new();
    lab.file("job.toml", VERIFIED);
    let run_of = |name: &str| {
        let shown = lab.run(&["state", "show", "--json", name]).expect(0).json();
        common::at(&shown, "/run").as_str().unwrap().to_owned()
    };
    // A run that was cut.
    let cut = ["job.toml", "--time_based", "--runtime=1h", "--trigger=true", "--trigger_ios=100"];
    lab.run(&cut).expect(0);
    let first = run_of("job.state");
    // Judging leaves it where it is; so does a run that is refused before it writes.
    lab.run(&["job.toml", "--verify_state_load", "--time_based", "--runtime=1h"]).expect(0);
    lab.run(&["job.toml", "--filename=missing/data"]);
    assert_eq!(run_of("job.state"), first);
    let again = lab.run(&["job.toml"]).expect(0);
    assert!(again.stdout.contains("is kept as job.state.1"), "{again:?}");
    assert_eq!(run_of("job.state.1"), first, "a new run destroys no evidence");
    for _ in 0..4 {
        lab.run(&["job.toml"]).expect(0);
    }
    let kept: Vec<String> = lab.names().into_iter().filter(|name| name.starts_with("job.state")).collect();
    assert_eq!(kept, ["job.state", "job.state.1", "job.state.2", "job.state.3"], "not without end");
    // The one before can be judged: it is the same file under its old name.
    let state = lab.bytes("job.state.1");
    fs::create_dir(lab.path("old")).unwrap();
    lab.file("old/job.state", state);
    lab.run(&["job.toml", "--verify_only"]).expect(0);
}
