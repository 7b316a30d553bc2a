//! Variables and bindings of the platform directory: inputs of a build that are named, and never shown.

use crate::files::{self, FileError, Links};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::path::Path;
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
    let mut inputs = Vec::new();
    let bindings = platform_dir.join("bindings");
    let mut folders = vec![(platform_dir.join("env"), "env".to_owned())];
    for dir in files::list_dirs(&bindings)? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // Kubernetes keeps what it mounts in folders of its own, and links to them.
        if !name.starts_with("..") {
            folders.push((dir.clone(), format!("bindings/{name}")));
        }
    }
    for (dir, prefix) in folders {
        for path in list(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() || name.starts_with("..") || inputs.len() >= MAX_INPUTS {
                continue;
            }
            let digest = key.map_or(Ok(String::new()), |key| checksum(&path, key))?;
            let name: String = format!("{prefix}/{name}").chars().filter(|c| !c.is_control()).collect();
            inputs.push(Input { name, digest });
        }
    }
    inputs.sort();
    Ok(inputs)
}

/// The entries of a folder that may be a link.
fn list(dir: &Path) -> Result<Vec<std::path::PathBuf>, FileError> {
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
}
