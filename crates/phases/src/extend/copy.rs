//! Copies files of the context into the image, for `COPY` and `ADD`.
//!
//! The context is what an extension made: links in it lead to places in it, and what is no file, folder or link is refused.

use super::{Fault, Ground, make_dirs};
use rustix::fs::{
    CWD, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags, fstat, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use strata_decide::extend::Content;
use strata_layer::{Ownership, Times, UnpackOptions, Whiteouts, matches, open_layer, unpack};

/// How files are copied.
pub(super) struct How {
    pub(super) owner: (u32, u32),
    pub(super) mode: Option<u32>,
    pub(super) unpacks: bool,
}

/// Copies one of so many sources.
pub(super) fn copy(
    source: &Content,
    to: &str,
    sources: usize,
    how: &How,
    ground: &Ground<'_>,
) -> Result<(), Fault> {
    match source {
        Content::Text { name, content } => {
            let target = target(to, name, false, how)?;
            let mode = how.mode.unwrap_or(0o644);
            write(&mut content.as_bytes(), &target, mode, how.owner)
        }
        Content::Path(path) => {
            let context = Context::open(ground)?;
            let found = context.find(path)?;
            if found.is_empty() {
                return Err(Fault::new(format!("nothing in the context is called '{path}'"))
                    .hint("the context is what the extension wrote to its folder context, or the app where there is none"));
            }
            let is_folder = sources > 1 || found.len() > 1;
            if is_folder && !to.ends_with('/') {
                let text = format!("'{path}' is several files, and the destination '{to}' is no directory");
                return Err(Fault::new(text).hint("end the destination with a slash"));
            }
            found.iter().try_for_each(|path| context.copy(path, to, how))
        }
    }
}

/// Where a file goes; the folder that it goes to is made.
fn target(to: &str, name: &str, is_dir: bool, how: &How) -> Result<PathBuf, Fault> {
    let path = Path::new(to);
    if is_dir {
        make_dirs(path, how.owner)?;
        return Ok(path.to_owned());
    }
    if to.ends_with('/') || path.is_dir() {
        make_dirs(path, how.owner)?;
        return Ok(path.join(name));
    }
    make_dirs(path.parent().unwrap_or(Path::new("/")), how.owner)?;
    Ok(path.to_owned())
}

struct Context {
    root: OwnedFd,
    shown: PathBuf,
}

/// Links of the context are followed, and lead nowhere else.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

impl Context {
    fn open(ground: &Ground<'_>) -> Result<Self, Fault> {
        let shown = ground.context.ok_or_else(|| Fault::new("there is no context"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, shown, flags, Mode::empty()).map_err(Fault::io("open", shown))?;
        Ok(Self { root, shown: shown.to_owned() })
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, rustix::io::Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE)
    }

    /// What a path with patterns stands for, in the order of names; nothing when it is not there.
    fn find(&self, pattern: &str) -> Result<Vec<PathBuf>, Fault> {
        let mut found = vec![PathBuf::new()];
        for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
            if part == ".." {
                for path in &mut found {
                    path.pop();
                }
                continue;
            }
            let mut next = Vec::new();
            for path in found {
                if part.contains(['*', '?', '[', '\\']) {
                    next.extend(self.matching(&path, part)?);
                } else {
                    next.push(path.join(part));
                }
            }
            found = next;
        }
        let mut there = Vec::new();
        for path in found {
            // A link that leads nowhere is there, and is told of when it is copied.
            match self.resolve(&path, OFlags::PATH | OFlags::NOFOLLOW) {
                Ok(_) => there.push(path),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(Fault::io("look at", &self.shown.join(path))(error)),
            }
        }
        Ok(there)
    }

    fn matching(&self, dir: &Path, pattern: &str) -> Result<Vec<PathBuf>, Fault> {
        let open = match self.resolve(dir, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(open) => open,
            // What is no folder has nothing in it that matches.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(error) => return Err(Fault::io("open", &self.shown.join(dir))(error)),
        };
        let mut found = Vec::new();
        for name in names(&open).map_err(Fault::io("list", &self.shown.join(dir)))? {
            let is_match = matches(pattern, &name)
                .map_err(|error| Fault::new(format!("'{pattern}' is no pattern: {error}")))?;
            if is_match {
                found.push(dir.join(name));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Copies a file, or what is in a folder.
    fn copy(&self, path: &Path, to: &str, how: &How) -> Result<(), Fault> {
        let shown = self.shown.join(path);
        let fault = |error| Fault::io("open", &shown)(error);
        let place = self.resolve(path, OFlags::PATH).map_err(fault)?;
        let stat = fstat(&place).map_err(|error| Fault::io("look at", &shown)(error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let target = target(to, "", true, how)?;
                self.copy_tree(path, &target, how)
            }
            FileType::RegularFile => {
                let mut file = self.file(path)?;
                if how.unpacks && unpacked(&mut file, &shown, Path::new(to), how)? {
                    return Ok(());
                }
                let target = target(to, &name, false, how)?;
                write(&mut file, &target, mode(how, stat.st_mode), how.owner)
            }
            kind => Err(odd(&shown, kind)),
        }
    }

    fn file(&self, path: &Path) -> Result<File, Fault> {
        let file = self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK);
        file.map(File::from).map_err(Fault::io("open", &self.shown.join(path)))
    }

    /// Copies what is in a folder, links as links. The list of what is to come is a list, since a tree may be deeper than a
    /// stack.
    fn copy_tree(&self, top: &Path, target: &Path, how: &How) -> Result<(), Fault> {
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            let dir = top.join(&below);
            let shown = self.shown.join(&dir);
            let fd = self
                .resolve(&dir, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|error| Fault::io("open", &shown)(error))?;
            let mut all = names(&fd).map_err(|error| Fault::io("list", &shown)(error))?;
            all.sort_unstable();
            for name in all {
                let to = target.join(&below).join(&name);
                if self.copy_entry(&fd, &name, &shown, &to, how)? {
                    open.push(below.join(&name));
                }
            }
        }
        Ok(())
    }

    /// Copies one entry of a folder; whether it is a folder, of which the contents are to come.
    fn copy_entry(
        &self,
        dir: &OwnedFd,
        name: &std::ffi::OsStr,
        shown: &Path,
        to: &Path,
        how: &How,
    ) -> Result<bool, Fault> {
        let shown = shown.join(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place =
            openat(dir, name, flags, Mode::empty()).map_err(|error| Fault::io("open", &shown)(error))?;
        let stat = fstat(&place).map_err(|error| Fault::io("look at", &shown)(error))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let is_new = !to.is_dir();
                make_dirs(to, how.owner)?;
                if is_new || how.mode.is_some() {
                    let mode = Permissions::from_mode(mode(how, stat.st_mode));
                    fs::set_permissions(to, mode).map_err(Fault::io("change the mode of", to))?;
                }
                return Ok(true);
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(dir, name, flags, Mode::empty());
                let mut file = file.map(File::from).map_err(|error| Fault::io("open", &shown)(error))?;
                write(&mut file, to, mode(how, stat.st_mode), how.owner)?;
            }
            FileType::Symlink => {
                let link =
                    readlinkat(&place, c"", Vec::new()).map_err(|error| Fault::io("read", &shown)(error))?;
                make_room(to)?;
                symlink(std::ffi::OsString::from_vec(link.into_bytes()), to)
                    .map_err(Fault::io("create", to))?;
                if how.owner != (0, 0) {
                    lchown(to, Some(how.owner.0), Some(how.owner.1)).map_err(Fault::io("give away", to))?;
                }
            }
            kind => return Err(odd(&shown, kind)),
        }
        Ok(false)
    }
}

