//! The lifecycle image: what platforms run the phases in, and take the lifecycle's layer from.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use strata_layer::{Compression, GeneratedEntry, Source, pack};
use strata_oci::{Descriptor, History, Image, Layer};
use strata_store::{Layout, Store, scratch};

use crate::args::{Arch, Release};
use crate::descriptor;
use crate::failure::Failure;
use crate::files;

/// Name of the layout in the output directory.
const DIR: &str = "lifecycle-image";
/// The unprivileged user in `/etc/passwd`; the image itself runs as root, because platforms choose the user.
const USER: u32 = 65532;

/// Writes the images as one layout, each under a tag of its own and all under the version; the path of the layout.
pub(crate) fn write(
    output: &Path,
    release: &Release,
    arches: Vec<(Arch, Vec<GeneratedEntry>)>,
) -> Result<PathBuf, Failure> {
    let dir = output.join(DIR);
    let layout = Layout::open_or_create(&dir)?;
    let mut images = Vec::new();
    for (arch, files) in arches {
        let image = one(&layout, release, arch, files)?.encode()?;
        let tag = format!("{}-linux-{}", release.version, arch.file_name());
        layout.put_image(&image, &[tag])?;
        images.push(image);
    }
    layout.put_images(&images, std::slice::from_ref(&release.version))?;
    Ok(dir)
}

/// Two layers: what a program expects of any system, and the lifecycle, last, where platforms look for it.
fn one(layout: &Layout, release: &Release, arch: Arch, files: Vec<GeneratedEntry>) -> Result<Image, Failure> {
    let base = scratch::base(arch.name(), USER, USER, &release.created)?;
    let mut image = Image::empty("linux", arch.name());
    for layer in base.image.layers() {
        let mut sink = layout.begin_blob()?;
        sink.write_all(&base.layer).map_err(Failure::write(layout.dir()))?;
        sink.commit(&layer.descriptor.digest, layer.descriptor.size)?;
        image.append(layer.clone());
    }
    let mut sink = layout.begin_blob()?;
    let source = Source::Generated(files::below("/cnb", files));
    let packed = pack(&source, Compression::Gzip, 1, &mut sink)
        .map_err(|source| Failure::Pack { path: layout.dir().to_owned(), source })?;
    sink.commit(&packed.digest, packed.size)?;
    image.append(Layer {
        descriptor: Descriptor::new(image.layer_media_type(), packed.digest, packed.size),
        diff_id: packed.diff_id,
        history: Some(History { created_by: Some("strata".to_owned()), ..History::default() }),
    });
    image.normalise_history(&release.created);
    let config = image.config_mut();
    for name in ["PATH", "SSL_CERT_FILE"] {
        config.set_env(name, base.image.config().env_var(name).unwrap_or_default());
    }
    config.set_working_dir("/layers");
    for (name, value) in descriptor::labels(&release.version) {
        config.set_label(name, &value);
    }
    Ok(image)
}
