//! Tests of the whole way from text to jobs and back.

mod campaign;
mod files;
mod host;
mod round_trip;
mod verify;

use super::options::OPTIONS;
use super::table::refused;
use super::{Diagnostics, JobSpec, OptionDef, parse};
use crate::base::PerOp;
use crate::base::shape::{Amount, BlockSizes, Distribution, Mix, Zone};

fn parse_text(text: &str) -> Result<Vec<JobSpec>, Diagnostics> {
    parse(&[("job.toml".to_owned(), text.to_owned())], &[])
}

/// The one job of a file whose `[[job]]` has these lines.
fn job(lines: &str) -> JobSpec {
    match parse_text(&format!("[[job]]\n{lines}\n")) {
        Ok(mut jobs) => jobs.remove(0),
        Err(why) => panic!("{lines}\n{why}"),
    }
}

fn errors(text: &str) -> Diagnostics {
    match parse_text(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(why) => why,
    }
}

fn message(lines: &str) -> String {
    errors(&format!("[[job]]\n{lines}\n")).iter().map(|one| one.message.clone() + "\n").collect()
}

fn over(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

// The table.

#[test]
fn every_name_stands_for_one_option() {
    let mut names: Vec<&str> = OPTIONS.iter().flat_map(OptionDef::names).collect();
    names.extend(refused().map(|(name, _)| name));
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
}

#[test]
fn documented_defaults_are_the_defaults() {
    let default = JobSpec::default();
    for option in OPTIONS {
        assert!(option.doc.ends_with('.'), "{}", option.name);
        match option.show(&default) {
            Some(shown) if option.name.contains("time") && shown == "\"0s\"" => {
                assert_eq!(option.default, "0", "{}", option.name);
            }
            Some(shown) if shown == "\"512\"" || option.name == "buffer_compress_chunk" => {
                assert_eq!(option.default, "512");
            }
            Some(shown) => assert_eq!(option.default, shown, "{}", option.name),
            None => {
                let words = ["rwmixwrite", "thread", "buffered"].contains(&option.name)
                    || !option.default.starts_with(|c: char| c.is_ascii_digit() || c == '"');
                assert!(words, "{}", option.name);
            }
        }
    }
}

// Values.

#[test]
fn a_job_without_options_has_fios_defaults() {
    let job = job("");
    assert_eq!(job, JobSpec::default());
    assert_eq!((job.ioengine.as_str(), job.mix, job.random, job.iodepth), ("psync", Mix::Read, false, 1));
    assert_eq!(job.bs, PerOp::all(BlockSizes::Fixed(4096)));
    assert_eq!(job.blockalign, PerOp::all(4096));
    assert!(job.options.is_empty());
}

#[test]
fn values_may_be_written_in_several_ways() {
    for (one, other) in [
        ("bs = 4096", "blocksize = \"4k\""),
        ("bs = \"4k,64k\"", "bs = { read = \"4k\", write = \"64k\", trim = 65536 }"),
        ("bs = \",64k\"", "bs = { write = \"64k\", trim = \"64k\" }"),
        ("bs = \",64k,\"", "bs = { write = \"64k\" }"),
        ("runtime = 90", "timeout = \"1.5m\""),
        ("direct = true", "direct = \"1\""),
        ("direct = 1", "direct = \"true\""),
        ("size = \"1g\"", "size = 1073741824"),
        ("sync = 1", "sync = \"sync\""),
        ("sync = false", ""),
        ("fallocate = 0", "fallocate = \"none\""),
        ("cpus_allowed = \"0-2,5\"", "cpus_allowed = [5, \"0-1\", 2]"),
        ("cpus_allowed = 3", "cpus_allowed = \"3\""),
        ("filename = \"a:b\"", "filename = [\"a\", \"b\"]"),
        ("filename = 'a\\:b'", "filename = [\"a:b\"]"),
        ("rwmixwrite = 30", "rwmixread = 70"),
        ("rwmixread = 70\nrwmixwrite = 30", "rwmixread = 70"),
        ("continue_on_error = 1", "continue_on_error = [\"io\", \"verify\"]"),
        ("size = 0", ""),
        ("thread = true", ""),
        ("bsrange = \"8k-8k\"", "bs = \"8k\""),
        ("bssplit = \"8k\"", "bs = \"8k\""),
        ("bssplit = \"4k/50:64k/:8k/\"", "bssplit = \"4k/50:64k/25:8k/25\""),
        ("bssplit = \"4k/:64k/:8k/\"", "bssplit = \"4k/34:64k/33:8k/33\""),
        ("iodepth = 8\niodepth_batch = 8", "iodepth = 8"),
        ("random_distribution = \"zipf\"", "random_distribution = \"zipf:1.1\""),
        ("random_distribution = \"pareto\"", "random_distribution = \"pareto:0.2\""),
        ("random_distribution = \"normal\"", "random_distribution = \"normal:0\""),
        ("buffer_pattern = '0xff\"a\"1'", "buffer_pattern = \"0xff6101\""),
    ] {
        assert_eq!(job(one), job(other), "{one} / {other}");
    }
}

#[test]
fn values_land_in_their_fields() {
    let one =
        job("rw = \"randrw:8\"\nbssplit = \"4k/60:64k/40,8k/100\"\nsize = \"12.5%\"\nramp_time = \"100ms\"");
    assert_eq!((one.random, one.mix, one.rw_modifier), (true, Mix::ReadWrite, Some(8)));
    assert_eq!(one.bs.read, BlockSizes::Split(vec![(4096, 60), (65536, 40)]));
    assert_eq!(one.bs.write, BlockSizes::Fixed(8192));
    assert_eq!(one.size, Some(Amount::Percent(12.5)));
    assert_eq!(one.ramp_time_ns, 100_000_000);
    let one = job("rw = \"write:1m\"\nbsrange = \"4k-16k\"\nrandseed = 0\nnumjobs = 3");
    assert_eq!((one.random, one.mix, one.rw_modifier), (false, Mix::Write, Some(1 << 20)));
    assert_eq!(one.bs, PerOp::all(BlockSizes::Range { min: 4096, max: 16384 }));
    assert_eq!((one.randseed, one.numjobs), (Some(0), 3));
    let one = job("random_distribution = \"zoned:60/10::/20,random\"");
    let zone = |access_percent, range_percent| Zone { access_percent, range_percent };
    let zones = vec![zone(60.0, 10.0), zone(20.0, 70.0), zone(20.0, 20.0)];
    assert_eq!(one.random_distribution.read, Distribution::Zoned(zones));
    assert_eq!(one.random_distribution.trim, Distribution::Random);
}

#[test]
fn a_job_goes_above_global_and_the_command_line_above_both() {
    let first =
        "[global]\nbs = \"8k\"\nrw = \"write\"\n[[job]]\n[[job]]\nname = \"b\"\nbsrange = \"4k-64k\"\n";
    let second = "[[job]]\niodepth = 4\n";
    let files = [("1".to_owned(), first.to_owned()), ("2".to_owned(), second.to_owned())];
    let jobs = parse(&files, &[]).unwrap();
    let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["job", "b", "job3"]);
    assert_eq!(jobs[0].bs.read, BlockSizes::Fixed(8192));
    assert_eq!(jobs[1].bs.read, BlockSizes::Range { min: 4096, max: 65536 });
    assert_eq!((jobs[1].mix, jobs[2].mix), (Mix::Write, Mix::Read));
    let set = over(&[("bssplit", "4k/50:8k"), ("time_based", ""), ("runtime", "9"), ("runtime", "2.5")]);
    let jobs = parse(&files, &set).unwrap();
    assert!(jobs.iter().all(|job| job.bs.max() == 8192 && job.time_based));
    assert!(jobs.iter().all(|job| job.runtime_ns == Some(2_500_000_000)));
}

