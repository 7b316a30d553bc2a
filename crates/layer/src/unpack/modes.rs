//! Which modes files have as they are created: a call less for each.

use std::os::fd::AsFd;

use rustix::fs::fstat;
use rustix::io::Errno;

use super::root::names;

/// The bits that the system takes away; `None` when more than the umask may have a say.
pub(super) struct Modes(Option<u32>);

impl Modes {
    /// Those in a directory that is new: in another one, directories may have rules of their own.
    pub(super) fn in_new(dir: &impl AsFd) -> Self {
        let is_new = names(dir.as_fd()).is_ok_and(|names| names.is_empty());
        // Directories below one with this bit would get it too.
        let hands_on_group = fstat(dir).map_or(true, |stat| stat.st_mode & 0o2000 != 0);
        Self(umask().filter(|_| is_new && !hands_on_group && !has_default_acl(dir)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{XattrFlags, setxattr};
    use std::fs::File;

    #[test]
    fn only_what_the_umask_leaves_alone_is_kept() {
        let modes = Modes(Some(0o022));
        assert!(modes.keeps(0o644) && modes.keeps(0o755) && modes.keeps(0));
        assert!(!modes.keeps(0o664) && !modes.keeps(0o4755) && !modes.keeps(0o1755));
        assert!(!Modes(None).keeps(0o600));
    }

    #[test]
    fn a_directory_with_rules_or_contents_is_not_relied_on() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let open = || File::open(dir.path()).unwrap();
        assert_eq!(Modes::in_new(&open()).0, umask());
        assert!(umask().is_some());
        // Version 2; the owner may everything, the group and others nothing.
        let entry = |who: u16, may: u16| [&who.to_le_bytes()[..], &may.to_le_bytes(), &[0xff; 4]].concat();
        let rules = [2_u32.to_le_bytes().to_vec(), entry(1, 7), entry(4, 0), entry(0x20, 0)].concat();
        setxattr(dir.path(), "system.posix_acl_default", &rules, XattrFlags::empty()).unwrap();
        assert_eq!(Modes::in_new(&open()).0, None);
        rustix::fs::removexattr(dir.path(), "system.posix_acl_default").unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(Modes::in_new(&open()).0, None);
    }
}
