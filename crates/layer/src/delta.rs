//! In what a tree differs from the tree below it, as a layer: what is new or changed, and what is gone.
//!
//! Names in the archive are relative, as those of base images are. Times are those of all layers; owners, modes, hard
//! links, devices and fifos are kept, extended attributes and sockets are not. What is as it was below is left out.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::LayerError;
use crate::listing::{is_opaque, is_same_file};
use crate::read::MAX_LAYER;
use crate::source::{item_meta, owner_of, walk, write_item};
use crate::survey::{Seen, Survey};
use crate::tar_writer::{Owner, TarWriter};

/// What a layer has in place of an entry that is gone.
const WHITEOUT: &str = ".wh.";
/// What it has in a directory of which nothing is seen that is below.
const OPAQUE: &str = ".wh..wh..opq";

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is there, new or changed.
    There,
    /// It is there, and nothing of what has been below it.
    Opaque,
    /// It is gone.
    Gone,
}

/// What was in the upper directory of an overlay at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Furniture(BTreeMap<PathBuf, (u32, Owner)>);

impl Furniture {
    /// What is there now: what a sandbox made for itself before anything ran in it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be looked through.
    pub fn of(upper: &Path) -> Result<Self, LayerError> {
        let mut all = BTreeMap::new();
        walk(upper, |relative, meta| {
            all.insert(PathBuf::from(relative), (meta.mode(), owner_of(meta)));
            Ok(())
        })?;
        Ok(Self(all))
    }

    fn has(&self, path: &Path, meta: &Metadata) -> bool {
        self.0.get(path).is_some_and(|(mode, owner)| *mode == meta.mode() && *owner == owner_of(meta))
    }
}

/// The difference between a tree and the tree below it.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// By path below the root; folders are before what is in them.
    fates: BTreeMap<PathBuf, Fate>,
    /// How many bytes the files have.
    size: u64,
    /// Files of an upper directory that have capabilities.
    capable: Vec<PathBuf>,
}

impl Delta {
    /// What the upper directory of an overlay has that is mounted with `userxattr`. `lowers` are its lower directories,
    /// `furniture` is what was in the upper one before. No process may change them meanwhile.
    ///
    /// # Errors
    ///
    /// When something cannot be looked at, or cannot be in a layer: a name that means a deletion, more than
    /// [`MAX_LAYER`] bytes.
    pub fn of_overlay(upper: &Path, lowers: &[PathBuf], furniture: &Furniture) -> Result<Self, LayerError> {
        let below = |path: &Path| below(lowers, path);
        let mut delta = Self::default();
        // Folders that are as they were count only for what is in them.
        let mut plain: BTreeMap<PathBuf, Fate> = BTreeMap::new();
        walk(upper, |relative, meta| {
            let path = PathBuf::from(relative);
            if relative.is_empty() {
                return Ok(());
            }
            let place = upper.join(&path);
            let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            let fate = if is_whiteout {
                // One over nothing says nothing.
                if below(&path).is_none() {
                    return Ok(());
                }
                Fate::Gone
            } else if meta.is_dir() {
                let hides = is_opaque(&place).map_err(LayerError::io("look at", &place))?;
                let old = below(&path);
                if hides && old.is_some() { Fate::Opaque } else { Fate::There }
            } else {
                Fate::There
            };
            if meta.is_file() && has_capabilities(&place) {
                delta.capable.push(path.clone());
            }
            let is_furniture = furniture.has(&path, meta);
            let same = || is_as_below(&below, &path, &place, meta);
            if fate == Fate::There && (is_furniture || same().map_err(LayerError::io("read", &place))?) {
                plain.insert(path, fate);
                return Ok(());
            }
            check_name(&path)?;
            delta.add(path, fate, meta)
        })?;
        delta.with_parents(&plain);
        Ok(delta)
    }

