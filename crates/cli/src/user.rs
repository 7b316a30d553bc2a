//! The user of a run image, as numbers.

use strata_layer::Owner;
use strata_oci::ImageConfig;
use strata_phases::Failure;
use strata_spec::exit::Exit;

/// Who runs the app and owns its files: the run image's user, or what builders say in `CNB_USER_ID`.
pub(crate) fn of(config: &ImageConfig) -> Result<Owner, Failure> {
    let user = config.user();
    if user.is_empty() {
        return Ok(Owner::ROOT);
    }
    let number = |text: &str| {
        // u32::MAX means "no user" to the kernel; anything above is no id at all.
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_plain.then(|| text.parse::<u32>().ok()).flatten().filter(|id| *id != u32::MAX)
    };
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
