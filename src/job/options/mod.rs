//! The options, one entry each. A new option is an entry here or in a file below `options`, its
//! field in [`JobSpec`](super::JobSpec), and the place that obeys it. If it changes what is written where, its
//! entry says so by `shapes_data`: a test tries every option and finds those that do not.

mod commands;
mod cut;
mod files;
mod host;
mod logs;
mod measuring;
mod order;
mod pace;
mod places;
mod replay;
mod spdk;
mod verify;

use super::kind::{Choice, Kind, Number, show_texts};
use super::patterns::{set_buffer_pattern, show_buffer_pattern};
use super::setters::{
    ENGINES, set_description, set_directory, set_engine, set_filename, set_name, set_rwmixwrite,
};
use super::shapes::{self, MAX_BS};
use super::sim;
use super::spec::{CpusPolicy, Fallocate, SyncMode};
use super::table::OptionDef;
use super::value::{quote, show_per_op};

const fn choice(name: &'static str, also: &'static [&'static str]) -> Choice {
    Choice { name, also }
}

const JOB: &str = "Jobs";
const TARGET: &str = "Target";
const WORKLOAD: &str = "Workload";
const SIZES: &str = "Block sizes";
const AMOUNT: &str = "Amount and time";
const DEPTH: &str = "Queue depth";
const RANDOM: &str = "Randomness";
const DURABLE: &str = "Caching and durability";
const CONTENT: &str = "Contents of buffers";
const CPUS: &str = "CPUs";
const SAFETY: &str = "Errors and safety";
const VERIFICATION: &str = "Verification";
const SNAPSHOTS: &str = "Snapshots and triggers";
const URING: &str = "io_uring";
const SIM: &str = "Simulated drive";
pub(super) const SPDK: &str = "SPDK";

const fn entry(
    section: &'static str,
    name: &'static str,
    aliases: &'static [&'static str],
    default: &'static str,
    kind: Kind,
    doc: &'static str,
) -> OptionDef {
    let (shapes_data, shapes_promises, beside_log) = (false, false, None);
    OptionDef { name, aliases, section, default, doc, kind, shapes_data, shapes_promises, beside_log }
}

/// The sections in the order of the reference.
const PARTS: [&[OptionDef]; 14] = [
    GENERAL,
    pace::OPTIONS,
    order::OPTIONS,
    host::OPTIONS,
    files::OPTIONS,
    logs::OPTIONS,
    replay::OPTIONS,
    measuring::OPTIONS,
    places::OPTIONS,
    commands::OPTIONS,
    verify::OPTIONS,
    cut::OPTIONS,
    OF_ENGINES,
    spdk::OPTIONS,
];

/// Options of fio that are refused for good, and why: what the parts say, and what belongs to none of them.
pub(crate) const REFUSED: [&[(&str, &str)]; 8] = [
    pace::REFUSED,
    host::REFUSED,
    files::REFUSED,
    logs::REFUSED,
    replay::REFUSED,
    measuring::REFUSED,
    places::REFUSED,
    commands::REFUSED,
];

const COUNT: usize = {
    let (mut part, mut count) = (0, 0);
    while part < PARTS.len() {
        count += PARTS[part].len();
        part += 1;
    }
    count
};

/// The option table: the parts one after the other.
pub(crate) static OPTIONS: &[OptionDef] = &joined(PARTS);

const fn joined(parts: [&[OptionDef]; 14]) -> [OptionDef; COUNT] {
    let mut all = [GENERAL[0]; COUNT];
    let (mut part, mut index, mut filled) = (0, 0, 0);
    while part < parts.len() {
        if index < parts[part].len() {
            all[filled] = parts[part][index];
            filled += 1;
            index += 1;
        } else {
            part += 1;
            index = 0;
        }
    }
    all
}

