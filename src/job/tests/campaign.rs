//! The table of a campaign: what it comes to, and what is refused.

use super::over;
use crate::base::units::SECOND_NS;
use crate::job::{Between, CampaignSpec, Diagnostics, JobSpec, StopOn, parse, parse_campaign};

const JOB: &str = "[[job]]\nfilename = \"f\"\nsize = \"1m\"\nrw = \"write\"\nverify = \"crc32c\"\n";
const LEAST: &str = "cycles = 3\nwindow = \"20s..40s\"\npower_off = \"off\"\n";

fn parsed(table: &str, job: &str) -> Result<(Vec<JobSpec>, CampaignSpec), Diagnostics> {
    parse_campaign(&("c.toml".to_owned(), format!("[campaign]\n{table}\n{job}")), &[])
}

fn spec(more: &str) -> CampaignSpec {
    parsed(&format!("{LEAST}{more}"), JOB).unwrap_or_else(|why| panic!("{more}\n{why}")).1
}

#[track_caller]
fn refused(table: &str, job: &str, line: usize, says: &[&str]) {
    let why = parsed(table, job).expect_err("accepted");
    let shown = why.render(false);
    assert!(says.iter().all(|part| shown.contains(part)), "{says:?} is not in\n{shown}");
    assert_eq!((why.iter().next().unwrap().line, why.iter().next().unwrap().file.as_str()), (line, "c.toml"));
}

#[test]
fn what_is_not_said_has_a_default() {
    let least = spec("");
    assert_eq!((least.cycles, least.window_ns), (3, (20 * SECOND_NS, 40 * SECOND_NS)));
    assert_eq!(
        (least.power_off_timeout_ns, least.power_on_timeout_ns, least.ready_timeout_ns),
        (60 * SECOND_NS, 60 * SECOND_NS, 120 * SECOND_NS)
    );
    assert_eq!((least.between, least.stop_on), (Between::Rewrite, StopOn::Never));
    assert_eq!((least.seed, least.serial, least.evidence, least.power_on), (None, None, None, None));
}

#[test]
fn every_entry_is_taken() {
    let all = spec(
        "seed = 5\npower_on = \"on\"\nwait_ready = \"ready\"\npower_off_timeout = 1\npower_on_timeout = \"2s\"\n\
         ready_timeout = \"3m\"\njudge_timeout = \"4h\"\nserial = \"S1\"\nbetween = \"continue\"\n\
         evidence = \"/e\"\nstop_on = \"violation\"",
    );
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        all,
        CampaignSpec {
            cycles: 3,
            window_ns: (20 * SECOND_NS, 40 * SECOND_NS),
            seed: Some(5),
            power_off: "off".to_owned(),
            power_on: text("on"),
            wait_ready: text("ready"),
            power_off_timeout_ns: SECOND_NS,
            power_on_timeout_ns: 2 * SECOND_NS,
            ready_timeout_ns: 180 * SECOND_NS,
            judge_timeout_ns: 4 * 3_600 * SECOND_NS,
            serial: text("S1"),
            between: Between::Continue,
            evidence: Some("/e".into()),
            stop_on: StopOn::Violation,
        }
    );
}

#[test]
fn wrong_entries_are_refused_where_they_stand() {
    for (entry, says) in [
        ("cycels = 4", "did you mean `cycles`?"),
        ("power_of = \"x\"", "did you mean `power_off`?"),
        ("whatever = 1", "it has cycles, window"),
        ("bs = \"4k\"", "`bs` is an option of jobs"),
        ("between = \"continu\"", "did you mean `continue`?"),
        ("stop_on = \"error\"", "none of the choices"),
        ("seed = -1", "must not be negative"),
        ("ready_timeout = 0", "above 0"),
        ("power_on = \"\"", "\"true\""),
        ("power_on = 3", "expected a string"),
        ("evidence = \"\"", "empty"),
    ] {
        refused(&format!("{LEAST}{entry}"), JOB, 5, &[says]);
    }
    for (table, says) in [
        ("cycles = 0\nwindow = 5\npower_off = \"x\"", "below 1"),
        ("cycles = 9999999\nwindow = 5\npower_off = \"x\"", "above 999999"),
    ] {
        refused(table, JOB, 2, &[says]);
    }
    for window in ["\"40s..20s\"", "\"20s..\"", "0", "\"x..y\"", "true"] {
        refused(&format!("cycles = 1\nwindow = {window}\npower_off = \"x\""), JOB, 3, &["`window`"]);
    }
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    refused("", JOB, 1, &["needs `cycles`", "needs `window`", "needs `power_off`", "cycles = 100"]);
}

