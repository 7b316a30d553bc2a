//! The script bash runs for a process that is started in a shell.
//!
//! Bash is called as `bash -c <script> <argv0> <command> <arguments…>`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A script that sources the profiles, changes the directory and becomes the process.
///
/// Without arguments the command is itself a script. With arguments, the command and each of the `arguments` are
/// expanded by the shell and then stay one word each.
#[must_use]
pub fn script(profiles: &[PathBuf], working_dir: &Path, arguments: usize) -> OsString {
    let mut script = Vec::new();
    for profile in profiles {
        script.extend_from_slice(b"source ");
        quote(&mut script, profile.as_os_str());
        script.push(b'\n');
    }
    script.extend_from_slice(b"cd ");
    quote(&mut script, working_dir.as_os_str());
    script.push(b'\n');
    if arguments == 0 {
        script.extend_from_slice(br#"exec bash -c "$@""#);
    } else {
        script.extend_from_slice(br#"exec bash -c '"$(eval echo \"$0\")""#);
        for argument in 1..=arguments {
            script.extend_from_slice(format!(r#" "$(eval echo \"${{{argument}}}\")""#).as_bytes());
        }
        script.extend_from_slice(br#"' "${@:1}""#);
    }
    OsString::from_vec(script)
}

// Inside single quotes only the single quote itself has a meaning.
fn quote(script: &mut Vec<u8>, text: &OsStr) {
    script.push(b'\'');
    for &byte in text.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(br"'\''"),
            byte => script.push(byte),
        }
    }
    script.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_arguments_is_a_script() {
        let script = script(&["/l/a.sh".into(), "./.profile".into()], Path::new("/workspace"), 0);
        let expected = "source '/l/a.sh'\nsource './.profile'\ncd '/workspace'\nexec bash -c \"$@\"";
        assert_eq!(script, expected);
    }

    #[test]
    fn each_argument_becomes_a_word() {
        let script = script(&[], Path::new("/w"), 2);
        let words = r#""$(eval echo \"$0\")" "$(eval echo \"${1}\")" "$(eval echo \"${2}\")""#;
        assert_eq!(script, format!("cd '/w'\nexec bash -c '{words}' \"${{@:1}}\"").as_str());
    }

    #[test]
    fn no_path_can_leave_its_quotes() {
        let script = script(&[r#"/a'b"c$(d)`e`\f"#.into()], Path::new("/w 'x'"), 0);
        let expected = "source '/a'\\''b\"c$(d)`e`\\f'\ncd '/w '\\''x'\\'''\nexec bash -c \"$@\"";
        assert_eq!(script, expected);
    }
}
