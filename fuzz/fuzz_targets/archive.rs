//! Archives of images: their members, and the images that they say they hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Cursor, Write};
use std::os::fd::AsRawFd;
use strata_layer::{Member, MemberLimits, members};
use strata_store::archive::{DockerArchive, OciArchive};
use strata_store::validate;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(found) = members(Cursor::new(bytes), MemberLimits::default()) {
        for member in found.values() {
            if let Member::File { offset, size } = member {
                assert!(offset.checked_add(*size).is_some_and(|end| end <= bytes.len() as u64));
            }
        }
    }
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all(bytes).expect("there is memory");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Ok(archive) = DockerArchive::open(&path) {
        drop(archive.names());
        drop(validate::prove(&archive));
    }
    if let Ok(archive) = OciArchive::open(&path) {
        drop(archive.names());
        drop(validate::prove(&archive));
    }
});
