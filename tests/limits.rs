//! What a text, a job or a client can make the program take of the machine's memory.

mod common;

use std::process::Command;

use common::servers::Bench;
use common::{BINARY, Lab, Running};
use fio_spdk::job;
use fio_spdk::run::estimated_memory;

const MIB: usize = 1 << 20;

/// The program with at most this much address space, in MiB: what needs more fails.
fn within(lab: &Lab, mib: u64, arguments: &[&str]) -> Running {
    let mut command: Command = lab.command("sh");
    command.args(["-c", &format!("ulimit -v {} && exec \"$@\"", mib * 1024), "sh", BINARY]).args(arguments);
    Running::of(command)
}

/// Texts that are made to fill memory. Four times as long, as job files may be, they took gigabytes.
fn hostile_texts() -> Vec<(&'static str, String)> {
    vec![
        ("nothing but errors", "= =\n".repeat(MIB)),
        ("errors within one value", format!("a = \"{}\"\n", "\\q".repeat(MIB / 2))),
        ("an array of arrays", format!("a = [{}]\n", "[],".repeat(MIB))),
        ("as many arrays as may be", format!("[[job]]\nfilename = [{}]\n", "[],".repeat(330_000))),
        ("a deep array", format!("[[job]]\nbs = {}\n", "[".repeat(2 * MIB))),
        ("a key set again and again", "a = 1\n".repeat(160_000)),
        ("tables", (0..100_000).map(|at| format!("[a{at}]\n")).collect()),
        ("unknown options", (0..80_000).map(|at| format!("k{at} = 1\n")).collect()),
        (
            "a long text that every job has a copy of",
            format!("[global]\ndescription = \"{}\"\n{}", "x".repeat(15 * MIB), "[[job]]\n".repeat(4000)),
        ),
    ]
}

#[test]
fn no_text_makes_the_parser_take_more_than_400_mib() {
    let lab = Lab::new();
    for (what, text) in hostile_texts() {
        lab.file("job.toml", &text);
        let done = within(&lab, 400, &["--check", "job.toml"]).end();
        assert!(done.code == Some(2) && done.stderr.contains("error: "), "{what}: {done:?}");
        assert!(done.stderr.len() < 200_000, "{what}: {} bytes of messages", done.stderr.len());
    }
}

#[test]
fn a_server_reads_no_settings_that_fill_its_memory() {
    let lab = Lab::new();
    for (what, text) in hostile_texts() {
        lab.file("server.toml", &text.as_bytes()[..text.len().min(MIB)]);
        let done = within(&lab, 400, &["server", "--config", "server.toml"]).end();
        assert!(done.code == Some(2) && done.stderr.contains("error: "), "{what}: {done:?}");
    }
}