const GENERAL: &[OptionDef] = &[
    entry(
        JOB,
        "name",
        &[],
        "\"job\"",
        Kind::Special { form: "string", words: &[], set: set_name, show: |job| Some(quote(&job.name)) },
        "Names the job in reports, and its files where `filename` does not. Where it is left out, the \
         first job is `job`, the second `job2` and so on. It stands in `[[job]]` only.",
    ),
    entry(
        JOB,
        "description",
        &[],
        "",
        Kind::Special {
            form: "string",
            words: &[],
            set: set_description,
            show: |job| job.description.as_deref().map(quote),
        },
        "A text for reports; it changes nothing else.",
    ),
    entry(
        JOB,
        "numjobs",
        &[],
        "1",
        Kind::Integer { min: 1, max: 4096, field: Number::U32(|job| &mut job.numjobs) },
        "How many workers are made of this job. They do the same, each with its own queue and its own \
         random sequence.",
    )
    .shapes_data(),
    entry(
        JOB,
        "stonewall",
        &["wait_for_previous"],
        "false",
        Kind::Flag(|job| &mut job.stonewall),
        "Starts this job when all jobs before it have ended, instead of together with them. It also \
         begins a new reporting group.",
    ),
    entry(
        JOB,
        "new_group",
        &[],
        "false",
        Kind::Flag(|job| &mut job.new_group),
        "Begins a new reporting group with this job.",
    ),
    entry(
        JOB,
        "group_reporting",
        &[],
        "false",
        Kind::Flag(|job| &mut job.group_reporting),
        "Reports all workers of a group as one, instead of each by itself.",
    ),
    entry(
        JOB,
        "thread",
        &[],
        "false",
        Kind::Ignored,
        "Accepted so that job files of fio carry over; it means nothing here, as workers always run \
         on threads of one process.",
    ),
    entry(
        TARGET,
        "ioengine",
        &[],
        "\"psync\"",
        Kind::Special {
            form: "one of null, psync, io_uring, sim, spdk",
            words: &ENGINES,
            set: set_engine,
            show: |job| Some(quote(&job.ioengine)),
        },
        "How I/O reaches the target: `psync` by one blocking system call for each I/O, `io_uring` \
         through the ring of that name with many in flight, `null` not at all (to see what the \
         machine itself costs; it needs `size`), `sim` to a drive in memory that `filename` names and \
         that lives as long as the run (it needs `size`; see the options that begin with `sim_`), `spdk` to an \
         NVMe controller that SPDK's driver takes over from the kernel (see its options under SPDK). `spdk` is \
         in programs built with the feature of that name; job files that use it can be checked with any.",
    ),
    entry(
        TARGET,
        "filename",
        &[],
        "",
        Kind::Special {
            form: "string, or array of strings",
            words: &[],
            set: set_filename,
            show: |job| show_texts(&job.filename),
        },
        "The files or block devices to work on. In a string a `:` divides several names and `\\:` is \
         a colon, as in fio; the names of an array are taken as they are. Without it each worker has \
         files of its own, named after job, worker and file. Engine `spdk` takes transport ids of SPDK, with \
         `ns` for the namespace (1 unless given), such as `\"trtype=PCIe traddr=0000:5e:00.0 ns=1\"`, \
         `\"trtype=TCP traddr=10.0.0.1 trsvcid=4420 subnqn=nqn.2016-06.io.spdk:cnode1\"` or \
         `\"trtype=VFIOUSER traddr=/var/run/nvme\"`; a PCI address alone will do. There a `:` divides only \
         before `trtype`.",
    )
    .refused_beside_log("use replay_redirect to replay all of it on one target"),
    entry(
        TARGET,
        "directory",
        &[],
        "",
        Kind::Special {
            form: "string",
            words: &[],
            set: set_directory,
            show: |job| job.directory.as_ref().map(|path| quote(&path.to_string_lossy())),
        },
        "Where files with relative names live; without it, the current directory.",
    ),
    entry(
        TARGET,
        "nrfiles",
        &["nr_files"],
        "1",
        Kind::Integer { min: 1, max: 1048576, field: Number::U32(|job| &mut job.nrfiles) },
        "How many files a worker has, where `filename` does not list them; `size` is divided among \
         them.",
    )
    .shapes_data()
    .refused_beside_log("its files are those of the log"),
    entry(
        TARGET,
        "create_only",
        &[],
        "false",
        Kind::Flag(|job| &mut job.create_only),
        "Lays out the files of the job, then ends without running it.",
    ),
    entry(
        TARGET,
        "fallocate",
        &[],
        "\"native\"",
        Kind::Choice {
            choices: &[
                choice("none", &["0", "false"]),
                choice("native", &[]),
                choice("posix", &["1", "true"]),
                choice("keep", &[]),
                choice("truncate", &[]),
            ],
            set: |job, word| {
                job.fallocate = match word {
                    "none" => Fallocate::None,
                    "posix" => Fallocate::Posix,
                    "keep" => Fallocate::Keep,
                    "truncate" => Fallocate::Truncate,
                    _ => Fallocate::Native,
                }
            },
            get: |job| match job.fallocate {
                Fallocate::None => "none",
                Fallocate::Posix => "posix",
                Fallocate::Keep => "keep",
                Fallocate::Truncate => "truncate",
                Fallocate::Native => "native",
            },
        },
        "How files that are laid out get their space: `none` sets the size only, `native` calls \
         fallocate(2) and goes on where the file system cannot, `posix` calls posix_fallocate(3), \
         `keep` reserves without changing the size, `truncate` calls ftruncate(2).",
    ),
    entry(
        WORKLOAD,
        "rw",
        &["readwrite"],
        "\"read\"",
        Kind::Special {
            form: "one of read, write, trim, rw (or readwrite), trimwrite, randread, randwrite, randtrim, randrw, randtrimwrite; optionally with `:N`",
            words: &shapes::MIX_NAMES,
            set: shapes::set_rw,
            show: shapes::show_rw,
        },
        "What the job does. `rw` mixes reads and writes; `trimwrite` trims each block, then writes \
         it; `rand` stands for random offsets. With `:N`, a sequential pattern skips N bytes after \
         each I/O (`\"write:4k\"`), and a random one goes on for N I/Os in sequence before it draws a \
         new offset (`\"randread:8\"`).",
    )
    .shapes_data()
    .refused_beside_log("replay_skip leaves out what you do not want"),
    entry(
        WORKLOAD,
        "rwmixread",
        &[],
        "50",
        Kind::Integer { min: 0, max: 100, field: Number::U32(|job| &mut job.rwmixread) },
        "Percent of reads in a mixed workload; the rest are writes.",
    )
    .shapes_data()
    .refused_beside_log("its I/Os are those of the log"),
    entry(
        WORKLOAD,
        "rwmixwrite",
        &[],
        "50",
        Kind::Special { form: "integer from 0 to 100", words: &[], set: set_rwmixwrite, show: |_| None },
        "The same said of the writes: percent of writes in a mixed workload. It is kept as \
         `rwmixread`.",
    )
    .refused_beside_log("its I/Os are those of the log"),
    entry(
        SIZES,
        "bs",
        &["blocksize"],
        "\"4k\"",
        Kind::Special {
            form: "size from 1B to 1GiB; per direction",
            words: &[],
            set: shapes::set_bs,
            show: shapes::show_bs,
        },
        "Length of each I/O.",
    )
    .shapes_data()
    .refused_beside_log("its lengths are those of the log"),
    entry(
        SIZES,
        "bsrange",
        &["blocksize_range"],
        "",
        Kind::Special {
            form: "range of sizes such as \"4k-64k\"; per direction",
            words: &[],
            set: shapes::set_bsrange,
            show: shapes::show_bsrange,
        },
        "Lengths drawn at random from a range: every multiple of the smallest up to the largest. \
         Instead of `bs`.",
    )
    .shapes_data()
    .refused_beside_log("its lengths are those of the log"),
    entry(
        SIZES,
        "bssplit",
        &[],
        "",
        Kind::Special {
            form: "sizes with percentages such as \"4k/60:64k/40\"; per direction",
            words: &[],
            set: shapes::set_bssplit,
            show: shapes::show_bssplit,
        },
        "Lengths drawn at random from a list, each with its share in percent. Shares left blank \
         divide the rest evenly, and all must add up to 100. Instead of `bs`.",
    )
    .shapes_data()
    .refused_beside_log("its lengths are those of the log"),
    entry(
        SIZES,
        "blockalign",
        &["ba"],
        "the smallest block size",
        Kind::Size { min: 1, max: MAX_BS, field: Number::PerOpOrBs(|job| &mut job.blockalign) },
        "Random offsets are multiples of this many bytes.",
    )
    .shapes_data()
    .refused_beside_log("use replay_align to move offsets"),
    entry(
        AMOUNT,
        "size",
        &[],
        "the whole of the target",
        Kind::MaybeAmount(|job| &mut job.size),
        "Size of the region that a worker works on, counted from `offset`, and the amount of I/O \
         unless `io_size` or time say otherwise. New files get this size. 0 stands for the whole of \
         the target, as in fio.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log; replay_scale divides them"),
    entry(
        AMOUNT,
        "io_size",
        &["io_limit"],
        "the size of the region",
        Kind::MaybeAmount(|job| &mut job.io_size),
        "How much a worker transfers: less or more than the region. 0 stands for the size of the \
         region.",
    )
    .shapes_data()
    .refused_beside_log("number_ios and runtime end it sooner"),
    entry(
        AMOUNT,
        "offset",
        &["fileoffset"],
        "0",
        Kind::Amount(|job| &mut job.offset),
        "Where the region begins.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        AMOUNT,
        "offset_increment",
        &[],
        "0",
        Kind::Amount(|job| &mut job.offset_increment),
        "Added to `offset` once more for each further worker of the job, so that workers can have \
         regions of their own.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        AMOUNT,
        "number_ios",
        &[],
        "no limit",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::NonZeroU64(|job| &mut job.number_ios) },
        "Ends a worker after this many I/Os, if its amount or time does not end it before. 0 takes \
         the limit away.",
    )
    .shapes_data(),
    entry(
        AMOUNT,
        "loops",
        &[],
        "1",
        Kind::Integer { min: 1, max: u64::MAX, field: Number::U64(|job| &mut job.loops) },
        "How often the amount is done.",
    )
    .shapes_data()
    .refused_beside_log("a log is replayed once"),
    entry(
        AMOUNT,
        "runtime",
        &["timeout"],
        "no limit",
        Kind::Time(Number::NonZeroU64(|job| &mut job.runtime_ns)),
        "Ends the job after this time, not counting `ramp_time`. 0 takes the limit away.",
    ),
    entry(
        AMOUNT,
        "time_based",
        &[],
        "false",
        Kind::Flag(|job| &mut job.time_based),
        "Goes on until `runtime` is over, beginning again each time the amount is done. Needs \
         `runtime`.",
    )
    .shapes_data()
    .refused_beside_log("a log is replayed once; runtime ends it sooner"),
    entry(
        AMOUNT,
        "ramp_time",
        &[],
        "0",
        Kind::Time(Number::U64(|job| &mut job.ramp_time_ns)),
        "Runs for this time before anything is counted, so that the target can settle. Comes on top \
         of `runtime`.",
    ),
    entry(
        DEPTH,
        "iodepth",
        &[],
        "1",
        Kind::Integer { min: 1, max: 65536, field: Number::U32(|job| &mut job.iodepth) },
        "How many I/Os a worker keeps in flight. A blocking engine such as `psync` never has more \
         than one.",
    ),
    entry(
        DEPTH,
        "iodepth_batch_submit",
        &["iodepth_batch"],
        "`iodepth`",
        Kind::Integer { min: 0, max: 65536, field: Number::OrDepth(|job| &mut job.iodepth_batch_submit) },
        "How many I/Os are handed over at once at most. The default is all that are ready, with one \
         doorbell for them all; fio hands them over one by one unless told otherwise. 0 stands for \
         the default.",
    ),
    entry(
        DEPTH,
        "iodepth_batch_complete_min",
        &["iodepth_batch_complete"],
        "1",
        Kind::Integer { min: 0, max: 65536, field: Number::U32(|job| &mut job.iodepth_batch_complete_min) },
        "How many completions to wait for when the queue is full; 0 never waits, but asks again and \
         again.",
    ),
    entry(
        DEPTH,
        "iodepth_batch_complete_max",
        &[],
        "`iodepth`",
        Kind::Integer {
            min: 0,
            max: 65536,
            field: Number::OrDepth(|job| &mut job.iodepth_batch_complete_max),
        },
        "How many completions are taken at once at most. 0 stands for the default.",
    ),
    entry(
        DEPTH,
        "iodepth_low",
        &[],
        "`iodepth`",
        Kind::Integer { min: 0, max: 65536, field: Number::OrDepth(|job| &mut job.iodepth_low) },
        "Once the queue is full, lets it drain to this depth before it is filled again. The default \
         refills as soon as there is room; 0 stands for the default.",
    ),
    entry(
        DEPTH,
        "serialize_overlap",
        &[],
        "false",
        Kind::Flag(|job| &mut job.serialize_overlap),
        "Holds an I/O back while another one to the same bytes, from the same worker, is in flight. \
         Jobs that verify always do so with writes and trims.",
    ),
    entry(
        RANDOM,
        "norandommap",
        &[],
        "false",
        Kind::Flag(|job| &mut job.norandommap),
        "Draws every random offset anew, so that some blocks come twice before others come once. By \
         default each block comes exactly once a pass.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        RANDOM,
        "random_distribution",
        &[],
        "\"random\"",
        Kind::Special {
            form: "random, zipf[:theta], pareto[:h], normal[:deviation], zoned:access/range:..., zoned_abs:access/size:... or sequence:block,...; per direction",
            words: &[],
            set: shapes::set_distribution,
            show: |job| Some(show_per_op(&job.random_distribution, shapes::show_distribution)),
        },
        "Where random I/Os go. `zipf` (theta 1.1 unless given, not 1) and `pareto` (h 0.2 unless \
         given, between 0 and 1) favour some blocks; `normal` favours the middle (deviation in \
         percent, 0 unless given); `zoned` lists zones one after the other, each with its percentage \
         of the accesses and of the region, as in `\"zoned:60/10:30/20:10/70\"`; `zoned_abs` has sizes in the place \
         of the latter (`\"zoned_abs:60/20g:40/100g\"`) and leaves alone what lies behind the last; `sequence` \
         lists up to 64 blocks that are visited in this order, over and over (`\"sequence:2,0,1\"`; a list holds for \
         all directions, or for one in a table). All but `random` may repeat blocks before others have come once.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        RANDOM,
        "percentage_random",
        &[],
        "100",
        Kind::Integer { min: 0, max: 100, field: Number::PerOp(|job| &mut job.percentage_random) },
        "Of a random workload, how many percent of the I/Os are random; the others follow the one \
         before.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        RANDOM,
        "randrepeat",
        &["allrandrepeat"],
        "true",
        Kind::Flag(|job| &mut job.randrepeat),
        "Uses the same random sequence in every run. If false, and without `randseed`, every run has \
         its own.",
    ),
    entry(
        RANDOM,
        "randseed",
        &[],
        "",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::MaybeU64(|job| &mut job.randseed) },
        "The seed of all random sequences; wins over `randrepeat`.",
    ),
    entry(
        DURABLE,
        "direct",
        &[],
        "false",
        Kind::Flag(|job| &mut job.direct),
        "Goes around the page cache (O_DIRECT). Engine `spdk` always does.",
    ),
    entry(
        DURABLE,
        "invalidate",
        &[],
        "true",
        Kind::Flag(|job| &mut job.invalidate),
        "Drops the target's pages from the page cache before the job starts.",
    ),
    entry(
        DURABLE,
        "sync",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[choice("none", &["0", "false"]), choice("sync", &["1", "true"]), choice("dsync", &[])],
            set: |job, word| {
                job.sync = match word {
                    "sync" => SyncMode::Sync,
                    "dsync" => SyncMode::Dsync,
                    _ => SyncMode::None,
                }
            },
            get: |job| match job.sync {
                SyncMode::Sync => "sync",
                SyncMode::Dsync => "dsync",
                SyncMode::None => "none",
            },
        },
        "Opens the target so that every write is durable when it completes: `sync` with O_SYNC, \
         `dsync` with O_DSYNC. `0` and `1` are taken for `none` and `sync`.",
    )
    .shapes_promises(),
    entry(
        DURABLE,
        "writefua",
        &[],
        "false",
        Kind::Flag(|job| &mut job.writefua),
        "Writes with force unit access: durable when they complete. With the kernel's files this is \
         `sync = \"dsync\"`: on a device with FUA the kernel sends such writes, on another it flushes. Engine `spdk` sends them so, with `sync` too.",
    )
    .shapes_promises(),
    entry(
        DURABLE,
        "fsync",
        &[],
        "0",
        Kind::Integer { min: 0, max: u32::MAX as u64, field: Number::U32(|job| &mut job.fsync) },
        "Flushes after this many writes (fsync); 0 never. A flush does not wait for writes in flight: what had come back before it was issued is what it makes durable.",
    )
    .refused_beside_log("its flushes are those of the log"),
    entry(
        DURABLE,
        "fdatasync",
        &[],
        "0",
        Kind::Integer { min: 0, max: u32::MAX as u64, field: Number::U32(|job| &mut job.fdatasync) },
        "The same without metadata that is not needed to read the data back (fdatasync); 0 never.",
    )
    .refused_beside_log("its flushes are those of the log"),
    entry(
        DURABLE,
        "end_fsync",
        &[],
        "false",
        Kind::Flag(|job| &mut job.end_fsync),
        "Flushes when a worker has finished its writes.",
    ),
    entry(
        CONTENT,
        "zero_buffers",
        &[],
        "false",
        Kind::Flag(|job| &mut job.content.zero_buffers),
        "Writes zeros.",
    ),
    entry(
        CONTENT,
        "refill_buffers",
        &[],
        "false",
        Kind::Flag(|job| &mut job.content.refill_buffers),
        "Fills the buffer anew for every write, so that no two are alike.",
    ),
    entry(
        CONTENT,
        "scramble_buffers",
        &[],
        "true",
        Kind::Flag(|job| &mut job.content.scramble_buffers),
        "Changes a few bytes in every 512 before each write, which is cheaper than filling the buffer \
         anew and enough against plain deduplication.",
    ),
    entry(
        CONTENT,
        "buffer_pattern",
        &[],
        "",
        Kind::Special {
            form: "string in fio's grammar of patterns",
            words: &[],
            set: set_buffer_pattern,
            show: show_buffer_pattern,
        },
        "Fills buffers with these bytes over and over. The string is made of hexadecimal strings \
         (`0xdeadbeef`), decimals (the least bytes that hold them, lowest first), `\"text\"` and \
         `'file'` (the contents of the file), one after the other without separators; in TOML it is \
         best put into three single quotes.",
    ),
    entry(
        CONTENT,
        "buffer_compress_percentage",
        &[],
        "0",
        Kind::Integer { min: 0, max: 100, field: Number::U32(|job| &mut job.content.compress_percentage) },
        "How many percent of every `buffer_compress_chunk` of a write can be compressed away.",
    ),
    entry(
        CONTENT,
        "buffer_compress_chunk",
        &[],
        "512",
        Kind::Size { min: 1, max: MAX_BS, field: Number::U32(|job| &mut job.content.compress_chunk) },
        "The unit of `buffer_compress_percentage`.",
    ),
    entry(
        CONTENT,
        "dedupe_percentage",
        &[],
        "0",
        Kind::Integer { min: 0, max: 100, field: Number::U32(|job| &mut job.content.dedupe_percentage) },
        "How many percent of the blocks written repeat an earlier one.",
    ),
    entry(
        CPUS,
        "cpus_allowed",
        &[],
        "all that the process may use",
        Kind::Special {
            form: "CPU numbers such as \"0-3,5\", or array of them",
            words: &[],
            set: |job, value| {
                job.cpus_allowed = Some(shapes::cpus(value)?);
                Ok(())
            },
            show: |job| job.cpus_allowed.as_deref().map(shapes::show_cpus),
        },
        "The CPUs that the workers of this job run on.",
    ),
    entry(
        CPUS,
        "cpus_allowed_policy",
        &[],
        "\"shared\"",
        Kind::Choice {
            choices: &[choice("shared", &[]), choice("split", &[])],
            set: |job, word| {
                job.cpus_allowed_policy = match word {
                    "split" => CpusPolicy::Split,
                    _ => CpusPolicy::Shared,
                }
            },
            get: |job| match job.cpus_allowed_policy {
                CpusPolicy::Split => "split",
                CpusPolicy::Shared => "shared",
            },
        },
        "`shared`: the workers share the set. `split`: each has a CPU of it to itself, as long as \
         there are enough.",
    ),
    entry(
        SAFETY,
        "readonly",
        &[],
        "false",
        Kind::Flag(|job| &mut job.readonly),
        "Refuses the job if it would write or trim.",
    ),
    entry(
        SAFETY,
        "allow_mounted_write",
        &[],
        "false",
        Kind::Flag(|job| &mut job.allow_mounted_write),
        "Lets the job write to a block device that is mounted. Its file system will be damaged.",
    ),
    entry(
        SAFETY,
        "fill_device",
        &["fill_fs"],
        "false",
        Kind::Flag(|job| &mut job.fill_device),
        "Writes until the target is full, which then is no error. Needs a workload that writes.",
    )
    .shapes_data()
    .refused_beside_log("a log says itself how much is written"),
    entry(
        SAFETY,
        "continue_on_error",
        &[],
        "\"none\"",
        Kind::Special {
            form: "one of none, read, write, io, verify, all; or array of them",
            words: &shapes::ERROR_KINDS,
            set: shapes::set_continue_on,
            show: shapes::show_continue_on,
        },
        "Which failed I/Os do not end the job: `io` are reads and writes, `all` is everything. The \
         errors are counted and reported all the same. `0` and `1` are taken for `none` and `all`. \
         Verification always goes on to its end, whether `verify` is named or not, unless `verify_fatal` \
         says otherwise. See `ignore_error` for single errors.",
    ),
    entry(
        SAFETY,
        "reap_timeout",
        &[],
        "\"300s\"",
        Kind::Time(Number::U64(|job| &mut job.reap_timeout_ns)),
        "How long a device may answer nothing at all before what it has in flight is given up and \
         the worker ends with an error. A worker whose system call hangs is left behind then, with what it \
         has counted so far (3 seconds it gets in any case); neither the others nor the report wait for it.",
    ),
];

