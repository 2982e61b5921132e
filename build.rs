//! Tells the program which commit and profile it was built from (`fio-spdk --version`).

use std::path::Path;
use std::process::Command;

fn main() {
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=FIO_SPDK_COMMIT={commit}");
    // Both exist in a clone and in a work tree of its own, and one of them changes with every commit.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// What git says in one line; `None` without git or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let out = Command::new("git").args(arguments).output().ok().filter(|out| out.status.success())?;
    String::from_utf8(out.stdout).ok().map(|text| text.trim().to_owned())
}
