//! Users and groups of an image, by name or number, as its files have them now.

use super::{Fault, Ground};
use crate::files::{self, Links};
use std::path::Path;

/// The largest list of users or groups that is read, in bytes.
const MAX_LIST: usize = 4 << 20;

/// A user of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// The user of a configuration: names or numbers, with a group or not; nothing is root.
pub(super) fn find(text: &str) -> Result<User, Fault> {
    let (passwd, group) = (list("/etc/passwd")?, list("/etc/group")?);
    among(text, &passwd, &group)
}

/// The owner that `--chown` names: a number without a group is that group, too.
pub(super) fn owner(text: &str, ground: &Ground<'_>) -> Result<(u32, u32), Fault> {
    let user = find(text)?;
    let is_number = !text.contains(':') && text.parse::<u32>().is_ok();
    let ids = (user.uid, if is_number { user.uid } else { user.gid });
    ground.check_ids(ids).map(|()| ids)
}

fn list(path: &str) -> Result<String, Fault> {
    let bytes = files::read_bytes(Path::new(path), Links::Follow, MAX_LIST)
        .map_err(|error| Fault::new(crate::failure::chain(&error)))?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

fn among(text: &str, passwd: &str, group: &str) -> Result<User, Fault> {
    let (name, group_name) = text.split_once(':').unwrap_or((text, ""));
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.first() == Some(&name)
            || number.is_some_and(|number| fields.get(2).and_then(|id| id.parse().ok()) == Some(number))
    });
    let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)).copied();
    let id = |at: usize| field(at).and_then(|id| id.parse::<u32>().ok());
    let uid = number.or_else(|| id(2)).ok_or_else(|| {
        Fault::new(format!("the image has no user '{name}'"))
            .hint("name it by its number, or make it with RUN before")
    })?;
    let gid = match group_name {
        "" => id(3).unwrap_or(0),
        wanted => group_id(wanted, group)?,
    };
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or(if uid == 0 { "/root" } else { "/" });
    Ok(User { uid, gid, home: home.to_owned() })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, Fault> {
    let of_name = || {
        let mut lines = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let found = lines.find(|fields| fields.first() == Some(&wanted))?;
        found.get(2)?.parse().ok()
    };
    wanted.parse().ok().or_else(of_name).ok_or_else(|| {
        Fault::new(format!("the image has no group '{wanted}'"))
            .hint("name it by its number, or make it with RUN before")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ncnb:x:1000:1001::/home/cnb:\nbad\nodd:x:y:z::\n";
    const GROUP: &str = "root:x:0:\ncnb:x:1001:\nwww:x:33:cnb\n";

    #[test]
    fn users_are_names_or_numbers() {
        for (text, expected) in [
            ("", Some((0, 0, "/root"))),
            ("root", Some((0, 0, "/root"))),
            ("cnb", Some((1000, 1001, "/home/cnb"))),
            ("1000", Some((1000, 1001, "/home/cnb"))),
            ("cnb:www", Some((1000, 33, "/home/cnb"))),
            ("1000:7", Some((1000, 7, "/home/cnb"))),
            ("5", Some((5, 0, "/"))),
            (":33", Some((0, 33, "/root"))),
            ("nobody", None),
            ("odd", None),
            ("cnb:none", None),
            ("-1", None),
        ] {
            let found = among(text, PASSWD, GROUP).ok();
            let found = found.as_ref().map(|user| (user.uid, user.gid, user.home.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
