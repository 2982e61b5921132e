//! How files are made, chosen, opened and left behind.

use super::{choice, entry};
use crate::base::shape::FileService;
use crate::job::kind::{Kind, Number, integer, size, text};
use crate::job::shapes::{self, show_size};
use crate::job::spec::{FileAdvice, FileType, JobSpec, SyncRange};
use crate::job::table::OptionDef;
use crate::job::value::{Data, Outcome, Value, quote};

const SECTION: &str = "Files";

/// The largest file: offsets end at 2^63.
const MOST_BYTES: u64 = i64::MAX as u64;

const SERVICES: [&str; 7] = ["roundrobin", "sequential", "random", "zipf", "pareto", "normal", "gauss"];

fn set_service(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let text = text(value)?;
    let (name, rest) =
        text.split_once(':').map_or((text.trim(), None), |(name, rest)| (name.trim(), Some(rest)));
    let part = |text: &str| Value { data: Data::Text(text.trim().to_owned()), place: value.place.clone() };
    let ios = || rest.map_or(Ok(1), |rest| integer(&part(rest), 1, u64::from(u32::MAX)));
    job.files.service = match name {
        "roundrobin" => FileService::RoundRobin { ios: ios()? },
        "random" => FileService::Random { ios: ios()? },
        "sequential" if rest.is_some() => {
            return Err(value.bad(
                "`sequential` stays with a file to its end, whatever the number: leave the number out, or say \
                 roundrobin with it",
            ));
        }
        "sequential" => FileService::Sequential,
        "gauss" => FileService::Shaped(shapes::distribution(&part(&text.replacen("gauss", "normal", 1)))?),
        "zipf" | "pareto" | "normal" => FileService::Shaped(shapes::distribution(&part(&text))?),
        _ => return Err(value.bad(format!("`{name}` is none of {}", SERVICES.join(", ")))),
    };
    Ok(())
}

fn show_service(job: &JobSpec) -> Option<String> {
    let with = |name: &str, ios: u64| if ios == 1 { name.to_owned() } else { format!("{name}:{ios}") };
    Some(match &job.files.service {
        FileService::RoundRobin { ios } => quote(&with("roundrobin", *ios)),
        FileService::Random { ios } => quote(&with("random", *ios)),
        FileService::Sequential => quote("sequential"),
        FileService::Shaped(distribution) => shapes::show_distribution(distribution),
    })
}

fn set_format(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let format = text(value)?;
    if format.is_empty() || format.contains('\0') {
        return Err(value.bad("this cannot be a path"));
    }
    for (at, _) in format.match_indices('$') {
        let rest = &format[at..];
        if !FORMAT_WORDS.iter().any(|word| rest.starts_with(word)) {
            let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(rest.len(), |end| end + 1);
            let known = FORMAT_WORDS.join(", ");
            return Err(value.bad(format!("`{}` stands for nothing: there are {known}", &rest[..end])));
        }
    }
    job.files.filename_format = Some(format);
    Ok(())
}

/// What is replaced in a `filename_format`.
pub(crate) const FORMAT_WORDS: [&str; 4] = ["$jobname", "$jobnum", "$filenum", "$clientuid"];

fn set_opendir(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let path = text(value)?;
    if path.is_empty() || path.contains('\0') {
        return Err(value.bad("this cannot be a path"));
    }
    job.files.opendir = Some(path.into());
    Ok(())
}

fn set_filesize(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let ends = match &value.data {
        Data::Text(text) => text.split_once(['-', ':']),
        _ => None,
    };
    let part = |text: &str| {
        size(&Value { data: Data::Text(text.trim().to_owned()), place: value.place.clone() }, 1, MOST_BYTES)
    };
    let (from, to) = match ends {
        Some((from, to)) => (part(from)?, part(to)?),
        None => {
            let bytes = size(value, 1, MOST_BYTES)?;
            (bytes, bytes)
        }
    };
    if from > to {
        return Err(value.bad("the range ends before it begins"));
    }
    job.files.filesize = Some((from, to));
    Ok(())
}