#[test]
fn twenty_thousand_overrides_are_read_and_the_last_of_each_wins() {
    let lab = Lab::new();
    let mut arguments: Vec<String> = (1..20_000).map(|at| format!("--iodepth={}", at % 1000 + 1)).collect();
    arguments.extend(["--iodepth=7", "--ioengine=null", "--size=1m", "--print-job"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = lab.run(&arguments).expect(0);
    assert!(done.stdout.contains("iodepth = 7\n"), "{done:?}");
}

/// The peak of the resident memory of a process so far, in bytes.
fn peak(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_run_takes_no_more_memory_than_was_estimated_and_more_than_half_of_it() {
    let lab = Lab::new();
    lab.file("data", vec![1; 64 * MIB]);
    // What the estimate may be above the double of what is taken: the program itself and what is taken rarely.
    let spare = 48 << 20;
    let file = "filename = \"data\"\nsize = \"64m\"\n";
    let jobs = [
        format!("ioengine = \"psync\"\nrw = \"read\"\nbs = \"4k\"\n{file}"),
        format!(
            "ioengine = \"io_uring\"\nrw = \"randread\"\nbs = \"256k\"\niodepth = 64\nnumjobs = 8\n{file}"
        ),
        format!("ioengine = \"io_uring\"\nrw = \"read\"\nbs = \"1m\"\niodepth = 256\n{file}"),
        format!("ioengine = \"psync\"\nrw = \"randread\"\nbs = \"4k\"\nnumjobs = 64\n{file}"),
        format!("ioengine = \"psync\"\nrw = \"randrw\"\nbs = \"1m\"\nnumjobs = 32\n{file}"),
        "ioengine = \"sim\"\nrw = \"randwrite\"\nbs = \"64k\"\niodepth = 64\nsize = \"256m\"\n".to_owned(),
        "ioengine = \"null\"\nrw = \"randwrite\"\nbs = \"64k\"\niodepth = 128\nsize = \"1g\"\nnumjobs = 4\n\
         verify = \"crc32c\"\ndo_verify = false\n"
            .to_owned(),
    ];
    for job in jobs {
        let text = format!(
            "[[job]]\nname = \"j\"\ngroup_reporting = true\ntime_based = true\nruntime = \"1h\"\n{job}"
        );
        let parsed = job::parse(&[("j.toml".to_owned(), text.clone())], &[]).expect("a job");
        let enough = u64::from(parsed[0].numjobs) * (u64::from(parsed[0].iodepth) * 8 + 256);
        // A drive in memory is full when all of it has been written.
        let enough = if job.contains("sim") { 16_384 } else { enough };
        let estimate = estimated_memory(parsed).expect("an estimate");
        lab.file("j.toml", &text);
        let mut running = lab.spawn(&["j.toml", "--output-format=json", "--status-interval=200ms"]);
        // Every worker has had every buffer in use, and what is written has gone around.
        running.wait_for_report("I/O of all workers", |json| {
            let done = common::first(json, "/read/total_ios") + common::first(json, "/write/total_ios");
            done > enough
        });
        let peak = peak(&running);
        running.signal(rustix::process::Signal::KILL);
        assert!(peak <= estimate, "{peak} bytes, estimated {estimate}: {job}");
        assert!(estimate <= 2 * peak + spare, "{peak} bytes, estimated {estimate}: {job}");
        eprintln!("{peak} of {estimate}: {job}");
        running.end();
    }
}

/// A job whose buffers need 8 GiB.
const LARGE: [&str; 8] = [
    "--name=j",
    "--ioengine=io_uring",
    "--filename=data",
    "--size=16g",
    "--numjobs=8",
    "--iodepth=1024",
    "--bs=1m",
    "--rw=write",
];

#[test]
fn a_run_that_needs_more_memory_than_there_is_is_refused_before_it_starts() {
    let lab = Lab::new();
    let done = within(&lab, 4096, &LARGE).end().expect(2).says("8GiB for buffers");
    for part in ["numjobs 8 × iodepth 1024 × bs 1MiB", "ulimit -v", "lower numjobs, iodepth or bs"] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    assert_eq!(lab.names(), Vec::<String>::new(), "nothing was made");
    // A million workers are not even counted one by one.
    let many = ["--name=j", "--ioengine=null", "--size=1t", "--numjobs=4096", "--bs=1g", "--iodepth=65536"];
    lab.run(&many).expect(2).says("of memory");
}

#[test]
fn whatever_memory_there_is_a_run_ends_with_a_sentence_and_never_by_a_crash() {
    let lab = Lab::new();
    let job = [
        "--name=j",
        "--rw=randrw",
        "--filename=data",
        "--size=4m",
        "--bs=64k",
        "--numjobs=4",
        "--iodepth=16",
    ];
    for engine in common::FILE_ENGINES {
        let mut codes = Vec::new();
        for mib in (100..420).step_by(20) {
            let arguments =
                [&job[..], &[engine, "--verify=crc32c", "--offset_increment=4m", "--group_reporting"]]
                    .concat();
            let done = within(&lab, mib, &arguments).end();
            let said = done.stderr.contains("error: ")
                || done.code == Some(0)
                || done.code.is_none_or(|code| code == 127);
            assert!(said && matches!(done.code, Some(0 | 2 | 4 | 127)), "{mib} MiB: {done:?}");
            assert!(
                !done.stderr.contains("panicked") && !done.stderr.contains("memory allocation of"),
                "{done:?}"
            );
            codes.push(done.code);
        }
        assert!(codes.contains(&Some(0)) && codes.contains(&Some(2)), "{codes:?}");
    }
}

#[test]
fn a_server_allows_each_run_so_much_memory_and_its_session_goes_before_anything_else() {
    let bench = Bench::with(1, "max_memory = \"256m\"");
    let (lab, client) = (&bench.lab, format!("--client={}", bench.address(0)));
    let job = |more: &[&'static str]| -> Vec<String> {
        let job: [&str; 7] = [
            "--name=j",
            "--ioengine=null",
            "--rw=randread",
            "--size=1t",
            "--bs=1m",
            "--time_based",
            "--runtime=1h",
        ];
        [client.clone()].into_iter().chain(job.iter().chain(more).map(|text| (*text).to_owned())).collect()
    };
    let run = |more: &[&'static str]| {
        let arguments = job(more);
        lab.spawn(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let done =
        run(&["--iodepth=300"]).end().expect(2).says("the server allows 256MiB (max_memory in server.toml)");
    assert!(done.stderr.contains("lower numjobs, iodepth or bs"), "{done:?}");
    let mut running = run(&["--iodepth=16", "--output-format=json", "--status-interval=100ms"]);
    running.wait_for_report("I/O", |json| !common::jobs(json).is_empty());
    let session = session_of(bench.process(0));
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{session}/{name}")).expect("a session");
    assert_eq!(read("oom_score_adj").trim(), "1000");
    let limits = read("limits");
    let data = limits.lines().find(|line| line.starts_with("Max data size")).expect("a limit");
    assert!(data.contains(&(512_u64 << 20).to_string()), "{data}");
    // The kernel ends it as where memory is short.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(session).expect("a process"),
        rustix::process::Signal::KILL,
    )
    .expect("it runs");
    running.end().expect(4).says("was killed by");
}

/// The process of the only run of a server.
fn session_of(server: u32) -> i32 {
    let server = server.to_string();
    let is_child = |id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(server.as_str())
    };
    let ids = std::fs::read_dir("/proc").expect("processes").flatten();
    let mut ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.find(is_child).expect("a session")
}

#[test]
fn memory_that_cannot_be_had_is_an_error_with_its_size_and_exit_code_4() {
    let lab = Lab::new();
    let text = "x".repeat(8 * MIB);
    lab.file("job.toml", format!("[[job]]\nioengine = \"null\"\nsize = \"1m\"\ndescription = \"{text}\"\n"));
    let mut failed = 0;
    for mib in (90..131).step_by(20) {
        let done = within(&lab, mib, &["--check", "job.toml"]).end();
        match done.code {
            Some(4) => {
                assert!(done.stderr.starts_with("error: out of memory: "), "{mib} MiB: {done:?}");
                assert!(done.stderr.contains(" bytes more could not be had"), "{mib} MiB: {done:?}");
                failed += 1;
            }
            // The shell could not start it, or it was enough.
            code => assert!(matches!(code, Some(0 | 126 | 127)), "{mib} MiB: {done:?}"),
        }
    }
    assert!(failed > 0, "no limit was too low: the test says nothing");
}
