//! Whatever a file holds, it is a snapshot or an error; what is a snapshot is written as it was read.
#![no_main]

use fio_spdk::base::verify::Method;
use fio_spdk::verify::checksum;
use fio_spdk::verify::snapshot::Snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Snapshot::decode(bytes);
    // And behind a right first line and checksum, which chance does not find.
    let mut sealed = b"fio-spdk snapshot 1\n".to_vec();
    sealed.extend_from_slice(bytes);
    let mut sum = [0; 8];
    checksum::digest(Method::Crc64Nvme, &sealed, &mut sum);
    sealed.extend_from_slice(&sum);
    if let Ok(snapshot) = Snapshot::decode(&sealed) {
        assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
    }
});
