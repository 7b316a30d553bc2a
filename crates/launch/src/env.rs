//! An environment and the files that modify it.
//!
//! The rules are those of
//! <https://github.com/buildpacks/spec/blob/main/buildpack.md#environment-variable-modification-rules>; build and
//! launch share them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Variables that speak to the launcher only.
const LAUNCHER_ONLY: &[&str] =
    &["CNB_LAYERS_DIR", "CNB_APP_DIR", "CNB_PROCESS_TYPE", "CNB_PLATFORM_API", "CNB_DEPRECATION_MODE"];

/// Directories of the launcher's own entrypoints.
const LAUNCHER_DIRS: &[&[u8]] = &[b"/cnb/process", b"/cnb/lifecycle"];

/// Environment variables, ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
}

/// What a file without a suffix does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Sets the variable: files in layers.
    Override,
    /// Sets the variable if it is empty or absent: files in the build config.
    Default,
}

/// What one file does to its variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts the contents and the delimiter before the value.
    Prepend,
    /// As [`Action::Prepend`], with a colon unless another delimiter is given: a name that ends in a dot.
    PrependPath,
    /// Puts the delimiter and the contents after the value.
    Append,
    /// Replaces the value.
    Override,
    /// Sets the value if it is empty or absent.
    Default,
}

/// The meaning of one file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modification<'a> {
    /// The variable.
    pub name: &'a [u8],
    /// What happens to it.
    pub action: Action,
}

impl<'a> Modification<'a> {
    /// Splits the name at its first dot; `None` if the suffix is not an action.
    #[must_use]
    pub fn of_file(file_name: &'a [u8], default_action: DefaultAction) -> Option<Self> {
        let dot = file_name.iter().position(|&b| b == b'.');
        let (name, suffix) = match dot {
            Some(dot) => (&file_name[..dot], Some(&file_name[dot + 1..])),
            None => (file_name, None),
        };
        let action = match suffix {
            None if default_action == DefaultAction::Override => Action::Override,
            None => Action::Default,
            Some(b"prepend") => Action::Prepend,
            Some(b"append") => Action::Append,
            Some(b"override") => Action::Override,
            Some(b"default") => Action::Default,
            Some(b"") => Action::PrependPath,
            Some(_) => return None,
        };
        // No process can be given a variable of such a name.
        if name.is_empty() || name.contains(&b'=') {
            return None;
        }
        Some(Self { name, action })
    }
}

impl Env {
    /// The environment a process inherits from the launcher: without the variables and the `PATH` entries that are
    /// for the launcher.
    #[must_use]
    pub fn for_launch(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut env = Self::from_iter(vars);
        for name in LAUNCHER_ONLY {
            env.vars.remove(OsStr::new(name));
        }
        let path = OsStr::new("PATH");
        if let Some(value) = env.vars.get_mut(path) {
            let (kept, dropped): (Vec<_>, Vec<_>) =
                value.as_bytes().split(|&b| b == b':').partition(|dir| !LAUNCHER_DIRS.contains(dir));
            let stripped = OsString::from_vec(kept.join(&b':'));
            // A base image without PATH has one only because of the launcher. Empty is not unset: bash has a default.
            if stripped.is_empty() && !dropped.is_empty() {
                env.vars.remove(path);
            } else {
                *value = stripped;
            }
        }
        env
    }

    /// The value of a variable; `None` if it is not set.
    #[must_use]
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.vars.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.vars.insert(name.into(), value.into());
    }

    /// Removes a variable; nothing happens if it is not set.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.vars.remove(name.as_ref());
    }

    /// All variables, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Puts a directory before the value of a list such as `PATH`. No separator remains if there was no value.
    pub fn prepend_path(&mut self, name: &str, dir: &Path, separator: u8) {
        let value = joined(dir.as_os_str().as_bytes(), &[separator], self.bytes(name.as_bytes()));
        self.set(name, value);
    }

    /// Applies one file. Files whose suffix is not an action are ignored.
    ///
    /// `delim` is the contents of the file `<variable>.delim` of the same directory.
    pub fn apply_file(
        &mut self,
        file_name: &[u8],
        contents: &[u8],
        delim: Option<&[u8]>,
        default_action: DefaultAction,
    ) {
        let Some(Modification { name, action }) = Modification::of_file(file_name, default_action) else {
            return;
        };
        let old = self.bytes(name);
        let value = match action {
            Action::Prepend => joined(contents, delim.unwrap_or(b""), old),
            Action::PrependPath => joined(contents, delim.unwrap_or(b":"), old),
            Action::Append if old.is_empty() => OsString::from_vec(contents.to_vec()),
            Action::Append => OsString::from_vec([old, delim.unwrap_or(b""), contents].concat()),
            Action::Default if !old.is_empty() => return,
            Action::Override | Action::Default => OsString::from_vec(contents.to_vec()),
        };
        self.set(OsStr::from_bytes(name), value);
    }

    /// Applies the files of one directory, in byte order of their names whatever the order given.
    pub fn apply_dir<N: AsRef<[u8]>, C: AsRef<[u8]>>(
        &mut self,
        files: &[(N, C)],
        default_action: DefaultAction,
    ) {
        let mut files: Vec<(&[u8], &[u8])> = files.iter().map(|(n, c)| (n.as_ref(), c.as_ref())).collect();
        files.sort_unstable();
        for &(file_name, contents) in &files {
            let delim = Modification::of_file(file_name, default_action).and_then(|modification| {
                let delim_name = [modification.name, b".delim"].concat();
                files.iter().find(|(name, _)| *name == delim_name).map(|&(_, contents)| contents)
            });
            self.apply_file(file_name, contents, delim, default_action);
        }
    }

    fn bytes(&self, name: &[u8]) -> &[u8] {
        self.get(OsStr::from_bytes(name)).unwrap_or_default().as_bytes()
    }
}

