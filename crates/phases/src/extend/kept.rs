//! Layers of extensions that are kept for the builds that follow.
//!
//! ```text
//! <folder>/<key>.json   the layer that has this key, or that there is none
//! <folder>/<key>        its blob
//! ```
//! A key is the checksum of all that a layer depends on. Whatever is not as it was written is not there.

use crate::event::Observer;
use crate::failure::chain;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use strata_layer::{HashReader, VerifiedReader, open_layer};
use strata_oci::media_type::Family;
use strata_oci::{Compression, Descriptor, Digest, Layer};
use strata_store::{Store, temporary};

/// What the names of files in the making start with.
const TEMP_PREFIX: &str = ".tmp";

/// Changes when layers are made otherwise.
const VERSION: u32 = 1;

/// What a layer depends on.
#[derive(Debug, Serialize)]
pub struct Key {
    /// What is done.
    pub steps: String,
    /// The layers below it.
    pub below: Vec<Digest>,
    /// The context, if files are copied from it.
    pub context: Option<Digest>,
    /// Whether there are other users than root.
    pub has_others: bool,
    /// What else there is around the steps: the network, and paths that are no part of the image.
    pub around: Vec<String>,
    /// How it is stored.
    pub compression: String,
}

impl Key {
    /// None for what cannot be written down: all such would be one.
    fn name(&self) -> Option<String> {
        let json = serde_json::to_vec(&(VERSION, self)).ok()?;
        Some(Digest::of(&json).hex())
    }
}

/// The layer of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    layer: Option<Blob>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Blob {
    diff_id: Digest,
    digest: Digest,
    size: u64,
    compression: String,
}

/// A folder of layers.
#[derive(Debug)]
pub struct Kept {
    /// Where it is; made when the first layer is kept.
    pub dir: PathBuf,
    /// Whether layers are taken from it.
    pub reads: bool,
    /// Whether layers are put into it.
    pub writes: bool,
    /// How old a layer may be, and what time it is.
    pub newer_than: Option<(Duration, SystemTime)>,
}

impl Kept {
    /// Whether anything is taken or kept.
    pub fn is_wanted(&self) -> bool {
        self.reads || self.writes
    }

    /// The layer of a key, if it is there and whole; its blob is put into the store. `Some(None)` is no layer at all, as of
    /// steps that change nothing.
    pub fn take(&self, key: &Key, store: &dyn Store, family: Family) -> Option<Option<Layer>> {
        let name = key.name()?;
        let path = self.dir.join(format!("{name}.json"));
        if !self.reads || !self.is_new(&path) {
            return None;
        }
        // What cannot be read is made again.
        let record: Record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        self.touch(&path);
        let Some(blob) = record.layer else { return Some(None) };
        let file = self.dir.join(name);
        self.touch(&file);
        let media_type = blob.compression.parse::<Compression>().ok()?.media_type(family);
        let descriptor = Descriptor::new(media_type, blob.digest, blob.size);
        // A layer is known by what is in it, whatever is written down beside it.
        let mut tar = HashReader::new(open_layer(File::open(&file).ok()?).ok()?);
        io::copy(&mut tar, &mut io::sink()).ok()?;
        if tar.finish() != blob.diff_id {
            return None;
        }
        let open = File::open(&file).ok()?;
        put(&mut VerifiedReader::new(open, blob.digest, blob.size), &descriptor, store).ok()?;
        Some(Some(Layer { descriptor, diff_id: blob.diff_id, history: None }))
    }

    /// Keeps a layer. A build goes on without.
    pub fn put(&self, key: &Key, layer: Option<&Layer>, store: &dyn Store, observer: &dyn Observer) {
        if !self.writes {
            return;
        }
        if let Err(error) = self.write(key, layer, store) {
            let dir = self.dir.display();
            observer.warn(format!("the layer of an extension is not kept in {dir}: {}", chain(&*error)));
        }
    }

    fn is_new(&self, path: &Path) -> bool {
        let Some((age, now)) = self.newer_than else { return true };
        let made = path.metadata().and_then(|metadata| metadata.modified());
        made.is_ok_and(|made| now.duration_since(made).unwrap_or_default() <= age)
    }