#[test]
fn options_that_a_campaign_sets_itself_are_refused_wherever_they_stand() {
    for option in
        ["trigger = \"x\"", "trigger_timeout = \"5s\"", "state_dir = \"/s\"", "verify_state_load = true"]
    {
        refused(LEAST, &format!("{JOB}{option}\n"), 11, &["sets", "itself"]);
        refused(LEAST, &format!("[global]\n{option}\n{JOB}"), 7, &["sets", "itself"]);
    }
    let file = ("c.toml".to_owned(), format!("[campaign]\n{LEAST}{JOB}"));
    let why = parse_campaign(&file, &over(&[("trigger_ios", "5")])).expect_err("accepted");
    assert!(why.render(false).contains("a campaign sets `trigger_ios` itself"), "{why}");
    // How the load goes on is for the jobs to say.
    assert!(
        parse_campaign(&file, &over(&[("trigger_mode", "continue"), ("state_checkpoint", "1s")])).is_ok()
    );
}

#[test]
fn jobs_that_nothing_can_be_judged_of_are_refused() {
    let reads = JOB.replace("write", "read");
    let plain = JOB.replace("verify = \"crc32c\"\n", "");
    for job in [reads, plain] {
        refused(LEAST, &job, 1, &["no job of this campaign writes and verifies"]);
    }
    for engine in ["null", "sim"] {
        let job = format!("{JOB}ioengine = \"{engine}\"\n");
        let why = parsed(LEAST, &job).expect_err("accepted").render(false);
        assert!(why.contains(&format!("`{engine}`")), "{why}");
    }
    // What does not verify is load, before and beside.
    let load = "[[job]]\nfilename = \"g\"\nsize = \"1m\"\n";
    let wall = format!("{JOB}stonewall = true\n");
    for job in [format!("{load}{wall}"), format!("{JOB}{load}"), format!("{JOB}{load}stonewall = true\n")] {
        assert!(parsed(LEAST, &job).is_ok(), "{job}");
    }
    for job in [format!("{JOB}{wall}"), format!("{JOB}{load}stonewall = true\n{JOB}")] {
        refused(LEAST, &job, 1, &["several stages"]);
    }
    refused(&format!("{LEAST}between = \"continue\""), &format!("{JOB}{load}"), 1, &["all write and verify"]);
    let both = format!("{JOB}trigger_mode = \"continue\"\n");
    refused(&format!("{LEAST}between = \"continue\""), &both, 1, &["leave one of them out"]);
}

#[test]
fn a_plain_run_of_a_campaign_is_refused_and_so_is_the_opposite() {
    let file = |text: String| vec![("c.toml".to_owned(), text)];
    let campaign = file(format!("{JOB}[campaign]\n{LEAST}"));
    let why = parse(&campaign, &[]).expect_err("accepted");
    assert!(why.render(false).contains("fio-spdk campaign FILE.toml"), "{why}");
    assert_eq!(why.iter().next().unwrap().line, 6);
    let why = parse_campaign(&file(JOB.to_owned())[0], &[]).expect_err("accepted");
    assert!(why.render(false).contains("no table `[campaign]`"), "{why}");
    for text in ["[[campaign]]\ncycles = 1\n", "campaign = 5\n"] {
        let why = parse(&file(format!("{text}{JOB}")), &[]).expect_err("accepted").render(false);
        assert!(why.contains("one pair of brackets"), "{why}");
    }
    let why = parse(&file(format!("[campain]\n{JOB}")), &[]).expect_err("accepted").render(false);
    assert!(why.contains("did you mean `[campaign]`?"), "{why}");
}

#[test]
fn the_moment_of_a_cycle_is_a_function_of_seed_and_number_within_the_window() {
    let spec = spec("");
    let moments: Vec<u64> = (1..=1000).map(|cycle| spec.moment_ns(7, cycle)).collect();
    assert_eq!(moments, (1..=1000).map(|cycle| spec.moment_ns(7, cycle)).collect::<Vec<_>>());
    assert!(moments.iter().all(|moment| (20 * SECOND_NS..=40 * SECOND_NS).contains(moment)));
    // All over the window.
    for part in 0..10 {
        let from = (20 + 2 * part) * SECOND_NS;
        let inside = moments.iter().filter(|moment| (from..from + 2 * SECOND_NS).contains(moment)).count();
        assert!((50..=150).contains(&inside), "{part}: {inside}");
    }
    assert_ne!(spec.moment_ns(8, 1), spec.moment_ns(7, 1));
    let fixed = CampaignSpec { window_ns: (5, 5), ..spec };
    assert_eq!(fixed.moment_ns(7, 3), 5);
}