impl PerOp<BlockSizes> {
    fn max(&self) -> u32 {
        self.iter().map(|(_, sizes)| sizes.max()).max().unwrap_or(0)
    }
}

#[test]
fn the_command_line_alone_makes_one_job() {
    let set =
        over(&[("rw", "randread"), ("bs", "{ read = \"8k\" }"), ("filename", "[\"a:b\"]"), ("direct", "1")]);
    let jobs = parse(&[], &set).unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].name.as_str(), jobs[0].random, jobs[0].direct), ("job", true, true));
    assert_eq!(jobs[0].filename, ["a:b"]);
    assert_eq!(jobs[0].bs.read, BlockSizes::Fixed(8192));
}

// Mistakes.

#[test]
fn each_rule_between_options_has_its_message() {
    for (lines, word) in [
        ("time_based = true", "needs `runtime`"),
        ("time_based = true\nruntime = 0", "needs `runtime`"),
        ("ioengine = \"null\"", "no size of its own"),
        ("ioengine = \"null\"\nsize = \"10%\"", "percentage"),
        ("bs = 4096\nbsrange = \"4k-8k\"", "sets the same as `bs`"),
        ("rwmixread = 70\nrwmixwrite = 70", "sets the same as `rwmixread`"),
        ("iodepth = 4\niodepth_low = 5", "above the `iodepth` of 4"),
        ("iodepth = 4\niodepth_batch = 5", "above the `iodepth` of 4"),
        (
            "iodepth = 4\niodepth_batch_complete_min = 3\niodepth_batch_complete_max = 2",
            "above the `iodepth_batch_complete_max` of 2",
        ),
        ("sqthread_poll_cpu = 1", "needs `sqthread_poll`"),
        ("hipri = true", "needs `direct`"),
        ("rw = \"randtrimwrite\"\nreadonly = true", "would trim and write"),
        ("zero_buffers = true\nbuffer_pattern = \"0\"", "nothing but zeros"),
        ("zero_buffers = true\ndedupe_percentage = 10", "nothing but zeros"),
        ("fill_device = true", "workload that writes"),
        ("fill_fs = true\nrw = \"trim\"", "workload that writes"),
        ("rw = \"read\"\nreadwrite = \"write\"", "another name of `rw`"),
    ] {
        assert!(message(lines).contains(word), "{lines}: {}", message(lines));
    }
}

