//! The `fio-spdk` command. Everything it does is in the library's `cli`.

use fio_spdk::base::host::allocation::ExitWithoutMemory;

#[global_allocator]
static ALLOCATOR: ExitWithoutMemory = ExitWithoutMemory;

fn main() -> std::process::ExitCode {
    fio_spdk::cli::main()
}
