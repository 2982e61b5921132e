//! SPDK's NVMe driver for fio-spdk, behind a small C header of our own.
//!
//! The bindings are not here yet. With the `link` feature the build script looks for SPDK and stops
//! with an explanation; without it the crate is this one question and its answer.

/// Whether this build carries SPDK, and if not, what to do about it.
///
/// # Errors
/// Always, until the spdk engine is part of the project: the text says what is missing.
pub fn available() -> Result<(), &'static str> {
    Err("this build has no spdk engine: it is not part of this version of fio-spdk yet; \
         ioengine = \"io_uring\" drives the same device through the kernel")
}

#[cfg(test)]
mod tests {
    #[test]
    fn without_spdk_the_crate_says_what_to_use_instead() {
        let why = super::available().unwrap_err();
        assert!(why.contains("io_uring"), "{why}");
    }
}