fn show_filesize(job: &JobSpec) -> Option<String> {
    let (from, to) = job.files.filesize?;
    let bare = |bytes: u64| show_size(bytes).trim_matches('"').to_owned();
    Some(if from == to { show_size(from) } else { quote(&format!("{}-{}", bare(from), bare(to))) })
}

const RANGE_WORDS: [&str; 3] = ["wait_before", "write", "wait_after"];

fn set_sync_range(job: &mut JobSpec, value: &Value) -> Outcome<()> {
    let text = text(value)?;
    let (list, every) = text.split_once(':').unwrap_or((&text, "1"));
    let every = Value { data: Data::Text(every.trim().to_owned()), place: value.place.clone() };
    let every = integer(&every, 1, u64::from(u32::MAX))?;
    let words: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(word) = words.iter().find(|word| !RANGE_WORDS.contains(word)) {
        return Err(value.bad(format!("`{word}` is none of {}", RANGE_WORDS.join(", "))));
    }
    let has = |word: &str| words.contains(&word);
    job.files.sync_range = Some(SyncRange {
        wait_before: has("wait_before"),
        write: has("write"),
        wait_after: has("wait_after"),
        every: u32::try_from(every).unwrap_or(u32::MAX),
    });
    Ok(())
}

fn show_sync_range(job: &JobSpec) -> Option<String> {
    let range = job.files.sync_range?;
    let set = [range.wait_before, range.write, range.wait_after];
    let words: Vec<&str> =
        RANGE_WORDS.into_iter().zip(set).filter(|(_, set)| *set).map(|(word, _)| word).collect();
    Some(quote(&format!("{}:{}", words.join(","), range.every)))
}