/// Options that one engine alone understands.
const OF_ENGINES: &[OptionDef] = &[
    entry(
        URING,
        "hipri",
        &[],
        "false",
        Kind::Flag(|job| &mut job.io_uring.hipri),
        "Polls the device for completions instead of waiting for interrupts (IORING_SETUP_IOPOLL). \
         Needs `direct`.",
    ),
    entry(
        URING,
        "sqthread_poll",
        &[],
        "false",
        Kind::Flag(|job| &mut job.io_uring.sqthread_poll),
        "Lets a thread of the kernel pick up submissions, so that they need no system call \
         (IORING_SETUP_SQPOLL).",
    ),
    entry(
        URING,
        "sqthread_poll_cpu",
        &[],
        "",
        Kind::Integer {
            min: 0,
            max: 8191,
            field: Number::MaybeU32(|job| &mut job.io_uring.sqthread_poll_cpu),
        },
        "The CPU of that thread. Needs `sqthread_poll`.",
    ),
    entry(
        URING,
        "fixedbufs",
        &[],
        "true",
        Kind::Flag(|job| &mut job.io_uring.fixedbufs),
        "Registers the buffers with the kernel once instead of mapping them for each I/O. Off by \
         default in fio.",
    ),
    entry(
        URING,
        "registerfiles",
        &[],
        "true",
        Kind::Flag(|job| &mut job.io_uring.registerfiles),
        "Registers the files with the kernel once instead of looking them up for each I/O. Off by \
         default in fio.",
    ),
    entry(
        SIM,
        "sim_seed",
        &[],
        "1",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.sim.seed) },
        "What the drive of engine `sim` does by chance follows from this and the number of the command. \
         With one worker and without `sim_latency` or a time limit, a run repeats exactly.",
    ),
    entry(
        SIM,
        "sim_lba",
        &[],
        "512",
        Kind::Size { min: 512, max: 4096, field: Number::U32(|job| &mut job.sim.lba) },
        "The logical block of the drive: 512 or 4096 bytes. Jobs that use one drive must agree on it, \
         on `sim_cache` and on `sim_atomic_unit`.",
    )
    .shapes_promises(),
    entry(
        SIM,
        "sim_cache",
        &[],
        "true",
        Kind::Flag(|job| &mut job.sim.cache),
        "Gives the drive a volatile write cache: only a flush makes durable what had completed before \
         it was submitted. Without it, and with `sync`, a write is durable when it completes.",
    )
    .shapes_promises(),
    entry(
        SIM,
        "sim_path_flushes",
        &[],
        "true",
        Kind::Flag(|job| &mut job.sim.path_flushes),
        "Whether flushes reach the drive. With false the path drops them, and FUA, and reports success, as \
         Linux does where `queue/write_cache` is `write through` although the cache of the drive is on: \
         then no flush promises anything.",
    )
    .shapes_promises(),
    entry(
        SIM,
        "sim_atomic_unit",
        &[],
        "one logical block",
        Kind::Size { min: 512, max: 1 << 20, field: Number::MaybeU32(|job| &mut job.sim.atomic_unit) },
        "What is written whole or not at all when the power goes: aligned units of this many bytes, and \
         any write no longer than that.",
    )
    .shapes_promises(),
    entry(
        SIM,
        "sim_latency",
        &[],
        "\"0s\"",
        Kind::Time(Number::U64(|job| &mut job.sim.latency_ns)),
        "How long each command takes. With 0, commands complete a few polls after they were submitted, in \
         an order of the drive's own.",
    ),
    entry(
        SIM,
        "sim_cut_after",
        &[],
        "",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::NonZeroU64(|job| &mut job.sim.cut_after) },
        "Cuts the power, once, when the drive has taken this many commands of the job; 0 never. What is in \
         flight and what is submitted then fails with ENODEV. Writes that are not durable survive, vanish, \
         or leave some of their atomic units. The power comes back with the first read that is submitted \
         when nothing is in flight any more, or when a later job opens the drive.",
    ),
    entry(
        SIM,
        "sim_faults",
        &[],
        "",
        Kind::Special {
            form: "table of rates such as { torn = 0.01, lost = \"1%\" }, or string \"torn:1%,lost:0.5%\"",
            words: &sim::FAULT_NAMES,
            set: sim::set_faults,
            show: sim::show_faults,
        },
        "What the drive does wrong, as shares of the commands that each fault can befall. Writes: `lost` \
         (acknowledged, and dropped), `torn` (ends inside a logical block), `torn_lba` (only some logical \
         blocks land), `misplaced` (lands elsewhere), `rolled_back` (what stood there before comes back \
         later), `bit_flip`, `blank` (zeros), `ones` (0xff), `shifted` (some bytes further on), \
         `read_error` (cannot be read: ENODATA), `write_error` (fails with EIO; each logical block is old or \
         new), `late_write` (fails with EIO and leaves nothing, then lands after all, perhaps over a newer \
         write), `stalled` (never completes). Reads: `transient_read` (a flipped bit, once), `stalled_read`. \
         Flushes: `lying_flush` (nothing becomes durable). Trims: `undead_trim` (the old data stay). \
         `short` lets reads and writes come back short, which is no error.",
    ),
    entry(
        SIM,
        "sim_fault_after",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.sim.fault_after) },
        "The first commands of the job, this many on each drive, suffer no fault.",
    ),
    entry(
        SIM,
        "sim_fault_limit",
        &[],
        "0",
        Kind::Integer { min: 0, max: u64::MAX, field: Number::U64(|job| &mut job.sim.fault_limit) },
        "At most this many faults on each drive; 0 for any number. A fault that would leave no mark does \
         not count, nor does `short`.",
    ),
];
