//! `strata attach`: puts a file beside an image.

use crate::images::{self, Names, absent, failure, surroundings};
use crate::places::Places;
use crate::show::print;
use crate::{Outcome, args};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use strata_oci::Descriptor;
use strata_phases::Failure;
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings};
use strata_store::{Store, StoreError};

/// Larger files are refused: they are held in memory, and SBOMs of large images have a tenth of it.
const MAX_SIZE: u64 = 256 << 20;

/// Runs the command.
pub(crate) fn run(args: &args::Attach, places: &Places) -> Outcome {
    let surroundings = surroundings(places, &args.store);
    let what = format!("cannot attach {} to '{}'", args.file.display(), args.name);
    let bytes = read(&args.file).map_err(|error| Failure::caused(Exit::InvalidArguments, &what, &error))?;
    let (store, subject) = subject(args, &surroundings, &what)?;
    let kind = args.media_type.as_ref().unwrap_or(&args.kind);
    let annotations = args.annotation.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    let attached = store.attach(&subject, &args.kind, kind, &bytes, &annotations);
    let digest = attached.map_err(|error| failure(Exit::Export, &what, &error))?;
    print(&format!("Attached {} to {}", args.file.display(), args.name));
    print(&format!("image   {}", subject.digest));
    print(&format!("digest  {digest}"));
    Ok(0)
}

/// What the file is to refer to: the image or the index of this name, or the image of the platform.
fn subject(
    args: &args::Attach,
    surroundings: &Surroundings<'_>,
    what: &str,
) -> Result<(Box<dyn Store>, Descriptor), Failure> {
    if args.platform.is_some() {
        let (store, image) = images::open(&args.name, surroundings, args.platform.as_ref(), Names::Anywhere)?;
        return Ok((store, image.encoded().manifest_descriptor()));
    }
    let failed = |error: StoreError| failure(Exit::InvalidArguments, what, &error);
    let source = Source::parse(&args.name).map_err(failed)?;
    if !source.has_referrers() {
        return Err(failed(StoreError::NoReferrers));
    }
    let store = source.open(surroundings, None).map_err(failed)?;
    if let Some(root) = store.root().map_err(failed)? {
        return Ok((store, root));
    }
    // Of several, one is chosen or the choice explained.
    match store.read_image().map_err(failed)? {
        Some(image) => Ok((store, image.encoded().manifest_descriptor())),
        None => Err(absent(&args.name, &source, surroundings)),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let from: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) };
    let mut bytes = Vec::new();
    from.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("it is larger than {MAX_SIZE} bytes")));
    }
    Ok(bytes)
}
