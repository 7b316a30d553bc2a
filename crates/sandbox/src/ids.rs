//! Who the users inside a sandbox are outside.
//!
//! The caller is the one user inside that the job runs as, so what it writes is the caller's. All others, root first,
//! are of a range that /etc/subuid and /etc/subgid give the caller: whoever is `n` inside is the `n`th of it. Only
//! newuidmap(1) and newgidmap(1) may write that down for an ordinary user.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Failure};
use crate::{SandboxError, parent};

/// Ids inside and what they are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// A range of ids that a user may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    count: u32,
}

/// The users and groups of a sandbox in which there are several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    uids: Vec<Extent>,
    gids: Vec<Extent>,
    /// The first id of the ranges.
    first: (u32, u32),
}

/// Ids that systemd leaves to containers; root takes the last of them.
const OF_ROOT: Range = Range { start: 0x6fff_0000, count: 0x1_0000 };

/// Where the helpers are. The search path of the caller is not asked: they run with special rights.
const HELPER_DIRS: &[&str] =
    &["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/usr/sbin", "/sbin"];

impl Ids {
    /// The caller is `uid` and `gid` inside, and the others are of the caller's ranges. It is tried whether this machine
    /// lets the caller have them; the error says in words what is missing.
    pub fn with_ranges(uid: u32, gid: u32) -> Result<Self, String> {
        let ids = Self::of(&Ranges::of_caller()?, (uid, gid));
        parent::probe_with(&ids).map_err(|error: SandboxError| error.to_string())?;
        Ok(ids)
    }

    fn of(ranges: &Ranges, inside: (u32, u32)) -> Self {
        let Ranges { caller, uids, gids } = ranges;
        Self {
            uids: extents(inside.0, caller.0, *uids),
            gids: extents(inside.1, caller.1, *gids),
            first: (uids.start, gids.start),
        }
    }

    /// All ids that the caller may have at all, with the caller as root: to remove what others own.
    pub(crate) fn everybody() -> Result<Self, String> {
        let Ranges { caller, uids, gids } = Ranges::of_caller()?;
        let all = |outside, range: Range| {
            let caller = Extent { inside: 0, outside, count: 1 };
            vec![caller, Extent { inside: 1, outside: range.start, count: range.count }]
        };
        Ok(Self { uids: all(caller.0, uids), gids: all(caller.1, gids), first: (uids.start, gids.start) })
    }

    /// The first user and group id, outside, of the ranges. With others, the same files belong to somebody else.
    pub fn first(&self) -> (u32, u32) {
        self.first
    }
}

/// The caller is `inside`; every other id is that of the range, so that it is the same whoever the caller is.
fn extents(inside: u32, outside: u32, range: Range) -> Vec<Extent> {
    let caller = Extent { inside, outside, count: 1 };
    if inside >= range.count {
        return vec![Extent { inside: 0, outside: range.start, count: range.count }, caller];
    }
    let below = Extent { inside: 0, outside: range.start, count: inside };
    let (next, rest) = (inside + 1, range.count - inside - 1);
    let above = Extent { inside: next, outside: range.start.saturating_add(next), count: rest };
    [below, caller, above].into_iter().filter(|extent| extent.count > 0).collect()
}

/// What the caller may have.
struct Ranges {
    caller: (u32, u32),
    uids: Range,
    gids: Range,
}

impl Ranges {
    fn of_caller() -> Result<Self, String> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let caller = (uid.as_raw(), gid.as_raw());
        if uid.is_root() {
            let held = rustix::thread::capabilities(None).map_err(|errno| errno.to_string())?.effective;
            if !held.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
                return Err("this root may not have the ids of others (CAP_SETUID, CAP_SETGID)".to_owned());
            }
            let range = |path: &str| range_of_root(&fs::read_to_string(path).unwrap_or_default());
            let missing = || "this user namespace has too few ids".to_owned();
            return Ok(Self {
                caller,
                uids: range("/proc/self/uid_map").ok_or_else(missing)?,
                gids: range("/proc/self/gid_map").ok_or_else(missing)?,
            });
        }
        for name in ["newuidmap", "newgidmap"] {
            helper(name)
                .ok_or_else(|| format!("there is no {name} (of the package uidmap or shadow-utils)"))?;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = name_of(&passwd, uid.as_raw());
        let range = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            range_of_user(&text, uid.as_raw(), name).ok_or_else(|| {
                format!("{path} gives user {} no range of ids", name.unwrap_or("without a name"))
            })
        };
        Ok(Self { caller, uids: range("/etc/subuid")?, gids: range("/etc/subgid")? })
    }
}

/// Root takes a range for containers; where that is not there, as in a container, all ids but its own.
fn range_of_root(id_map: &str) -> Option<Range> {
    let mapped = id_map.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let start: u32 = fields.next()?.parse().ok()?;
        Some((start, start.checked_add(fields.nth(1)?.parse().ok()?)?))
    });
    let mapped: Vec<(u32, u32)> = mapped.collect();
    let has = |range: &Range| {
        mapped.iter().any(|(start, end)| *start <= range.start && range.start + range.count <= *end)
    };
    let few = Range { start: 1, count: OF_ROOT.count - 1 };
    [OF_ROOT, few].into_iter().find(has)
}

