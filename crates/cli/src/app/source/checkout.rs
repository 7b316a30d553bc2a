//! Reads which commit is checked out without the program that knows the repository: where that is not installed, and of
//! Mercurial. Whether files were changed since cannot be told this way, so their digest goes along.

use super::git::{common_dir, own_dir};
use super::sandboxed::check_owner;
use super::{Search, content};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use strata_decide::source::{Checkout, System, git, hg};
use strata_phases::Failure;
use strata_phases::files::{self, Links};

/// The largest list of files that is read, in bytes.
const MAX_LIST: usize = 256 << 20;
/// The largest configuration or list of references, in bytes.
const MAX_TEXT: usize = 64 << 20;

/// The commit that the app is of, by Git's or Mercurial's files; `None` when there are none that can be understood.
///
/// # Errors
/// When the app's copy cannot be read, or the user wants out.
pub(super) fn find(search: &Search<'_>) -> Result<Option<Checkout>, Failure> {
    // The inner one of two repositories counts.
    let of = |top: &Path| of_git(top, search).or_else(|| of_hg(top, search));
    let Some(found) = search.app.ancestors().find_map(of) else { return Ok(None) };
    Ok(Some(Checkout { content: content::of_all(search)?, ..found }))
}

fn of_git(top: &Path, search: &Search<'_>) -> Option<Checkout> {
    top.join(".git").symlink_metadata().ok()?;
    // Nothing that is wrong with it fails a build.
    let own = own_dir(top).ok()?;
    let common = common_dir(&own).ok()?;
    let head = text(&own.join("HEAD"))?;
    let commit = match git::head(&head)? {
        git::Head::Commit(id) => id,
        git::Head::Name(name) => {
            let loose = text(&common.join(&name)).map(|text| text.trim().to_owned());
            let packed = || git::packed(&text(&common.join("packed-refs"))?, &name);
            loose.filter(|id| git::is_id(id)).or_else(packed)?
        }
    };
    let path = path(top, search, &own.join("index"))?;
    let config = git::parse_config(&text(&common.join("config")).unwrap_or_default());
    let url = git::remote(&config).map(str::to_owned);
    Some(Checkout { system: System::Git, commit, path, url, ..Checkout::default() })
}

fn of_hg(top: &Path, search: &Search<'_>) -> Option<Checkout> {
    let own = top.join(".hg");
    // What somebody else put there says nothing.
    check_owner(&own).ok()?;
    let state = bytes(&own.join("dirstate"), MAX_LIST)?;
    let commit = hg::parent(&state)?;
    let path = path(top, search, &own.join("dirstate"))?;
    let config = git::parse_config(&text(&own.join("hgrc")).unwrap_or_default());
    let url = config.into_iter().find(|(key, _)| key == "paths.default").map(|(_, url)| url);
    Some(Checkout { system: System::Mercurial, commit, path, url, ..Checkout::default() })
}

/// The app's folder in the repository, if the repository's list of files has any there.
fn path(top: &Path, search: &Search<'_>, list: &Path) -> Option<String> {
    let prefix = search.app.strip_prefix(top).ok()?.as_os_str().as_bytes();
    if !prefix.is_empty() {
        let wanted = [prefix, b"/"].concat();
        let list = bytes(list, MAX_LIST)?;
        list.windows(wanted.len()).find(|window| *window == wanted)?;
    }
    Some(String::from_utf8_lossy(prefix).into_owned())
}

fn text(path: &Path) -> Option<String> {
    String::from_utf8(bytes(path, MAX_TEXT)?).ok()
}

fn bytes(path: &Path, limit: usize) -> Option<Vec<u8>> {
    let found = files::read_bytes(path, Links::Follow, limit).map_err(io::Error::other);
    found.ok().flatten()
}
