//! The code in `src/remote/wire` is what `proto/` says: the one is made from the other, and checked in,
//! so that a build needs neither protoc nor its like.

#![allow(clippy::unwrap_used, reason = "a test that cannot read the source has nothing to say")]

use std::path::{Path, PathBuf};

const FILES: &[(&str, &str)] =
    &[("fiospdk.v1.rs", "src/remote/wire/bench.rs"), ("fiospdk.session.rs", "src/remote/wire/session.rs")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// What the generator makes of `proto/` now.
fn generated() -> Vec<(&'static str, String)> {
    let lab = tempfile::tempdir().unwrap();
    let proto = root().join("proto");
    let set = protox::compile(["fio_spdk.proto", "session.proto"], [&proto]).unwrap();
    let configured = tonic_prost_build::configure().out_dir(lab.path()).bytes(".").protoc_arg("");
    configured.codec_path("crate::remote::wire::bounds::BoundedCodec").compile_fds(set).unwrap();
    let text = |name: &str| {
        let text = std::fs::read_to_string(lab.path().join(name)).unwrap();
        // The other package is a sibling here.
        format!(
            "// Made from proto/ by tests/wire_code.rs: change that, not this.\n{}",
            text.replace("super::v1::", "super::bench::")
        )
    };
    FILES.iter().map(|(name, path)| (*path, text(name))).collect()
}

#[test]
fn the_code_is_what_the_description_says() {
    for (path, text) in generated() {
        let here = std::fs::read_to_string(root().join(path)).unwrap();
        assert!(here == text, "{path} is old: cargo test --test wire_code -- --ignored regenerate");
    }
}

#[test]
#[ignore = "writes src/remote/wire anew"]
fn regenerate() {
    for (path, text) in generated() {
        std::fs::write(root().join(path), text).unwrap();
    }
}
