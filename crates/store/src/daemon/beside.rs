//! What lies beside an image: remembered on this machine, and in a small image beside it in the daemon.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use strata_oci::{Descriptor, Digest, Reference, media_type};

use super::archive::{self, Piece};
use super::describe;
use super::image::{Image, Name};
use super::spool::SpoolWriter;
use crate::artifact::Artifact;
use crate::companion::{Companion, LABEL, MAX_SIZE};
use crate::{Store as _, StoreError, Tree, host_architecture};

/// What the tag of a small image has at its end.
const SUFFIX: &str = ".origins";
/// The longest tag that there is.
const MAX_TAG: usize = 128;
/// Names of one image that are looked at.
const MAX_NAMES: usize = 16;

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The image's id. Once the daemon was given the image it is that one, whatever has its name later.
    id: Option<Digest>,
    found: Option<Companion>,
    is_in_daemon: bool,
}

impl Beside {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The daemon has been given this image.
    pub(super) fn loaded(&self, id: Digest) {
        *self.lock() = State { id: Some(id), ..State::default() };
    }

    pub(super) fn id(&self) -> Option<Digest> {
        self.lock().id
    }

    pub(super) fn bytes(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.lock().found.as_ref()?.bytes(digest).map(<[u8]>::to_vec)
    }
}

impl Image {
    /// Gives the daemon what lies beside the image, in the place of what it had of this name.
    ///
    /// # Errors
    ///
    /// When the daemon does not take it, or the image has no name.
    pub fn accompany(&self) -> Result<(), StoreError> {
        self.gather()?;
        let found = self.held.beside.lock().found.clone();
        let Some(found) = found.filter(|found| !found.is_empty()) else { return Ok(()) };
        self.put_companion(&found)?;
        self.held.beside.lock().is_in_daemon = true;
        Ok(())
    }

    /// Where that is remembered which lies beside the image, if the daemon does not have it.
    ///
    /// # Errors
    ///
    /// As of [`referrers`](crate::Store::referrers).
    pub fn is_beside_here_only(&self) -> Result<Option<PathBuf>, StoreError> {
        let Some(records) = &self.records else { return Ok(None) };
        self.gather()?;
        let state = self.held.beside.lock();
        let is_known = state.found.as_ref().is_some_and(|found| !found.is_empty());
        Ok((is_known && !state.is_in_daemon).then(|| records.dir().to_owned()))
    }

    /// What lies beside the image, as artifacts that refer to its id.
    pub(super) fn artifacts(&self, subject: &Digest) -> Result<Vec<Artifact>, StoreError> {
        if self.records.is_none() {
            return Err(StoreError::NoReferrers);
        }
        self.gather()?;
        let state = self.held.beside.lock();
        let (Some(id), Some(found)) = (state.id, &state.found) else { return Ok(Vec::new()) };
        if id != *subject {
            return Ok(Vec::new());
        }
        found
            .artifacts(&Descriptor::new(media_type::OCI_MANIFEST, id, 0))
            .map_err(|source| StoreError::Encode { path: self.place(), source })
    }

