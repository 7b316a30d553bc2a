//! A tar archive whose members are read at random.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_layer::{LayerError, Member, MemberLimits};
use strata_oci::{Descriptor, Digest};

use crate::StoreError;

/// Links to links.
const MAX_LINKS: usize = 8;

/// The members of an archive.
#[derive(Clone, Debug)]
pub(super) struct Members {
    path: PathBuf,
    file: Arc<File>,
    by_name: Arc<BTreeMap<String, Member>>,
}

/// Where the bytes of a member are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    offset: u64,
    pub(super) size: u64,
}

impl Members {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        // Looked at first: opening a pipe would wait.
        let meta = std::fs::metadata(path).map_err(StoreError::io("open", path))?;
        if !meta.is_file() {
            return Err(StoreError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        let mut start = [0; 2];
        let count = file.read_at(&mut start, 0).map_err(StoreError::io("read", path))?;
        if start[..count] == [0x1f, 0x8b] {
            return Err(StoreError::Compressed { path: path.to_owned() });
        }
        let by_name =
            strata_layer::members(BufReader::new(&file), MemberLimits::default()).map_err(|source| {
                match source {
                    // An archive of layers is no layer.
                    LayerError::Read { source } => StoreError::io("read the archive", path)(source),
                    source => StoreError::Archive { path: path.to_owned(), source },
                }
            })?;
        Ok(Self { path: path.to_owned(), file: Arc::new(file), by_name: Arc::new(by_name) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn refused(&self, name: &str, problem: &'static str) -> StoreError {
        StoreError::Member { path: self.path.clone(), name: name.to_owned(), problem }
    }

    /// A file; `None` when there is nothing of that name.
    pub(super) fn file(&self, name: &str) -> Result<Option<Span>, StoreError> {
        match self.by_name.get(name) {
            Some(Member::File { offset, size }) => Ok(Some(Span { offset: *offset, size: *size })),
            Some(Member::Symlink(_)) => Err(self.refused(name, "it is a symbolic link")),
            None => Ok(None),
        }
    }

    /// A file, perhaps behind links: older programs write a layer that two images share once, and then links to it.
    pub(super) fn behind_links(&self, name: &str) -> Result<Option<Span>, StoreError> {
        let mut at = name.to_owned();
        for _ in 0..MAX_LINKS {
            let Some(Member::Symlink(target)) = self.by_name.get(&at) else { return self.file(&at) };
            at = beside(&at, target).ok_or_else(|| self.refused(name, "it is a link out of the archive"))?;
        }
        Err(self.refused(name, "it is a link to too many others"))
    }

    pub(super) fn reader(&self, span: Span) -> Part {
        Part { file: Arc::clone(&self.file), at: span.offset, left: span.size }
    }

    /// The first bytes of a member.
    pub(super) fn start(&self, span: Span, length: u64) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut reader = self.reader(span).take(length);
        reader.read_to_end(&mut bytes).map_err(StoreError::io("read", &self.path))?;
        Ok(bytes)
    }

    /// All bytes of a member that is a document.
    pub(super) fn document(&self, name: &str, span: Span, limit: u64) -> Result<Vec<u8>, StoreError> {
        if span.size > limit {
            return Err(StoreError::TooLarge { path: self.path.join(name), limit });
        }
        self.start(span, limit)
    }

    /// A document that is known by its digest, verified.
    pub(super) fn verified(
        &self,
        name: &str,
        wanted: &Descriptor,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(span) = self.file(name)? else { return Ok(None) };
        let bytes = self.document(name, span, limit)?;
        if wanted.matches(&bytes) {
            return Ok(Some(bytes));
        }
        Err(StoreError::Corrupt {
            path: self.path.join(name),
            expected: wanted.digest,
            expected_size: wanted.size,
            found: Digest::of(&bytes),
            found_size: bytes.len() as u64,
        })
    }
}

/// Where a link says that something is, if that is within the archive.
fn beside(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads a part of a file that others may read, too.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if count == 0 {
            // It was whole when its members were listed.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_beside_themselves_and_not_out() {
        for (link, target, expected) in [
            ("a/layer.tar", "../b/layer.tar", Some("b/layer.tar")),
            ("a/layer.tar", "./x", Some("a/x")),
            ("layer.tar", "x", Some("x")),
            ("layer.tar", "../x", None),
            ("a/layer.tar", "../../x", None),
            ("a/layer.tar", "/x", None),
        ] {
            assert_eq!(beside(link, target).as_deref(), expected, "{link} {target}");
        }
    }
}
