//! What goes into a layer, and the walk that turns it into a tar.
//!
//! Nothing is hidden here: whatever the tree holds is written, hard links as full copies, sockets left out.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use strata_oci::Digest;

use crate::archive::{Archive, open_file};
use crate::error::LayerError;
use crate::read::HashWriter;
use crate::tar_writer::{Owner, TarWriter};

/// One directory entry written before the tree, e.g. `/layers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Absolute path, as in the tar.
    pub path: String,
    /// Its owner.
    pub owner: Owner,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
}

impl Parent {
    /// Every ancestor of `path` but the root, outermost first, with the owner and mode it has now (links followed).
    ///
    /// Fails if one of them cannot be looked at or if its name is not UTF-8.
    pub fn ancestors_of(path: &Path) -> Result<Vec<Self>, LayerError> {
        let mut parents = Vec::new();
        for ancestor in path.ancestors().skip(1).filter(|ancestor| ancestor.parent().is_some()) {
            let meta = fs::metadata(ancestor).map_err(LayerError::io("look at", ancestor))?;
            let path = ancestor
                .to_str()
                .ok_or_else(|| LayerError::Name { path: ancestor.to_owned(), reason: "it is not UTF-8" })?;
            parents.push(Self { path: path.to_owned(), owner: owner_of(&meta), mode: meta.mode() & 0o7777 });
        }
        parents.reverse();
        Ok(parents)
    }
}

/// What an entry of an app slice was when the tree was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceItem {
    /// Path below the directory, empty for the directory itself.
    pub relative: OsString,
    /// Kind and permission bits as in `st_mode`.
    pub mode: u32,
    /// Size in bytes; the file must still have it when it is read.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

/// What an entry of [`Source::Generated`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Dir,
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes of this one; links are followed.
    File(PathBuf),
    /// A symbolic link to this target.
    Symlink(String),
}

/// One entry that is not copied from a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedEntry {
    /// Name as in the tar.
    pub name: String,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Its owner.
    pub owner: Owner,
    /// What it is.
    pub content: Content,
}

/// What goes into a layer, in order.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory: parents first, then the tree, the children of each directory in byte order of their names.
    Dir {
        /// Where the bytes are.
        dir: PathBuf,
        /// What the directory is called in the tar.
        as_path: String,
        /// Directories written before it.
        parents: Vec<Parent>,
        /// Who owns the tree in the tar.
        owner: Owner,
    },
    /// A part of a directory, in byte order of whole paths. No items: an empty archive, without parents.
    Entries {
        /// Where the bytes are.
        dir: PathBuf,
        /// What the directory is called in the tar.
        as_path: String,
        /// Directories written before it.
        parents: Vec<Parent>,
        /// Who owns the items in the tar.
        owner: Owner,
        /// The chosen entries, sorted.
        items: Vec<SliceItem>,
    },
    /// Entries that are not copied from a tree: launcher, process types.
    Generated(Vec<GeneratedEntry>),
    /// A layer that was written before.
    Archive(Archive),
}

/// Writes `source` as a tar archive. `out` may be unbuffered and is flushed.
pub fn write_tar(source: &Source, out: &mut dyn Write) -> Result<(), LayerError> {
    let mut buffered = BufWriter::with_capacity(256 * 1024, out);
    write_entries(source, &mut buffered)?;
    buffered.flush().map_err(LayerError::write)
}

/// All of an archive but the contents of its files: names, links, kinds, modes, owners and sizes, and how they are
/// written. Archives with the same skeleton and the same contents are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// Digest of the archive without the contents of files.
    pub digest: Digest,
    /// Size of the whole archive in bytes.
    pub size: u64,
}

/// The skeleton of the archive of a [`Source::Dir`]. No file is read.
pub fn skeleton(source: &Source) -> Result<Skeleton, LayerError> {
    let mut bones = Bones::new(source)?;
    if let Source::Dir { dir, .. } = source {
        walk(dir, |relative, meta| bones.add(relative, &item_meta(meta)))?;
    }
    bones.finish()
}

/// A skeleton in the making.
pub(crate) struct Bones<'a> {
    source: &'a Source,
    tar: TarWriter<BufWriter<HashWriter<std::io::Sink>>>,
    contents: u64,
}

