//! Packages of Red Hat, SUSE and their relatives: headers (<https://rpm-software-management.github.io/rpm/manual/format_header.html>)
//! in a database of one of two kinds. No crate reads them without a library in C beside it.

mod header;
mod ndb;
mod sqlite;

use super::{MAX_PACKAGES, Package};

/// All packages of `rpmdb.sqlite`.
pub(super) fn sqlite(bytes: &[u8]) -> Result<Vec<Package>, String> {
    packages(sqlite::blobs(bytes, "Packages")?)
}

/// All packages of `Packages.db`.
pub(super) fn ndb(bytes: &[u8]) -> Result<Vec<Package>, String> {
    packages(ndb::blobs(bytes)?)
}

fn packages(headers: Vec<Vec<u8>>) -> Result<Vec<Package>, String> {
    if headers.len() > MAX_PACKAGES {
        return Err(format!("it has more than {MAX_PACKAGES} packages"));
    }
    let mut packages: Vec<Package> = headers
        .iter()
        .map(|bytes| header::package(bytes).ok_or_else(|| "a package in it is damaged".to_owned()))
        .collect::<Result<_, _>>()?;
    // Keys of signers are kept as packages.
    packages.retain(|package| package.name != "gpg-pubkey");
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}

/// A number of four bytes, the most significant first.
fn be32(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_be_bytes(four.try_into().ok()?)).ok()
}

/// The same, the least significant first.
fn le32(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(four.try_into().ok()?)).ok()
}
