//! When jobs begin and end, and what ends them.

use super::{choice, entry};
use crate::base::errno_set::{ErrnoSet, ListedErrors};
use crate::base::status::{errno_names, errno_of};
use crate::base::units::parse_time_ns;
use crate::job::diagnostic::{Issue, Place};
use crate::job::kind::{Kind, Number, show_time, text, time, with_nearest};
use crate::job::spec::{ExitWhat, JobSpec};
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Order of jobs";
const ERRORS: &str = "Errors that do not end a job";

/// fio's range `2s-5s`, and the window `2s..5s` of other options here; one time counts as both.
fn set_start_delay(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let parts = match &value.data {
        Data::Text(text) => text.split_once("..").or_else(|| text.split_once('-')),
        _ => None,
    };
    let part =
        |text: &str| parse_time_ns(text.trim(), crate::base::units::SECOND_NS).map_err(|why| value.bad(why));
    let (from, to) = match parts {
        Some((from, to)) => (part(from)?, part(to)?),
        None => (time(value)?, time(value)?),
    };
    if from > to {
        return Err(value.bad("the first time of the window lies after the second"));
    }
    job.order.start_delay_ns = (from, to);
    Ok(())
}

fn show_start_delay(job: &JobSpec) -> Option<String> {
    let (from, to) = job.order.start_delay_ns;
    let (first, last) = (show_time(from), show_time(to));
    let bare = |text: &str| text.trim_matches('"').to_owned();
    Some(if from == to { first } else { quote(&format!("{}-{}", bare(&first), bare(&last))) })
}

fn set_wait_for(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let name = text(value)?;
    // So that one job can take back what [global] says.
    job.order.wait_for = Some(name).filter(|name| !name.is_empty());
    Ok(())
}

/// One error: `ENOSPC`, `28`, `0x1c`.
fn error_number(value: &Value, word: &str) -> Outcome<i32> {
    let word = word.trim();
    let number = if word.starts_with('E') {
        errno_of(word).ok_or_else(|| {
            let issue = value.bad(format!("`{word}` is not an error that storage is known to return"));
            with_nearest(issue, word, errno_names()).help("its number from errno.h does as well")
        })?
    } else {
        let digits = word.strip_prefix('-').unwrap_or(word);
        let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(digits) => i32::from_str_radix(digits, 16),
            None => digits.parse(),
        };
        parsed.map_err(|_| value.bad(format!("`{word}` is neither the name nor the number of an error")))?
    };
    if !(1..=ErrnoSet::MOST).contains(&number) {
        return Err(value.bad(format!("{number} is no error number: they go from 1 to {}", ErrnoSet::MOST)));
    }
    Ok(number)
}

/// The errors of one kind: fio's `ENOSPC:122`, a number, or an array of either.
fn error_list(value: &Value) -> Outcome<Vec<i32>> {
    match &value.data {
        Data::Text(text) if text.trim().is_empty() => Ok(Vec::new()),
        Data::Text(text) => text.split(':').map(|word| error_number(value, word)).collect(),
        Data::Integer(Some(number)) => Ok(vec![error_number(value, &number.to_string())?]),
        Data::List(items) => {
            let lists = items.iter().map(error_list).collect::<Outcome<Vec<_>>>()?;
            Ok(lists.concat())
        }
        _ => Err(value.wrong("names or numbers of errors")),
    }
}

fn set_kind(listed: &mut ListedErrors, kind: &str, value: &Value, place: &Place) -> Outcome<()> {
    let errors = error_list(value)?;
    let into = match kind {
        "read" => &mut listed.read,
        "write" => &mut listed.write,
        "verify" => {
            if let Some(other) = errors.iter().find(|&&errno| errno != libc::EILSEQ) {
                let issue = value.bad(format!("verification never fails with error {other}"));
                return Err(issue.help("what it finds is EILSEQ (84), and nothing else"));
            }
            listed.verify = !errors.is_empty();
            return Ok(());
        }
        _ => {
            let issue = Issue::new(format!("`{kind}` is no kind of error")).at(place);
            return Err(issue.label("expected read, write or verify"));
        }
    };
    *into = ErrnoSet::default();
    errors.into_iter().for_each(|errno| {
        into.insert(errno);
    });
    Ok(())
}

fn set_ignore_error(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let mut listed = ListedErrors::default();
    match &value.data {
        Data::Table(entries) => {
            for (kind, place, value) in entries {
                set_kind(&mut listed, kind, value, place)?;
            }
        }
        Data::Text(text) => {
            let kinds: Vec<&str> = text.split(',').collect();
            if kinds.len() > 3 {
                return Err(value.bad("more than three parts: the order is read,write,verify"));
            }
            for (kind, part) in ["read", "write", "verify"].into_iter().zip(kinds) {
                let part = Value { data: Data::Text(part.trim().to_owned()), place: value.place.clone() };
                set_kind(&mut listed, kind, &part, &value.place)?;
            }
        }
        _ => return Err(value.wrong("a table or a string")),
    }
    job.order.ignore_error = listed;
    Ok(())
}

