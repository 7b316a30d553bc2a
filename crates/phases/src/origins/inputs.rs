//! Variables and bindings of the platform directory: inputs of a build that are named, and never shown.

use crate::files::{self, FileError, Links};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use strata_spec::origins::Input;

/// The largest value that gets a checksum, in bytes.
const MAX_VALUE: usize = 16 * 1024 * 1024;
/// More than any platform gives.
const MAX_INPUTS: usize = 4096;

/// The variables (`env/NAME`) and bindings (`bindings/NAME/KEY`) of a platform directory, sorted. With a key, each has
/// the checksum of its contents under that key; a plain checksum would give short values away.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn of_platform(platform_dir: &Path, key: Option<&str>) -> Result<Vec<Input>, FileError> {
    of_mounted(platform_dir, [], key)
}

/// As [`of_platform`], where files and folders of elsewhere (the second of each pair) are mounted at paths below the
/// platform directory (the first). They hide what the directory itself has there, and later ones hide earlier ones.
///
/// # Errors
/// As of [`of_platform`].
pub fn of_mounted<'a>(
    platform_dir: &Path,
    mounts: impl IntoIterator<Item = (&'a Path, PathBuf)>,
    key: Option<&str>,
) -> Result<Vec<Input>, FileError> {
    let mut found = BTreeMap::new();
    variables(&mut found, "env", &platform_dir.join("env"))?;
    bindings(&mut found, &platform_dir.join("bindings"))?;
    for (at, from) in mounts {
        let parts: Vec<_> = at.iter().map(|part| part.to_string_lossy()).collect();
        let Some(("bindings", names)) = parts.split_first().map(|(first, rest)| (first.as_ref(), rest))
        else {
            continue;
        };
        let name = parts.join("/");
        found.retain(|path: &String, _| *path != name && !path.starts_with(&format!("{name}/")));
        match names {
            [] => bindings(&mut found, &from)?,
            [_] if from.is_dir() => variables(&mut found, &name, &from)?,
            [_, _] if !from.is_dir() => {
                found.insert(name, from);
            }
            // Buildpacks read files of bindings, and nothing below or above.
            _ => {}
        }
    }
    let input = |(name, path): (String, PathBuf)| {
        let digest = key.map_or(Ok(String::new()), |key| checksum(&path, key))?;
        Ok(Input { name: name.chars().filter(|c| !c.is_control()).collect(), digest })
    };
    let mut inputs = found.into_iter().take(MAX_INPUTS).map(input).collect::<Result<Vec<_>, _>>()?;
    inputs.sort();
    Ok(inputs)
}

/// The files of each folder of a folder.
fn bindings(found: &mut BTreeMap<String, PathBuf>, dir: &Path) -> Result<(), FileError> {
    for dir in files::list_dirs(dir)? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // Kubernetes keeps what it mounts in folders of its own, and links to them.
        if !name.starts_with("..") {
            variables(found, &format!("bindings/{name}"), &dir)?;
        }
    }
    Ok(())
}

/// The files of a folder.
fn variables(found: &mut BTreeMap<String, PathBuf>, prefix: &str, dir: &Path) -> Result<(), FileError> {
    for path in list(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() && !name.starts_with("..") {
            found.insert(format!("{prefix}/{name}"), path.clone());
        }
    }
    Ok(())
}

/// The entries of a folder that may be a link.
fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    match dir.canonicalize() {
        Ok(dir) => files::list(&dir),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(FileError::Io { action: "list", path: dir.to_owned(), source }),
    }
}

fn checksum(path: &Path, key: &str) -> Result<String, FileError> {
    let value = files::read_bytes(path, Links::Follow, MAX_VALUE)?.unwrap_or_default();
    let io_error = |error: hmac::digest::InvalidLength| FileError::Io {
        action: "sum up",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(io_error)?;
    mac.update(&value);
    Ok(format!("hmac-sha256:{}", HEXLOWER.encode(&mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_named_and_summed_up_under_a_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let (env, db) = (dir.path().join("env"), dir.path().join("bindings/db"));
        std::fs::create_dir_all(&env).unwrap();
        std::fs::create_dir_all(db.join("..data")).unwrap();
        std::fs::write(env.join("NODE_ENV"), "production").unwrap();
        std::fs::write(db.join("..data/password"), "Jefe").unwrap();
        std::os::unix::fs::symlink("..data/password", db.join("password")).unwrap();
        let names = |inputs: &[Input]| inputs.iter().map(|input| input.name.clone()).collect::<Vec<_>>();
        let plain = of_platform(dir.path(), None).unwrap();
        assert_eq!(names(&plain), ["bindings/db/password", "env/NODE_ENV"]);
        assert!(plain.iter().all(|input| input.digest.is_empty()));
        // RFC 4231, test case 2, with key and data exchanged where the key is the operator's.
        std::fs::write(env.join("NODE_ENV"), "what do ya want for nothing?").unwrap();
        let keyed = of_platform(dir.path(), Some("Jefe")).unwrap();
        let expected = "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(keyed[1].digest, expected);
        assert_eq!(of_platform(&dir.path().join("none"), Some("k")).unwrap(), []);
    }

    #[test]
    fn what_is_mounted_hides_what_the_platform_directory_has_there() {
        let (platform, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // A place that was made for the mount.
        std::fs::create_dir_all(platform.path().join("bindings/one")).unwrap();
        std::fs::write(platform.path().join("bindings/one/password"), "").unwrap();
        std::fs::write(away.path().join("password"), "Jefe").unwrap();
        std::fs::create_dir(away.path().join("folder")).unwrap();
        let file = away.path().join("password");
        let mounts = |all: &[(&str, &Path)]| {
            let all = all.iter().map(|(at, from)| (Path::new(*at), from.to_path_buf()));
            of_mounted(platform.path(), all, Some("key")).unwrap()
        };
        let digest = mounts(&[("bindings/one/password", &file)])[0].digest.clone();
        assert_ne!(digest, mounts(&[])[0].digest);
        let input = |name: &str| Input { name: name.into(), digest: digest.clone() };
        for (mounted, expected) in [
            (&[("bindings/one", away.path())][..], &["bindings/one/password"][..]),
            (
                &[("bindings/one", away.path()), ("bindings/one/user", &file)],
                &["bindings/one/password", "bindings/one/user"],
            ),
            (&[("bindings/one", away.path()), ("other", away.path())], &["bindings/one/password"]),
            (&[("bindings", away.path())], &[]),
        ] {
            let expected: Vec<Input> = expected.iter().map(|name| input(name)).collect();
            assert_eq!(mounts(mounted), expected, "{mounted:?}");
        }
    }
}