    /// In what a tree is not as it was. Of a file that was touched nobody knows whether it changed.
    ///
    /// # Errors
    ///
    /// When something cannot be in a layer, see [`Self::of_overlay`].
    pub fn between(before: &Survey, now: &Survey) -> Result<Self, LayerError> {
        let mut delta = Self::default();
        let mut plain: BTreeMap<PathBuf, Fate> = BTreeMap::new();
        for (path, seen) in &now.entries {
            let old = before.entries.get(path);
            if old.is_some_and(|old| old.is_same(seen)) {
                plain.insert(path.clone(), Fate::There);
                continue;
            }
            check_name(path)?;
            if seen.is_socket() {
                continue;
            }
            if seen.is_file() {
                delta.size = delta.size.saturating_add(seen.size);
            }
            delta.check_size()?;
            delta.fates.insert(path.clone(), Fate::There);
        }
        let mut last: Option<&Path> = None;
        for path in before.entries.keys().filter(|path| !now.entries.contains_key(*path)) {
            // What was in a folder that is gone is gone with it.
            if last.is_some_and(|last| path.starts_with(last)) {
                continue;
            }
            last = Some(path);
            // In what is no folder any more there is nothing to be deleted.
            let parent = path.parent().and_then(|parent| now.entries.get(parent));
            if path.parent() == Some(Path::new("")) || parent.is_some_and(Seen::is_dir) {
                delta.fates.insert(path.clone(), Fate::Gone);
            }
        }
        delta.with_parents(&plain);
        Ok(delta)
    }

    fn check_size(&self) -> Result<(), LayerError> {
        if self.size > MAX_LAYER {
            return Err(LayerError::TooLarge { limit: MAX_LAYER, unit: "bytes" });
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, fate: Fate, meta: &Metadata) -> Result<(), LayerError> {
        if meta.file_type().is_socket() {
            return Ok(());
        }
        if meta.is_file() {
            self.size = self.size.saturating_add(meta.len());
        }
        self.check_size()?;
        self.fates.insert(path, fate);
        Ok(())
    }

    /// Adds the folders above all that there is: whoever unpacks the layer learns how they are.
    fn with_parents(&mut self, plain: &BTreeMap<PathBuf, Fate>) {
        let above: Vec<PathBuf> = self
            .fates
            .keys()
            .flat_map(|path| path.ancestors().skip(1))
            .filter(|path| plain.contains_key(*path))
            .map(Path::to_owned)
            .collect();
        self.fates.extend(above.into_iter().map(|path| (path, Fate::There)));
    }

    /// Whether there is no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }

    /// Files with capabilities, as `setcap` gives them, which the layer does not keep; `root` is the tree.
    #[must_use]
    pub fn capable(&self, root: &Path) -> Vec<PathBuf> {
        let there = self.fates.iter().filter(|(_, fate)| **fate == Fate::There).map(|(path, _)| path);
        let mut all: Vec<PathBuf> =
            there.filter(|path| has_capabilities(&root.join(path))).cloned().collect();
        // What is else as it was is not among what changed.
        all.extend(self.capable.iter().cloned());
        all.sort();
        all.dedup();
        all
    }

    /// Writes it as a tar archive; `root` is the tree. `out` may be unbuffered and is flushed.
    ///
    /// # Errors
    ///
    /// When the tree cannot be read, and those of `out`.
    pub fn write(&self, root: &Path, out: &mut dyn Write) -> Result<(), LayerError> {
        let mut buffered = BufWriter::with_capacity(256 * 1024, out);
        let mut tar = TarWriter::new(&mut buffered);
        let mut linked: HashMap<(u64, u64), OsString> = HashMap::new();
        for (path, fate) in &self.fates {
            if *fate == Fate::Gone {
                write_marker(&mut tar, path.parent(), path.file_name())?;
                continue;
            }
            let place = root.join(path);
            let meta = fs::symlink_metadata(&place).map_err(LayerError::io("look at", &place))?;
            if meta.is_file() && meta.nlink() > 1 {
                let first = linked.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone().into());
                if first != path.as_os_str() {
                    tar.hard_link(path, &*first, meta.mode() & 0o7777, owner_of(&meta))?;
                    continue;
                }
            }
            write_item(&mut tar, root, "", owner_of(&meta), path.as_os_str(), &item_meta(&meta))?;
            if *fate == Fate::Opaque {
                tar.file(path.join(OPAQUE), 0, Owner::ROOT, 0, &mut io::empty())?;
            }
        }
        tar.finish()?;
        buffered.flush().map_err(LayerError::write)
    }
}

