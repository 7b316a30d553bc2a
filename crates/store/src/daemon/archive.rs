//! The archives in which a daemon takes and gives images.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::json;
use strata_layer::{LayerError, Owner, TarWriter, is_compressed, open_layer, visit_files};
use strata_oci::Digest;

use super::Error;
use super::spool::{FillError, SpoolWriter, Spooled};
use crate::StoreError;

/// A layer of an image that is given to a daemon.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) diff_id: Digest,
    /// The plain archive; none when the daemon has the layer, on top of the same layers.
    pub(super) bytes: Option<Spooled>,
}

/// Writes an image as `docker load` reads it.
///
/// A layer that the daemon has is an empty file: a daemon looks at the file only when it does not know the chain of
/// layers up to this one.
pub(super) fn write(
    out: &mut dyn Write,
    config: &[u8],
    layers: &[Piece],
    tags: &[String],
) -> Result<(), StoreError> {
    write_tar(out, config, layers, tags).map_err(|error| Error::Pack(error).into())
}

fn write_tar(
    out: &mut dyn Write,
    config: &[u8],
    layers: &[Piece],
    tags: &[String],
) -> Result<(), LayerError> {
    let mut tar = TarWriter::new(out);
    let mut file =
        |name: &str, size: u64, data: &mut dyn Read| tar.file(name, 0o644, Owner::ROOT, size, data);
    let config_name = format!("{}.json", Digest::of(config).hex());
    file(&config_name, config.len() as u64, &mut &*config)?;
    let mut names: Vec<String> = Vec::new();
    for (i, Piece { diff_id, bytes }) in layers.iter().enumerate() {
        let name = match bytes {
            Some(_) => format!("{}.tar", diff_id.hex()),
            None => format!("known_{i}"),
        };
        // The same layer twice in an image is one file.
        if !names.contains(&name) {
            match bytes {
                Some(bytes) => file(&name, bytes.size, &mut bytes.reader())?,
                None => file(&name, 0, &mut std::io::empty())?,
            }
        }
        names.push(name);
    }
    let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]).to_string();
    file("manifest.json", manifest.len() as u64, &mut manifest.as_bytes())?;
    tar.finish().map(drop)
}

/// What went wrong with an archive.
enum Trouble {
    /// It is broken.
    Archive(LayerError),
    /// There is no room for its layers.
    Disk(StoreError),
}

impl From<LayerError> for Trouble {
    fn from(error: LayerError) -> Self {
        Self::Archive(error)
    }
}

impl From<FillError> for Trouble {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Read(source) => Self::Archive(LayerError::Read { source }),
            FillError::Write(error) => Self::Disk(error),
        }
    }
}

/// Keeps those layers of an image that are `wanted`, as plain archives in `dir`.
///
/// There are several forms of what `docker save` writes: old ones with one folder for each layer, and the OCI layout
/// with blobs that may be compressed. All are read alike, for a layer is recognised by its digest.
pub(super) fn read(
    archive: &mut dyn Read,
    image: &str,
    dir: &Path,
    wanted: &[Digest],
) -> Result<HashMap<Digest, Spooled>, StoreError> {
    let mut found = HashMap::new();
    let mut unsupported = None;
    let read = visit_files(archive, |_, data| {
        let mut writer = SpoolWriter::create(dir).map_err(Trouble::Disk)?;
        writer.fill(data)?;
        let (mut digest, mut blob) = writer.finish();
        if !wanted.contains(&digest) {
            match unpacked(&blob, dir)? {
                Unpacked::Plain(plain_digest, plain) => (digest, blob) = (plain_digest, plain),
                Unpacked::NotCompressed => {}
                Unpacked::Unsupported(error) => unsupported = Some(error),
            }
        }
        if wanted.contains(&digest) {
            found.insert(digest, blob);
        }
        Ok(())
    });
    let broken = |source| Error::Archive { image: image.to_owned(), source };
    match read {
        Err(Trouble::Disk(error)) => Err(error),
        Err(Trouble::Archive(error)) => Err(broken(error).into()),
        // It is perhaps one of those that are missing.
        Ok(()) => match unsupported.filter(|_| wanted.iter().any(|digest| !found.contains_key(digest))) {
            Some(error) => Err(broken(error).into()),
            None => Ok(found),
        },
    }
}

/// What a compressed blob holds; nothing of one that is not compressed, and the reason if it is in a way that is not
/// supported.
fn unpacked(blob: &Spooled, dir: &Path) -> Result<Unpacked, Trouble> {
    let mut start = Vec::new();
    blob.reader().take(4).read_to_end(&mut start).map_err(|source| LayerError::Read { source })?;
    match open_layer(blob.reader()) {
        Ok(mut plain) if is_compressed(&start) => {
            let mut writer = SpoolWriter::create(dir).map_err(Trouble::Disk)?;
            writer.fill(&mut plain)?;
            let (digest, blob) = writer.finish();
            Ok(Unpacked::Plain(digest, blob))
        }
        Ok(_) => Ok(Unpacked::NotCompressed),
        Err(error @ LayerError::UnsupportedCompression { .. }) => Ok(Unpacked::Unsupported(error)),
        Err(error) => Err(error.into()),
    }
}

enum Unpacked {
    Plain(Digest, Spooled),
    NotCompressed,
    Unsupported(LayerError),
}

/// The plain archive of a layer that was stored compressed.
pub(super) fn plain(blob: &Spooled, dir: &Path, diff_id: &Digest) -> Result<Spooled, StoreError> {
    let mut layer = open_layer(blob.reader()).map_err(Error::Pack)?;
    let mut writer = SpoolWriter::create(dir)?;
    writer.fill(&mut layer).map_err(|error| match error {
        FillError::Read(source) => Error::Pack(LayerError::Read { source }).into(),
        FillError::Write(error) => error,
    })?;
    let (found, plain) = writer.finish();
    if found == *diff_id {
        return Ok(plain);
    }
    Err(StoreError::Corrupt {
        path: dir.to_owned(),
        expected: *diff_id,
        expected_size: plain.size,
        found,
        found_size: plain.size,
    })
}
