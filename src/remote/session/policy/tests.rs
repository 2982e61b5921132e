use super::*;
use crate::job::{parse, table};

struct Lab {
    folder: tempfile::TempDir,
    policy: Policy,
}

fn lab(devices: &[&str], commands: &[&str]) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    for name in ["jobs/runs/1", "locks", "outside"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let told = session::Policy {
        directory: folder.path().join("jobs").display().to_string(),
        devices: owned(devices),
        commands: owned(commands),
        lock_directory: folder.path().join("locks").display().to_string(),
        own: vec![folder.path().join("jobs/server.lock").display().to_string()],
        max_memory_bytes: 0,
    };
    let policy = Policy::new(&told, &folder.path().join("jobs/runs/1")).unwrap();
    Lab { folder, policy }
}

fn judge(lab: &Lab, lines: &str) -> Result<(), String> {
    let text = format!("[[job]]\nioengine = \"psync\"\nsize = \"1m\"\n{lines}\n");
    let files = [("j".to_owned(), text)];
    lab.policy.check_text(&files, &[])?;
    let jobs = parse(&files, &[]).unwrap_or_else(|why| panic!("{lines}: {why}"));
    lab.policy.check_jobs(&jobs, "")
}

#[test]
fn every_option_that_takes_a_text_has_its_rule() {
    let free = ["string", "path", "name", "command", "file", "director", "device", "text"];
    // Numbers of CPUs, nodes and clocks, and words of a small language.
    let closed = [
        "cpumask",
        "numa_cpu_nodes",
        "numa_mem_policy",
        "cpus_allowed",
        "log_compression_cpus",
        "log_alternate_epoch_clock_id",
        "write_hint",
        "ioengine",
        "file_service_type",
        "filesize",
        "ignore_error",
        "sqthread_poll_cpu",
        "iova_mode",
        "filetype",
        "sim_faults",
        "steadystate",
        "verify_async_cpus",
        "wrr_priority",
    ];
    let mut unknown = Vec::new();
    for option in table() {
        let form = option.form();
        let is_free = free.iter().any(|word| form.contains(word))
            && !form.starts_with("one of")
            && !form.starts_with("time")
            && !form.starts_with("integer")
            && !form.starts_with("size");
        let is_known = RULES.iter().any(|(name, _)| *name == option.name) || closed.contains(&option.name);
        if is_free && !is_known {
            unknown.push(format!("{}: {form}", option.name));
        }
    }
    assert!(unknown.is_empty(), "decide what a server does with them: {unknown:#?}");
    for (name, _) in RULES {
        assert!(table().iter().any(|option| option.name == *name), "there is no option {name}");
    }
}