    fn write(&self, key: &Key, layer: Option<&Layer>, store: &dyn Store) -> Result<(), Box<dyn Error>> {
        fs::create_dir_all(&self.dir)?;
        temporary::sweep(&self.dir, TEMP_PREFIX);
        let name = key.name().ok_or("it has no key")?;
        let mut record = Record { layer: None };
        if let Some(layer) = layer {
            let blob = store.open_blob(&layer.descriptor)?;
            let mut blob = blob.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            self.file(&self.dir.join(&name), &mut blob)?;
            let Descriptor { digest, size, .. } = layer.descriptor;
            let compression = key.compression.clone();
            record.layer = Some(Blob { diff_id: layer.diff_id, digest, size, compression });
        }
        let json = serde_json::to_vec(&record)?;
        self.file(&self.dir.join(format!("{name}.json")), &mut json.as_slice())
    }

    fn file(&self, path: &Path, from: &mut dyn io::Read) -> Result<(), Box<dyn Error>> {
        let mut temp = temporary::locked(&self.dir, TEMP_PREFIX)?;
        io::copy(from, temp.as_file_mut())?;
        temp.persist(path)?;
        Ok(())
    }

    /// Notes that a file is used, unless its age counts; one that cannot be touched is removed sooner.
    fn touch(&self, path: &Path) {
        if self.newer_than.is_some() {
            return;
        }
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        utimensat(CWD, path, &now, AtFlags::empty()).unwrap_or_default();
    }
}

fn put(from: &mut dyn io::Read, descriptor: &Descriptor, store: &dyn Store) -> Result<(), Box<dyn Error>> {
    let mut sink = store.begin_blob()?;
    io::copy(from, &mut sink)?;
    sink.flush()?;
    Ok(sink.commit(&descriptor.digest, descriptor.size)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_layer::{Content, GeneratedEntry, Owner, Source, pack};
    use strata_store::Layout;

    struct Silent;

    impl Observer for Silent {
        fn event(&self, event: crate::event::Event) {
            panic!("{event:?}");
        }
    }

    fn key(steps: &str) -> Key {
        let below = vec![Digest::of(b"below")];
        let around = vec!["host".into()];
        Key {
            steps: steps.into(),
            below,
            context: None,
            has_others: true,
            around,
            compression: "gzip".into(),
        }
    }

    #[test]
    fn a_layer_comes_back_if_it_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let layout = |name: &str| Layout::open_or_create(dir.path().join(name)).unwrap();
        let (from, to) = (layout("from"), layout("to"));
        let entry = GeneratedEntry {
            name: "a".into(),
            mode: 0o644,
            owner: Owner::ROOT,
            content: Content::Bytes(b"text".to_vec()),
        };
        let mut sink = from.begin_blob().unwrap();
        let packed = pack(&Source::Generated(vec![entry]), Compression::Gzip, 1, &mut sink).unwrap();
        sink.commit(&packed.digest, packed.size).unwrap();
        let descriptor = Descriptor::new(Family::Oci.layer_gzip(), packed.digest, packed.size);
        let layer = Layer { descriptor: descriptor.clone(), diff_id: packed.diff_id, history: None };
        let kept = Kept { dir: dir.path().join("kept"), reads: true, writes: true, newer_than: None };
        let take = |kept: &Kept, steps: &str| kept.take(&key(steps), &to, Family::Oci);
        assert_eq!(take(&kept, "run"), None);
        kept.put(&key("run"), Some(&layer), &from, &Silent);
        kept.put(&key("nothing"), None, &from, &Silent);
        assert_eq!(take(&kept, "run"), Some(Some(layer)));
        assert!(to.has_blob(&descriptor.digest, descriptor.size).unwrap());
        assert_eq!(take(&kept, "nothing"), Some(None));
        assert_eq!(take(&kept, "other"), None);
        let elsewhere = Key { around: vec!["none".into()], ..key("run") };
        assert_eq!(kept.take(&elsewhere, &to, Family::Oci), None);
        let hour = Duration::from_secs(3600);
        let aged =
            |now| Kept { dir: kept.dir.clone(), reads: true, writes: true, newer_than: Some((hour, now)) };
        assert!(take(&aged(SystemTime::now()), "run").is_some());
        assert!(take(&aged(SystemTime::now() + 2 * hour), "run").is_none());
        // Not what was kept, in whatever way.
        let blob = kept.dir.join(key("run").name().unwrap());
        for bytes in [&b"garbage"[..], b""] {
            fs::write(&blob, bytes).unwrap();
            assert_eq!(take(&kept, "run"), None);
        }
        fs::remove_file(&blob).unwrap();
        assert_eq!(take(&kept, "run"), None);
        fs::write(kept.dir.join(format!("{}.json", key("nothing").name().unwrap())), "{").unwrap();
        assert_eq!(take(&kept, "nothing"), None);
    }
}
