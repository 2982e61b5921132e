//! Logs through the program: every I/O of the report in them, and what is said where they
//! are not complete. Beside fio's own: `logs_against_fio`.

mod common;

use std::io::Read;

use common::{Lab, first, float, jobs, near, number, with};

/// The columns of each line of a log.
fn columns(lab: &Lab, name: &str) -> Vec<Vec<u64>> {
    parse(&String::from_utf8(lab.bytes(name)).expect(name))
}

fn parse(text: &str) -> Vec<Vec<u64>> {
    let number = |field: &str| match field.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => field.parse(),
    };
    let line = |line: &str| line.split(", ").map(|field| number(field).expect(line)).collect();
    text.lines().map(line).collect()
}

fn column(lines: &[Vec<u64>], at: usize) -> Vec<u64> {
    lines.iter().map(|line| line[at]).collect()
}

fn gunzipped(lab: &Lab, name: &str) -> String {
    let mut text = String::new();
    let bytes = lab.bytes(name);
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect(name);
    text
}

/// I/Os of the first job in the report.
fn ios(json: &serde_json::Value) -> u64 {
    ["read", "write", "trim"].iter().map(|op| first(json, &format!("/{op}/total_ios"))).sum()
}

const NULL: [&str; 6] =
    ["--ioengine=null", "--size=1g", "--rw=randrw", "--iodepth=8", "--name=j", "--number_ios=20000"];

#[test]
fn every_io_of_the_report_has_its_line_and_the_columns_agree_with_each_other() {
    let lab = Lab::new();
    let job = ["--filename=data", "--size=1m", "--rw=randrw", "--iodepth=8", "--name=j", "--bs=512,4k"];
    let logs = ["--write_lat_log", "--write_bw_log", "--log_offset", "--log_issue_time", "--log_prio"];
    let json = lab.json(&with(&with(&job, &logs), &["--ioengine=io_uring"]));
    let [slat, clat, lat, bw] =
        ["slat", "clat", "lat", "bw"].map(|kind| columns(&lab, &format!("j_{kind}.1.log")));
    assert_eq!(lat.len() as u64, ios(&json));
    let lengths = [512, 4096];
    for (((slat, clat), lat), bw) in slat.iter().zip(&clat).zip(&lat).zip(&bw) {
        let [time, value, op, bytes, offset, priority, issued] = clat[..] else { panic!("{clat:?}") };
        assert_eq!(slat[1] + value, lat[1], "submission and completion make both");
        assert_eq!(bytes, lengths[op as usize]);
        assert_eq!(offset % bytes, 0);
        assert_eq!((priority, lat[6]), (0, 0));
        assert!((issued + value) / 1_000_000 == time && slat[6] == issued, "{clat:?}");
        assert_eq!(bw[1], bytes * 1_000_000_000 / 1024 / value, "KiB a second of one I/O");
        assert_eq!(bw[2..6], clat[2..6]);
    }
    let reads = column(&lat, 2).iter().filter(|&&op| op == 0).count() as u64;
    assert_eq!(reads, first(&json, "/read/total_ios"));
}