#[test]
fn values_out_of_bounds_or_form_are_refused() {
    for (lines, word) in [
        ("bs = 0", "below 1"),
        ("bs = \"2g\"", "above 1GiB"),
        ("iodepth = 65537", "above 65536"),
        ("iodepth = 0", "below 1"),
        ("numjobs = 4097", "above 4096"),
        ("nrfiles = 0", "below 1"),
        ("rwmixread = 101", "above 100"),
        ("size = \"101%\"", "percentage"),
        ("size = \"0%\"", "nothing"),
        ("size = -1", "negative"),
        ("size = 99999999999999999999999999", "too large"),
        ("size = 999999999999999999999999999999999999999999999999", "too large"),
        ("bs = [4096]", "found an array"),
        ("bs = 2020-01-01", "found a date"),
        ("bs = {}", "no direction"),
        ("bs = \"1k,2k,3k,4k\"", "more than three"),
        ("bs = \"4k/50:8k/50\"", "no size"),
        ("blockalign = 0", "below 1"),
        ("bsrange = \"8k-4k\"", "before it begins"),
        ("bsrange = \"8k\"", "no range"),
        ("bssplit = \"4k/50\"", "add up to 50"),
        ("bssplit = \"4k/50:8k/60\"", "add up to 110"),
        ("bssplit = \"4k/100:8k/\"", "leave 0 percent"),
        ("bssplit = \"4k/x\"", "no share"),
        ("bssplit = \"\"", "empty"),
        ("rw = \"randread:0\"", "number of I/Os"),
        ("rw = \"write:x\"", "no unit of size"),
        ("random_distribution = \"zipf:1\"", "theta"),
        ("random_distribution = \"zipf:1.2:0.5\"", "centre"),
        ("random_distribution = \"zipf:nan\"", "theta"),
        ("random_distribution = \"pareto:1\"", "between 0 and 1"),
        ("random_distribution = \"zoned:50/50\"", "add up to 50"),
        ("random_distribution = \"zoned:100/0:/100\"", "without room"),
        ("random_distribution = \"zoned_abs:1/2\"", "add up to 1"),
        ("random_distribution = \"zoned_abs:60/1g:40\"", "has no size"),
        ("random_distribution = \"sequence:1,x\"", "no number of a block"),
        ("zonemode = \"zbd\"", "zoned namespaces are not supported"),
        ("sprandom = true\nspr_op = 1.5", "between 0.001 and 1"),
        ("cmdprio_bssplit = \"4k/60:4k/50\"", "more than 100"),
        ("cmdprio_class = \"fast\"", "none of the classes"),
        ("cpus_allowed = []", "no CPU"),
        ("cpus_allowed = \"0-99999999\"", "no CPU number"),
        ("filename = \"\"", "empty name"),
        ("filename = []", "empty name"),
        ("filename = \"a::b\"", "empty name"),
        ("name = \" \"", "at least one letter"),
        ("runtime = \"5 parsecs\"", "no unit of time"),
        ("direct = 2", "other than 0 and 1"),
        ("direct = \"maybe\"", "neither true nor false"),
        ("sync = \"maybe\"", "none of the choices"),
        ("ioengine = \"libaio\"", "is an engine of fio"),
        ("buffer_pattern = 0xff", "how many bytes"),
        ("continue_on_error = \"reads\"", "no kind of error"),
        ("wait_for = \"a\"", "there is no job `a`"),
        ("exit_what = \"all\"", "says nothing without `exitall = true`"),
        ("flow_id = 3", "says nothing without `flow = 1`"),
        ("softrandommap = 1", "not an option here"),
    ] {
        assert!(message(lines).contains(word), "{lines}: {}", message(lines));
    }
}