impl<'a> Bones<'a> {
    /// Begins with the folders above.
    pub(crate) fn new(source: &'a Source) -> Result<Self, LayerError> {
        let hash = HashWriter::new(std::io::sink());
        let mut tar = TarWriter::new(BufWriter::with_capacity(64 * 1024, hash));
        if let Source::Dir { parents, .. } = source {
            write_parents(&mut tar, parents)?;
        }
        Ok(Self { source, tar, contents: 0 })
    }

    /// Adds an entry of the tree: they come in the order of the archive.
    pub(crate) fn add(&mut self, relative: &OsStr, item: &SliceItem) -> Result<(), LayerError> {
        let Source::Dir { dir, as_path, owner, .. } = self.source else { return Ok(()) };
        if FileType::from_raw_mode(item.mode) != FileType::RegularFile {
            return write_item(&mut self.tar, dir, as_path, *owner, relative, item);
        }
        self.contents += item.size;
        let name = join(OsStr::new(as_path), relative);
        self.tar.hollow_file(&name, item.mode & 0o7777, *owner, item.size)
    }

    pub(crate) fn finish(self) -> Result<Skeleton, LayerError> {
        let hash = self.tar.finish()?.into_inner();
        let (_, digest, bones) = hash.map_err(|error| LayerError::write(error.into_error()))?.finish();
        Ok(Skeleton { digest, size: bones + self.contents })
    }
}

impl Source {
    /// Digest of what the archive of a [`Source::Dir`] depends on besides the tree: its name, its owner, the folders
    /// above.
    pub fn frame(&self) -> Option<Digest> {
        let Self::Dir { as_path, parents, owner, .. } = self else { return None };
        let mut tar = TarWriter::new(Vec::new());
        // What cannot be written is told when the layer is packed.
        let written = write_parents(&mut tar, parents).and_then(|()| tar.dir(as_path, 0o755, *owner));
        Some(Digest::of(&written.and_then(|()| tar.finish()).ok()?))
    }
}

/// Like [`write_tar`], with many small writes.
pub(crate) fn write_entries(source: &Source, out: &mut dyn Write) -> Result<(), LayerError> {
    if let Source::Archive(archive) = source {
        return archive.write_tar(out);
    }
    let mut tar = TarWriter::new(out);
    match source {
        Source::Dir { dir, as_path, parents, owner } => {
            write_parents(&mut tar, parents)?;
            walk(dir, |relative, meta| {
                write_item(&mut tar, dir, as_path, *owner, relative, &item_meta(meta))
            })?;
        }
        Source::Entries { items, .. } if items.is_empty() => {}
        Source::Entries { dir, as_path, parents, owner, items } => {
            write_parents(&mut tar, parents)?;
            for item in items {
                write_item(&mut tar, dir, as_path, *owner, &item.relative, item)?;
            }
        }
        Source::Generated(entries) => {
            for entry in entries {
                write_generated(&mut tar, entry)?;
            }
        }
        Source::Archive(_) => {}
    }
    tar.finish()?;
    Ok(())
}

/// Calls `visit` with each entry of the tree and its path below `dir`: a directory before its children, these in byte
/// order. Links are not followed, not even if `dir` is one.
pub(crate) fn walk(
    dir: &Path,
    mut visit: impl FnMut(&OsStr, &fs::Metadata) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let look = |path: &Path| fs::symlink_metadata(path).map_err(LayerError::io("look at", path));
    let meta = look(dir)?;
    visit(OsStr::new(""), &meta)?;
    // A stack of our own: a tree may be deeper than a thread's stack allows.
    let mut open: Vec<(OsString, std::vec::IntoIter<OsString>)> = Vec::new();
    if meta.is_dir() {
        open.push((OsString::new(), sorted_names(dir)?));
    }
    while let Some((parent, names)) = open.last_mut() {
        let Some(name) = names.next() else {
            open.pop();
            continue;
        };
        let relative = join(parent, &name);
        let path = dir.join(&relative);
        let meta = look(&path)?;
        visit(&relative, &meta)?;
        if meta.is_dir() {
            open.push((relative, sorted_names(&path)?));
        }
    }
    Ok(())
}

/// What is kept of an entry until it is written.
pub(crate) fn item_meta(meta: &fs::Metadata) -> SliceItem {
    let device = if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
        (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()))
    } else {
        (0, 0)
    };
    SliceItem { relative: OsString::new(), mode: meta.mode(), size: meta.size(), device }
}

