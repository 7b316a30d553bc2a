//! Bills of materials, package databases and package URLs, each input read as every one of them. What was understood is
//! written, and understood again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_oci::Digest;
use strata_sbom::packages::{Database, LayerPackages, combine};
use strata_sbom::write::{self, Subject};
use strata_sbom::{Bill, Format, Origin, Purl, read};

const SUBJECT: Subject<'_> = Subject { name: "fuzz", digest: Digest::from_bytes([0; 32]), created: "" };
const PLACES: &[&str] = &[
    "etc/os-release",
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/x",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
];

fuzz_target!(|bytes: &[u8]| {
    let mut bill = Bill::default();
    for format in Format::ALL {
        if let Ok(listing) = read::read(*format, bytes) {
            bill.add(listing, &Origin::layer("a", "1", "x", None));
        }
    }
    for place in PLACES {
        let mut layer = LayerPackages::default();
        layer.add(place, Database::at(place).expect("a known place"), bytes);
        bill.add_merged(combine(&[(String::new(), layer)]));
    }
    if let Ok(list) = serde_json::from_slice(bytes) {
        bill.add_entries(read::entries(&list, |_, _| None));
    }
    if let Some(Ok(purl)) = std::str::from_utf8(bytes).ok().map(str::parse::<Purl>) {
        assert_eq!(purl.to_string().parse::<Purl>().expect("written and read"), purl);
    }
    let text = write::cyclonedx(&bill, &SUBJECT);
    drop(write::spdx(&bill, &SUBJECT));
    let mut again = Bill::default();
    again.add_merged(read::merged(text.as_bytes()).expect("written and read"));
    assert_eq!(again, bill);
});