#[test]
fn refusals_can_be_told_from_mistakes() {
    assert!(errors("[[job]]\nrw = \"write\"\nreadonly = true\n").refused_only());
    assert!(!errors("[[job]]\nrw = \"write\"\nreadonly = true\nfsync = -1\n").refused_only());
}

#[test]
fn what_is_wrong_in_global_is_said_once() {
    let found = errors("[global]\nbs = \"4q\"\nhipri = true\n[[job]]\n[[job]]\n[[job]]\n");
    assert_eq!(found.len(), 1, "{found}");
    assert_eq!((found.iter().next().unwrap().line, found.iter().next().unwrap().column), (2, 6));
}

#[test]
fn all_mistakes_of_all_files_and_the_command_line_are_found_at_once() {
    let files = [
        ("a".to_owned(), "[[job]]\nbs = 4k\nrww = 1\n".to_owned()),
        ("b".to_owned(), "[[job]]\niodepth = 0\n\nfsync = true\n".to_owned()),
    ];
    let found = parse(&files, &over(&[("bs", "4q")])).unwrap_err();
    let places: Vec<(&str, usize)> = found.iter().map(|one| (one.file.as_str(), one.line)).collect();
    assert_eq!(places, [("a", 2), ("a", 3), ("b", 2), ("b", 4), ("command line", 1)]);
}

// What people see.

fn assert_renders(text: &str, expected: &str) {
    let shown = errors(text).render(false);
    assert_eq!(shown.trim_end(), expected.trim(), "\n{shown}");
}