#[test]
fn windows_add_up_to_the_report() {
    let lab = Lab::new();
    let job = ["--ioengine=null", "--size=1g", "--rw=randrw", "--iodepth=8", "--name=j", "--time_based"];
    let logs = [
        "--runtime=600ms",
        "--log_avg_msec=100",
        "--log_window_value=both",
        "--write_bw_log",
        "--write_lat_log",
        "--write_iops_log",
        "--write_hist_log",
        "--log_hist_msec=100",
        "--log_hist_coarseness=2",
    ];
    let json = lab.json(&with(&job, &logs));
    let [clat, bw, iops, hist] =
        ["clat", "bw", "iops", "clat_hist"].map(|kind| columns(&lab, &format!("j_{kind}.1.log")));
    for (op, name) in ["read", "write"].into_iter().enumerate() {
        let of = |lines: &[Vec<u64>]| -> Vec<Vec<u64>> {
            let direction = if lines[0].len() > 100 { 1 } else { 3 };
            lines.iter().filter(|line| line[direction] == op as u64).cloned().collect()
        };
        let (clat, bw, iops, hist) = (of(&clat), of(&bw), of(&iops), of(&hist));
        assert!((2..=7).contains(&clat.len()) && clat.len() == bw.len() && bw.len() == iops.len());
        let bytes = first(&json, &format!("/{name}/io_bytes")) as f64;
        let total = first(&json, &format!("/{name}/total_ios"));
        let (mut before, mut moved, mut ended) = (0, 0.0, 0.0);
        for (bw, iops) in bw.iter().zip(&iops) {
            let seconds = (bw[0] - before) as f64 / 1000.0;
            before = bw[0];
            moved += bw[1] as f64 * 1024.0 * seconds;
            ended += iops[1] as f64 * seconds;
            assert_eq!((bw[1], iops[1], &bw[4..]), (bw[2], iops[2], &[0, 0][..]));
        }
        assert!(near(moved, bytes, bytes / 20.0), "{name}: {moved} of {bytes} bytes");
        assert!(near(ended, total as f64, total as f64 / 20.0), "{name}: {ended} of {total} I/Os");
        let largest = column(&clat, 2).into_iter().max();
        assert_eq!(largest, Some(first(&json, &format!("/{name}/clat_ns/max"))), "{name}");
        assert!(clat.iter().all(|line| line[1] <= line[2]), "a mean is no more than the largest");
        assert!(hist.iter().all(|line| line.len() == 3 + 1856 / 4 && line[2] == 4096));
        let counted: u64 = hist.iter().flat_map(|line| &line[3..]).sum();
        assert_eq!(counted, total, "{name}: every I/O is in a histogram");
    }
}

#[test]
fn nothing_is_logged_of_a_ramp() {
    let lab = Lab::new();
    let job = ["--ioengine=sim", "--filename=d", "--size=1m", "--rw=randread", "--name=j", "--time_based"];
    let times = ["--sim_latency=1ms", "--ramp_time=400ms", "--runtime=200ms", "--write_lat_log"];
    let json = lab.json(&with(&job, &times));
    let lines = columns(&lab, "j_lat.1.log");
    assert_eq!(lines.len() as u64, ios(&json));
    let runtime = first(&json, "/read/runtime");
    assert!(column(&lines, 0).iter().all(|&time| time <= runtime), "times begin where the ramp ends");
}

#[test]
fn times_are_those_of_a_clock_where_one_is_asked_for() {
    let lab = Lab::new();
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let before = now();
    lab.run(&with(&NULL, &["--write_iops_log", "--log_unix_epoch"])).expect(0);
    let times = column(&columns(&lab, "j_iops.1.log"), 0);
    // The clock may be set meanwhile, by little.
    assert!(times.iter().all(|time| (before - 1000..=now() + 1000).contains(time)), "{before} {times:?}");
}

#[test]
fn workers_are_counted_through_and_logs_written_anew() {
    let lab = Lab::new();
    let text = "[global]\nioengine = \"null\"\nsize = \"1m\"\nwrite_iops_log = \"x\"\n[[job]]\nnumjobs = 2\n\
                [[job]]\nwrite_iops_log = true\nstonewall = true\n";
    lab.file("j.toml", text);
    for _ in 0..2 {
        lab.run(&["j.toml"]).expect(0);
        let names: Vec<String> = lab.names().into_iter().filter(|name| name.ends_with(".log")).collect();
        assert_eq!(names, ["job2_iops.3.log", "x_iops.1.log", "x_iops.2.log"]);
        assert!(names.iter().all(|name| columns(&lab, name).len() == 256), "4 KiB of 1 MiB each");
    }
}

#[test]
fn workers_may_share_a_log_which_then_grows_with_each_run() {
    let lab = Lab::new();
    let job =
        ["--ioengine=null", "--size=1m", "--numjobs=3", "--name=j", "--write_bw_log", "--per_job_logs=0"];
    for run in 1..=2 {
        lab.run(&job).expect(0);
        let lines = columns(&lab, "j_bw.log");
        assert_eq!(lines.len(), run * 3 * 256);
        assert!(lines.iter().all(|line| line.len() == 5));
        lab.run(&with(&job, &["--log_store_compressed"])).expect(0);
        assert_eq!(parse(&gunzipped(&lab, "j_bw.log.gz")).len(), run * 3 * 256);
    }
}

