//! Another base below an app, without touching the app.

use crate::{Digest, Image, Layer};

/// Why an image cannot get another base.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebaseError {
    /// The layer that should be the topmost of the old base is not in the image.
    #[error("could not find base layer in image")]
    NoBaseLayer,
    /// The new base has nothing to put below.
    #[error("the new base image has no layers")]
    EmptyBase,
}

impl Image {
    /// This image with the layers above `top_layer` on top of those of `new_base`.
    ///
    /// Manifest type, annotations, author and settings stay those of this image; machine and system are those of the
    /// new base. Every layer keeps its media type. What is known of each layer goes along with it, history entries
    /// without a layer are dropped, and everything is dated `created` (RFC 3339), so that the result is what an export
    /// on the new base would have been.
    ///
    /// A diffID may occur more than once, above all that of an empty layer: in the base, and in the app, too. The base
    /// then ends at the last occurrence that leaves at least `own_layers` layers above, which is the number of layers
    /// the image is known to have of its own. Should none leave so many, what is known is wrong, and it ends at the
    /// first, where the reference always cuts.
    ///
    /// # Errors
    ///
    /// When this image has no layer `top_layer`, or `new_base` has no layers.
    pub fn rebase(
        &self,
        top_layer: Digest,
        own_layers: usize,
        new_base: &Self,
        created: &str,
    ) -> Result<Self, RebaseError> {
        let base_layers = count_base(self.layers(), top_layer, own_layers).ok_or(RebaseError::NoBaseLayer)?;
        if new_base.layers().is_empty() {
            return Err(RebaseError::EmptyBase);
        }
        let mut image = self.clone();
        image.set_layers([new_base.layers(), &self.layers()[base_layers..]].concat());
        image.config_mut().set_platform_of(new_base.config());
        image.normalise_history(created);
        Ok(image)
    }
}