/// The largest range that a line of subuid(5) gives the user, by name or number.
fn range_of_user(text: &str, uid: u32, name: Option<&str>) -> Option<Range> {
    let ranges = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let is_theirs = Some(who) == name || who.parse() == Ok(uid);
        let range = Range { start: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? };
        let is_whole = range.count > 0 && range.start.checked_add(range.count).is_some();
        (is_theirs && is_whole).then_some(range)
    });
    ranges.max_by_key(|range| range.count)
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

fn helper(name: &str) -> Option<std::path::PathBuf> {
    HELPER_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// The hidden argument of the process that gives another one its ids.
pub(crate) const MAPPER_ARG: &str = "__strata-sandbox-ids";

/// A process that is in the user namespace of the caller still, when the one that starts it has left that.
pub(crate) struct Mapper(Child);

impl Mapper {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(MAPPER_ARG).arg(std::process::id().to_string()).arg("-");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().doing("start the process that maps ids")?))
    }

    /// Gives this process its ids.
    pub(crate) fn map(mut self, ids: &Ids) -> Result<(), Failure> {
        let json = serde_json::to_vec(ids)
            .map_err(|error| Failure::new(format!("cannot encode the ids: {error}")))?;
        if let Some(mut stdin) = self.0.stdin.take() {
            stdin.write_all(&json).doing("hand over the ids")?;
        }
        let output = self.0.wait_with_output().doing("wait for the process that maps ids")?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::new(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

/// The process that maps: gives `process` the ids on standard input, and says on standard output what went wrong.
pub(crate) fn mapper(process: &str) -> i32 {
    let mut json = Vec::new();
    let mapped = std::io::stdin().read_to_end(&mut json).doing("read the ids").and_then(|_| {
        let ids: Ids = serde_json::from_slice(&json)
            .map_err(|error| Failure::new(format!("cannot understand the ids: {error}")))?;
        map_one("newgidmap", process, "gid_map", &ids.gids)?;
        map_one("newuidmap", process, "uid_map", &ids.uids)
    });
    match mapped {
        Ok(()) => 0,
        Err(failure) => {
            // Without a reader the exit code says enough.
            drop(std::io::stdout().write_all(failure.message.as_bytes()));
            1
        }
    }
}

fn map_one(name: &str, process: &str, file: &str, extents: &[Extent]) -> Result<(), Failure> {
    let fields = extents.iter().flat_map(|extent| [extent.inside, extent.outside, extent.count]);
    let fields: Vec<String> = fields.map(|field| field.to_string()).collect();
    if rustix::process::geteuid().is_root() {
        let lines: Vec<String> = fields.chunks(3).map(|line| line.join(" ")).collect();
        let path = Path::new("/proc").join(process).join(file);
        return fs::write(&path, lines.join("\n")).doing_to("write", &path);
    }
    let program = helper(name).ok_or_else(|| Failure::new(format!("there is no {name}")))?;
    let output = Command::new(&program).arg(process).args(fields).output().doing_to("run", &program)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("{name} refuses the ids: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_one_and_the_range_is_the_others() {
        let range = Range { start: 100_000, count: 65_536 };
        for (inside, expected) in [
            (1000, vec![(0, 100_000, 1000), (1000, 7, 1), (1001, 101_001, 64_535)]),
            (0, vec![(0, 7, 1), (1, 100_001, 65_535)]),
            (65_535, vec![(0, 100_000, 65_535), (65_535, 7, 1)]),
            (70_000, vec![(0, 100_000, 65_536), (70_000, 7, 1)]),
        ] {
            let found: Vec<_> =
                extents(inside, 7, range).iter().map(|e| (e.inside, e.outside, e.count)).collect();
            assert_eq!(found, expected, "{inside}");
        }
    }

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let subuid = "root:1:5\nann:100000:65536\n# no\nann:7:3\n12:300000:1000\nbad:x:1\nann:4294967295:9\n";
        for (uid, name, expected) in [
            (5, Some("ann"), Some((100_000, 65_536))),
            (12, None, Some((300_000, 1000))),
            (13, Some("bob"), None),
            (13, None, None),
        ] {
            let found = range_of_user(subuid, uid, name).map(|range| (range.start, range.count));
            assert_eq!(found, expected, "{uid}");
        }
        assert_eq!(name_of("root:x:0:0::/:\nann:x:5:5::/:\n", 5), Some("ann"));
        assert_eq!(name_of("root:x:0:0::/:\n", 5), None);
    }

    #[test]
    fn root_takes_what_its_namespace_has() {
        for (map, expected) in [
            ("         0          0 4294967295\n", Some(OF_ROOT)),
            ("0 1000 1\n1 100000 65536\n", Some(Range { start: 1, count: 65_535 })),
            ("0 100000 65536\n", Some(Range { start: 1, count: 65_535 })),
            ("0 1000 1\n", None),
            ("", None),
        ] {
            assert_eq!(range_of_root(map), expected, "{map}");
        }
    }
}
