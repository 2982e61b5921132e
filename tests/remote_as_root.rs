//! What of a server's safety needs root to be shown: other users at its socket, devices that two servers
//! want. Where it cannot be had, a trial is ignored and says why.

#![allow(clippy::print_stderr, reason = "says why trials are skipped")]
#![allow(clippy::disallowed_methods, reason = "limits of the tests themselves")]
#![allow(clippy::unwrap_used, reason = "a test that cannot have what it needs has nothing to say")]

mod common;
#[allow(dead_code, reason = "its own tests use the rest")]
#[path = "remote_hostile/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{BINARY, Lab, MIB, Running};
use libtest_mimic::{Arguments, Trial};
use server::Server;

type Check = fn();

fn main() {
    let arguments = Arguments::from_args();
    let users = why_not("setpriv", None);
    let loops = why_not("losetup", Some("/dev/loop-control"));
    let trials: [(&str, Check, &Option<String>); 3] = [
        ("a_socket_is_for_root_and_the_servers_user_whatever_its_mode", other_users, &users),
        ("a_device_is_one_runs_at_a_time_by_all_its_names_and_for_all_servers", devices, &loops),
        ("a_name_that_is_repointed_does_not_lead_to_a_device_that_is_not_allowed", repointed, &loops),
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

fn why_not(program: &str, device: Option<&str>) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    if !places.iter().any(|place| Path::new(place).join(program).exists()) {
        return Some(format!("no {program}"));
    }
    device.filter(|device| !Path::new(device).exists()).map(|device| format!("no {device}"))
}

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn other_users() {
    let server = Server::at_socket("");
    server.lab.file("job.toml", "[[job]]\nioengine = \"null\"\nsize = \"1m\"\n");
    // The other user has to get at both.
    fs::copy(BINARY, server.lab.path("program")).unwrap();
    open_to_all(&server.lab.path(""), 0o755);
    let as_nobody = || {
        let way = format!("--client=unix:{}", server.socket().display());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(server.lab.path("program")).arg(server.lab.path("job.toml"));
        command.args([way.as_str(), "--server-timeout=2"]).current_dir("/");
        Running::of(command).end()
    };
    as_nobody().expect(4).says("Permission denied");
    open_to_all(&server.socket(), 0o666);
    as_nobody().expect(4);
    assert!(server.log().contains("user 65534 is neither root nor the server's own"), "{}", server.log());
    assert!(server.status().runs.is_empty());
    server.end();
}

/// A loop device.
struct Loop(String);

impl Loop {
    fn new(lab: &Lab) -> Loop {
        fs::File::create(lab.path("image")).unwrap().set_len(16 * MIB).unwrap();
        let made = Command::new("losetup").args(["-f", "--show"]).arg(lab.path("image")).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Loop(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

fn repointed() {
    let lab = Lab::new();
    let allowed = Loop::new(&lab);
    let other_lab = Lab::new();
    let forbidden = Loop::new(&other_lab);
    let link = lab.path("name");
    std::os::unix::fs::symlink(&allowed.0, &link).unwrap();
    let repoint = format!("ln -sfn {} {}", forbidden.0, link.display());
    let server = Server::at_socket(&format!("devices = [{:?}]\ncommands = [{repoint:?}]\n", allowed.0));
    let job = format!(
        "[global]\nioengine = \"psync\"\nrw = \"write\"\nbs = \"4k\"\nsize = \"64k\"\n\
         [[job]]\nname = \"first\"\nfilename = \"file\"\nexec_postrun = {repoint:?}\n\
         [[job]]\nname = \"second\"\nstonewall = true\nfilename = {:?}\nend_fsync = true\n",
        link.display().to_string()
    );
    let done = server.run(&job, &[]);
    for (device, lab) in [(&forbidden, &other_lab), (&allowed, &lab)] {
        let _ = Command::new("blockdev").args(["--flushbufs", &device.0]).status();
        assert!(lab.bytes("image").iter().all(|&byte| byte == 0), "{} was written to: {done:#?}", device.0);
    }
    done.expect(6).says(&forbidden.0);
    // By its name now it is what it is.
    let again = server.run(&job.replace("exec_postrun", "#"), &[]);
    assert!(again.code != Some(0) && again.stderr.contains("none of the devices"), "{again:#?}");
}

fn devices() {
    let lab = Lab::new();
    let device = Loop::new(&lab);
    let more = format!("devices = [{:?}]\n", device.0);
    let (one, two) = (Server::at_socket(&more), Server::at_socket(&more));
    std::os::unix::fs::symlink(&device.0, lab.path("other name")).unwrap();
    let job = |path: &str, more: &str| {
        format!(
            "[[job]]\nfilename = {path:?}\nioengine = \"psync\"\nrw = \"randwrite\"\nbs = \"4k\"\nsize = \"1m\"\n{more}\n"
        )
    };
    fs::create_dir_all(one.lab.path("client")).unwrap();
    one.lab.file("client/long.toml", job(&device.0, "time_based = true\nruntime = \"60s\""));
    let way = format!("--client=unix:{}", one.socket().display());
    let first = one.lab.spawn(&["client/long.toml", &way]);
    let begun = std::time::Instant::now();
    while one.status().runs.first().is_none_or(|run| run.progress.is_none()) {
        assert!(begun.elapsed() < server::LIMIT, "{}", one.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for name in [device.0.clone(), lab.path("other name").display().to_string()] {
        let done = one.run(&job(&name, ""), &[]);
        assert!(done.code != Some(0) && done.stderr.contains("is in use by run"), "{done:#?}");
        let done = two.run(&job(&name, ""), &[]);
        assert!(done.code != Some(0) && done.stderr.contains("refusing to write"), "{done:#?}");
    }
    first.signal(rustix::process::Signal::INT);
    first.end();
    two.run(&job(&device.0, ""), &[]).expect(0);
    drop((one, two));
    drop(device);
}
