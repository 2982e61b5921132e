//! (being written)

pub mod devices;

pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
