//! Unpacks and removes files that belong to other users than the caller, in a process that has their ids.

use crate::images;
use crate::inside::Asked;
use crate::places::Places;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use strata_layer::{LayerError, Noted, Owner, Ownership, unpack};
use strata_phases::Failure;
use strata_sandbox::{Ids, Io, SandboxError, call_with, remove_all};
use strata_spec::exit::Exit;
use strata_store::unpacked::{Hands, Owners, lower};
use strata_store::validate::chain;
use strata_store::{StoreError, Unpacked};

/// What a process with other ids is asked to do with an archive on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unpack {
    /// An empty directory.
    tree: PathBuf,
}

/// What it answers on its standard output.
type Answer = Result<Owners, String>;

/// In the process with other ids.
pub(crate) fn unpack_here(asked: &Unpack) -> i32 {
    let unpacked = unpack(&mut io::stdin().lock(), &asked.tree, &lower(Ownership::Here))
        .map_err(|error| chain(&error))
        .and_then(|_| Owners::of(&asked.tree).map_err(|error| error.to_string()));
    let said = serde_json::to_vec(&unpacked).map(|json| io::stdout().write_all(&json));
    i32::from(!matches!(said, Ok(Ok(()))))
}

/// Whoever an image calls its user, with the ids of all others.
#[derive(Debug)]
struct Others {
    ids: Ids,
}

impl Hands for Others {
    fn unpack(&self, tar: &mut dyn Read, tree: &Path) -> Result<Owners, LayerError> {
        let asked = serde_json::to_value(Asked::Unpack(Unpack { tree: tree.to_owned() }))
            .map_err(|error| failed(error.into(), tree))?;
        let io = Io { stdin: Stdio::piped(), stdout: Stdio::piped(), stderr: Stdio::inherit(), events: None };
        let mut child = call_with(&self.ids, asked, io).map_err(|error| failed(told(&error), tree))?;
        let mut tail = Noted::new(tar);
        // Whoever stops listening says why.
        let sent = match child.take_stdin() {
            Some(mut pipe) => io::copy(&mut tail, &mut pipe).map(drop),
            None => Ok(()),
        };
        // The archive's, not the pipe's.
        if let Some(source) = tail.failure() {
            return Err(LayerError::Read { source });
        }
        let mut json = Vec::new();
        if let Some(mut pipe) = child.take_stdout() {
            pipe.read_to_end(&mut json).map_err(|error| failed(error, tree))?;
        }
        match serde_json::from_slice::<Answer>(&json) {
            Ok(Ok(owners)) => sent.map(|()| owners).map_err(|error| failed(error, tree)),
            Ok(Err(message)) => Err(failed(io::Error::other(message), tree)),
            Err(_) => Err(failed(io::Error::other("the process that unpacks ended early"), tree)),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        remove(path)
    }
}

/// Where the layers of an image are unpacked whose user is `owner`, and who is who in a sandbox of them; or why there is
/// but one user.
pub(crate) fn layers(places: &Places, owner: Owner) -> (Unpacked, Result<Ids, String>) {
    let id = |id: u64| u32::try_from(id).map_err(|error| format!("{id} is no id: {error}"));
    let ids = id(owner.uid).and_then(|uid| Ok((uid, id(owner.gid)?)));
    let ids = ids.and_then(|user| Ok((user, Ids::with_ranges(user.0, user.1)?)));
    match ids {
        Ok((user, ids)) => {
            let hands = Arc::new(Others { ids: ids.clone() });
            (Unpacked::mapped(places.mapped_layers(ids.first()), user, hands), Ok(ids))
        }
        Err(why) => (Unpacked::new(places.unpacked_layers()), Err(why)),
    }
}

/// Why layers cannot be unpacked, with what helps where the disk is of a kind that layers cannot be on.
pub(crate) fn failure(exit: Exit, what: &str, error: &StoreError) -> Failure {
    let failure = images::failure(exit, what, error);
    let causes = chain(error);
    let is_of_overlays = causes.contains("create the whiteout") || causes.contains("mark as opaque");
    if is_of_overlays && ["(os error 1)", "(os error 95)"].iter().any(|error| causes.contains(error)) {
        return failure.hint(
            "a container's own file system cannot hold layers of builders: put the cache on a volume, and its folder into \
             XDG_CACHE_HOME",
        );
    }
    failure
}

/// All folders of unpacked layers that the caller has.
pub(crate) fn all_layers(places: &Places) -> io::Result<Vec<Unpacked>> {
    let others = || -> Arc<dyn Hands> { Arc::new(Removing) };
    let mapped = places.all_mapped_layers()?.into_iter();
    let mapped = mapped.map(|root| Unpacked::mapped(root, (0, 0), others()));
    Ok([Unpacked::new(places.unpacked_layers())].into_iter().chain(mapped).collect())
}

/// Only removes.
#[derive(Debug)]
struct Removing;

impl Hands for Removing {
    fn unpack(&self, _: &mut dyn Read, tree: &Path) -> Result<Owners, LayerError> {
        Err(failed(io::ErrorKind::Unsupported.into(), tree))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        remove(path)
    }
}

/// Removes what may belong to others; what is gone already is none.
fn remove(path: &Path) -> io::Result<()> {
    remove_all(path).map_err(|error| match error {
        SandboxError::WorkDir { source, .. } => source,
        other => told(&other),
    })
}

fn told(error: &SandboxError) -> io::Error {
    io::Error::other(chain(error))
}

fn failed(error: io::Error, tree: &Path) -> LayerError {
    LayerError::Io { action: "unpack into", path: tree.to_owned(), source: error }
}
