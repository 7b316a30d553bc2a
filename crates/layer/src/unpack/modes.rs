//! Which modes files have as they are created: a call less for each.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::root::names;

/// The bits that the system takes away; `None` when more than the umask may have a say.
pub(super) struct Modes(Option<u32>);

impl Modes {
    /// Those in a directory that is new: in another one, directories may have rules of their own.
    pub(super) fn in_new(dir: &impl AsFd) -> Self {
        let is_new = names(dir.as_fd()).is_ok_and(|names| names.is_empty());
        Self(umask().filter(|_| is_new && !has_default_acl(dir)))
    }

    /// Whether what is created with this mode has it.
    pub(super) fn keeps(&self, mode: u32) -> bool {
        self.0.is_some_and(|umask| mode & (umask | 0o7000) == 0)
    }
}

/// Of this process; to ask the kernel for it is to change it, for all threads.
fn umask() -> Option<u32> {
    // What is not known is not relied on.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

/// Whether a list of rights, rather than the umask, decides of what is created below.
fn has_default_acl(dir: &impl AsFd) -> bool {
    let found = rustix::fs::fgetxattr(dir, "system.posix_acl_default", &mut [0_u8; 0][..]);
    !matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP))
}
