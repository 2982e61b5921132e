//! One job file serves the run that writes and the runs that judge what it wrote: the command line wins over
//! the file, and a job that would have written something else is refused the snapshot.

mod common;

use common::{FILE_ENGINES, Lab, first};

/// A job that only writes when it is run by itself.
const WRITES: &str = r#"
[[job]]
name = "j"
filename = "data"
rw = "randwrite"
bs = "4k"
size = "256k"
iodepth = 4
verify = "crc32c"
end_fsync = true
do_verify = false
"#;

#[test]
fn a_job_file_without_do_verify_is_judged_if_the_command_line_asks_for_it() {
    for engine in FILE_ENGINES {
        let lab = Lab::new();
        lab.file("j.toml", WRITES);
        // Nothing was judged, as was asked for.
        lab.run(&["j.toml", engine]).expect(0);
        for word in ["--verify_only", "--verify_only=1", "--verify_state_load"] {
            let json = lab.json(&["j.toml", engine, word]);
            assert_eq!(first(&json, "/verify/checked"), 64, "{engine} {word}: {json:#}");
            assert_eq!(first(&json, "/write/total_ios"), 0, "{engine} {word}");
        }
        let mut bytes = lab.bytes("data");
        bytes[100_000] ^= 1;
        lab.file("data", bytes);
        for word in ["--verify_only", "--verify_state_load"] {
            lab.run(&["j.toml", engine, word]).expect(1);
        }
    }
}

#[test]
fn verify_only_of_a_job_overrides_do_verify_of_global() {
    let lab = Lab::new();
    lab.file("j.toml", WRITES);
    lab.run(&["j.toml"]).expect(0);
    let all = WRITES.replace("do_verify = false\n", "verify_only = true\n");
    lab.file("judge.toml", format!("[global]\ndo_verify = false\n{all}"));
    assert_eq!(first(&lab.json(&["judge.toml"]), "/verify/checked"), 64);
}

#[test]
fn a_job_that_must_judge_and_must_not_is_refused() {
    let lab = Lab::new();
    lab.file("j.toml", WRITES.replace("do_verify = false\n", ""));
    lab.file("both.toml", format!("{WRITES}verify_only = true\n"));
    lab.file("only.toml", WRITES.replace("do_verify = false", "verify_only = true"));
    lab.run(&["j.toml", "--verify_only", "--do_verify=0"]).expect(2).says("nothing is left to do");
    lab.run(&["both.toml"]).expect(2).says("nothing is left to do");
    // Here the command line takes away the judging that the file asks for.
    lab.run(&["only.toml", "--do_verify=0"]).expect(2).says("nothing is left to do");
}

#[test]
fn trims_of_a_job_that_only_trims_are_judged_by_the_snapshot_too() {
    let lab = Lab::new();
    lab.file("data", [0x5a; 64 << 10]);
    lab.file(
        "j.toml",
        "[[job]]\nname = \"t\"\nfilename = \"data\"\nrw = \"trim\"\nbs = \"4k\"\nsize = \"64k\"\n\
         verify = \"crc32c\"\ntrim_verify_zero = true\nverify_policy = \"completed\"\n",
    );
    assert_eq!(first(&lab.json(&["j.toml"]), "/verify/checked"), 16);
    assert_eq!(first(&lab.json(&["j.toml", "--verify_state_load"]), "/verify/checked"), 16);
    let mut bytes = lab.bytes("data");
    bytes[5000] = 1;
    lab.file("data", bytes);
    lab.run(&["j.toml", "--verify_state_load"]).expect(1);
}

/// A job of each kind of place: options, and one that would have it write somewhere else.
const CHANGED: [(&str, &str); 9] = [
    ("zonemode = \"strided\"\nzonesize = \"64k\"\nzonerange = \"128k\"", "--zonerange=256k"),
    ("zonemode = \"strided\"\nzonesize = \"64k\"\nzonerange = \"128k\"", "--zonesize=32k"),
    ("zonemode = \"strided\"\nzonesize = \"64k\"\nzonerange = \"128k\"", "--zoneskip=64k"),
    ("rw = \"randwrite:4\"", "--rw_sequencer=identical"),
    ("rw = \"randwrite\"\nnorandommap = true", "--random_generator=lfsr"),
    ("rw = \"randwrite\"\nrandom_distribution = \"sequence:1,2\"", "--random_sequence_stride"),
    ("rw = \"randrw\"", "--rwmixread=20"),
    ("rw = \"randwrite\"\nsprandom = true\nspr_num_regions = 4", "--spr_op=0.3"),
    ("sync = \"dsync\"", "--sync=none"),
];

#[test]
fn a_job_that_would_have_written_elsewhere_is_refused_the_snapshot() {
    for (lines, other) in CHANGED {
        let lab = Lab::new();
        let amount = if lines.contains("sprandom") { "" } else { "io_size = \"512k\"\n" };
        let rw = if lines.contains("rw =") { "" } else { "rw = \"write\"\n" };
        lab.file(
            "j.toml",
            format!(
                "[[job]]\nname = \"z\"\nfilename = \"data\"\nbs = \"4k\"\nsize = \"1m\"\nverify = \"crc32c\"\n\
                 verify_policy = \"completed\"\n{amount}{rw}{lines}\n"
            ),
        );
        lab.run(&["j.toml"]).expect(0);
        lab.run(&["j.toml", "--verify_state_load"]).expect(0);
        let name = other.trim_start_matches("--").split('=').next().unwrap_or_default();
        lab.run(&["j.toml", "--verify_state_load", other]).expect(2).says("does not fit").says(name);
    }
}
