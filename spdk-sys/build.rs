//! Finds SPDK through pkg-config when the `link` feature asks for it, and stops the build with an
//! explanation when it cannot be found or when this version of the crate cannot bind it yet.

use std::process::Command;

const HELP: &str = "the `spdk` feature needs SPDK's static libraries and pkg-config files.\n\
     Build SPDK (24.01 LTS or newer) as its documentation says, then point pkg-config at it:\n    \
     PKG_CONFIG_PATH=<spdk>/build/lib/pkgconfig cargo build --release --features spdk\n\
     This version looks for SPDK but cannot bind it yet: build without `--features spdk`, every other \
     engine works without it.";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    if std::env::var_os("CARGO_FEATURE_LINK").is_none() {
        return;
    }
    match Command::new("pkg-config").args(["--modversion", "spdk_nvme"]).output() {
        Err(error) => fail(&format!("pkg-config could not be run: {error}\n{HELP}")),
        Ok(out) if !out.status.success() => {
            let said = String::from_utf8_lossy(&out.stderr);
            fail(&format!("pkg-config does not know spdk_nvme: {}\n{HELP}", said.trim()));
        }
        Ok(out) => {
            let version = String::from_utf8_lossy(&out.stdout);
            fail(&format!(
                "SPDK {} was found, but the spdk engine is not part of this version of fio-spdk yet; \
                 build without `--features spdk`",
                version.trim()
            ));
        }
    }
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={}", line.trim_start());
    }
    std::process::exit(1);
}
