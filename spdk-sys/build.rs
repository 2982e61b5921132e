//! Finds SPDK through pkg-config when the `link` feature asks for it, compiles the shim against its
//! headers and links its libraries; stops the build with an explanation when it cannot.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest release whose interface the shim is written for.
const OLDEST: (u32, u32) = (24, 1);

const HELP: &str = "the `spdk` feature needs SPDK's libraries, headers and pkg-config files, 24.01 LTS or newer.\n\
     Build and install SPDK as its documentation says (./configure --with-vfio-user, make, make install), \
     then point pkg-config at it:\n\
     PKG_CONFIG_PATH=<prefix>/lib/pkgconfig cargo build --release --features spdk\n\
     Without the feature every other engine works.";

/// Where the linker looks without being told.
const SYSTEM: &[&str] =
    &["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// What SPDK's libraries need of the system, and an initiator does not: the target's side of vfio-user
/// is in them, and pkg-config does not say where it is.
const NOT_NEEDED: &[&str] = &["vfio-user", "json-c"];

const SHIM: &[&str] = &["env.c", "ctrlr.c", "queue.c", "metadata.c"];

/// The made-up SPDK of the feature `fake`.
const FAKE: &[&str] = &["fake/spdk.c", "fake/drive.c", "fake/store.c", "fake/ctrlr.c", "fake/queue.c"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo::rerun-if-env-changed=FIO_SPDK_LINK");
    if std::env::var_os("CARGO_FEATURE_FAKE").is_some() {
        println!("cargo::rerun-if-changed=fake");
        compile(&[PathBuf::from("fake/include")], FAKE);
        return;
    }
    if std::env::var_os("CARGO_FEATURE_LINK").is_none() {
        return;
    }
    let found = pkg_config(&["--modversion", "spdk_nvme"]);
    found.unwrap_or_else(|why| fail(&format!("SPDK was not found: {why}\n{HELP}")));
    let flags = pkg_config(&["--cflags-only-I", "spdk_nvme", "spdk_env_dpdk"]);
    let flags = flags.unwrap_or_else(|why| fail(&format!("SPDK is incomplete: {why}\n{HELP}")));
    // An installation in /usr has no flag of its own.
    let include = pkg_config(&["--variable=includedir", "spdk_nvme"]).unwrap_or_default();
    let mut includes: Vec<PathBuf> =
        flags.split_whitespace().filter_map(|flag| flag.strip_prefix("-I").map(PathBuf::from)).collect();
    includes.extend(Some(PathBuf::from(include.trim())).filter(|path| !path.as_os_str().is_empty()));
    check_version(&includes);
    compile(&includes, &[]);
    link();
}

fn check_version(includes: &[PathBuf]) {
    let header = includes.iter().map(|dir| dir.join("spdk/version.h")).find(|path| path.exists());
    let Some(header) = header else {
        fail(&format!(
            "SPDK's headers are not where pkg-config says ({}): spdk/version.h is missing\n{HELP}",
            show(includes)
        ))
    };
    let text = std::fs::read_to_string(&header).unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(name))?;
        line.split_whitespace().nth(2)?.parse::<u32>().ok()
    };
    match (number("SPDK_VERSION_MAJOR"), number("SPDK_VERSION_MINOR")) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {}
        (Some(major), Some(minor)) => {
            fail(&format!("SPDK {major}.{minor:02} at {} is too old\n{HELP}", header.display()))
        }
        _ => fail(&format!("{} does not say which version it is\n{HELP}", header.display())),
    }
}

fn compile(includes: &[PathBuf], more: &[&str]) {
    let mut build = cc::Build::new();
    build.std("gnu11").opt_level(2).warnings(true).extra_warnings(true).include("shim").includes(includes);
    build.files(SHIM.iter().map(|name| Path::new("shim").join(name)));
    build.files(more);
    if let Err(error) = build.try_compile("fio_spdk_shim") {
        fail(&format!(
            "the shim does not compile against SPDK's headers in {}: {error}\n{HELP}",
            show(includes)
        ));
    }
}

/// Links what pkg-config lists. Whole archives, because transports and sockets register themselves by
/// constructors that nobody calls by name.
fn link() {
    let listed = pkg_config(&["--static", "--libs", "spdk_nvme", "spdk_env_dpdk", "spdk_syslibs"]);
    let listed = listed.unwrap_or_else(|why| fail(&format!("SPDK is incomplete: {why}\n{HELP}")));
    let words: Vec<&str> = listed.split_whitespace().collect();
    // An SPDK that was built with a DPDK of its own does not say where that is.
    let dpdk = pkg_config(&["--static", "--libs-only-L", "libdpdk"]).unwrap_or_default();
    let all = words.iter().copied().chain(dpdk.split_whitespace());
    let dirs: Vec<&str> = all.filter_map(|word| word.strip_prefix("-L")).collect();
    for dir in &dirs {
        println!("cargo::rustc-link-search=native={dir}");
    }
    let shared = std::env::var_os("FIO_SPDK_LINK").is_some_and(|kind| kind == "shared");
    let mut linked: Vec<&str> = Vec::new();
    for word in &words {
        if let Some(name) = word.strip_prefix("-l") {
            if NOT_NEEDED.contains(&name) || linked.contains(&name) {
                continue;
            }
            linked.push(name);
            link_one(name, &dirs, shared);
        } else if let Some(stem) = word.strip_suffix(".a") {
            let path = Path::new(stem);
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("lib"));
            let (Some(dir), Some(name)) = (path.parent(), name) else { continue };
            if name == "isal_crypto" {
                // For an accelerator that nobody asks for.
                continue;
            }
            println!("cargo::rustc-link-search=native={}", dir.display());
            println!("cargo::rustc-link-lib=static:-bundle={name}");
        }
    }
}

fn link_one(name: &str, dirs: &[&str], shared: bool) {
    let ours = name.starts_with("spdk_") || name.starts_with("rte_");
    if !ours {
        println!("cargo::rustc-link-lib=dylib={name}");
        return;
    }
    let has = |dirs: &[&str], end: &str| {
        dirs.iter().any(|dir| Path::new(dir).join(format!("lib{name}.{end}")).exists())
    };
    if has(dirs, "a") && !shared {
        println!("cargo::rustc-link-lib=static:+whole-archive,-bundle={name}");
    } else if has(dirs, "so") || has(SYSTEM, "so") || has(SYSTEM, "a") {
        println!("cargo::rustc-link-lib=dylib={name}");
    } else {
        // Newer releases list libraries that an older DPDK does not have, and does not need.
        println!("cargo::warning=lib{name} is in none of {}: left out", dirs.join(", "));
    }
}

/// What pkg-config says, or why it does not.
fn pkg_config(arguments: &[&str]) -> Result<String, String> {
    let out = Command::new("pkg-config").args(arguments).output();
    let out = out.map_err(|error| format!("pkg-config could not be run: {error}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).trim().replace('\n', " "));
    }
    String::from_utf8(out.stdout).map_err(|error| error.to_string())
}

fn show(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={}", line.trim_start());
    }
    std::process::exit(1);
}