#[test]
fn golden_a_misspelt_option() {
    assert_renders(
        "# A job\n[[job]]\niodept = 16\n",
        "\
error: unknown option `iodept`
 --> job.toml:3:1
  |
3 | iodept = 16
  | ^^^^^^
  |
  = help: did you mean `iodepth`?",
    );
}

#[test]
fn golden_a_bad_size() {
    assert_renders(
        "[[job]]\n  bs = \"4q\"  # four\n",
        "\
error: `bs`: `q` is no unit of size: use k, M, G, T or P (powers of 1024)
 --> job.toml:2:8
  |
2 |   bs = \"4q\"  # four
  |        ^^^^ expected size from 1B to 1GiB; per direction",
    );
}

#[test]
fn golden_a_wrong_type() {
    assert_renders(
        "[[job]]\nruntime = true\n",
        "\
error: `runtime`: expected a time, found true or false
 --> job.toml:2:11
  |
2 | runtime = true
  |           ^^^^ expected time: seconds, or a string with a unit such as \"100ms\"",
    );
}

#[test]
fn golden_a_number_out_of_range_and_a_missing_partner() {
    assert_renders(
        "[[job]]\niodepth = 100000\n[[job]]\ntime_based = true\n",
        "\
error: `iodepth`: 100000 is above 65536
 --> job.toml:2:11
  |
2 | iodepth = 100000
  |           ^^^^^^ expected integer from 1 to 65536

error: `time_based` needs `runtime`, or the job would never end
 --> job.toml:4:14
  |
4 | time_based = true
  |              ^^^^
  |
  = help: set for example runtime = \"30s\"",
    );
}

#[test]
fn golden_slips_of_syntax() {
    assert_renders(
        "[[job]]\nbs = 4k\ntime_based\nname = \"unclosed\n",
        "\
error: `bs`: texts, and numbers with a unit, need quotes
 --> job.toml:2:6
  |
2 | bs = 4k
  |      ^^
  |
  = help: write bs = \"4k\"

error: `time_based` has no value
 --> job.toml:3:1
  |
3 | time_based
  | ^^^^^^^^^^
  |
  = help: write time_based = true

error: the string is never closed
 --> job.toml:4:17
  |
4 | name = \"unclosed
  |                 ^",
    );
}

/// After a line that the parser did not understand, what it makes of the rest is not reported.
#[test]
fn a_broken_line_brings_no_others_with_it() {
    let found = errors("[[job]]\nsize = \"10 GB\nbs = \"4k\"\n[[job]\nrw = \"read\"\n");
    assert_eq!(found.iter().map(|one| one.line).collect::<Vec<usize>>(), [2, 4]);
    let found = errors("[[job]]\nfilename = [\"a\",\n \"b\"\nbs = \"4k\"\n[[job]]\niodepth = 3\n");
    assert_eq!(found.len(), 1, "{found}");
    let found = errors("[[job]]\nioengine = \"null\"\ndirect = yes\nsize = 1g\nbs = 3\nbs = 4\n");
    let messages: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(found.len(), 3, "{messages:?}");
    assert!(messages[0].contains("true or false") && messages[2].contains("set twice"), "{messages:?}");
}

#[test]
fn golden_the_command_line() {
    let found = parse(&[], &over(&[("bs", "4q")])).unwrap_err();
    let expected = "\
error: `bs`: `q` is no unit of size: use k, M, G, T or P (powers of 1024)
 --> command line:1:6
  |
1 | --bs=4q
  |      ^^ expected size from 1B to 1GiB; per direction
";
    assert_eq!(found.render(false), expected);
    assert!(found.render(true).contains("\u{1b}["));
}

