//! Options of files: they print and parse to themselves, and what does not go together is said.

use super::super::print;
use super::parse_text;

const LINES: [&str; 30] = [
    "file_service_type = \"roundrobin:7\"",
    "file_service_type = \"random\"",
    "file_service_type = \"random:4294967295\"",
    "file_service_type = \"sequential\"",
    "file_service_type = \"zipf:0.9\"",
    "file_service_type = \"pareto\"",
    "file_service_type = \"gauss:12.5\"",
    "nrfiles = 4\nopenfiles = 4",
    "nrfiles = 4\nfilename_format = \"a/$jobname-$jobnum$filenum\\\"\"",
    "opendir = \"/tmp\"",
    "filesize = 4097",
    "filesize = \"4k-1m\"",
    "filesize = \"1000:5000\"",
    "filetype = \"block\"",
    "rw = \"write\"\nfile_append = true",
    "overwrite = true",
    "allow_file_create = false",
    "rw = \"randwrite\"\ncreate_on_open = true",
    "create_serialize = 0",
    "create_fsync = false",
    "pre_read = true",
    "fadvise_hint = 0",
    "fadvise_hint = \"noreuse\"",
    "fsync_on_close = true\nend_syncfs = true",
    "sync_file_range = \"wait_before,write,wait_after:16\"",
    "sync_file_range = \"write\"",
    "unlink = true",
    "ioengine = \"io_uring\"\nuncached = true",
    "ioengine = \"io_uring\"\nnowait = true",
    "ioengine = \"io_uring\"\nforce_async = 9",
];

#[test]
fn each_line_prints_and_parses_back() {
    for line in LINES {
        let jobs = parse_text(&format!("[[job]]\nsize = \"1g\"\n{line}\n"));
        let jobs = jobs.unwrap_or_else(|why| panic!("{line}\n{why}"));
        let printed = print(&jobs);
        assert_eq!(parse_text(&printed).as_ref(), Ok(&jobs), "{line}\n{printed}");
    }
}

#[test]
fn what_does_not_go_together_points_at_the_option() {
    for (lines, place) in [
        ("nrfiles = 3\nopenfiles = 2", "openfiles"),
        ("filename = \"a\"\nfilename_format = \"b\"", "filename_format"),
        ("opendir = \"/tmp\"\nrw = \"write\"", "opendir"),
        ("opendir = \"/tmp\"\nfilename = \"a\"", "filename"),
        ("filesize = 4096\nfill_device = true\nrw = \"write\"", "fill_device"),
        ("file_append = true\nrw = \"write\"", "size"),
        ("create_on_open = true\nrw = \"randrw\"", "create_on_open"),
        ("pre_read = true\ndirect = true", "pre_read"),
        ("sync_file_range = \"write\"\ndirect = true", "sync_file_range"),
        ("ioengine = \"null\"\nsize = 4096\nunlink = true", "unlink"),
        ("ioengine = \"psync\"\nnowait = true", "nowait"),
        ("unlink = true\nstate_checkpoint = \"1s\"\nrw = \"write\"\nverify = \"md5\"", "unlink"),
        ("unlink = true\ncreate_only = true", "unlink"),
    ] {
        let refused = parse_text(&format!("[[job]]\n{lines}\n")).expect_err(lines);
        assert!(refused.iter().any(|one| one.message.contains(place)), "{lines}: {}", refused.render(false));
    }
}