/// All of them.
pub(super) const OPTIONS: &[OptionDef] = &[
    entry(
        SECTION,
        "file_service_type",
        &[],
        "\"roundrobin\"",
        Kind::Special {
            form: "one of roundrobin, sequential, random, zipf, pareto, normal (or gauss); optionally with `:N`",
            words: &SERVICES,
            set: set_service,
            show: show_service,
        },
        "Which of a worker's files serves the next I/O. `roundrobin` goes from file to file, `random` takes \
         any, both after one I/O or after N (`\"random:8\"`); `sequential` does a file to its end, then the \
         next; `zipf`, `pareto` and `normal` take some files more often than others, neighbours alike, and N \
         is then the parameter as in `random_distribution`. A file that has had its share waits for the \
         others. Reads, writes and trims each take their own turns. Verification knows all of them; by chance \
         it takes eight bytes of memory for each block.",
    )
    .shapes_data()
    .refused_beside_log("its files are those of the log"),
    entry(
        SECTION,
        "openfiles",
        &[],
        "all of them",
        Kind::Integer { min: 1, max: 1 << 20, field: Number::MaybeU32(|job| &mut job.files.openfiles) },
        "How many files a worker may have open at once. All files of a worker are open for as long as it \
         runs, since opening one would hold up every queue of its reactor: a job with more files than this is \
         refused. The limit of the process for open files is raised as far as the system allows, and a job \
         that needs more is refused before anything is written.",
    )
    .refused_beside_log("its files are those of the log"),
    entry(
        SECTION,
        "filename_format",
        &[],
        "$jobname.$jobnum.$filenum",
        Kind::Special {
            form: "string",
            words: &[],
            set: set_format,
            show: |job| job.files.filename_format.as_deref().map(quote),
        },
        "How files are named that `filename` does not list: `$jobname` is the job's name, `$jobnum` the \
         worker's number in it and `$filenum` that of the file, each from 0; `$clientuid` is empty, as there \
         are no clients. Without `$jobname` and `$jobnum` jobs and workers share files. Directories in it are \
         made.",
    )
    .refused_beside_log("its files are those of the log"),
    entry(
        SECTION,
        "opendir",
        &[],
        "",
        Kind::Special {
            form: "path of a directory",
            words: &[],
            set: set_opendir,
            show: |job| job.files.opendir.as_ref().map(|path| quote(&path.to_string_lossy())),
        },
        "Reads all regular files below this directory, in the order of their names, instead of `filename`. \
         Files too small for a block are left out, symbolic links are not followed. Only for jobs that change \
         nothing: what is to be overwritten must be named.",
    )
    .refused_beside_log("its files are those of the log"),
    entry(
        SECTION,
        "filesize",
        &[],
        "",
        Kind::Special {
            form: "size, or two with - between them: \"4k-1m\"",
            words: &[],
            set: set_filesize,
            show: show_filesize,
        },
        "The size of each file; of a range, each file has one drawn from it that comes from the seed and the \
         file's number, in whole blocks. A file that is there and has a size in the range keeps it. `size` is \
         then no size of files any more but what is transferred, where `io_size` does not say that.",
    )
    .shapes_data()
    .refused_beside_log("its files are as long as the log needs them"),
    entry(
        SECTION,
        "filetype",
        &[],
        "\"none\"",
        Kind::Choice {
            choices: &[choice("none", &[]), choice("file", &[]), choice("block", &[]), choice("char", &[])],
            set: |job, word| {
                job.files.filetype = match word {
                    "file" => Some(FileType::File),
                    "block" => Some(FileType::Block),
                    "char" => Some(FileType::Char),
                    _ => None,
                }
            },
            get: |job| match job.files.filetype {
                None => "none",
                Some(FileType::File) => "file",
                Some(FileType::Block) => "block",
                Some(FileType::Char) => "char",
            },
        },
        "What every target must be: a regular file, a block device, a character device. fio believes it and \
         does not look; here a job whose targets are something else is refused before anything is done, so \
         that `\"block\"` keeps a misspelt device name from becoming a file in /dev.",
    ),
    entry(
        SECTION,
        "file_append",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.append),
        "Works behind the end of regular files: `offset` is added to the size that a file has when the job's \
         stage begins. Needs a job that writes, and `size` for how much is added.",
    )
    .shapes_data()
    .refused_beside_log("its offsets are those of the log"),
    entry(
        SECTION,
        "overwrite",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.overwrite),
        "Files that are too short are filled with data before the job starts, even if it only writes: no write \
         has to allocate then. A file that is long enough stays as it is, with or without this.",
    ),
    entry(
        SECTION,
        "allow_file_create",
        &[],
        "true",
        Kind::Flag(|job| &mut job.files.allow_create),
        "Files that are not there are made. With false, a job whose files are not there is refused.",
    ),
    entry(
        SECTION,
        "create_on_open",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.create_on_open),
        "Files are made empty and grow as they are written. Only for jobs that only write.",
    ),
    entry(
        SECTION,
        "create_serialize",
        &[],
        "true",
        Kind::Flag(|job| &mut job.files.create_serialize),
        "Files are laid out one after the other. With false, the workers of a job have theirs laid out at the \
         same time, so that their blocks may lie mixed.",
    ),
    entry(
        SECTION,
        "create_fsync",
        &[],
        "true",
        Kind::Flag(|job| &mut job.files.create_fsync),
        "Files that were laid out with data are flushed before the job starts.",
    ),
    entry(
        SECTION,
        "pre_read",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.pre_read),
        "Reads what the job will work on into the page cache before it starts, where `invalidate` would drop \
         it; verification still reads back from the device. For jobs without `direct`.",
    ),
    entry(
        SECTION,
        "fadvise_hint",
        &[],
        "\"1\"",
        Kind::Choice {
            choices: &[
                choice("1", &["true"]),
                choice("0", &["false", "none"]),
                choice("sequential", &[]),
                choice("random", &[]),
                choice("noreuse", &[]),
            ],
            set: |job, word| {
                job.files.advice = match word {
                    "0" => FileAdvice::None,
                    "sequential" => FileAdvice::Sequential,
                    "random" => FileAdvice::Random,
                    "noreuse" => FileAdvice::NoReuse,
                    _ => FileAdvice::Pattern,
                }
            },
            get: |job| match job.files.advice {
                FileAdvice::None => "0",
                FileAdvice::Pattern => "1",
                FileAdvice::Sequential => "sequential",
                FileAdvice::Random => "random",
                FileAdvice::NoReuse => "noreuse",
            },
        },
        "What the kernel is told of the pattern (posix_fadvise(2)), where the page cache is used: `1` says \
         random or sequential as `rw` does, `0` nothing, `noreuse` that nothing is needed twice.",
    ),
    entry(
        SECTION,
        "fsync_on_close",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.fsync_on_close),
        "Flushes files before they are closed. As all files are open until their worker ends, this is \
         `end_fsync`.",
    ),
    entry(
        SECTION,
        "end_syncfs",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.end_syncfs),
        "Flushes the file systems of the files, one syncfs(2) each, when all jobs of a stage have ended. Its \
         time is in a note of the report, not in the runtime of a job.",
    ),
    entry(
        SECTION,
        "sync_file_range",
        &[],
        "",
        Kind::Special {
            form: "words with commas, of wait_before, write, wait_after; optionally with `:N`",
            words: &RANGE_WORDS,
            set: set_sync_range,
            show: show_sync_range,
        },
        "After N writes (1 unless given), calls sync_file_range(2) for the range of each file that was written \
         since the last time. It counts as a flush in the report, but makes nothing durable, neither sizes of \
         files nor what lies in the cache of the drive: verification demands nothing of it. For jobs without \
         `direct`.",
    ),
    entry(
        SECTION,
        "unlink",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.unlink),
        "Removes the job's files when its stage has ended, after a signal too: regular files only, never \
         devices or symbolic links. Files that were there before are told of first. If an error or a broken \
         promise was found, all files of the stage are kept as evidence; if the stage could not start, only \
         those are removed that it had made.",
    ),
    entry(
        SECTION,
        "uncached",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.uncached),
        "io_uring: I/O through the page cache that leaves nothing in it (RWF_DONTCACHE, Linux 6.14). For jobs \
         without `direct`. A kernel or a file system without it fails the I/O.",
    ),
    entry(
        SECTION,
        "nowait",
        &[],
        "false",
        Kind::Flag(|job| &mut job.files.nowait),
        "io_uring: an I/O that cannot be done at once fails with EAGAIN instead of waiting (RWF_NOWAIT).",
    ),
    entry(
        SECTION,
        "force_async",
        &[],
        "0",
        Kind::Integer { min: 0, max: u32::MAX as u64, field: Number::U32(|job| &mut job.files.force_async) },
        "io_uring: one of every N I/Os is left to a thread of the kernel (IOSQE_ASYNC) instead of being tried \
         at once; 0 none.",
    ),
];

/// Options of fio that are refused, and why.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "lockfile",
        "a lock taken for every I/O would measure the lock: give each job a file or a region of its own, or use \
         `serialize_overlap`",
    ),
    ("nonvectored", "io_uring is always given plain reads and writes, never vectors: leave it out"),
    (
        "unique_filename",
        "a server's runs have one directory, and a file is used by one run at a time: leave it out, and name files apart",
    ),
    (
        "unlink_each_loop",
        "files stay open from the first loop to the last: use `unlink`, and several jobs with `stonewall` instead \
         of `loops`",
    ),
    (
        "write_barrier",
        "Linux has no barrier writes since 2.6.37: use `fsync = N` or `fdatasync = N` for a flush behind every \
         N-th write, or `writefua`",
    ),
];
