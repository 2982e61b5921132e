//! The `fio-spdk` command. Everything it does is in the library's `cli`.

fn main() -> std::process::ExitCode {
    fio_spdk::cli::main()
}
