//! What must hold between the options of files.

use super::issue;
use crate::base::Op;
use crate::base::shape::{Amount, Mix};
use crate::job::diagnostic::Issues;
use crate::job::resolve::Draft;
use crate::job::spec::{FilesSpec, JobSpec};

/// Reports every rule that the job breaks.
pub(super) fn check(draft: &Draft<'_>, issues: &mut Issues) {
    names(draft, issues);
    opendir(draft, issues);
    sizes(draft, issues);
    pairs(draft, issues);
    engine(draft, issues);
}

/// Whether the job's targets are files and devices of the kernel.
fn uses_files(job: &JobSpec) -> bool {
    matches!(job.ioengine.as_str(), "psync" | "io_uring")
}

fn names(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, files) = (&draft.job, &draft.job.files);
    if let Some(format) = &files.filename_format {
        if !job.filename.is_empty() {
            issues.push(issue(
                draft.place("filename_format"),
                "`filename` lists the files, so `filename_format` names none",
                "leave one of them out",
            ));
        }
        if job.nrfiles > 1 && !format.contains("$filenum") {
            issues.push(issue(
                draft.place("filename_format"),
                format!(
                    "all {} files of a worker would be one: `filename_format` has no $filenum",
                    job.nrfiles
                ),
                "add $filenum to it",
            ));
        }
    }
    let count = if job.filename.is_empty() { job.nrfiles as usize } else { job.filename.len() };
    if let Some(open) = files.openfiles.filter(|&open| (open as usize) < count && files.opendir.is_none()) {
        issues.push(issue(
            draft.place("openfiles"),
            format!(
                "a worker has {count} files and keeps all of them open while it runs: opening one in between would \
                 hold up every queue of its reactor, so `openfiles` cannot be {open}"
            ),
            "leave it out (the limit for open files is raised as far as the system allows), or lower nrfiles",
        ));
    }
}

fn opendir(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, files) = (&draft.job, &draft.job.files);
    if files.opendir.is_none() {
        return;
    }
    if job.mix.modifies() || files.unlink {
        issues.push(issue(
            draft.place("opendir"),
            "`opendir` is for jobs that change nothing: it finds whatever lies below the directory",
            "name what may be overwritten or removed by `filename`",
        ));
    }
    for (name, set) in [
        ("filename", !job.filename.is_empty()),
        ("filename_format", files.filename_format.is_some()),
        ("nrfiles", job.nrfiles > 1),
        ("filesize", files.filesize.is_some()),
    ] {
        if set {
            let message = format!("`opendir` finds the files and their sizes, so `{name}` says nothing");
            issues.push(issue(draft.place(name), message, "leave one of them out"));
        }
    }
}

fn sizes(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, files) = (&draft.job, &draft.job.files);
    if files.filesize.is_some() && job.fill_device {
        issues.push(issue(
            draft.place("filesize"),
            "`fill_device` fills files until nothing fits, whatever `filesize` says",
            "leave one of them out",
        ));
    }
    if !files.append {
        return;
    }
    let place = draft.place("file_append");
    if !job.mix.issues(Op::Write) {
        issues.push(issue(
            place,
            "`file_append` needs a workload that writes",
            "set for example rw = \"write\"",
        ));
    }
    if !matches!(job.size, Some(Amount::Bytes(_))) {
        let message = "`file_append` needs `size` in bytes: how much is added to the files";
        issues.push(issue(place, message, "set for example size = \"1g\""));
    }
    if files.filesize.is_some() {
        let message = "`filesize` says where files end, and `file_append` goes on behind that";
        issues.push(issue(place, message, "say by `size` how much is added"));
    }
    for (name, set) in [
        ("verify_only", job.verify.only && !job.state.load),
        ("verify_state_load", job.state.load),
        ("verify_state_continue", job.state.go_on),
    ] {
        if set {
            let message =
                format!("`{name}` goes back to what an earlier run wrote, and `file_append` behind it");
            issues.push(issue(draft.place(name), message, "use `offset` instead of file_append"));
        }
    }
}