fn show_ignore_error(job: &JobSpec) -> Option<String> {
    let listed = &job.order.ignore_error;
    if *listed == ListedErrors::default() {
        return None;
    }
    let names = |set: &ErrnoSet| {
        let name = |errno: i32| {
            let name = crate::base::Status::from_errno(errno).name();
            if name.starts_with('E') { quote(&name) } else { errno.to_string() }
        };
        set.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let mut kinds = Vec::new();
    for (kind, set) in [("read", &listed.read), ("write", &listed.write)] {
        if !set.is_empty() {
            kinds.push(format!("{kind} = [{}]", names(set)));
        }
    }
    if listed.verify {
        kinds.push("verify = [\"EILSEQ\"]".to_owned());
    }
    Some(format!("{{ {} }}", kinds.join(", ")))
}

fn set_clock(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let id = crate::job::kind::integer(value, 0, u64::from(u32::MAX))?;
    if !crate::base::clock::CLOCKS.iter().any(|(known, _)| u64::from(*known) == id) {
        let known = crate::base::clock::CLOCKS.iter().map(|(id, name)| format!("{id} {name}"));
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(value
            .bad(format!("there is no clock {id} to date a run by"))
            .help(format!("known: {known}")));
    }
    job.order.job_start_clock_id = u32::try_from(id).unwrap_or(0);
    Ok(())
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SECTION,
        "start_delay",
        &["startdelay"],
        "\"0s\"",
        Kind::Special {
            form: "time, or two with - between them: \"30s\", \"2s-5s\"",
            words: &[],
            set: set_start_delay,
            show: show_start_delay,
        },
        "The job starts so long after the start of the run, and not before; of two times, each worker \
         draws a moment between them by the job's seed. Behind a `stonewall` too it counts from the start \
         of the run, and a `stonewall` waits for jobs that are still delayed. Everything is laid out and \
         opened before; runtime and ramp count from the worker's own start.",
    ),
    entry(
        SECTION,
        "wait_for",
        &[],
        "",
        Kind::Special {
            form: "name of an earlier job",
            words: &[],
            set: set_wait_for,
            show: |job| job.order.wait_for.as_deref().map(quote),
        },
        "The job starts when all workers of an earlier job have ended, however they ended; \
         other jobs go on beside it. If several earlier jobs have the name, it waits for all of them \
         (fio refuses that). What the page cache holds of its targets is dropped again then, with \
         `invalidate`. An empty name takes back what `[global]` says.",
    ),
    entry(
        SECTION,
        "start_timeout",
        &[],
        "\"120s\"",
        Kind::Time(Number::U64(|job| &mut job.order.start_timeout_ns)),
        "How long it may take to look at the targets, to open them, and to make workers, each. Who is \
         not ready then hangs: the run is given up with exit code 4 before anything is written. Laying \
         out files takes as long as it takes. fio gives a job 10 seconds.",
    ),
    entry(
        SECTION,
        "exitall",
        &[],
        "false",
        Kind::Flag(|job| &mut job.order.exitall),
        "As soon as one worker of this job ends, others are ended too: see `exit_what`. In fio, set in one \
         job it holds for all; here it holds for the jobs that say it, so put it into `[global]` for all. \
         What was written is not read back for verification in a worker that is ended so; \
         `verify_state_load` judges everything, whoever is done first.",
    ),
    entry(
        SECTION,
        "exitall_on_error",
        &[],
        "false",
        Kind::Flag(|job| &mut job.order.exitall_on_error),
        "The same, if the worker was ended by an error or a demand it missed, found a broken promise, or \
         was given up.",
    ),
    entry(
        SECTION,
        "exit_what",
        &[],
        "\"group\"",
        Kind::Choice {
            choices: &[choice("group", &[]), choice("all", &[]), choice("stonewall", &[])],
            set: |job, word| {
                job.order.exit_what = match word {
                    "all" => ExitWhat::All,
                    "stonewall" => ExitWhat::Stonewall,
                    _ => ExitWhat::Group,
                }
            },
            get: |job| match job.order.exit_what {
                ExitWhat::All => "all",
                ExitWhat::Stonewall => "stonewall",
                ExitWhat::Group => "group",
            },
        },
        "What `exitall` and `exitall_on_error` end: the workers of the same reporting `group` (see \
         `new_group`), all that run or wait up to the next `stonewall`, behind which the run goes on, or \
         `all`, and nothing starts any more.",
    ),
    entry(
        SECTION,
        "ramp_size",
        &[],
        "0",
        Kind::Size { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.order.ramp_size) },
        "Runs without counting until so many bytes are done; with `group_reporting`, by all workers of the \
         group together. With `ramp_time` too, whichever is reached first ends the ramp.",
    ),
    entry(
        SECTION,
        "job_start_clock_id",
        &[],
        "0",
        Kind::Special {
            form: "0 CLOCK_REALTIME, 1 CLOCK_MONOTONIC, 4 CLOCK_MONOTONIC_RAW or 7 CLOCK_BOOTTIME",
            words: &[],
            set: set_clock,
            show: |job| Some(job.order.job_start_clock_id.to_string()),
        },
        "Which clock `job_start` in JSON is read from, in milliseconds.",
    ),
    entry(
        ERRORS,
        "ignore_error",
        &[],
        "",
        Kind::Special {
            form: "string READ,WRITE,VERIFY, each a list with : such as \"EAGAIN,ENOSPC:122\", or table \
                   such as { write = [\"ENOSPC\", 122] }",
            words: &[],
            set: set_ignore_error,
            show: show_ignore_error,
        },
        "Of which errors a job goes on, by name or number of errno.h; where there is a list for a kind, it \
         holds instead of `continue_on_error`. `write` is for trims and flushes too. Errors of the list are \
         counted and reported, and are no reason for exit code 4. NVMe's own status counts as the errno \
         that Linux would give. Verification knows EILSEQ alone, and goes on in any case. A device that is \
         gone (ENODEV, ENXIO) ends a job all the same.",
    ),
    entry(
        ERRORS,
        "error_dump",
        &[],
        "true",
        Kind::Flag(|job| &mut job.order.error_dump),
        "Tells every failed I/O on standard error as it comes, also where the job goes on; at most some \
         hundred a second, the others are counted. Without it, only the one that ends a worker is told.",
    ),
    entry(
        ERRORS,
        "block_error_percentiles",
        &[],
        "false",
        Kind::Flag(|job| &mut job.order.block_error_percentiles),
        "Watches each block of a job that trims, in units of the size of its trims: how often it was trimmed \
         before a trim or a write of it failed, and which of the two it was; what has failed once is not \
         counted on. The report tells how many blocks came to which end, the trims of those that failed, \
         and percentiles of the trims of all blocks that were used, failed ones last; in JSON fio's `block`, \
         where blocks that were never trimmed are `unwritten`, written or not, and `written` is always 0. \
         Use it with `continue_on_error`, and with `loops`, `time_based` or `io_size`, so that blocks are \
         trimmed more than once. An I/O counts for every block that it touches (in fio for the first); trims \
         of a ramp are not counted. It takes 4 bytes a block, and 2^28 blocks a worker at most (in fio 8192).",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Result<JobSpec, String> {
        let text = format!("[[job]]\nioengine = \"null\"\nsize = \"1m\"\n{text}\n");
        let jobs = crate::job::parse(&[("j".to_owned(), text)], &[]);
        jobs.map(|mut jobs| jobs.remove(0)).map_err(|wrong| wrong.render(false))
    }

    #[test]
    fn a_start_delay_is_a_time_or_a_window_of_fio() {
        let delay = |text: &str| job(&format!("start_delay = {text}")).map(|job| job.order.start_delay_ns);
        assert_eq!(delay("2"), Ok((2_000_000_000, 2_000_000_000)));
        assert_eq!(delay("\"100ms\""), Ok((100_000_000, 100_000_000)));
        assert_eq!(delay("\"2s-5s\""), Ok((2_000_000_000, 5_000_000_000)));
        assert_eq!(delay("\"1..2\""), Ok((1_000_000_000, 2_000_000_000)));
        assert!(delay("\"5s-2s\"").is_err_and(|why| why.contains("after the second")));
    }

    #[test]
    fn lists_of_errors_are_fios_strings_or_tables_of_names_and_numbers() {
        let listed = |text: &str| job(&format!("ignore_error = {text}")).map(|job| job.order.ignore_error);
        let expected = listed("\"EAGAIN,ENOSPC:122\"").unwrap();
        assert_eq!(expected.read.iter().collect::<Vec<_>>(), [11]);
        assert_eq!(expected.write.iter().collect::<Vec<_>>(), [28, 122]);
        assert!(!expected.verify);
        assert_eq!(listed("{ read = \"EAGAIN\", write = [\"ENOSPC\", 122] }"), Ok(expected));
        assert_eq!(listed("\"0xb,28:EDQUOT\""), Ok(expected));
        assert!(listed("\",,EILSEQ\"").unwrap().verify);
        for (wrong, why) in [
            ("\"ENOSPCE\"", "ENOSPC"),
            ("\"5:x\"", "`x`"),
            ("\",,EIO\"", "EILSEQ"),
            ("{ trim = 5 }", "read, write or verify"),
            ("\"0\"", "from 1 to"),
            ("\"1,2,84,5\"", "three parts"),
        ] {
            assert!(listed(wrong).is_err_and(|said| said.contains(why)), "{wrong}: {:?}", listed(wrong));
        }
    }

    #[test]
    fn what_is_shown_is_read_back_the_same() {
        for text in [
            "start_delay = \"2s-5s\"",
            "ignore_error = \"EIO,28:200,84\"",
            "wait_for = \"\"",
            "exitall = true\nexit_what = \"stonewall\"",
            "job_start_clock_id = 1",
            "error_dump = false\nramp_size = \"1m\"",
        ] {
            let first = job(text).unwrap();
            let shown: Vec<String> =
                OPTIONS.iter().filter_map(|o| Some(format!("{} = {}", o.name, o.show(&first)?))).collect();
            assert_eq!(job(&shown.join("\n")).unwrap().order, first.order, "{shown:?}");
        }
    }
}