/// Of a variable given twice the last value counts.
impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(vars: I) -> Self {
        Self { vars: vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

fn joined(first: &[u8], delim: &[u8], rest: &[u8]) -> OsString {
    let delim = if rest.is_empty() { b"" } else { delim };
    OsString::from_vec([first, delim, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(env: &Env) -> Vec<String> {
        env.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect()
    }

    #[test]
    fn a_file_modifies_as_its_suffix_says() {
        use DefaultAction::{Default, Override};
        // (old value, file name, delimiter, what an unsuffixed name does, new value), the contents being `new`
        for (old, file, delim, default_action, expected) in [
            (Some("old"), "V", None, Override, Some("new")),
            (Some("old"), "V", None, Default, Some("old")),
            (Some(""), "V", None, Default, Some("new")),
            (None, "V", None, Default, Some("new")),
            (Some("old"), "V.override", None, Default, Some("new")),
            (Some("old"), "V.default", None, Override, Some("old")),
            (Some(""), "V.default", None, Override, Some("new")),
            (Some("old"), "V.prepend", None, Override, Some("newold")),
            (Some("old"), "V.prepend", Some("::"), Override, Some("new::old")),
            (Some(""), "V.prepend", Some(":"), Override, Some("new")),
            (None, "V.prepend", Some(":"), Override, Some("new")),
            (Some("old"), "V.append", None, Override, Some("oldnew")),
            (Some("old"), "V.append", Some(":"), Override, Some("old:new")),
            (None, "V.append", Some(":"), Override, Some("new")),
            (Some("old"), "V.", None, Override, Some("new:old")),
            (Some("old"), "V.", Some(","), Override, Some("new,old")),
            (None, "V.", None, Override, Some("new")),
            (Some("old"), "V.delim", None, Override, Some("old")),
            (None, "V.txt", None, Override, None),
            (None, "V.append.bak", None, Override, None),
            (None, "V.x.append", None, Override, None),
        ] {
            let mut env: Env = old.map(|old| ("V", old)).into_iter().collect();
            env.apply_file(file.as_bytes(), b"new", delim.map(str::as_bytes), default_action);
            assert_eq!(env.get("V"), expected.map(OsStr::new), "{old:?} {file} {delim:?} {default_action:?}");
        }
    }

    #[test]
    fn names_no_process_can_have_are_ignored() {
        let mut env = Env::default();
        for name in [".append", "", "A=B", "A=B.append"] {
            env.apply_file(name.as_bytes(), b"x", None, DefaultAction::Override);
        }
        assert_eq!(env, Env::default());
    }

    #[test]
    fn a_directory_applies_in_byte_order_with_its_delimiters() {
        let mut env = Env::from_iter([("A", "0")]);
        let files =
            [("A.prepend", "1\n"), ("A.delim", ";"), ("A.append", "2"), ("B.append", "b"), ("B", "c")];
        env.apply_dir(&files, DefaultAction::Override);
        assert_eq!(list(&env), ["A=1\n;0;2", "B=cb"]);
    }

    #[test]
    fn bytes_that_are_not_text_survive() {
        let mut env = Env::default();
        env.apply_file(b"V\xff", b"\xfe", None, DefaultAction::Override);
        assert_eq!(env.get(OsStr::from_bytes(b"V\xff")), Some(OsStr::from_bytes(b"\xfe")));
    }

    #[test]
    fn a_first_directory_has_no_separator() {
        let mut env = Env::default();
        env.prepend_path("PATH", Path::new("/a"), b':');
        env.prepend_path("PATH", Path::new("/b"), b':');
        assert_eq!(list(&env), ["PATH=/b:/a"]);
    }

    #[test]
    fn a_process_does_not_see_what_is_for_the_launcher() {
        for (path, expected) in [
            ("/cnb/process:/cnb/lifecycle:/usr/bin:/bin", Some("/usr/bin:/bin")),
            ("/usr/bin:/cnb/process:/bin", Some("/usr/bin:/bin")),
            ("/cnb/process/x:/bin:", Some("/cnb/process/x:/bin:")),
            ("/cnb/process:/cnb/lifecycle:", None),
            ("/cnb/process", None),
            ("", Some("")),
        ] {
            let vars = [
                ("PATH", path),
                ("CNB_APP_DIR", "/app"),
                ("CNB_EXEC_ENV", "test"),
                ("CNB_PLATFORM_API", "0.9"),
            ];
            let env = Env::for_launch(vars.map(|(n, v)| (n.into(), v.into())));
            assert_eq!(env.get("PATH"), expected.map(OsStr::new), "{path:?}");
            assert_eq!(env.get("CNB_APP_DIR"), None);
            assert_eq!(env.get("CNB_PLATFORM_API"), None);
            assert_eq!(env.get("CNB_EXEC_ENV"), Some(OsStr::new("test")));
        }
    }
}