#[test]
fn files_stay_below_the_directory_by_whatever_name() {
    let lab = lab(&[], &[]);
    let outside = lab.folder.path().join("outside");
    std::os::unix::fs::symlink(&outside, lab.folder.path().join("jobs/link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", lab.folder.path().join("jobs/dangling")).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    fs::hard_link(outside.join("secret"), lab.folder.path().join("jobs/hard")).unwrap();
    for option in ["filename", "write_iolog", "read_iolog"] {
        let jobs =
            if option == "read_iolog" { "[[job]]\nioengine = \"psync\"" } else { "[[job]]\nsize = \"1m\"" };
        let jobs = parse(&[("j".to_owned(), format!("{jobs}\n{option} = \"hard\""))], &[]).unwrap();
        let why = lab.policy.check_jobs(&jobs, "").unwrap_err();
        assert!(why.contains("a hard link"), "{why}");
    }
    for fine in
        ["filename = \"data\"", "directory = \"sub\"", "write_bw_log = \"x\"", "filename = \"new/../data\""]
    {
        let judged = judge(&lab, fine);
        // A directory that is not there cannot be left again.
        assert_eq!(judged.is_ok(), !fine.contains(".."), "{fine}: {judged:?}");
    }
    for path in
        ["../outside/x", "/etc/passwd", "link/x", "runs/1/run.state", "server.lock", "dangling", "../locks/x"]
    {
        for option in ["filename", "directory", "write_iolog", "write_bw_log", "opendir"] {
            if option == "write_bw_log" && ["dangling", "server.lock"].contains(&path) {
                // Its files have more behind their names.
                continue;
            }
            let why = judge(&lab, &format!("{option} = \"{path}\"")).expect_err(&format!("{option} {path}"));
            assert!(why.contains("job `job`"), "{why}");
        }
        let why = judge(&lab, &format!("mem = \"mmap:{path}\"")).expect_err(path);
        assert!(why.contains(path) || why.contains("dangling"), "{why}");
    }
    for lines in [
        "read_iolog = \"/etc/passwd\"\nsize = \"1m\"",
        "directory = \"link\"\nfilename = \"x\"",
        "read_iolog = \"log\"\nreplay_redirect = \"/etc/passwd\"",
    ] {
        let text = format!("[[job]]\nioengine = \"psync\"\n{}\n", lines.replace("\nsize = \"1m\"", ""));
        let jobs = parse(&[("j".to_owned(), text)], &[]).unwrap();
        assert!(lab.policy.check_jobs(&jobs, "").is_err(), "{lines}");
    }
    assert!(lab.policy.check_jobs(&[], "../agg").is_err());
    assert_eq!(lab.policy.check_jobs(&[], "agg"), Ok(()));
}

#[test]
fn no_pattern_is_read_from_a_file_elsewhere_however_it_is_written() {
    let lab = lab(&[], &[]);
    let files = |text: &str| [("j".to_owned(), text.to_owned())];
    for text in [
        "[[job]]\nverify_pattern = \"'/etc/passwd'\"",
        "[global]\nbuffer_pattern = \"0x1'/etc/passwd'\"",
        "[[job]]\n\"verify\\u005fpattern\" = \"\\u0027/etc/passwd\\u0027\"",
        "[[job]]\nbuffer_pattern = \"\\\"a'b\\\"'/etc/passwd'\"",
        // What the parser would go on behind.
        "[[job]]\nbroken\nbuffer_pattern = \"'/etc/passwd'\"",
        "[[job]]\nbroken\n\"buffer\\u005fpattern\" = \"'/etc/passwd'\"",
    ] {
        assert!(lab.policy.check_text(&files(text), &[]).is_err(), "{text}");
    }
    let over = [("verify_pattern".to_owned(), "'/etc/passwd'".to_owned())];
    assert!(lab.policy.check_text(&[], &over).is_err());
    for text in ["[[job]]\nverify_pattern = \"'mine'0x11'mine'\"", "[[job]]\nbroken", "[[job]]\nname = 'x'"] {
        assert_eq!(lab.policy.check_text(&files(text), &[]), Ok(()), "{text}");
    }
}

#[test]
fn devices_and_commands_are_those_of_the_lists() {
    let lab = lab(&["/dev/nul?", "0000:5E:00.0 ns=2", "0000:5f:*"], &["echo b > /proc/sysrq-trigger"]);
    assert_eq!(judge(&lab, "filename = \"/dev/null\""), Ok(()));
    let why = judge(&lab, "filename = \"/dev/zero\"").unwrap_err();
    assert!(why.contains("devices = [\"/dev/zero\"]"), "{why}");
    assert_eq!(judge(&lab, "trigger_remote = \"echo b > /proc/sysrq-trigger\""), Ok(()));
    for option in ["trigger_remote", "exec_prerun", "exec_postrun"] {
        let why = judge(&lab, &format!("{option} = \"echo b\"")).unwrap_err();
        assert!(why.contains(option) && why.contains("commands = [\"echo b\"]"), "{why}");
    }
    // The client's own: nobody runs or reads them here.
    assert_eq!(judge(&lab, "trigger = \"rm -rf /\"\ntrigger_file = \"/x\"\nstate_dir = \"/y\""), Ok(()));
    for refused in ["cgroup = \"x\"", "filename = \"data\"\nioscheduler = \"none\""] {
        assert!(judge(&lab, refused).is_err(), "{refused}");
    }
    let namespace = |text: &str| lab.policy.check_namespace(text);
    assert!(namespace("trtype=PCIe traddr=0000:5e:00.0 ns=2").is_ok());
    assert!(namespace("trtype=PCIe traddr=0000:5e:00.0 ns=1").is_err());
    assert!(namespace("0000:5f:00.0").is_ok());
    assert!(namespace("trtype=TCP traddr=10.0.0.1 subnqn=nqn.2016-06.io.spdk:c1").is_err());
}

#[test]
fn patterns_match_as_shells_do() {
    for (pattern, name, does) in [
        ("/dev/nvme*", "/dev/nvme0n1", true),
        ("/dev/nvme*", "/dev/nvme/x", false),
        ("/dev/nvme?n1", "/dev/nvme0n1", true),
        ("/dev/nvme0n1", "/dev/nvme0n1p1", false),
        ("*", "S3RIAL", true),
        ("*", "/dev/sda", false),
        ("/dev/*/a*c", "/dev/x/abbc", true),
        ("a*b*c", "axbxbxc", true),
        ("", "", true),
        ("", "x", false),
        ("**", "x", true),
    ] {
        assert_eq!(matches(pattern, name), does, "{pattern} {name}");
    }
}
