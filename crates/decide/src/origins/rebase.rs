//! What is known of an image goes along when it is put on another run image: nothing is built then, so all layers but the
//! run image's are what they were.

use super::{Blob, inherited};
use strata_oci::Digest;
use strata_spec::origins::{Kind, Layer, MAX_REBASES, Rebase, Report};
use strata_spec::report::Image;

/// The report of an image on its new run image, of whose layers it has so many; `report` is of the image before. `None`
/// when its layers are others than that report says.
pub fn rebased(
    mut report: Report,
    rebase: Rebase,
    image: Image,
    layers: &[Blob],
    of_base: usize,
) -> Option<Report> {
    let (base, own) = layers.split_at_checked(of_base)?;
    let (inside, aside): (Vec<Layer>, Vec<Layer>) = report.layers.into_iter().partition(Layer::is_in_image);
    let kept: Vec<Layer> = inside.into_iter().filter(|layer| layer.kind != Kind::RunImage).collect();
    if !kept.iter().map(|layer| &layer.diff_id).eq(own.iter().map(|blob| &blob.diff_id)) {
        return None;
    }
    let mut all: Vec<Layer> = base.iter().enumerate().map(inherited).collect();
    all.extend(kept.into_iter().zip(own).map(|(layer, blob)| Layer {
        digest: blob.digest.clone(),
        size: Some(blob.size),
        ..layer
    }));
    all.extend(aside);
    if report.rebases.len() >= MAX_REBASES {
        // The first says which image the build made.
        report.rebases.remove(1);
    }
    report.rebases.push(rebase);
    Some(Report { image, layers: all, ..report })
}

/// The report of the same image under another digest, whose layers are packed otherwise.
pub fn moved(mut report: Report, digest: &Digest, manifest_size: u64, blobs: &[Blob]) -> Report {
    report.image.digest = digest.to_string();
    report.image.manifest_size = manifest_size;
    report.image.image_id.clear();
    let inside = report.layers.iter_mut().filter(|layer| layer.is_in_image());
    for (layer, blob) in inside.zip(blobs).filter(|(layer, blob)| layer.diff_id == blob.diff_id) {
        (layer.digest, layer.size) = (blob.digest.clone(), Some(blob.size));
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata_spec::origins::{Evidence, ImageRef, Lifecycle, OnExport};

    fn digest(of: &str) -> String {
        strata_oci::Digest::of(of.as_bytes()).to_string()
    }

    fn blob(of: &str) -> Blob {
        Blob { digest: digest(&format!("{of} packed")), diff_id: digest(of), size: 1 }
    }

    fn layer(kind: Kind, of: &str) -> Layer {
        let Blob { digest, diff_id, .. } = blob(of);
        Layer { kind, name: of.into(), digest, diff_id, on_export: OnExport::Added, ..Layer::default() }
    }

    fn rebase(from: &str, onto: &str) -> Rebase {
        let run_image = Some(ImageRef { digest: digest(onto), ..ImageRef::default() });
        Rebase {
            time: "2026-03-02T10:00:00Z".into(),
            image_digest: digest(from),
            lifecycle: Lifecycle { run_image, ..Lifecycle::default() },
            ..Rebase::default()
        }
    }

    #[test]
    fn layers_of_the_app_stay_what_they_were() {
        let aside = Layer { digest: String::new(), ..layer(Kind::Buildpack, "aside") };
        let mut report = Report {
            layers: vec![layer(Kind::RunImage, "old"), layer(Kind::App, "app"), aside.clone()],
            ..Report::default()
        };
        report.image.digest = digest("first");
        let image = |of: &str| Image { digest: digest(of), ..Image::default() };
        let layers = [blob("new 1"), blob("new 2"), blob("app")];
        let found = rebased(report.clone(), rebase("first", "run 2"), image("second"), &layers, 2).unwrap();
        let names: Vec<&str> = found.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["run-image-1", "run-image-2", "app", "aside"]);
        assert_eq!(found.layers[0].origin.from, Evidence::RunImage);
        assert_eq!(
            found.layers[2..],
            report.layers[1..3]
                .iter()
                .map(|layer| Layer {
                    size: layer.digest.is_empty().then_some(()).map_or(Some(1), |()| None),
                    ..layer.clone()
                })
                .collect::<Vec<_>>()
        );
        // Once more: the build made the first image, and the last run image counts.
        let again = rebased(found, rebase("second", "run 3"), image("third"), &layers[1..], 1).unwrap();
        assert_eq!(again.rebases.len(), 2);
        assert_eq!(again.this_build().image_digest, digest("first"));
        assert_eq!(again.run_image().unwrap().digest, digest("run 3"));
    }

    #[test]
    fn an_image_that_is_packed_otherwise_is_what_it_was() {
        let aside =
            Layer { digest: String::new(), on_export: OnExport::Cached, ..layer(Kind::Buildpack, "aside") };
        let report = Report {
            layers: vec![layer(Kind::RunImage, "run"), layer(Kind::App, "app"), aside],
            ..Report::default()
        };
        let blobs = ["run", "app"].map(|of| Blob { digest: digest("gzip"), diff_id: digest(of), size: 7 });
        let other = strata_oci::Digest::of(b"other");
        let found = moved(report.clone(), &other, 9, &blobs);
        assert_eq!((found.image.digest.as_str(), found.image.manifest_size), (other.to_string().as_str(), 9));
        assert!(
            found.layers[..2].iter().all(|layer| layer.digest == blobs[0].digest && layer.size == Some(7))
        );
        assert_eq!(found.layers[2], report.layers[2]);
    }

    #[test]
    fn a_report_of_other_layers_does_not_go_along() {
        let report = Report { layers: vec![layer(Kind::App, "app")], ..Report::default() };
        for layers in [vec![blob("run")], vec![blob("run"), blob("other")], vec![]] {
            let image = Image::default();
            assert_eq!(rebased(report.clone(), rebase("first", "run"), image, &layers, 1), None);
        }
    }
}