#[test]
fn a_compressed_log_holds_the_same() {
    let lab = Lab::new();
    let json = lab.json(&with(&NULL, &["--write_lat_log=z", "--log_store_compressed", "--log_offset"]));
    let lines = parse(&gunzipped(&lab, "z_clat.1.log.gz"));
    assert_eq!(lines.len() as u64, ios(&json));
    assert!(lines.iter().all(|line| line.len() == 6));
    // The engine has no doorbell. gzip takes no file without a head.
    assert_eq!(
        (gunzipped(&lab, "z_slat.1.log.gz").as_str(), &lab.bytes("z_slat.1.log.gz")[..2]),
        ("", &[0x1f, 0x8b][..])
    );
}

#[test]
fn what_could_not_be_logged_in_time_is_counted_and_told() {
    let lab = Lab::new();
    let job = ["--ioengine=null", "--size=1t", "--rw=randread", "--iodepth=64", "--name=j", "--time_based"];
    let logs =
        ["--runtime=300ms", "--log_entries=1024", "--write_bw_log", "--write_lat_log", "--write_iops_log"];
    let done = lab.run(&with(&with(&job, &logs), &["--log_store_compressed", "--output-format=json"]));
    let json = done.json();
    let text = gunzipped(&lab, "j_clat.1.log.gz");
    let (lines, last) = match text.lines().last().and_then(|line| line.strip_prefix("# incomplete: ")) {
        Some(said) => (text.lines().count() as u64 - 1, said.to_owned()),
        None => (text.lines().count() as u64, "0 of".to_owned()),
    };
    let missing: u64 = last.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(lines + missing, ios(&json), "{last}");
    if missing > 0 {
        assert!(json.to_string().contains(&format!("{missing} of {} I/Os are missing", lines + missing)));
        done.expect(4).says("log_entries");
    } else {
        done.expect(0);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_found_before_anything_is() {
    let lab = Lab::new();
    lab.marked("data", 1 << 20);
    let job = ["--filename=data", "--size=1m", "--rw=write", "--name=j"];
    lab.run(&with(&job, &["--write_bw_log=none/x"])).expect(4).says("none/x_bw.1.log");
    std::fs::create_dir(lab.path("x_bw.1.log")).unwrap();
    lab.run(&with(&job, &["--write_bw_log=x"])).expect(4).says("no file");
    lab.run(&with(&job, &["--bandwidth-log=none/x"])).expect(4).says("none/x-read_bw.log");
    assert!(common::changed(&lab.bytes("data"), 4096).iter().all(|changed| !changed));
    lab.marked("y_bw.1.log", 1 << 20);
    let same = ["--filename=y_bw.1.log", "--size=1m", "--rw=read", "--name=j", "--write_bw_log=y"];
    lab.run(&same).expect(4).says("reads or writes");
    let both = with(&job, &["--write_lat_log=z", "--write_iolog=z_lat.1.log"]);
    lab.run(&both).expect(4).says("z_lat.1.log would be written over what a job");
    assert_eq!(lab.bytes("y_bw.1.log").len(), 1 << 20);
}

#[test]
fn a_full_disk_is_told_and_the_run_goes_on() {
    let lab = Lab::new();
    std::os::unix::fs::symlink("/dev/full", lab.path("j_bw.1.log")).unwrap();
    let job = with(&NULL, &["--write_bw_log", "--write_iops_log", "--output-format=json"]);
    let done = lab.run(&job).expect(4).says("j_bw.1.log: No space left");
    let json = done.json();
    assert_eq!(ios(&json), 20000);
    assert!(json.to_string().contains("No space left"), "the report says so too");
    assert_eq!(columns(&lab, "j_iops.1.log").len(), 20000, "other logs are whole");
}

#[test]
fn a_log_ends_with_a_whole_line_where_there_is_no_more_room() {
    for more in [&[][..], &["--per_job_logs=false", "--numjobs=2"]] {
        let lab = Lab::new();
        let job = ["--ioengine=null", "--size=1g", "--rw=read", "--name=j", "--number_ios=20000"];
        let job = with(&with(&job, &["--write_iops_log=l"]), more);
        // Blocks of 512 bytes; beyond them a write is cut short, as on a full disk.
        let mut limited = lab.command("sh");
        let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"";
        limited.args(["-c", script, common::BINARY]).args(job);
        common::Running::of(limited).end().expect(4).says("File too large");
        let name = lab.names().remove(0);
        assert!(lab.bytes(&name).ends_with(b", 0\n"), "{name}");
        assert!(columns(&lab, &name).iter().all(|line| line.len() == 5), "{name}");
    }
}

#[test]
fn the_bandwidth_of_all_jobs_together_is_logged() {
    let lab = Lab::new();
    let job =
        ["--ioengine=null", "--size=1g", "--rw=randread", "--numjobs=2", "--time_based", "--runtime=1500ms"];
    let json = lab.json(&with(&job, &["--bandwidth-log", "--bwavgtime=100", "--group_reporting"]));
    let [read, write, trim] = ["read", "write", "trim"].map(|op| columns(&lab, &format!("agg-{op}_bw.log")));
    assert!(read.len() > 2 && read.len() == write.len() && read.len() == trim.len());
    assert!(column(&read, 0).is_sorted() && column(&write, 1).iter().all(|&rate| rate == 0));
    assert!(trim.iter().all(|line| line[1..] == [0, 2, 0, 0]));
    let (mut before, mut moved) = (read[0][0] - 100, 0);
    for line in &read {
        moved += line[1] * 1024 * (line[0] - before) / 1000;
        before = line[0];
    }
    let bytes = first(&json, "/read/io_bytes");
    assert!((bytes / 2..bytes * 2).contains(&moved), "{moved} of {bytes}");
    lab.json(&with(&job, &["--bandwidth-log=mine"]));
    assert!(lab.path("mine-trim_bw.log").exists());
}

#[test]
fn intervals_of_the_report_are_as_long_as_is_said() {
    let job = ["--ioengine=null", "--size=1g", "--rw=randread", "--time_based", "--runtime=900ms"];
    let json = Lab::new().json(&with(&job, &["--bwavgtime=50", "--iopsavgtime=300ms"]));
    let samples = |of: &str| number(&jobs(&json)[0], &format!("/read/{of}_samples"));
    let (bw, iops) = (samples("bw"), samples("iops"));
    assert!(bw > iops && iops <= 3 && bw <= 18, "{bw} {iops}");
    assert!(float(&jobs(&json)[0], "/read/bw_mean") > 0.0);
}

#[test]
fn more_memory_than_there_is_for_logs_is_refused_before_anything_is_made() {
    for log in ["write_bw_log = true\nlog_entries = \"1m\"", "write_hist_log = true\nlog_hist_msec = 1"] {
        let lab = Lab::new();
        let global = format!("[global]\nioengine = \"null\"\nsize = \"1g\"\nnumjobs = 4096\n{log}\n");
        lab.file("j.toml", global + &"[[job]]\n".repeat(8));
        lab.run(&["j.toml"]).expect(2).says("for logs").says("available").says("log_entries");
        assert_eq!(lab.names(), ["j.toml"]);
    }
}

#[test]
fn options_that_need_others_say_so() {
    let needs = [
        ("--write_hist_log", "log_hist_msec"),
        ("--log_issue_time", "write_lat_log"),
        ("--log_window_value=max", "log_avg_msec"),
        ("--log_alternate_epoch_clock_id=1", "log_alternate_epoch"),
        ("--log_alternate_epoch_clock_id=2", "processor time"),
        ("--log_avg_msec=10us", "1ms"),
        ("--bwavgtime=0", "1ms"),
        ("--log_compression=64k", "log_store_compressed"),
        ("--log_entries=100", "1024"),
        ("--log_hist_coarseness=7", "6"),
    ];
    let lab = Lab::new();
    for (option, other) in needs {
        lab.run(&["--ioengine=null", "--size=1m", "--check", option]).expect(2).says(other);
    }
    let job = ["--ioengine=null", "--size=1m", "--check", "--gtod_reduce"];
    lab.run(&with(&job, &["--write_hist_log", "--log_hist_msec=100"])).expect(2).says("stay empty");
    lab.run(&with(&job, &["--write_lat_log", "--log_avg_msec=100"])).expect(2).says("stay empty");
    lab.run(&with(&job, &["--write_lat_log"])).expect(0);
    assert!(lab.names().is_empty());
}