/// Options that do not go together.
fn pairs(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, files) = (&draft.job, &draft.job.files);
    let lasting = job.state.load || job.state.go_on || job.state.checkpoint_ns > 0 || job.trigger.is_armed();
    let rules = [
        (
            "create_on_open",
            files.create_on_open && job.mix != Mix::Write,
            "`create_on_open` makes files empty: there is nothing in them to read or to trim",
            "set rw = \"write\" or \"randwrite\", or leave it out",
        ),
        (
            "create_on_open",
            files.create_on_open && files.overwrite,
            "`overwrite` fills files before the job starts, and `create_on_open` makes them empty",
            "leave one of them out",
        ),
        (
            "create_on_open",
            files.create_on_open && !files.allow_create,
            "`create_on_open` makes files, and `allow_file_create = false` forbids that",
            "leave one of them out",
        ),
        (
            "overwrite",
            files.overwrite && job.fill_device,
            "`fill_device` writes until nothing fits: there is nothing to fill before that",
            "leave one of them out",
        ),
        (
            "pre_read",
            files.pre_read && job.direct,
            "`pre_read` fills the page cache, which `direct` goes around",
            "leave one of them out",
        ),
        (
            "uncached",
            files.uncached && job.direct,
            "`uncached` is about the page cache, which `direct` goes around",
            "leave one of them out",
        ),
        (
            "sync_file_range",
            files.sync_range.is_some() && job.direct,
            "`sync_file_range` is about the page cache, which `direct` goes around",
            "leave one of them out",
        ),
        (
            "unlink",
            files.unlink && lasting,
            "`unlink` would remove what a snapshot promises and a later run is to judge",
            "leave it out",
        ),
        (
            "unlink",
            files.unlink && job.readonly,
            "`unlink` removes files, and `readonly` forbids changes",
            "leave one of them out",
        ),
        (
            "unlink",
            files.unlink && job.create_only,
            "`create_only` makes files, and `unlink` would remove them at once",
            "leave one of them out",
        ),
    ];
    for (name, broken, message, help) in rules {
        if broken {
            issues.push(issue(draft.place(name), message, help));
        }
    }
}

/// Options that only some engines can obey.
fn engine(draft: &Draft<'_>, issues: &mut Issues) {
    let (job, files, unset) = (&draft.job, &draft.job.files, FilesSpec::default());
    for (name, set) in
        [("uncached", files.uncached), ("nowait", files.nowait), ("force_async", files.force_async > 0)]
    {
        if set && job.ioengine != "io_uring" {
            let message = format!("`{name}` needs ioengine = \"io_uring\"");
            issues.push(issue(draft.place(name), message, "leave it out, or set ioengine = \"io_uring\""));
        }
    }
    if uses_files(job) {
        return;
    }
    for (name, set) in [
        ("opendir", files.opendir.is_some()),
        ("filesize", files.filesize.is_some()),
        ("filetype", files.filetype.is_some()),
        ("file_append", files.append),
        ("overwrite", files.overwrite),
        ("allow_file_create", files.allow_create != unset.allow_create),
        ("create_on_open", files.create_on_open),
        ("create_serialize", files.create_serialize != unset.create_serialize),
        ("create_fsync", files.create_fsync != unset.create_fsync),
        ("pre_read", files.pre_read),
        ("fadvise_hint", files.advice != unset.advice),
        ("end_syncfs", files.end_syncfs),
        ("sync_file_range", files.sync_range.is_some()),
        ("unlink", files.unlink),
    ] {
        if set {
            let message = format!("`{name}` is about files, and the `{}` engine has none", job.ioengine);
            issues.push(issue(draft.place(name), message, "leave it out, or use psync or io_uring"));
        }
    }
}