/// How many of the layers belong to the base.
fn count_base(layers: &[Layer], top_layer: Digest, own_layers: usize) -> Option<usize> {
    let mut counts = (1..=layers.len()).filter(|count| layers[count - 1].diff_id == top_layer);
    let leaves_own = |count: &usize| layers.len() - count >= own_layers;
    counts.clone().rfind(leaves_own).or_else(|| counts.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type::{
        DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_LAYER_GZIP, OCI_MANIFEST,
    };
    use crate::{Descriptor, History, Manifest};

    const CREATED: &str = "1980-01-01T00:00:01Z";

    fn layer(name: &str, media_type: &str) -> Layer {
        Layer {
            descriptor: Descriptor::of(media_type, name.as_bytes()),
            diff_id: diff_id(name),
            history: Some(History { created_by: Some(format!("made {name}")), ..History::default() }),
        }
    }

    fn diff_id(name: &str) -> Digest {
        Digest::of(format!("{name} unpacked").as_bytes())
    }

    fn image(layers: &str, media_type: &str) -> Image {
        let mut image = Image::empty("linux", "amd64");
        layers.split_whitespace().for_each(|name| image.append(layer(name, media_type)));
        image
    }

    #[test]
    fn the_base_ends_where_the_layers_of_the_app_begin() {
        for (app, own, expected) in [
            ("base1 TOP app1 app2", 2, Some(2)),
            ("base1 TOP app1 app2", 0, Some(2)),
            ("TOP", 0, Some(1)),
            ("TOP base1 TOP app1", 1, Some(3)),
            ("TOP TOP TOP app1", 1, Some(3)),
            // The app's own layer has the same bytes.
            ("base1 TOP app1 TOP", 2, Some(2)),
            ("base1 TOP TOP", 1, Some(2)),
            // Extensions are above the base, and nobody counted them.
            ("base1 TOP extension app1", 1, Some(2)),
            // More layers announced than there are.
            ("TOP base1 TOP app1", 9, Some(1)),
            ("base1 app1", 1, None),
            ("", 0, None),
        ] {
            let app = image(app, OCI_LAYER_GZIP);
            assert_eq!(count_base(app.layers(), diff_id("TOP"), own), expected, "{app:?}");
        }
    }

    #[test]
    fn layers_history_and_platform_come_from_where_they_belong() {
        let mut app = image("old1 old2 app1 app2", OCI_LAYER_GZIP);
        app.annotations_mut().insert("k".to_owned(), "v".to_owned());
        app.config_mut().set_variant(Some("v8"));
        app.config_mut().set_user("1000");
        let mut base = image("new", DOCKER_LAYER_GZIP);
        base.config_mut().set_architecture("arm64");
        base.config_mut().set_os_version(Some("10"));
        base.config_mut().set_user("root");

        let rebased = app.rebase(diff_id("old2"), 2, &base, CREATED).unwrap();
        assert_eq!(rebased.media_type(), OCI_MANIFEST);
        let by = |layer: &Layer| layer.history.clone().unwrap().created_by.unwrap();
        let names: Vec<_> = rebased.layers().iter().map(by).collect();
        assert_eq!(names, ["made new", "made app1", "made app2"]);
        let types: Vec<_> =
            rebased.layers().iter().map(|layer| layer.descriptor.media_type.as_str()).collect();
        assert_eq!(types, [DOCKER_LAYER_GZIP, OCI_LAYER_GZIP, OCI_LAYER_GZIP]);
        assert_eq!(rebased.annotations()["k"], "v");
        let config = rebased.config();
        assert_eq!(config.diff_ids(), ["new", "app1", "app2"].map(diff_id));
        assert_eq!(
            (config.architecture(), config.variant(), config.os_version()),
            ("arm64", None, Some("10"))
        );
        assert_eq!((config.user(), config.created()), ("1000", Some(CREATED)));
        assert!(config.history().iter().all(|entry| entry.created.as_deref() == Some(CREATED)));
        assert_eq!(config.history().len(), 3);
        crate::validate(&rebased).unwrap();
        // There and back again.
        let back = rebased.rebase(diff_id("new"), 2, &image("old1 old2", OCI_LAYER_GZIP), CREATED).unwrap();
        assert_eq!(back.layers().len(), 4);
        assert_eq!(back.config().diff_ids(), app.config().diff_ids());
    }

    #[test]
    fn an_app_without_history_keeps_all_of_its_layers() {
        let mut app = image("old app1 app2", OCI_LAYER_GZIP);
        app.set_layers(app.layers().iter().cloned().map(|layer| Layer { history: None, ..layer }).collect());
        let rebased = app.rebase(diff_id("old"), 2, &image("new", OCI_LAYER_GZIP), CREATED).unwrap();
        assert_eq!(rebased.config().diff_ids(), ["new", "app1", "app2"].map(diff_id));
        assert_eq!(rebased.config().history().len(), 3);
    }

    #[test]
    fn a_docker_image_stays_docker_and_entries_without_layers_go() {
        let ids = [diff_id("old"), diff_id("app")].map(|id| id.to_string());
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","author":"me","os.features":["f"],
                "rootfs":{{"type":"layers","diff_ids":{ids:?}}},
                "history":[{{"created_by":"old"}},{{"created_by":"ENV","empty_layer":true}},{{"created_by":"app"}}]}}"#
        );
        let mut manifest = Manifest::new(DOCKER_MANIFEST, Descriptor::of(DOCKER_CONFIG, config.as_bytes()));
        manifest.layers =
            ["old", "app"].iter().map(|name| layer(name, DOCKER_LAYER_GZIP).descriptor).collect();
        let app = Image::from_parts(&manifest.encode().unwrap(), config.as_bytes()).unwrap();
        let rebased = app.rebase(diff_id("old"), 1, &image("new", OCI_LAYER_GZIP), CREATED).unwrap();
        let encoded = rebased.encode().unwrap();
        assert_eq!((rebased.media_type(), rebased.config_media_type()), (DOCKER_MANIFEST, DOCKER_CONFIG));
        let text = String::from_utf8(encoded.config).unwrap();
        assert!(text.contains(r#""author":"me""#) && !text.contains("os.features"), "{text}");
        assert!(!text.contains("ENV"), "{text}");
    }

    #[test]
    fn without_the_old_base_or_a_new_one_nothing_is_made() {
        let app = image("old app", OCI_LAYER_GZIP);
        let new = image("new", OCI_LAYER_GZIP);
        assert_eq!(app.rebase(diff_id("other"), 1, &new, CREATED), Err(RebaseError::NoBaseLayer));
        let empty = Image::empty("linux", "amd64");
        assert_eq!(app.rebase(diff_id("old"), 1, &empty, CREATED), Err(RebaseError::EmptyBase));
    }
}
