//! The options of verification.

use super::{VERIFICATION, choice, entry};
use crate::base::verify::{Method, OnUnwritten, Policy, VerifyOrder};
use crate::job::kind::{Choice, Kind, Number};
use crate::job::patterns::{set_verify_pattern, show_verify_pattern};
use crate::job::shapes::{self, MAX_BS};
use crate::job::spec::JobSpec;
use crate::job::table::OptionDef;

/// `none` and the names of all methods.
const METHODS: [Choice; Method::ALL.len() + 1] = {
    let mut choices = [choice("none", &["0", "false"]); Method::ALL.len() + 1];
    let mut index = 0;
    while index < Method::ALL.len() {
        let (name, method) = Method::ALL[index];
        let also: &[&str] = if matches!(method, Method::Crc32c) { &["crc32c-intel"] } else { &[] };
        choices[index + 1] = choice(name, also);
        index += 1;
    }
    choices
};

fn set_method(job: &mut JobSpec, word: &'static str) {
    job.verify.method = Method::from_name(word);
    // Whoever turns verification off has no use for its pattern, which would turn it on again.
    if job.verify.method.is_none() {
        job.verify.pattern = None;
    }
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        VERIFICATION,
        "verify",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &METHODS,
            set: set_method,
            get: |job| job.verify.method.map_or("none", Method::name),
        },
        "How data is checked. In a job that writes, every block carries a header and this digest, and \
         when all loops are written everything that was promised is read back and judged once, unless \
         `do_verify = false`. In a job that only reads, what it reads is judged without knowing its \
         history (an audit); `pattern` has no header, `meta` and `null` no digest.",
    )
    .shapes_data(),
    entry(
        VERIFICATION,
        "do_verify",
        &[],
        "true",
        Kind::Flag(|job| &mut job.verify.do_verify),
        "Reads back and judges what was written when the writing is over. `runtime` bounds the \
         writing, not the judging. `--verify_only` and `--verify_state_load` on the command line override \
         `do_verify = false` in the job file, so that one file serves for writing and for judging later.",
    ),
    entry(
        VERIFICATION,
        "verify_only",
        &[],
        "false",
        Kind::Flag(|job| &mut job.verify.only),
        "Writes nothing, but judges what an earlier run of the same job has written. Needs `verify` \
         and a workload that writes or trims.",
    ),
    entry(
        VERIFICATION,
        "verify_interval",
        &[],
        "the greatest divisor of all block sizes and 4k",
        Kind::Size { min: 8, max: MAX_BS, field: Number::MaybeU32(|job| &mut job.verify.interval) },
        "Length of a block, the unit that carries a header and is judged; a multiple of 8 that divides \
         every I/O. The default is the smaller of the block size and 4k, or less where several block \
         sizes have no such divisor; fio's is the block size.",
    )
    .shapes_data(),
    entry(
        VERIFICATION,
        "verify_offset",
        &[],
        "0",
        Kind::Size { min: 0, max: MAX_BS, field: Number::U32(|job| &mut job.verify.offset) },
        "Where in a block header and digest stand, in bytes. They change places with what stands there, \
         so it is 0 or no less than they are long together.",
    )
    .shapes_data(),
    entry(
        VERIFICATION,
        "verify_pattern",
        &[],
        "",
        Kind::Special {
            form: "string in fio's grammar of patterns, or a number from 0 to 255",
            words: &[],
            set: set_verify_pattern,
            show: show_verify_pattern,
        },
        "Fills writes with these bytes over and over and checks them; without `verify` it means \
         `verify = \"pattern_hdr\"`. The grammar is that of `buffer_pattern`, and `%o` stands for the \
         byte offset of the I/O as a little-endian number of 64 bits, as in `'0xff%o\"end\"'`.",
    )
    .shapes_data(),
    entry(
        VERIFICATION,
        "verify_pattern_interval",
        &[],
        "once an I/O",
        Kind::Size { min: 1, max: MAX_BS, field: Number::MaybeU32(|job| &mut job.verify.pattern_interval) },
        "The pattern begins anew after this many bytes, and `%o` is the offset of that piece. It must \
         divide every I/O.",
    )
    .shapes_data(),
    entry(
        VERIFICATION,
        "verify_fatal",
        &[],
        "false",
        Kind::Flag(|job| &mut job.verify.fatal),
        "The first violation ends the job. Otherwise everything that was promised is checked, and then \
         the exit code is 1.",
    ),
    entry(
        VERIFICATION,
        "verify_dump",
        &[],
        "false",
        Kind::Flag(|job| &mut job.verify.dump),
        "Leaves each block in violation in the current directory: what was read in \
         `<target>.<offset>.received`, what should stand there in `<target>.<offset>.expected`.",
    ),
    entry(
        VERIFICATION,
        "verify_async",
        &[],
        "0",
        Kind::Integer { min: 0, max: 256, field: Number::U32(|job| &mut job.verify.async_threads) },
        "This many threads a worker check what was read; with 0 the worker does it itself. They have the job's \
         `nice`, `prio` and `prioclass`, but not its CPUs: those are for the worker, which polls.",
    ),
    entry(
        VERIFICATION,
        "verify_async_cpus",
        &[],
        "all that the process may use",
        Kind::Special {
            form: "CPU numbers such as \"0-3,5\", or array of them",
            words: &[],
            set: |job, value| {
                job.verify.async_cpus = Some(shapes::cpus(value)?);
                Ok(())
            },
            show: |job| job.verify.async_cpus.as_deref().map(shapes::show_cpus),
        },
        "The CPUs that the threads of `verify_async` run on. Needs `verify_async`.",
    ),
    entry(
        VERIFICATION,
        "verify_backlog",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.verify.backlog) },
        "After this many writes, `verify_backlog_batch` of them are read back and judged before the \
         writing goes on; 0 never.",
    ),
    entry(
        VERIFICATION,
        "verify_backlog_batch",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.verify.backlog_batch) },
        "How many writes are read back at a time. 0 stands for as many as `verify_backlog`. Needs \
         `verify_backlog`.",
    ),
    entry(
        VERIFICATION,
        "verify_write_sequence",
        &[],
        "true",
        Kind::Flag(|job| &mut job.verify.write_sequence),
        "Compares the number of the write in a header with the writes that may stand there: this is \
         what finds lost writes.",
    ),
    entry(
        VERIFICATION,
        "verify_header_seed",
        &[],
        "true",
        Kind::Flag(|job| &mut job.verify.header_seed),
        "Compares the seed in a header with that of the write it names.",
    ),
    entry(
        VERIFICATION,
        "experimental_verify",
        &[],
        "false",
        Kind::Ignored,
        "Accepted so that job files of fio carry over; it means nothing here, as what was written is \
         always computed again instead of being kept in a list.",
    ),
    entry(
        VERIFICATION,
        "verify_policy",
        &[],
        "\"auto\"",
        Kind::Choice {
            choices: &[choice("auto", &[]), choice("completed", &[]), choice("fsynced", &[])],
            set: |job, word| {
                job.verify.policy = match word {
                    "completed" => Policy::Completed,
                    "fsynced" => Policy::Fsynced,
                    _ => Policy::Auto,
                }
            },
            get: |job| match job.verify.policy {
                Policy::Auto => "auto",
                Policy::Completed => "completed",
                Policy::Fsynced => "fsynced",
            },
        },
        "What must be found after a loss of power: `completed` is every write that completed, `fsynced` \
         every write that completed before a flush was issued that completed too. `auto` takes \
         `fsynced` where the target has a volatile write cache that is on, else `completed`.",
    ),
    entry(
        VERIFICATION,
        "verify_order",
        &[],
        "\"sequential\"",
        Kind::Choice {
            choices: &[choice("sequential", &[]), choice("written", &[])],
            set: |job, word| {
                job.verify.order = match word {
                    "written" => VerifyOrder::Written,
                    _ => VerifyOrder::Sequential,
                }
            },
            get: |job| match job.verify.order {
                VerifyOrder::Sequential => "sequential",
                VerifyOrder::Written => "written",
            },
        },
        "The order in which blocks are read back: `sequential` by offset, `written` as they were \
         written.",
    ),
    entry(
        VERIFICATION,
        "verify_unwritten",
        &[],
        "\"fail\"",
        Kind::Choice {
            choices: &[choice("fail", &[]), choice("allow", &[])],
            set: |job, word| {
                job.verify.unwritten = match word {
                    "allow" => OnUnwritten::Allow,
                    _ => OnUnwritten::Fail,
                }
            },
            get: |job| match job.verify.unwritten {
                OnUnwritten::Fail => "fail",
                OnUnwritten::Allow => "allow",
            },
        },
        "In a job that only reads (an audit): what a block is that neither this tool nor fio has written. \
         `fail` makes it a violation if any block of the job's region was written: `blank` where it is \
         zeros or ones, else `corrupt`. `allow` counts it as `unwritten`. Where no block of the region was \
         written the result is inconclusive either way.",
    ),
    entry(
        VERIFICATION,
        "trim_percentage",
        &[],
        "0",
        Kind::Integer { min: 0, max: 100, field: Number::U32(|job| &mut job.verify.trim_percentage) },
        "How many percent of the writes are trimmed afterwards. Needs `verify`.",
    )
    .shapes_data()
    .refused_beside_log("its trims are those of the log"),
    entry(
        VERIFICATION,
        "trim_verify_zero",
        &[],
        "false",
        Kind::Flag(|job| &mut job.verify.trim_verify_zero),
        "Trimmed blocks must read as zeros; otherwise nothing is asked of them. On by default in fio.",
    ),
    entry(
        VERIFICATION,
        "trim_backlog",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.verify.trim_backlog) },
        "A write that is to be trimmed is trimmed after this many further writes.",
    )
    .shapes_data()
    .refused_beside_log("its trims are those of the log"),
    entry(
        VERIFICATION,
        "trim_backlog_batch",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.verify.trim_backlog_batch) },
        "Trims come in groups, once for this many writes. 0 stands for as many as `trim_backlog`.",
    )
    .shapes_data()
    .refused_beside_log("its trims are those of the log"),
];
