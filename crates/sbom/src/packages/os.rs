//! Which distribution it is (`os-release`, <https://www.freedesktop.org/software/systemd/man/latest/os-release.html>).

use super::Manager;
use crate::component::{Component, Kind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `debian`, `alpine`, …
    pub id: String,
    /// `12`, `3.20.1`; empty for one without versions.
    pub version: String,
    /// For people.
    pub name: String,
}

impl Os {
    /// Takes what is needed; what is malformed is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let values: BTreeMap<&str, String> = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .map(|(key, value)| (key, unquoted(value.trim())))
            .collect();
        let value = |key: &str| values.get(key).cloned().unwrap_or_default();
        Self { id: value("ID").to_lowercase(), version: value("VERSION_ID"), name: value("PRETTY_NAME") }
    }

    /// Who the packages are of, in package URLs.
    pub(super) fn namespace(&self, manager: Manager) -> String {
        match (self.id.as_str(), manager) {
            ("rhel", _) => "redhat".to_owned(),
            ("", Manager::Deb) => "debian".to_owned(),
            ("", Manager::Apk) => "alpine".to_owned(),
            (id, _) => id.to_owned(),
        }
    }

    /// `debian-12`, which scanners look for.
    pub(super) fn qualifier(&self) -> String {
        match (self.id.as_str(), self.version.as_str()) {
            (id, "") => id.to_owned(),
            ("", _) => String::new(),
            (id, version) => format!("{id}-{version}"),
        }
    }

    pub(super) fn component(&self) -> Component {
        Component {
            kind: Kind::OperatingSystem,
            name: self.id.clone(),
            version: self.version.clone(),
            description: self.name.clone(),
            ..Component::default()
        }
    }
}

/// A value as the shell would take it.
fn unquoted(text: &str) -> String {
    let inner = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    inner.unwrap_or(text).replace('\\', "").chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted_and_absent() {
        for (text, expected) in [
            ("NAME=x\nID=ubuntu\nVERSION_ID=\"22.04\"\nPRETTY_NAME='U 22'", ("ubuntu-22.04", "ubuntu")),
            ("ID=\"rhel\"\nVERSION_ID=9.4", ("rhel-9.4", "redhat")),
            ("ID=arch", ("arch", "arch")),
            ("nonsense\nVERSION_ID=1", ("", "debian")),
        ] {
            let os = Os::parse(text);
            assert_eq!((os.qualifier().as_str(), os.namespace(Manager::Deb).as_str()), expected, "{text}");
        }
    }
}