    /// Finds out, once, what lies beside the image. What is broken in one place does not hide what is in the other.
    fn gather(&self) -> Result<(), StoreError> {
        let Some(records) = &self.records else { return Ok(()) };
        if self.held.beside.lock().found.is_some() {
            return Ok(());
        }
        let (id, here, there) = match self.held.beside.id() {
            Some(id) => {
                let here = records.read(&id);
                let there = self.inspect_by_id(&id).and_then(|inspect| match inspect {
                    Some(inspect) => self.companion(&id, &inspect),
                    None => Ok(None),
                });
                (id, here, there)
            }
            None => {
                let Some(inspect) = self.client.inspect(&self.asked(), None)? else { return Ok(()) };
                let (id, _) = describe::identity(&inspect).map_err(|unclear| self.unclear(unclear))?;
                (id, records.read(&id), self.companion(&id, &inspect))
            }
        };
        let mut found = Companion::new(id);
        let is_in_daemon = matches!(&there, Ok(Some(_)));
        let mut failed = None;
        for place in [here, there] {
            match place {
                Ok(Some(companion)) => found.merge(companion),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            _ => {
                *self.held.beside.lock() = State { id: Some(id), found: Some(found), is_in_daemon };
                Ok(())
            }
        }
    }

    /// What the daemon says of the image of this id, whatever its names are.
    fn inspect_by_id(&self, id: &Digest) -> Result<Option<Value>, StoreError> {
        let Some(inspect) = self.client.inspect(&id.to_string(), None)? else { return Ok(None) };
        self.check_id(id, &inspect)?;
        Ok(Some(inspect))
    }

    fn check_id(&self, id: &Digest, inspect: &Value) -> Result<(), StoreError> {
        let (found, _) = describe::identity(inspect).map_err(|unclear| self.unclear(unclear))?;
        if found == *id { Ok(()) } else { Err(self.refused(format!("it is of image {found} now"))) }
    }

    fn refused(&self, reason: String) -> StoreError {
        StoreError::Companion { path: self.place(), reason }
    }

    /// What a small image in the daemon says of this one.
    fn companion(&self, id: &Digest, inspect: &Value) -> Result<Option<Companion>, StoreError> {
        let tags = inspect.get("RepoTags").and_then(Value::as_array).into_iter().flatten();
        let mut names: Vec<Reference> = tags.filter_map(|tag| tag.as_str()?.parse().ok()).collect();
        if let Name::Tag { reference, .. } = &self.name {
            names.insert(0, reference.clone());
        }
        let mut failed = None;
        for name in names.iter().take(MAX_NAMES).filter_map(companion_name) {
            match self.read_companion(&name, id) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn read_companion(&self, name: &str, id: &Digest) -> Result<Option<Companion>, StoreError> {
        let place = PathBuf::from(name);
        let Some(inspect) = self.client.inspect(name, None)? else { return Ok(None) };
        let label = inspect.get("Config").and_then(|config| config.get("Labels")?.get(LABEL)?.as_str());
        // One of an image that had this name before.
        if label != Some(id.to_string().as_str()) {
            return Ok(None);
        }
        let refused = |reason: &str| StoreError::Companion { path: place.clone(), reason: reason.to_owned() };
        // Asked before anything is fetched.
        if inspect.get("Size").and_then(Value::as_u64).is_none_or(|size| size > MAX_SIZE) {
            return Err(StoreError::TooLarge { path: place, limit: MAX_SIZE });
        }
        let image = self.client.open(name)?;
        let (_, diff_ids) = describe::identity(&inspect).map_err(|unclear| image.unclear(unclear))?;
        let [layer] = diff_ids.as_slice() else { return Err(refused("it has not one layer")) };
        let blob = image.open_blob(&Descriptor::new(media_type::OCI_LAYER, *layer, 0))?;
        let found = Companion::read(blob.ok_or_else(|| refused("its layer is not there"))?, &place)?;
        if found.of() == id { Ok(Some(found)) } else { Err(refused("it is of another image")) }
    }

    /// Remembers what refers to the image that was put. What the daemon has of it comes along, if that can be found out.
    pub(super) fn keep_beside(&self, tree: &Tree) -> Result<(), StoreError> {
        let Some(records) = &self.records else { return Err(StoreError::NoReferrers) };
        let gathered = self.gather();
        let state = &self.held.beside;
        let Some(id) = state.id() else {
            gathered?;
            let (path, digest) = (self.place(), Digest::of(b""));
            return Err(StoreError::Missing { path, digest });
        };
        let known = state.lock().found.clone();
        let all = records.change(&id, |all| {
            known.into_iter().for_each(|known| all.merge(known));
            all.add(tree, &self.place(), |file| self.file(file))
        })?;
        // What could not be asked for is asked for again.
        if gathered.is_ok() {
            state.lock().found = Some(all);
        }
        Ok(())
    }

    /// A file that was copied here.
    fn file(&self, file: &Descriptor) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(blob) = self.held.spool.get(&file.digest) else {
            return Ok(self.held.beside.bytes(&file.digest));
        };
        if blob.size > MAX_SIZE {
            return Err(StoreError::TooLarge { path: self.place(), limit: MAX_SIZE });
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut blob.reader(), &mut bytes)
            .map_err(StoreError::io("read a file for", &self.place()))?;
        Ok(Some(bytes))
    }

    /// Gives the daemon the small image, if the name is still that of the image that it is about.
    fn put_companion(&self, companion: &Companion) -> Result<(), StoreError> {
        match self.client.inspect(&self.asked(), None)? {
            Some(inspect) => self.check_id(companion.of(), &inspect)?,
            None => return Err(self.refused("it is gone".to_owned())),
        }
        let names: Vec<Reference> = self.tags(&[])?.iter().filter_map(|tag| tag.parse().ok()).collect();
        let names: Vec<String> = names.iter().filter_map(companion_name).collect();
        let mut before = Vec::new();
        for name in &names {
            before.extend(self.companion_id(name)?);
        }
        let failed = |source| StoreError::ArchiveWrite { path: self.place(), source };
        let bytes = companion.write(Vec::new()).map_err(failed)?;
        let mut writer = SpoolWriter::create(self.temp_dir())?;
        let filled = writer.fill(&mut bytes.as_slice());
        filled.map_err(|error| match error {
            super::spool::FillError::Write(error) => error,
            super::spool::FillError::Read(source) => StoreError::io("read", &self.place())(source),
        })?;
        let (diff_id, bytes) = writer.finish();
        let config = json!({
            "architecture": host_architecture(),
            "os": "linux",
            "created": "1980-01-01T00:00:01Z",
            "config": { "Labels": { LABEL: companion.of().to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] },
            "history": [{ "created": "1980-01-01T00:00:01Z", "created_by": "where an image comes from" }],
        });
        let pieces = [Piece { diff_id, bytes: Some(bytes) }];
        let config = config.to_string().into_bytes();
        self.client.load(&|out| archive::write(out, &config, &pieces, &names))?;
        for name in &names {
            let now = self.companion_id(name)?;
            before.retain(|id| Some(*id) != now);
        }
        before.iter().try_for_each(|id| self.remove_unnamed(id))
    }

    /// The id of the small image of this name. What is none is somebody's, who gave it that name.
    fn companion_id(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        let Some(inspect) = self.client.inspect(name, None)? else { return Ok(None) };
        let is_one = inspect.get("Config").and_then(|config| config.get("Labels")?.get(LABEL)).is_some();
        if !is_one {
            let (path, reason) =
                (PathBuf::from(name), "another image has this name, and keeps it".to_owned());
            return Err(StoreError::Companion { path, reason });
        }
        Ok(Some(describe::identity(&inspect).map_err(|unclear| self.unclear(unclear))?.0))
    }

    /// Removes a small image that is of no use to anybody; under another name it is.
    fn remove_unnamed(&self, id: &Digest) -> Result<(), StoreError> {
        let Some(inspect) = self.client.inspect(&id.to_string(), None)? else { return Ok(()) };
        let has_names =
            inspect.get("RepoTags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty());
        if has_names { Ok(()) } else { Ok(self.client.remove(&id.to_string())?) }
    }
}

/// The name of the small image that is about an image of this name.
fn companion_name(name: &Reference) -> Option<String> {
    let tag = format!("{}{SUFFIX}", name.tag()?);
    if tag.len() <= MAX_TAG {
        return Some(name.with_tag(&tag).ok()?.to_string());
    }
    let digest = Digest::of(name.tag()?.as_bytes()).hex();
    Some(name.with_tag(&format!("{digest}{SUFFIX}")).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_image_is_called_like_the_image() {
        let name = |text: &str| companion_name(&text.parse().unwrap());
        assert_eq!(name("example.com/web:1").as_deref(), Some("example.com/web:1.origins"));
        let long = |last: &str| name(&format!("example.com/web:{}{last}", "a".repeat(127))).unwrap();
        assert_ne!(long("a"), long("b"));
        assert!(long("a").rsplit(':').next().unwrap().len() <= MAX_TAG);
        assert_eq!(name(&format!("web@{}", Digest::of(b""))), None);
    }
}
