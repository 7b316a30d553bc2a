//! What an entry says, once nothing in it is ambiguous.

use std::io::Read;

use rustix::fs::{FileType, Gid, Uid};
use tar::{Entry, EntryType, PaxExtensions};

use crate::error::LayerError;

/// Bytes of headers that one entry may have, long names included.
pub(super) const MAX_ENTRY_HEADERS: u64 = 1 << 20;
/// Longer names are cut in messages, in characters.
const MAX_SHOWN: usize = 200;

/// An entry of the archive.
pub(super) struct Item {
    /// Its name as in the archive.
    pub(super) name: Vec<u8>,
    /// The name for messages.
    pub(super) shown: String,
    pub(super) kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) uid: u64,
    pub(super) gid: u64,
}

#[derive(PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Device(FileType, u64),
}

impl Item {
    /// `None` for an entry that puts nothing anywhere.
    pub(super) fn read<R: Read>(entry: &mut Entry<'_, R>) -> Result<Option<Self>, LayerError> {
        let shown = shown(&entry.path_bytes());
        let refused = |reason| LayerError::Refused { name: shown.clone(), reason };
        if entry.header().entry_type() == EntryType::XGlobalHeader {
            let mut body = Vec::new();
            entry.take(1 << 20).read_to_end(&mut body).map_err(LayerError::read)?;
            check_records(PaxExtensions::new(&body), true).map_err(refused)?;
            return Ok(None);
        }
        let mut mtime = None;
        if let Some(records) = entry.pax_extensions().map_err(LayerError::read)? {
            let found = check_records(records, false).map_err(refused)?;
            mtime = found.mtime;
            // A GNU long name that says something else, or the same: no writer gives both.
            let differs = |pax: Option<Vec<u8>>, used: &[u8]| pax.is_some_and(|pax| pax != used);
            let link = entry.link_name_bytes().unwrap_or_default();
            if differs(found.path, &entry.path_bytes()) || differs(found.linkpath, &link) {
                return Err(refused("it has two names"));
            }
        }
        let name = entry.path_bytes().into_owned();
        let header = entry.header();
        let kind = kind(entry, &name).map_err(refused)?;
        if kind != Kind::File && entry.size() > 0 {
            return Err(refused("it has contents though its type has none"));
        }
        let mode = header.mode().map_err(LayerError::read)? & 0o7777;
        let mtime = match mtime {
            Some(mtime) => mtime,
            None => header.mtime().map_err(LayerError::read)?.cast_signed(),
        };
        let uid = header.uid().map_err(LayerError::read)?;
        let gid = header.gid().map_err(LayerError::read)?;
        Ok(Some(Self { name, kind, mode, size: entry.size(), mtime, uid, gid, shown }))
    }

    /// Refuses what is more than data, and takes away what would run as another user than whoever runs it.
    pub(super) fn disarm(&mut self) -> Result<(), LayerError> {
        if matches!(self.kind, Kind::Fifo | Kind::Device(..)) {
            return Err(self.refused("it is a device or a fifo"));
        }
        // For an ordinary user the bits mean nothing that the user could not have done.
        if rustix::process::geteuid().is_root() {
            self.mode &= 0o1777;
        }
        Ok(())
    }

    pub(super) fn owner(&self) -> Result<(Uid, Gid), LayerError> {
        super::ids(self.uid, self.gid).ok_or_else(|| self.refused("its owner is out of range"))
    }

    pub(super) fn refused(&self, reason: &'static str) -> LayerError {
        LayerError::Refused { name: self.shown.clone(), reason }
    }
}

fn kind<R: Read>(entry: &Entry<'_, R>, name: &[u8]) -> Result<Kind, &'static str> {
    let header = entry.header();
    let link = || match entry.link_name_bytes() {
        Some(link) if !link.is_empty() => Ok(link.into_owned()),
        _ => Err("it is a link to nowhere"),
    };
    let device = |kind| {
        let number = |number: std::io::Result<Option<u32>>| {
            // The cause adds nothing: the field holds no number.
            number.ok().flatten().ok_or("it is a device without numbers")
        };
        let (major, minor) = (number(header.device_major())?, number(header.device_minor())?);
        Ok(Kind::Device(kind, rustix::fs::makedev(major, minor)))
    };
    // Before POSIX, a directory was a file whose name ends with a slash.
    let is_old = header.as_bytes()[156] == 0;
    match header.entry_type() {
        EntryType::Directory => Ok(Kind::Dir),
        EntryType::Regular if is_old && name.ends_with(b"/") => Ok(Kind::Dir),
        EntryType::Regular | EntryType::GNUSparse if !name.ends_with(b"/") => Ok(Kind::File),
        EntryType::Symlink => link().map(Kind::Symlink),
        EntryType::Link => link().map(Kind::HardLink),
        EntryType::Fifo => Ok(Kind::Fifo),
        EntryType::Char => device(FileType::CharacterDevice),
        EntryType::Block => device(FileType::BlockDevice),
        EntryType::Regular | EntryType::GNUSparse => Err("it is a file whose name ends with a slash"),
        _ => Err("its type is not known"),
    }
}

/// What PAX records say that is looked at here.
#[derive(Default)]
struct Records {
    path: Option<Vec<u8>>,
    linkpath: Option<Vec<u8>>,
    mtime: Option<i64>,
}

/// Refuses records that programs read differently: malformed or repeated ones, sparse files, and in global ones
/// whatever would change every later entry.
fn check_records(records: PaxExtensions<'_>, is_global: bool) -> Result<Records, &'static str> {
    let mut found = Records::default();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for record in records {
        let Ok(record) = record else {
            return Err("it has a malformed extended record");
        };
        let (key, value) = (record.key_bytes(), record.value_bytes());
        if key.starts_with(b"GNU.sparse.") {
            return Err("it is a sparse file of a kind that is not supported");
        }
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" => {
                if is_global {
                    return Err("it changes every entry that follows");
                }
                if seen.iter().any(|seen| seen == key) {
                    return Err("it has an extended record twice");
                }
                seen.push(key.to_vec());
                if key == b"path" {
                    found.path = Some(value.to_vec());
                } else if key == b"linkpath" {
                    found.linkpath = Some(value.to_vec());
                } else if text.is_empty()
                    || !text.bytes().all(|byte| byte.is_ascii_digit())
                    || text.len() > 19
                {
                    return Err("it has an extended number that is none");
                }
            }
            // A time that is no number only loses the time. Fractions of seconds are dropped.
            b"mtime" => found.mtime = text.split('.').next().and_then(|seconds| seconds.parse().ok()),
            _ => {}
        }
    }
    Ok(found)
}

fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    match name.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.into_owned(),
    }
}

/// The components of a name, taken below the root.
pub(super) fn split<'a>(name: &'a [u8], shown: &str) -> Result<Vec<&'a [u8]>, LayerError> {
    let parts: Vec<&[u8]> =
        name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(LayerError::Refused { name: shown.to_owned(), reason: "it leaves its directory" });
    }
    Ok(parts)
}