fn sorted_names(dir: &Path) -> Result<std::vec::IntoIter<OsString>, LayerError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(LayerError::io("list", dir))? {
        names.push(entry.map_err(LayerError::io("list", dir))?.file_name());
    }
    names.sort_unstable();
    Ok(names.into_iter())
}

fn join(parent: &OsStr, name: &OsStr) -> OsString {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent.as_bytes());
    if !path.is_empty() && path.last() != Some(&b'/') && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    OsString::from_vec(path)
}

pub(crate) fn owner_of(meta: &fs::Metadata) -> Owner {
    Owner { uid: u64::from(meta.uid()), gid: u64::from(meta.gid()) }
}

pub(crate) fn write_parents<W: Write>(tar: &mut TarWriter<W>, parents: &[Parent]) -> Result<(), LayerError> {
    parents.iter().try_for_each(|parent| tar.dir(&parent.path, parent.mode, parent.owner))
}

pub(crate) fn write_item<W: Write>(
    tar: &mut TarWriter<W>,
    dir: &Path,
    as_path: &str,
    owner: Owner,
    relative: &OsStr,
    item: &SliceItem,
) -> Result<(), LayerError> {
    let name = join(OsStr::new(as_path), relative);
    // Joining an empty path would add a slash, which follows a link.
    let path = || if relative.is_empty() { dir.to_owned() } else { dir.join(relative) };
    let mode = item.mode & 0o7777;
    match FileType::from_raw_mode(item.mode) {
        FileType::Directory => tar.dir(name, mode, owner),
        FileType::RegularFile => {
            let mut file = open_file(&path())?;
            tar.file_from(&name, mode, owner, item.size, &mut file, path)
        }
        FileType::Symlink => {
            let path = path();
            let target = fs::read_link(&path).map_err(LayerError::io("read the link", path))?;
            tar.symlink(name, target, mode, owner)
        }
        FileType::Fifo => tar.fifo(name, mode, owner),
        FileType::CharacterDevice => tar.char_device(name, mode, owner, item.device),
        FileType::BlockDevice => tar.block_device(name, mode, owner, item.device),
        // Sockets mean nothing without the process behind them.
        _ => Ok(()),
    }
}

fn write_generated<W: Write>(tar: &mut TarWriter<W>, entry: &GeneratedEntry) -> Result<(), LayerError> {
    let GeneratedEntry { name, mode, owner, content } = entry;
    match content {
        Content::Dir => tar.dir(name, *mode, *owner),
        Content::Symlink(target) => tar.symlink(name, target, *mode, *owner),
        Content::Bytes(bytes) => {
            let data: &mut dyn Read = &mut bytes.as_slice();
            tar.file(name, *mode, *owner, bytes.len() as u64, data)
        }
        Content::File(path) => {
            let mut file = File::open(path).map_err(LayerError::io("open", path))?;
            let size = file.metadata().map_err(LayerError::io("look at", path))?.len();
            tar.file_from(OsStr::new(name), *mode, *owner, size, &mut file, || path.clone())
        }
    }
}

/// Whether the archive is surely at most `limit` bytes. Looks at no more of the tree than it takes to tell.
pub(crate) fn is_smaller_than(source: &Source, limit: u64) -> bool {
    // Header, PAX header and records; names are far shorter than the rest.
    const PER_ENTRY: u64 = 3 * 512;
    let cost = |size: u64| size.saturating_add(PER_ENTRY + 512);
    let mut total = 1024_u64;
    match source {
        Source::Generated(entries) => {
            for entry in entries {
                total = total.saturating_add(match &entry.content {
                    Content::Bytes(bytes) => cost(bytes.len() as u64),
                    Content::File(path) => cost(fs::metadata(path).map_or(limit, |meta| meta.len())),
                    Content::Dir | Content::Symlink(_) => cost(0),
                });
            }
        }
        Source::Archive(archive) => total = archive.packed.uncompressed_size,
        Source::Entries { items, .. } => {
            for item in items {
                total = total.saturating_add(cost(item.size));
            }
        }
        Source::Dir { dir, parents, .. } => {
            total = total.saturating_add(parents.len() as u64 * cost(0));
            let counted = walk(dir, |_, meta| {
                total = total.saturating_add(cost(if meta.is_file() { meta.len() } else { 0 }));
                if total > limit { Err(LayerError::Stopped) } else { Ok(()) }
            });
            // An error here comes again, with its reason, when the tree is packed.
            return counted.is_ok();
        }
    }
    total <= limit
}
