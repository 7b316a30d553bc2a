//! The user of a run image, as numbers.

use strata_layer::Owner;
use strata_oci::ImageConfig;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// The user that an image to build in names in its environment; root is none (platform specification, "build image").
pub(crate) fn of_build(config: &ImageConfig) -> Result<Owner, String> {
    let id = |name: &str| match config.env_var(name) {
        Some(text) => number(text).ok_or_else(|| format!("its {name} is '{text}', which is no id")),
        None => Err(format!("it has no {name}")),
    };
    let (uid, gid) = (id("CNB_USER_ID")?, id("CNB_GROUP_ID")?);
    if uid == 0 {
        return Err("its CNB_USER_ID is that of root".to_owned());
    }
    Ok(Owner { uid: uid.into(), gid: gid.into() })
}

/// An id: `u32::MAX` means "no user" to the kernel, and anything above is no id at all.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse::<u32>().ok()).flatten().filter(|id| *id != u32::MAX)
}

/// Who runs the app and owns its files: the run image's user, or what builders say in `CNB_USER_ID`.
pub(crate) fn of(config: &ImageConfig) -> Result<Owner, Failure> {
    let user = config.user();
    if user.is_empty() {
        return Ok(Owner::ROOT);
    }
    let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
    let uid_of_env = || config.env_var("CNB_USER_ID").and_then(number);
    let gid_of_env = || config.env_var("CNB_GROUP_ID").and_then(number);
    let uid = number(uid).or_else(uid_of_env);
    let gid = if gid.is_empty() { gid_of_env().or(uid) } else { number(gid).or_else(gid_of_env) };
    match (uid, gid) {
        (Some(uid), Some(gid)) => Ok(Owner { uid: uid.into(), gid: gid.into() }),
        _ => Err(Failure::new(
            Exit::InvalidArguments,
            format!("the image's user '{user}' is not a pair of numbers"),
        )
        .hint("use a run image whose user is given as uid:gid")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_image_names_a_user_who_is_not_root() {
        for (env, expected) in [
            (&[("CNB_USER_ID", "1001"), ("CNB_GROUP_ID", "0")][..], Ok((1001, 0))),
            (&[("CNB_USER_ID", "1001")], Err("CNB_GROUP_ID")),
            (&[("CNB_USER_ID", "0"), ("CNB_GROUP_ID", "0")], Err("root")),
            (&[("CNB_USER_ID", "cnb"), ("CNB_GROUP_ID", "1")], Err("'cnb'")),
        ] {
            let mut config = ImageConfig::new("linux", "amd64");
            for (name, value) in env {
                config.set_env(name, value);
            }
            match (of_build(&config), expected) {
                (Ok(owner), Ok(ids)) => assert_eq!((owner.uid, owner.gid), ids),
                (Err(problem), Err(word)) => assert!(problem.contains(word), "{problem}"),
                (found, _) => panic!("{env:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn users_are_numbers_or_refused() {
        for (user, expected) in [
            ("", Some((0, 0))),
            ("1001:1002", Some((1001, 1002))),
            ("1001", Some((1001, 1001))),
            ("4294967296:0", None),
            ("4294967295", None),
            ("+5:5", None),
            ("cnb", None),
        ] {
            let mut config = ImageConfig::new("linux", "amd64");
            config.set_user(user);
            let owner = of(&config).ok().map(|o| (o.uid, o.gid));
            assert_eq!(owner, expected, "{user}");
        }
        let mut config = ImageConfig::new("linux", "amd64");
        config.set_user("cnb");
        config.set_env("CNB_USER_ID", "7");
        assert_eq!(of(&config).unwrap(), Owner { uid: 7, gid: 7 });
    }
}