fn write_marker<W: Write>(
    tar: &mut TarWriter<W>,
    parent: Option<&Path>,
    name: Option<&OsStr>,
) -> Result<(), LayerError> {
    let mut marker = OsString::from(WHITEOUT);
    marker.push(name.unwrap_or_default());
    tar.file(parent.unwrap_or(Path::new("")).join(marker), 0, Owner::ROOT, 0, &mut io::empty())
}

fn has_capabilities(path: &Path) -> bool {
    // Where there are no such attributes, there are no capabilities.
    rustix::fs::lgetxattr(path, c"security.capability", &mut [0_u8; 64]).is_ok()
}

fn check_name(path: &Path) -> Result<(), LayerError> {
    let is_marker = path.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT.as_bytes()));
    if is_marker {
        return Err(LayerError::Name {
            path: path.to_owned(),
            reason: "in a layer, names that begin with .wh. mean deletions",
        });
    }
    Ok(())
}

/// The entry of that path in the topmost lower directory that has one, with the place of it.
fn below(lowers: &[PathBuf], path: &Path) -> Option<(PathBuf, Metadata)> {
    let places = lowers.iter().map(|lower| lower.join(path));
    let found = places.filter_map(|place| Some((fs::symlink_metadata(&place).ok()?, place)));
    let (meta, place) = { found }.next()?;
    let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
    (!is_whiteout).then_some((place, meta))
}