fn names(dir: impl AsFd) -> Result<Vec<std::ffi::OsString>, rustix::io::Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn mode(how: &How, found: RawMode) -> u32 {
    how.mode.unwrap_or(found & 0o7777)
}

fn odd(shown: &Path, kind: FileType) -> Fault {
    let kind = match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "neither a file nor a folder",
    };
    Fault::new(format!("{} is {kind}, which cannot be copied", shown.display()))
}

/// Removes a file or a link that is in the way.
fn make_room(path: &Path) -> Result<(), Fault> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            Err(Fault::new(format!("{} is a directory, and cannot be replaced", path.display())))
        }
        Ok(_) => fs::remove_file(path).map_err(Fault::io("replace", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::io("look at", path)(error)),
    }
}

fn write(from: &mut dyn Read, to: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<(), Fault> {
    make_room(to)?;
    let mut file = File::create_new(to).map_err(Fault::io("create", to))?;
    io::copy(from, &mut file).map_err(Fault::io("write", to))?;
    if (uid, gid) != (0, 0) {
        fchown(&file, Some(uid), Some(gid)).map_err(Fault::io("give away", to))?;
    }
    // After the owner, which takes the rights of others off.
    file.set_permissions(Permissions::from_mode(mode)).map_err(Fault::io("change the mode of", to))
}

/// Unpacks an archive, if the file is one.
fn unpacked(file: &mut File, shown: &Path, to: &Path, how: &How) -> Result<bool, Fault> {
    let io_fault = |error| Fault::io("read", shown)(error);
    let head = head_of(file).map_err(io_fault)?;
    for (magic, name) in [(&b"BZh"[..], "bzip2"), (b"\xfd7zXZ\0", "xz")] {
        if head.starts_with(magic) {
            return Err(Fault::new(format!(
                "{} is compressed with {name}, which ADD cannot unpack here",
                shown.display()
            ))
            .hint("compress it with gzip or zstd, or copy it and unpack it with RUN"));
        }
    }
    let again = file.try_clone().map_err(io_fault)?;
    let Ok(mut tar) = open_layer(again) else { return rewound(file, shown) };
    let mut first = [0; 512];
    let is_tar = tar.read_exact(&mut first).is_ok() && first.get(257..262) == Some(b"ustar");
    drop(tar);
    rewound(file, shown)?;
    if !is_tar {
        return Ok(false);
    }
    if how.owner != (0, 0) || how.mode.is_some() {
        return Err(Fault::new("--chown and --chmod are not possible for an archive that ADD unpacks")
            .hint("copy it and unpack it with RUN"));
    }
    make_dirs(to, how.owner)?;
    let options = UnpackOptions {
        whiteouts: Whiteouts::Literal,
        ownership: Ownership::Here,
        times: Times::Now,
        // How the folder was that somebody packed says nothing of the one that is there.
        keeps_root: true,
        ..UnpackOptions::default()
    };
    let failed = |error: strata_layer::LayerError| Fault::new(crate::failure::chain(&error));
    let mut tar = open_layer(file.try_clone().map_err(io_fault)?).map_err(failed)?;
    unpack(&mut tar, to, &options).map(|_| true).map_err(failed)
}

fn head_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    Read::by_ref(file).take(16).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head)
}

fn rewound(file: &mut File, shown: &Path) -> Result<bool, Fault> {
    file.rewind().map(|()| false).map_err(Fault::io("read", shown))
}

#[cfg(test)]
mod tests;
