//! The launch cache: SBOM files of the previous image, nearer at hand than the image.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use strata_layer::{Compression, Owner, Parent, Source};
use strata_oci::{Descriptor, Image, Layer, media_type};
use strata_phases::analyze::{self, Analyze, Named};
use strata_phases::cache::{self, Keep};
use strata_phases::index::Index;
use strata_phases::trees::{Parents, Place, Trees};
use strata_phases::{Event, Observer};
use strata_spec::PlatformApi;
use strata_spec::labels::LIFECYCLE_METADATA;
use strata_store::cache::{Cache, VolumeCache};
use strata_store::{Layout, Store};

struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

const OWNER: Owner = Owner { uid: 1001, gid: 1000 };
const FILE: &str = "sbom/launch/a_b/sbom.cdx.json";

/// A layers directory with an SBOM file, and a previous image that has it in its only layer.
fn built(dir: &Path) -> Layout {
    let layers = dir.join("layers");
    fs::create_dir_all(layers.join(FILE).parent().unwrap()).unwrap();
    fs::write(layers.join(FILE), "{}").unwrap();
    let sbom = layers.join("sbom/launch");
    let source = Source::Dir {
        as_path: sbom.to_str().unwrap().to_owned(),
        parents: Parent::ancestors_of(&sbom).unwrap(),
        dir: sbom,
        owner: OWNER,
    };
    let layout = Layout::open_or_create(dir.join("image")).unwrap();
    let mut sink = layout.begin_blob().unwrap();
    let packed = strata_layer::pack(&source, Compression::Gzip, 1, &mut sink).unwrap();
    sink.commit(&packed.digest, packed.size).unwrap();
    let mut image = Image::empty("linux", "amd64");
    let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, packed.digest, packed.size);
    image.append(Layer { descriptor, diff_id: packed.diff_id, history: None });
    let label = format!("{{\"sbom\":{{\"sha\":\"{}\"}}}}", packed.diff_id);
    image.config_mut().set_label(LIFECYCLE_METADATA, &label);
    layout.put_image(&image.encode().unwrap(), &[]).unwrap();
    layout
}

/// What the analyzer brings back of the file, into an empty layers directory.
fn analyzed(dir: &Path, image: &Layout, launch_cache: Option<&dyn Cache>) -> Option<String> {
    let layers = dir.join("next");
    fs::create_dir(&layers).unwrap();
    let input = Analyze {
        previous: Some(Named { name: "app", store: image }),
        run_image: None,
        layers_dir: &layers,
        launch_cache,
        skip_layers: false,
        api: PlatformApi::NEWEST,
    };
    analyze::run(&input, &Silent).unwrap();
    let found = fs::read_to_string(layers.join(FILE)).ok();
    fs::remove_dir_all(&layers).unwrap();
    found
}

#[test]
fn sbom_files_come_from_the_launch_cache_and_else_from_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let image = built(dir.path());
    fs::create_dir(dir.path().join("cache")).unwrap();
    let cache = VolumeCache::open(dir.path().join("cache")).unwrap();
    assert_eq!(analyzed(dir.path(), &image, Some(&cache)).as_deref(), Some("{}"), "an empty cache");
    let layers = dir.path().join("layers");
    let keep = Keep {
        group: &[],
        trees: Trees {
            layers: Place { real: &layers, seen: layers.to_str().unwrap() },
            owner: OWNER,
            parents: Parents::Real,
        },
        index: &Index::open(&layers, &Silent),
        api: PlatformApi::NEWEST,
        packer: &strata_layer::Packer::new(1),
        fresh: None,
        remember: None,
    };
    cache::keep_launch_sbom(&keep, &cache, &Silent).unwrap();
    let stored = image.read_image().unwrap().unwrap();
    fs::remove_file(image.blob_path(&stored.image.layers()[0].descriptor.digest)).unwrap();
    let sparse = image.clone().sparse();
    assert_eq!(analyzed(dir.path(), &sparse, Some(&cache)).as_deref(), Some("{}"), "from the cache alone");
    assert_eq!(analyzed(dir.path(), &sparse, None), None, "neither has it");
}