/// Whether an entry is what is below it, but for times.
fn is_as_below(
    below: &dyn Fn(&Path) -> Option<(PathBuf, Metadata)>,
    path: &Path,
    place: &Path,
    meta: &Metadata,
) -> io::Result<bool> {
    let Some((old_place, old)) = below(path) else { return Ok(false) };
    if (old.mode(), owner_of(&old)) != (meta.mode(), owner_of(meta)) {
        return Ok(false);
    }
    if meta.is_symlink() {
        return Ok(fs::read_link(place)? == fs::read_link(old_place)?);
    }
    if meta.is_file() {
        return Ok(old.len() == meta.len() && is_same_file(place, &old_place)?);
    }
    Ok(meta.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ownership, UnpackOptions, Whiteouts, unpack};
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Names of an archive with their kinds, in order.
    fn names(tar: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(tar);
        let name = |entry: io::Result<tar::Entry<'_, _>>| {
            let entry = entry.unwrap();
            let kind = entry.header().entry_type();
            let link = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
            format!("{:?} {}{}", kind, entry.path().unwrap().display(), link.unwrap_or_default())
        };
        archive.entries().unwrap().map(name).collect()
    }

    fn whiteout(path: &Path) {
        mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    }

    fn write(delta: &Delta, root: &Path) -> Vec<u8> {
        let mut tar = Vec::new();
        delta.write(root, &mut tar).unwrap();
        tar
    }

    #[test]
    fn an_upper_directory_becomes_what_is_new_and_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, top, bottom] = ["upper", "top", "bottom"].map(|name| dir.path().join(name));
        for path in ["etc/keep", "usr/bin", "opt/old", "var"] {
            fs::create_dir_all(bottom.join(path)).unwrap();
        }
        for (path, text) in
            [("etc/same", "same"), ("etc/gone", ""), ("usr/bin/x", "old"), ("opt/old/file", "")]
        {
            fs::write(bottom.join(path), text).unwrap();
        }
        fs::create_dir_all(top.join("etc")).unwrap();
        whiteout(&{ top.join("etc/gone") });
        // What the sandbox made for itself.
        fs::create_dir_all(upper.join("proc")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        let furniture = Furniture::of(&upper).unwrap();
        // What was written then.
        for path in ["usr/bin", "opt/old", "var", "new/deep"] {
            fs::create_dir_all(upper.join(path)).unwrap();
        }
        rustix::fs::setxattr(upper.join("opt/old"), "user.overlay.opaque", b"y", XattrFlags::empty())
            .unwrap();
        rustix::fs::setxattr(upper.join("new"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        fs::write(upper.join("etc/same"), "same").unwrap();
        fs::write(upper.join("usr/bin/x"), "new").unwrap();
        fs::set_permissions(upper.join("usr/bin/x"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(upper.join("usr/bin/x"), upper.join("usr/bin/y")).unwrap();
        symlink("x", upper.join("usr/bin/z")).unwrap();
        whiteout(&upper.join("etc/keep"));
        whiteout(&upper.join("etc/gone"));
        whiteout(&upper.join("etc/never"));
        // A version 2 attribute with CAP_NET_BIND_SERVICE; only root may give it.
        let mut capability = [0_u8; 20];
        (capability[3], capability[0], capability[5]) = (2, 1, 4);
        let set = rustix::fs::setxattr(
            upper.join("etc/same"),
            "security.capability",
            &capability,
            XattrFlags::empty(),
        );
        let delta = Delta::of_overlay(&upper, &[top, bottom.clone()], &furniture).unwrap();
        let capable = if set.is_ok() { vec![PathBuf::from("etc/same")] } else { Vec::new() };
        assert_eq!(delta.capable(&upper), capable);
        let tar = write(&delta, &upper);
        let expected = [
            "Directory etc",
            "Regular etc/.wh.keep",
            "Directory new",
            "Directory new/deep",
            "Directory opt",
            "Directory opt/old",
            "Regular opt/old/.wh..wh..opq",
            "Directory usr",
            "Directory usr/bin",
            "Regular usr/bin/x",
            "Link usr/bin/y -> usr/bin/x",
            "Symlink usr/bin/z -> x",
        ];
        assert_eq!(names(&tar), expected);
        // Whoever unpacks it over what was below has the same.
        let options = UnpackOptions {
            whiteouts: Whiteouts::Apply,
            ownership: Ownership::Caller,
            ..UnpackOptions::default()
        };
        unpack(&mut tar.as_slice(), &bottom, &options).unwrap();
        assert!(!bottom.join("etc/keep").exists() && !bottom.join("opt/old/file").exists());
        assert_eq!(fs::read_to_string(bottom.join("usr/bin/z")).unwrap(), "new");
        let [x, y] = ["x", "y"].map(|name| fs::metadata(bottom.join("usr/bin").join(name)).unwrap());
        assert_eq!((x.ino(), x.mode() & 0o7777), (y.ino(), 0o4755));
        assert_eq!(write(&delta, &upper), tar);
    }

    #[test]
    fn nothing_written_is_no_difference_and_names_of_deletions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let lowers = [dir.path().join("lower")];
        let upper = dir.path().join("upper");
        fs::create_dir_all(lowers[0].join("etc")).unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        assert!(Delta::of_overlay(&upper, &lowers, &Furniture::default()).unwrap().is_empty());
        fs::write(upper.join("etc/.wh.passwd"), "").unwrap();
        let error = Delta::of_overlay(&upper, &lowers, &Furniture::default()).unwrap_err();
        assert!(error.to_string().contains("deletions"), "{error}");
        fs::remove_file(upper.join("etc/.wh.passwd")).unwrap();
        fs::File::create(upper.join("huge")).unwrap().set_len(MAX_LAYER + 1).unwrap();
        let error = Delta::of_overlay(&upper, &lowers, &Furniture::default()).unwrap_err();
        assert!(matches!(error, LayerError::TooLarge { .. }), "{error}");
    }
}
