//! Why this machine may refuse user namespaces, in words its owner can act on.

use std::fs;
use std::path::Path;

/// The settings that forbid user namespaces to ordinary users.
const SWITCHES: &[(&str, &str, &str)] = &[
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "user namespaces are switched off: sudo sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user namespaces are switched off: sudo sysctl user.max_user_namespaces=15000",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces: give strata an AppArmor profile that allows `userns`, or \
         sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

const IN_CONTAINER: &str = "inside a container, run it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
     (Docker, Podman), or with a seccomp profile that allows unshare, mount and pivot_root";

/// The most likely reason why a namespace or a mount was refused on this machine.
pub(crate) fn for_namespaces() -> Option<String> {
    for (path, value, hint) in SWITCHES {
        if fs::read_to_string(path).is_ok_and(|text| text.trim() == *value) {
            return Some((*hint).to_owned());
        }
    }
    (in_container() || is_filtered()).then(|| IN_CONTAINER.to_owned())
}

fn in_container() -> bool {
    ["/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// Whether a seccomp filter applies to this process.
fn is_filtered() -> bool {
    fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"))
}
