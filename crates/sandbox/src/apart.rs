//! A folder that is set apart: whoever writes to it writes to a place of its own, and the folder stays as it was.
//!
//! Process 1 of a sandbox overlays it on its own path, for as long as other programs run. What was written is below the
//! next overlay again, so that the programs that follow see it. Where it is kept is covered from the start, whenever other
//! programs run, and covers are locked for whoever makes namespaces of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::thread::UnshareFlags;

use crate::SandboxError;
use crate::error::{Doing, Failure};
use crate::mounts::{Maker, Upper, overlay};

/// Where it is kept what is written, inside. Nobody can rename a folder of `/dev` that something is mounted on.
pub(crate) const PLACE: &str = "/dev/.strata";

/// A folder that process 1 of a sandbox sets apart again and again.
#[derive(Debug)]
pub struct Apart {
    folder: PathBuf,
    /// The folder itself, wherever it is covered.
    base: PathBuf,
    /// What was written to it while it was set apart, the newest first.
    written: Vec<PathBuf>,
    now: Option<Now>,
    count: usize,
    is_covered: bool,
}

/// How far it is set apart.
#[derive(Debug)]
struct Now {
    home: PathBuf,
    /// Whether one sees there how it was before.
    has_before: bool,
}

/// What was written to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The folder, where one sees what was written.
    pub folder: PathBuf,
    /// Where one sees it as it was before.
    pub before: PathBuf,
    /// The upper directory of its overlay.
    pub upper: PathBuf,
}

impl Apart {
    /// Finds out by trial whether a folder can be set apart.
    ///
    /// # Errors
    /// When it cannot, as where files are on a file system that overlayfs does not write to.
    pub fn begin(folder: &Path) -> Result<Self, SandboxError> {
        let base = Path::new(PLACE).join("base");
        let (folder, written) = (folder.to_owned(), Vec::new());
        let mut apart = Self { folder, base, written, now: None, count: 0, is_covered: true };
        let tried = apart.attempt();
        apart.cover()?;
        tried.map(|()| apart)
    }

    fn attempt(&mut self) -> Result<(), SandboxError> {
        self.uncover()?;
        fs::create_dir(&self.base).doing_to("create", &self.base)?;
        mount_bind(&self.folder, &self.base).doing_to("bind", &self.folder)?;
        let thread = std::thread::Builder::new().spawn(see_below).doing("start a thread")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.set(&[])?;
        self.lift()
    }

    /// Sets the folder apart until [`Self::lift`], but for these folders below it.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn set(&mut self, but: &[PathBuf]) -> Result<(), SandboxError> {
        self.uncover()?;
        let home = Path::new(PLACE).join(self.count.to_string());
        self.count += 1;
        fs::create_dir(&home).doing_to("create", &home)?;
        let mode = fs::metadata(&self.folder).doing_to("look at", &self.folder)?.mode();
        overlay(&home, &self.lowers(), &self.folder, Upper::Mode(mode, Maker::Caller))?;
        self.now = Some(Now { home, has_before: false });
        for path in but {
            let Ok(tail) = path.strip_prefix(&self.folder) else { continue };
            let own = self.base.join(tail);
            // A link is not followed, neither here nor there: nobody else is about.
            let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
            if is_dir(&own) && is_dir(path) {
                mount_bind(&own, path).doing_to("bind", path)?;
            }
        }
        Ok(self.cover()?)
    }

    /// What was written to the folder since it was set apart; `None` when it is not, or nothing was. Only when no other
    /// process is left.
    ///
    /// # Errors
    /// When that cannot be uncovered.
    pub fn written(&mut self) -> Result<Option<Written>, SandboxError> {
        let Some(mut now) = self.now.take() else { return Ok(None) };
        self.uncover()?;
        let written = self.look(&mut now);
        self.now = Some(now);
        Ok(written?)
    }

    fn look(&self, now: &mut Now) -> Result<Option<Written>, Failure> {
        let (upper, before) = (now.home.join("u"), now.home.join("before"));
        if is_empty(&upper)? {
            return Ok(None);
        }
        let folder = self.folder.clone();
        if self.written.is_empty() {
            return Ok(Some(Written { folder, before: self.base.clone(), upper }));
        }
        if !now.has_before {
            fs::create_dir(&before).doing_to("create", &before)?;
            overlay(&now.home, &self.lowers(), &before, Upper::None)?;
            now.has_before = true;
        }
        Ok(Some(Written { folder, before, upper }))
    }

    /// Makes the folder what it is again. Only when no other process is left.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn lift(&mut self) -> Result<(), SandboxError> {
        let Some(now) = self.now.take() else { return Ok(()) };
        self.uncover()?;
        // What is mounted below comes off with it.
        unmount(&self.folder, UnmountFlags::DETACH).doing_to("unmount", &self.folder)?;
        if now.has_before {
            let before = now.home.join("before");
            unmount(&before, UnmountFlags::DETACH).doing_to("unmount", &before)?;
        }
        let upper = now.home.join("u");
        if !is_empty(&upper)? {
            self.written.insert(0, upper);
        }
        Ok(self.cover()?)
    }

    fn cover(&mut self) -> Result<(), Failure> {
        if !self.is_covered {
            cover(Path::new(PLACE))?;
            self.is_covered = true;
        }
        Ok(())
    }

    fn uncover(&mut self) -> Result<(), Failure> {
        if self.is_covered {
            unmount(PLACE, UnmountFlags::empty()).doing_to("uncover", Path::new(PLACE))?;
            self.is_covered = false;
        }
        Ok(())
    }

    fn lowers(&self) -> Vec<&Path> {
        self.written.iter().chain([&self.base]).map(PathBuf::as_path).collect()
    }
}

/// Hides the place; `path` leads there.
pub(crate) fn cover(path: &Path) -> Result<(), Failure> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, c"mode=0").doing_to("cover", Path::new(PLACE))
}

fn is_empty(dir: &Path) -> Result<bool, Failure> {
    Ok(fs::read_dir(dir).doing_to("list", dir)?.next().is_none())
}

/// Lets the thread that calls, and those that it starts, see every folder as it is below what will be set apart.
///
/// # Errors
/// When that is not possible.
pub fn see_below() -> Result<(), SandboxError> {
    #[expect(unsafe_code, reason = "rustix has no safe form of unshare")]
    // SAFETY: the flag leaves the table of open files alone.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    Ok(unshared.doing("make mounts of a thread's own")?)
}
