//! The bytes of sealed layers: packed while the next buildpack runs, left in `<layers>/@exported` for those that export.
//!
//! Of a layer with the policy `discard` the archive is copied before the next buildpack starts, to a file without a name,
//! which no buildpack can reach; it is compressed from there. Of other layers the tree itself is compressed in the
//! background, and the outcome counts as long as the tree is [unchanged](strata_layer::unchanged).
//!
//! Buildpacks can write below `@exported`. What is said of the blobs is therefore kept in memory until the last buildpack
//! and its processes are gone, and written then; whoever uses a blob verifies it while reading.

use crate::event::Observer;
use crate::failure::{Failure, chain};
use crate::files::{self, FileError, Links};
use crate::index::{Index, Known, Sight};
use crate::trees::{TreeError, Trees};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use strata_layer::{Archive, LayerError, Owner, Packed, Packer, Source};
use strata_oci::{BadCompression, Compression, Digest};
use strata_spec::buildpack::escape_id;
use strata_spec::exit::Exit;
use strata_spec::sealed::Policy;
use tempfile::NamedTempFile;

/// The folder of sealed bytes, below the layers directory; no buildpack can have this name.
const FOLDER: &str = "@exported";
/// The largest record that is read, in bytes.
const MAX_RECORD: usize = 64 * 1024;
/// Records of other versions are passed over.
const VERSION: u32 = 1;
/// How much the work in the background gives way to the buildpack.
const NICE: i32 = 5;

/// What is said of one sealed layer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    version: u32,
    policy: Policy,
    /// The layer's folder in the image, and its owner there.
    path: String,
    uid: u64,
    gid: u64,
    compression: String,
    diff_id: Digest,
    digest: Digest,
    size: u64,
    uncompressed_size: u64,
}

/// Why a layer cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BytesError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot write to {FOLDER}")]
    Io(#[from] io::Error),
    #[error("cannot understand its record")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Compression(#[from] BadCompression),
    #[error("it was sealed for another image: as {0} of user {1} and group {2}")]
    Frame(String, u64, u64),
}

/// How layers become sealed bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// What export will make of the layers.
    pub trees: Trees<'a>,
    /// How the blobs are stored: as the image will have them.
    pub compression: Compression,
    /// How many threads compress.
    pub threads: usize,
}

/// A layer that is to be packed.
pub(super) struct Job {
    policy: Policy,
    /// Below the layers directory.
    tail: PathBuf,
    source: Source,
    /// The archive, for a layer whose tree may change.
    spool: Option<File>,
    sight: Option<Sight>,
}

/// A layer that was packed.
pub(super) struct Made {
    policy: Policy,
    tail: PathBuf,
    source: Source,
    outcome: Result<(Packed, NamedTempFile), BytesError>,
}

impl Sealing<'_> {
    fn folder(&self) -> Result<PathBuf, FileError> {
        files::below(self.trees.layers.real, FOLDER)
    }

    /// Takes up a layer whose buildpack is done; `None` when its bytes are known to those that will want them.
    pub(super) fn take(
        &self,
        policy: Policy,
        tail: PathBuf,
        index: &Index,
    ) -> Result<Option<Job>, BytesError> {
        let source = self.trees.source(&tail)?;
        if policy != Policy::Discard {
            // Without a sight nobody can tell later whether the bytes are still those of the tree.
            let sight = index.look(&source).filter(|sight| sight.known.is_none());
            let job = |sight| Job { policy, tail, source, spool: None, sight: Some(sight) };
            return Ok(sight.map(job));
        }
        let folder = self.folder()?;
        std::fs::create_dir_all(&folder)?;
        let mut spool = tempfile::tempfile_in(folder)?;
        strata_layer::write_tar(&source, &mut spool)?;
        spool.rewind()?;
        Ok(Some(Job { policy, tail, source, spool: Some(spool), sight: None }))
    }

    /// Packs what comes, one layer after the other, until no more can come.
    pub(super) fn work(&self, jobs: Receiver<Job>, index: &Index, stop: &AtomicBool) -> Vec<Made> {
        // The threads that compress inherit it. Without it the buildpack gets a little less.
        rustix::process::nice(NICE).unwrap_or_default();
        let packer = Packer::new(self.threads);
        let make = |mut job: Job| {
            let outcome = self.pack(&mut job, &packer, stop);
            if let (Ok((packed, _)), Some(_)) = (&outcome, &job.sight) {
                index.record(job.sight.as_ref(), Known::of(packed), None);
            }
            Made { policy: job.policy, tail: job.tail, source: job.source, outcome }
        };
        jobs.into_iter().map(make).collect()
    }

    fn pack(
        &self,
        job: &mut Job,
        packer: &Packer,
        stop: &AtomicBool,
    ) -> Result<(Packed, NamedTempFile), BytesError> {
        let folder = self.folder()?;
        std::fs::create_dir_all(&folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        let mut out = Stoppable { out: file.as_file_mut(), stop };
        let packed = match &mut job.spool {
            None => packer.pack(&job.source, self.compression, &mut out)?,
            Some(spool) => packer.pack_with(|tar| pass_on(spool, tar), self.compression, &mut out)?,
        };
        Ok((packed, file))
    }

    /// Leaves what was packed, with its records, for those that export.
    ///
    /// # Errors
    /// When the bytes of a layer are lost that nobody else has.
    pub(super) fn leave(&self, made: Vec<Made>, observer: &dyn Observer) -> Result<(), Failure> {
        for made in made {
            let (policy, tail) = (made.policy, made.tail.clone());
            if let Err(error) = self.leave_one(made) {
                let what = format!("cannot seal layer '{}'", tail.display());
                if policy == Policy::Discard {
                    return Err(Failure::caused(Exit::Build, format!("failed to build: {what}"), &error));
                }
                // Its tree is read when it is exported.
                observer.debug(format!("{what}: {}", chain(&error)));
            }
        }
        Ok(())
    }

    fn leave_one(&self, made: Made) -> Result<(), BytesError> {
        let (packed, file) = made.outcome?;
        let Source::Dir { as_path, .. } = made.source else { return Ok(()) };
        let blob = blob(self.trees.layers.real, &made.tail)?;
        std::fs::create_dir_all(blob.parent().unwrap_or(&blob))?;
        files::remove(&blob)?;
        file.persist(&blob).map_err(|error| error.error)?;
        let Owner { uid, gid } = self.trees.owner;
        let record = Record {
            version: VERSION,
            policy: made.policy,
            path: as_path,
            uid,
            gid,
            compression: self.compression.to_string(),
            diff_id: packed.diff_id,
            digest: packed.digest,
            size: packed.size,
            uncompressed_size: packed.uncompressed_size,
        };
        Ok(files::write(
            &record_path(self.trees.layers.real, &made.tail)?,
            &serde_json::to_string_pretty(&record)?,
        )?)
    }
}