#[test]
fn golden_no_job_and_other_tables() {
    let shown = errors("").render(false);
    assert!(shown.contains("there is no job") && shown.contains("[[job]]"), "{shown}");
    for (text, word) in [
        ("[job]\nrw = \"read\"\n", "two pairs of brackets"),
        ("[reader]\nrw = \"read\"\n", "name = \"reader\""),
        ("[[jobs]]\nrw = \"read\"\n", "did you mean `[[job]]`?"),
        ("[[global]]\n[[job]]\n", "one `[global]`"),
        ("bs = 4096\n[[job]]\n", "stands outside"),
        ("job = 3\n", "must be a table"),
        ("job = [3]\n", "write each job as"),
        ("[global]\nname = \"x\"\n[[job]]\n", "belongs to a job"),
        ("; old\n[x]\nrw=read\n", "looks like a job file of fio"),
    ] {
        let shown = errors(text).render(false);
        assert!(shown.contains(word), "{text}: {shown}");
    }
}

#[test]
fn marks_survive_tabs_wide_letters_and_long_lines() {
    let found = errors("[[job]]\n\tdescription\t=\t\"häß\"\n\"na\\u001bme\" = 1\n");
    assert!(!found.render(false).contains('\u{1b}'));
    let long = format!("[[job]]\ndescription = \"{}\"; bs = 3\n", "x".repeat(100_000));
    let found = errors(&long);
    assert_eq!(found.iter().next().unwrap().column, 100_017);
    assert!(found.render(false).len() < 1000);
}

#[test]
fn overrides_are_looked_up_a_few_times_each_however_many_there_are() {
    let lookups = |count: usize| {
        let names = ["bs", "blocksize", "iodepth", "rw", "readwrite"];
        let values = ["4k", "8k", "4", "read", "randread"];
        let overrides: Vec<(String, String)> =
            (0..count).map(|at| (names[at % 5].to_owned(), values[at % 5].to_owned())).collect();
        let before = super::table::LOOKUPS.with(std::cell::Cell::get);
        let more = [("ioengine", "null"), ("size", "1m"), ("iodepth", "9")];
        let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let jobs = parse(&[], &[&overrides[..], &more[..]].concat()).unwrap();
        assert_eq!((jobs[0].iodepth, jobs[0].random), (9, true), "the last of several wins");
        super::table::LOOKUPS.with(std::cell::Cell::get) - before
    };
    let (few, many) = (lookups(10_000), lookups(20_000));
    assert!(many - few <= 2 * 10_000, "{few} {many}");
}

#[test]
fn texts_that_are_nothing_but_mistakes_are_counted_and_a_hundred_are_shown() {
    let wrong = |text: String| parse(&[("job.toml".to_owned(), text)], &[]).unwrap_err();
    for text in [
        "= =\n".repeat(100_000),
        "a = 1\n".repeat(100_000),
        format!("a = \"{}\"", "\\q".repeat(100_000)),
        format!("job = [{}]", "3,".repeat(100_000)),
        (0..100_000).map(|at| format!("k{at} = 1\n")).collect(),
        "[[job]]\nbs = 4q\n".repeat(3000),
        "[[job]]\nbs = \"4q\"\n".repeat(3000),
    ] {
        let found = wrong(text.clone());
        assert!((1..=100).contains(&found.len()), "{}: {}", found.len(), &text[..40]);
        let shown = found.render(false);
        assert!(shown.lines().last().is_some_and(|line| line.starts_with("... and ")), "{shown}");
    }
    // Too many names, values and signs for a job file.
    let found = wrong("[],".repeat(1 << 20));
    assert!(found.len() == 1 && found.render(false).contains("more than 1000000 names, values and signs"));
}

#[test]
fn many_jobs_with_long_texts_are_refused_before_each_has_its_copy() {
    let text = |jobs: usize| {
        format!("[global]\ndescription = \"{}\"\n{}", "x".repeat(1 << 20), "[[job]]\nsize = 1\n".repeat(jobs))
    };
    let parse = |jobs| parse(&[("job.toml".to_owned(), text(jobs))], &[]);
    assert_eq!(parse(8).unwrap().len(), 8);
    let why = parse(4000).unwrap_err();
    assert!(why.len() == 1 && why.render(false).contains("64 MiB of text together"), "{why}");
}
