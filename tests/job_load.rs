//! Job files that cannot be read say so, each by its name.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use fio_spdk::job;

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("binary"), [b'[', 0xff, 0xfe, 0]).unwrap();
    std::fs::File::create(path("huge")).unwrap().set_len((16 << 20) + 1).unwrap();
    let paths = [path("missing"), path("."), path("binary"), path("huge")];
    let shown = job::load(&paths, &[]).unwrap_err().render(false);
    for word in
        ["No such file", "Is a directory", "not valid UTF-8", "larger than 16 MiB", "missing", "binary"]
    {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn several_files_run_as_one_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("a"), "[global]\niodepth = 4\n[[job]]\nname = \"a\"\n").unwrap();
    // An editor of Windows: byte order mark and line ends.
    std::fs::write(path("b"), "\u{feff}[[job]]\r\nname = \"b\"\r\nbs = \"8k\"\r\n").unwrap();
    let jobs = job::load(&[path("a"), path("b")], &[]).unwrap();
    let shown: Vec<(&str, u32)> = jobs.iter().map(|job| (job.name.as_str(), job.iodepth)).collect();
    assert_eq!(shown, [("a", 4), ("b", 1)]);
}
