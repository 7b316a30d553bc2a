//! Writing a bill, for other programs. Whatever such documents usually take from a clock or from chance comes from the
//! bill and what it is of: equal inputs give equal bytes.

mod cyclonedx;
pub(crate) mod property;
mod spdx;

use crate::bill::Bill;
use crate::purl::Purl;
use strata_oci::Digest;

/// The program that wrote a document.
const TOOL: (&str, &str) = ("strata", env!("CARGO_PKG_VERSION"));
/// What the image is called within a document.
const SUBJECT: &str = "image";

/// What a bill is of.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The image's name.
    pub name: &'a str,
    /// The digest of its manifest.
    pub digest: Digest,
    /// When it was made, in RFC 3339.
    pub created: &'a str,
}

impl Subject<'_> {
    /// The image as a package.
    fn purl(&self) -> Purl {
        let bare = self.name.split('@').next().unwrap_or_default();
        let last = bare.rsplit('/').next().unwrap_or_default();
        let name = last.split(':').next().filter(|name| !name.is_empty()).unwrap_or(SUBJECT);
        Purl::new("oci", &[], &name.to_lowercase(), &self.digest.to_string())
    }

    /// A UUID that is the same for the same image and bill, of the version for custom contents (RFC 9562).
    fn uuid(&self, bill: &Bill) -> String {
        let mut seed = format!("{} {} {} {}", TOOL.1, self.name, self.digest, self.created);
        for (key, component) in bill.components() {
            seed.push_str(key);
            component.found_in.iter().for_each(|origin| seed.push_str(&property::of(origin)));
        }
        let mut bytes: [u8; 16] = [0; 16];
        bytes.copy_from_slice(&Digest::of(seed.as_bytes()).as_bytes()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// The bill as a CycloneDX document of version 1.5.
#[must_use]
pub fn cyclonedx(bill: &Bill, subject: &Subject<'_>) -> String {
    text(&cyclonedx::document(bill, subject))
}

/// The bill as an SPDX document of version 2.3.
#[must_use]
pub fn spdx(bill: &Bill, subject: &Subject<'_>) -> String {
    text(&spdx::document(bill, subject))
}

fn text(document: &serde_json::Value) -> String {
    format!("{document:#}\n")
}

/// `YYYY-MM-DDThh:mm:ssZ`, which is all that SPDX takes.
fn whole_seconds(created: &str) -> String {
    match created.get(..19) {
        Some(start) if created.is_ascii() && created.contains('T') => format!("{start}Z"),
        _ => "1980-01-01T00:00:01Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::{Component, Hash, Kind, Origin};
    use crate::read;
    use std::collections::BTreeSet;

    const SUBJECT: Subject<'_> = Subject {
        name: "example.com/Team/web:1.0",
        digest: Digest::from_bytes([7; 32]),
        created: "2020-01-02T03:04:05.6Z",
    };

    fn full() -> Bill {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
        let mut bill = Bill::default();
        bill.push(Component {
            kind: Kind::Application,
            group: "g".into(),
            name: "n".into(),
            version: "1".into(),
            purl: "pkg:npm/n@1".parse().ok(),
            cpes: texts(&["cpe:2.3:a:a:a:1:*:*:*:*:*:*:*", "cpe:2.3:a:b:a:1:*:*:*:*:*:*:*"]),
            licenses: texts(&["MIT", "Own license"]),
            hashes: Hash::new("SHA-256", &"a".repeat(64)).into_iter().collect(),
            description: "d".into(),
            supplier: "s".into(),
            found_in: [Origin::layer("a/b", "1", "x", Some("sha256:0")), Origin::run_image(Some("sha256:1"))]
                .into(),
            uses: texts(&["component:m@"]),
        });
        let found_in: BTreeSet<Origin> = [Origin::buildpack("c", "")].into();
        let licenses = texts(&["MIT OR ISC"]);
        bill.push(Component { name: "m".into(), licenses, found_in, ..Component::default() });
        bill
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = cyclonedx(&full(), &SUBJECT);
        let mut again = Bill::default();
        again.add_merged(read::merged(text.as_bytes()).unwrap());
        assert_eq!(again, full());
        assert_eq!(cyclonedx(&again, &SUBJECT), text);
    }

    #[test]
    fn both_documents_say_the_same() {
        let (cdx, spdx) = (cyclonedx(&full(), &SUBJECT), spdx(&full(), &SUBJECT));
        for (format, text) in [(read::Format::CycloneDx, &cdx), (read::Format::Spdx, &spdx)] {
            let listing = read::read(format, text.as_bytes()).unwrap();
            assert_eq!(listing.warnings, Vec::<String>::new());
            let keys: BTreeSet<String> = listing.components.values().map(Component::key).collect();
            let expected: BTreeSet<String> = ["component:m@", "pkg:npm/n@1"].map(str::to_owned).into();
            assert_eq!(keys, expected, "{text}");
            let n = listing.components.values().find(|c| c.purl.is_some()).unwrap();
            assert_eq!((n.cpes.len(), n.hashes.len(), n.supplier.as_str()), (2, 1, "s"));
            assert_eq!(listing.uses.len(), 1, "{:?}", listing.uses);
        }
        assert!(spdx.contains("\"created\": \"2020-01-02T03:04:05Z\""), "{spdx}");
        assert!(spdx.contains("run image (sha256:1); layer x of buildpack a/b@1 (sha256:0)"), "{spdx}");
    }

    #[test]
    fn an_empty_bill_is_a_document() {
        let subject = Subject { name: "", created: "yesterday", ..SUBJECT };
        assert!(cyclonedx(&Bill::default(), &subject).contains("pkg:oci/image@sha256:"));
        assert!(spdx(&Bill::default(), &subject).contains("1980-01-01T00:00:01Z"));
    }

    #[test]
    fn other_contents_have_another_number() {
        let number = |bill: &Bill| SUBJECT.uuid(bill);
        assert_eq!(number(&full()), number(&full()));
        assert_ne!(number(&full()), number(&Bill::default()));
    }
}
