//! The shim over the made-up SPDK: C programs (`tests/shim`), each case a process of its own, with the
//! compiler's sanitizers watching. No SPDK is needed; where pkg-config finds one, the shim is also
//! compiled against its headers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::disallowed_methods, reason = "a limit of time, and nothing measured")]
#![allow(clippy::print_stderr, reason = "why a test was skipped")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// After this long a case counts as hung, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(300);
const PROGRAMS: &[&str] = &["queue", "death", "reset", "metadata", "env"];
const ADDRESSES: &str = "-fsanitize=address,undefined";
const THREADS: &str = "-fsanitize=thread";
const COMMON: &[&str] = &["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compiler() -> Command {
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.current_dir(root()).args(COMMON);
    command
}

/// What it prints if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr)))
}

fn sources(dir: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "c")).collect()
}

/// Programs compiled with one kind of sanitizer.
struct Programs {
    dir: tempfile::TempDir,
    sanitizer: &'static str,
}

impl Programs {
    /// Compiles `names`; says why if the compiler has no such sanitizer, and fails if they do not compile.
    fn new(sanitizer: &'static str, names: &[&str]) -> Result<Programs, String> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let probe = dir.path().join("probe.c");
        std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
        let program = dir.path().join("probe");
        run(compiler().arg(sanitizer).arg(&probe).arg("-o").arg(&program))
            .and_then(|()| run(&mut Command::new(&program)))
            .map_err(|why| format!("the compiler has no {sanitizer}: {why}"))?;
        let programs = Programs { dir, sanitizer };
        programs.archive("shim");
        programs.archive("fake");
        for name in names {
            let mut command = programs.command();
            command.arg(format!("tests/shim/{name}.c"));
            command.args(["shim", "fake"].map(|part| programs.dir.path().join(format!("lib{part}.o"))));
            command.args(["-pthread", "-o"]).arg(programs.program(name));
            run(&mut command).unwrap();
        }
        Ok(programs)
    }

    fn command(&self) -> Command {
        let mut command = compiler();
        command.args([self.sanitizer, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]);
        command.args(["-Ifake/include", "-Ifake", "-Ishim"]);
        command
    }

    /// Makes one object of the sources of a directory.
    fn archive(&self, part: &str) {
        let objects: Vec<PathBuf> = sources(part)
            .iter()
            .map(|source| {
                let name = source.file_stem().unwrap().to_str().unwrap();
                let object = self.dir.path().join(format!("{part}-{name}.o"));
                run(self.command().arg("-c").arg(source).arg("-o").arg(&object)).unwrap();
                object
            })
            .collect();
        let whole = self.dir.path().join(format!("lib{part}.o"));
        run(Command::new("ld").arg("-r").args(objects).arg("-o").arg(whole)).unwrap();
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn cases(&self, name: &str) -> Vec<String> {
        let out = Command::new(self.program(name)).output().unwrap();
        assert!(out.status.success(), "{name} lists its cases");
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn case(&self, name: &str, case: &str) -> Result<Completion, Failed> {
        let said = self.dir.path().join(format!("{name}-{case}.txt"));
        let mut child = Command::new(self.program(name))
            .arg(case)
            .stderr(std::fs::File::create(&said).unwrap())
            .spawn()
            .map_err(|error| error.to_string())?;
        let began = Instant::now();
        loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(Completion::Completed),
                Some(status) => {
                    let said = std::fs::read_to_string(&said).unwrap_or_default();
                    return Err(format!("{status}\n{said}").into());
                }
                None if began.elapsed() > PATIENCE => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err("it hangs".into());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

fn add(trials: &mut Vec<Trial>, kind: &str, sanitizer: &'static str, names: &[&'static str]) {
    match Programs::new(sanitizer, names).map(Arc::new) {
        Ok(programs) => {
            for &name in names {
                for case in programs.cases(name) {
                    let programs = Arc::clone(&programs);
                    let title = format!("{kind}::{name}::{case}");
                    trials.push(Trial::ignorable_test(title, move || programs.case(name, &case)));
                }
            }
        }
        Err(why) => trials.push(Trial::ignorable_test(format!("{kind}::all"), move || {
            eprintln!("skipped: {why}");
            Ok(Completion::ignored_with(why))
        })),
    }
}

/// The made-up headers say what the real ones say as far as the shim can tell.
fn compiles_against_real_headers() -> Result<Completion, Failed> {
    let out = Command::new("pkg-config").args(["--cflags-only-I", "spdk_nvme", "spdk_env_dpdk"]).output();
    let Some(out) = out.ok().filter(|out| out.status.success()) else {
        let why = "pkg-config finds no SPDK";
        eprintln!("skipped: {why}");
        return Ok(Completion::ignored_with(why));
    };
    let flags = String::from_utf8(out.stdout).unwrap();
    for source in sources("shim") {
        // Of their own headers they are not to be told.
        let includes = flags.split_whitespace().map(|flag| flag.replacen("-I", "-isystem", 1));
        run(compiler().args(["-O2", "-fsyntax-only", "-Ishim"]).args(includes).arg(source))?;
    }
    Ok(Completion::Completed)
}

fn main() {
    let mut trials =
        vec![Trial::ignorable_test("the_shim_compiles_against_real_headers", compiles_against_real_headers)];
    add(&mut trials, "addresses", ADDRESSES, PROGRAMS);
    add(&mut trials, "threads", THREADS, &["reset"]);
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
