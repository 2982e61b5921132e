//! `src/bindings.rs` is what bindgen makes of `shim/fio_spdk.h`. Only with the feature `bindings`, as
//! bindgen takes long to build; `cargo test -p spdk-sys --features bindings --test bindings -- --ignored`
//! writes the file anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stderr, reason = "why a test was skipped")]

use std::path::{Path, PathBuf};
use std::process::Command;

use bindgen::{Builder, RustEdition, RustTarget};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bindings.rs")
}

/// What bindgen makes of the header, formatted as the project is; `None` without libclang.
fn made() -> Result<Option<String>, String> {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/fio_spdk.h");
    let builder = Builder::default()
        .header(header.to_str().unwrap())
        .allowlist_item("fs_.*|FS_.*")
        .layout_tests(false)
        .generate_comments(false)
        .use_core()
        .sort_semantically(true)
        .merge_extern_blocks(true)
        .rust_edition(RustEdition::Edition2024)
        .rust_target(RustTarget::stable(85, 0).map_err(|error| error.to_string())?);
    // It panics where it finds no libclang.
    let generated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.generate()));
    let Ok(generated) = generated else { return Ok(None) };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("bindings.rs");
    generated.map_err(|error| error.to_string())?.write_to_file(&path).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rustfmt.toml");
    let rustfmt = std::env::var_os("RUSTFMT").unwrap_or_else(|| "rustfmt".into());
    let out =
        Command::new(rustfmt).arg("--edition=2024").arg("--config-path").arg(config).arg(&path).output();
    let out = out.map_err(|error| format!("rustfmt: {error}"))?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(Some(std::fs::read_to_string(&path).unwrap()))
}

/// Without the line that names bindgen's version.
fn body(text: &str) -> String {
    let lines = text.lines().skip_while(|line| line.starts_with("/*") || line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

fn compare() -> Result<Completion, Failed> {
    let Some(made) = made()? else {
        let why = "bindgen finds no libclang";
        eprintln!("skipped: {why}");
        return Ok(Completion::ignored_with(why));
    };
    let (made, kept) = (body(&made), body(&std::fs::read_to_string(file()).unwrap()));
    match made.lines().zip(kept.lines()).find(|(made, kept)| made != kept) {
        _ if made == kept => Ok(Completion::Completed),
        Some((made, kept)) => Err(format!("`{kept}` should be `{made}`: write the file anew").into()),
        None => Err("one is longer than the other: write the file anew".into()),
    }
}

fn regenerate() -> Result<(), Failed> {
    let made = made()?.ok_or("bindgen finds no libclang")?;
    std::fs::write(file(), made).map_err(|error| error.to_string().into())
}

fn main() {
    let trials = vec![
        Trial::ignorable_test("the_bindings_are_those_of_the_header", compare),
        Trial::test("regenerate", regenerate).with_ignored_flag(true),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