/// A writer that fails once the work is to stop.
struct Stoppable<'a> {
    out: &'a mut File,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("the build failed"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn pass_on(from: &mut File, out: &mut dyn Write) -> Result<(), LayerError> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).map_err(|source| LayerError::Read { source })? {
            0 => return Ok(()),
            count => out.write_all(&buffer[..count]).map_err(|source| LayerError::Write { source })?,
        }
    }
}

fn blob(layers_dir: &Path, tail: &Path) -> Result<PathBuf, FileError> {
    with_ending(layers_dir, tail, ".blob")
}

fn record_path(layers_dir: &Path, tail: &Path) -> Result<PathBuf, FileError> {
    with_ending(layers_dir, tail, ".json")
}

fn with_ending(layers_dir: &Path, tail: &Path, ending: &str) -> Result<PathBuf, FileError> {
    let mut name = Path::new(FOLDER).join(tail).into_os_string();
    name.push(ending);
    files::below(layers_dir, PathBuf::from(name))
}

/// Removes the bytes that an earlier build sealed.
pub(super) fn forget(layers_dir: &Path) -> Result<(), FileError> {
    files::remove(&layers_dir.join(FOLDER))
}

/// A layer of the builder's, as those that export find it: its sealed bytes, or its tree; `None` when there are no
/// contents. `index` knows whether a tree is what its sealed bytes were made of.
///
/// # Errors
/// When the tree cannot be reached, or later changes are to be discarded and the sealed bytes cannot be used.
pub(crate) fn source_of(
    trees: &Trees<'_>,
    index: &Index,
    buildpack: &str,
    layer: &str,
    observer: &dyn Observer,
) -> Result<Option<Source>, BytesError> {
    let tail = Path::new(&escape_id(buildpack)).join(layer);
    let sealed = find(trees, &tail, observer)?;
    if let Some((Policy::Discard, archive)) = sealed {
        return Ok(Some(Source::Archive(archive)));
    }
    if !files::below(trees.layers.real, &tail)?.is_dir() {
        return Ok(None);
    }
    let tree = trees.source(&tail)?;
    let is_of_tree = |archive: &Archive| {
        let known = index.look(&tree).and_then(|sight| sight.known);
        known.is_some_and(|known| known.diff_id == archive.diff_id())
    };
    let archive = sealed.map(|(_, archive)| archive).filter(is_of_tree);
    Ok(Some(archive.map_or(tree, Source::Archive)))
}

/// The sealed bytes of a layer and their policy, if a builder left some.
fn find(
    trees: &Trees<'_>,
    tail: &Path,
    observer: &dyn Observer,
) -> Result<Option<(Policy, Archive)>, BytesError> {
    let layers_dir = trees.layers.real;
    let Some(bytes) = files::read_bytes(&record_path(layers_dir, tail)?, Links::Refuse, MAX_RECORD)? else {
        return Ok(None);
    };
    let record: Record = serde_json::from_slice(&bytes)?;
    let path = blob(layers_dir, tail)?;
    if record.version != VERSION || !path.is_file() {
        observer
            .warn(format!("the sealed bytes of layer '{}' are gone; it is taken as it is", tail.display()));
        return Ok(None);
    }
    let is_for_this = record.path == format!("{}/{}", trees.layers.seen, tail.display())
        && (record.uid, record.gid) == (trees.owner.uid, trees.owner.gid);
    if !is_for_this && record.policy == Policy::Discard {
        return Err(BytesError::Frame(record.path, record.uid, record.gid));
    }
    let compression: Compression = record.compression.parse()?;
    let Record { diff_id, digest, size, uncompressed_size, .. } = record;
    let packed = Packed { diff_id, digest, size, uncompressed_size };
    Ok(is_for_this.then_some((record.policy, Archive { path, compression, packed })))
}
