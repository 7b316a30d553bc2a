//! What lies beside an image, and what the image says of itself: the first line is a label, the rest a report, as JSON and
//! as TOML. It is read as records of a cache and as the builder's claims, too. What was understood is written and
//! understood again, and can be traced, compared and followed back, also in a circle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use strata_decide::trace::{chain, choose, diff, trace};
use strata_oci::{Descriptor, Digest, Image, Layer};
use strata_spec::labels::{LIFECYCLE_METADATA, PROJECT_METADATA};
use strata_spec::origins::claims::Claims;
use strata_spec::origins::records::Records;
use strata_spec::origins::{Report, without_credentials};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An image of three layers without contents.
fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let mut image = Image::empty("linux", "amd64");
        for _ in 0..3 {
            let descriptor = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"");
            image.append(Layer { descriptor, diff_id: Digest::of(b""), history: None });
        }
        image
    })
}

fuzz_target!(|text: &str| {
    let (label, text) = text.split_once('\n').unwrap_or(("", text));
    let clean = without_credentials(text);
    assert!(clean.len() <= text.len());
    let records = Records::parse(text);
    assert_eq!(Records::parse(&serde_json::to_string(&records).expect("it has a form")), records);
    if let Ok(claims) = Claims::parse(text) {
        assert_eq!(Claims::parse(&claims.to_json().expect("it has a form")), Ok(claims));
    }
    let mut image = image().clone();
    image.config_mut().set_label(LIFECYCLE_METADATA, label);
    image.config_mut().set_label(PROJECT_METADATA, label);
    let unreported = trace(&image, DIGEST, None, Some("none"), &[]);
    let Ok(report) = Report::parse(text) else { return };
    assert_eq!(Report::parse(&report.to_toml()).as_ref(), Ok(&report));
    drop(report.provenance(DIGEST));
    drop(choose::disagreement(&Report::default(), &report));
    for layer in &report.layers {
        let walked = chain::walk(report.clone(), &layer.id(), |_| Ok(report.clone()));
        assert!(walked.expect("it has the layer").steps.len() < 3);
    }
    // Nobody traces an image by the report of another one.
    if report.check(&report.image.digest, [DIGEST; 3]).is_err() {
        return;
    }
    let reported = trace(&image, DIGEST, Some(&report), None, &[]);
    assert_eq!(reported.layers.iter().filter(|layer| layer.position.is_some()).count(), 3);
    drop(diff::inputs(&unreported, &reported));
    drop(diff::groups(&unreported, &reported));
});
