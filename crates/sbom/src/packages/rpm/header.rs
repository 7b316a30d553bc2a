//! One package: an index of tags, and their values.

use super::{Package, be32};

const NAME: usize = 1000;
const VERSION: usize = 1001;
const RELEASE: usize = 1002;
const EPOCH: usize = 1003;
const SUMMARY: usize = 1004;
const VENDOR: usize = 1011;
const LICENSE: usize = 1014;
const ARCH: usize = 1022;
const SOURCE_RPM: usize = 1044;
const PROVIDES: usize = 1047;
const REQUIRES: usize = 1049;

/// Of one entry of the index, in bytes: tag, type, where its values are, and how many there are.
const ENTRY: usize = 16;
/// How many values of one tag are read.
const MAX_VALUES: usize = 65_536;

struct Header<'a> {
    index: &'a [u8],
    values: &'a [u8],
}

pub(super) fn package(bytes: &[u8]) -> Option<Package> {
    let (entries, length) = (be32(bytes, 0)?, be32(bytes, 4)?);
    let values_at = entries.checked_mul(ENTRY)?.checked_add(8)?;
    let header = Header {
        index: bytes.get(8..values_at)?,
        values: bytes.get(values_at..values_at.checked_add(length)?)?,
    };
    let text = |tag| header.texts(tag).into_iter().next().unwrap_or_default();
    let (version, release) = (text(VERSION), text(RELEASE));
    let provides = header.texts(PROVIDES);
    Some(Package {
        name: Some(text(NAME)).filter(|name| !name.is_empty())?,
        version: if release.is_empty() { version } else { format!("{version}-{release}") },
        epoch: header.number(EPOCH).map(|epoch| epoch.to_string()).unwrap_or_default(),
        arch: text(ARCH),
        source: text(SOURCE_RPM),
        license: text(LICENSE),
        supplier: text(VENDOR),
        description: text(SUMMARY),
        provides: provides.into_iter().collect(),
        needs: header.texts(REQUIRES).into_iter().map(|name| vec![name]).collect(),
    })
}

impl Header<'_> {
    /// Where the values of a tag start, and how many there are.
    fn find(&self, tag: usize) -> Option<(usize, usize)> {
        let entry = self.index.chunks_exact(ENTRY).find(|entry| be32(entry, 0) == Some(tag))?;
        Some((be32(entry, 8)?, be32(entry, 12)?))
    }

    fn number(&self, tag: usize) -> Option<usize> {
        be32(self.values, self.find(tag)?.0)
    }

    fn texts(&self, tag: usize) -> Vec<String> {
        let Some((start, count)) = self.find(tag) else { return Vec::new() };
        let values = self.values.get(start..).unwrap_or_default();
        let texts = values.split(|byte| *byte == 0).take(count.min(MAX_VALUES));
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_headers_are_none() {
        for bytes in [&b""[..], &[0; 8], &[0xff; 8], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]] {
            assert!(package(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn values_are_found_by_their_tags() {
        let mut bytes = vec![0, 0, 0, 3, 0, 0, 0, 10];
        for (tag, kind, offset) in [(NAME, 6u8, 0u8), (EPOCH, 4, 4), (VERSION, 6, 8)] {
            bytes.extend(u32::try_from(tag).unwrap().to_be_bytes());
            bytes.extend([0, 0, 0, kind, 0, 0, 0, offset, 0, 0, 0, 1]);
        }
        bytes.extend(b"abc\0\0\0\0\x021\0");
        let package = package(&bytes).unwrap();
        assert_eq!(
            (package.name.as_str(), package.epoch.as_str(), package.version.as_str()),
            ("abc", "2", "1")
        );
    }
}
