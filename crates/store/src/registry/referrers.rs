//! What refers to an image of a registry (OCI distribution specification 1.1, "Listing Referrers").
//!
//! Registries that came before this specification list nothing. There, clients keep the list themselves, in an index
//! under a tag made of the digest.

use std::collections::BTreeMap;

use strata_oci::manifest::MAX_MANIFEST_SIZE;
use strata_oci::{Descriptor, Digest, Index, media_type};
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};
use ureq::http::{HeaderName, Method, Uri};

use super::address::{join, with_parameter};
use super::auth::Access;
use super::http::{Answer, Request};
use super::retry::persist;
use super::{Error, Image};
use crate::artifact::{self, Artifact, EMPTY_CONFIG};
use crate::{StoreError, Tree};

/// Of a registry that keeps the list itself, in answer to a manifest with a subject.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Of one list, over all its pages.
const MAX_REFERRERS: usize = 4096;
const MAX_PAGES: usize = 256;
const MAX_LIST_SIZE: usize = 16 << 20;
/// Who writes the list at the same time may undo what was added to it.
const ATTEMPTS: usize = 4;

/// One part of a list, and where the next one is.
struct Page {
    index: Vec<u8>,
    next: Option<Uri>,
}

impl Image {
    pub(super) fn find_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let mut found = match self.list_referrers(subject, artifact_type)? {
            Some(found) => found,
            None => self.tagged_referrers(subject)?.manifests,
        };
        // Registries need not choose by type.
        found.retain(|entry| artifact::is_of_type(entry, artifact_type));
        Ok(found)
    }

    /// What the registry lists; `None` when it keeps no lists.
    fn list_referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, StoreError> {
        let path = format!("/v2/{}/referrers/{subject}", self.reference.repository());
        let mut address = self.endpoint()?.address(&path)?;
        if let Some(wanted) = artifact_type.and_then(|kind| with_parameter(&address, "artifactType", kind)) {
            address = wanted;
        }
        let (mut found, mut size) = (Vec::new(), 0);
        for _ in 0..MAX_PAGES {
            let settings = self.endpoint()?.http().settings();
            let Some(page) = persist(settings, || self.try_get_page(&address))? else { return Ok(None) };
            let index = Index::parse(&page.index, None).map_err(|source| self.not_understood(source))?;
            found.extend(index.manifests);
            size += page.index.len();
            match page.next {
                _ if found.len() > MAX_REFERRERS || size > MAX_LIST_SIZE => break,
                None => return Ok(Some(found)),
                Some(next) => address = next,
            }
        }
        Err(StoreError::Nesting { path: self.place() })
    }

    fn try_get_page(&self, address: &Uri) -> Result<Option<Page>, Error> {
        let request = Request::new(Method::GET, address.clone());
        let mut request = request.header(ACCEPT, media_type::OCI_INDEX);
        let answer = self.endpoint()?.send_once(&mut request, &self.scope(Access::Pull))?;
        match answer.status() {
            200 if is_index(&answer) => {}
            // Ways in which registries say that they do not know the question; some give a page for people.
            200 | 400 | 404 | 405 | 406 => return Ok(None),
            _ => return Err(self.refusal(answer)),
        }
        let next = self.next_page(&answer)?;
        Ok(Some(Page { index: answer.into_bytes(MAX_MANIFEST_SIZE)?, next }))
    }

    /// Where an answer says that the list goes on.
    fn next_page(&self, answer: &Answer) -> Result<Option<Uri>, Error> {
        let Some(target) = answer.headers(LINK).find_map(next_target) else { return Ok(None) };
        let Some(next) = join(&answer.address, target) else {
            let exchange = answer.exchange.clone();
            let found = target.split('?').next().map(str::to_owned);
            return Err(Error::Header { exchange, name: "Link", found });
        };
        self.endpoint()?.hop(answer, next).map(Some)
    }

    /// The list that clients keep.
    fn tagged_referrers(&self, subject: &Digest) -> Result<Index, StoreError> {
        let fetched = self.get_manifest(&tag(subject))?;
        // `cosign copy` leaves there what it copied, under the tag of what refers to it. That is no list, even if it is an
        // index, and stays under its own name when it is replaced.
        let Some(fetched) = fetched.filter(|fetched| Digest::of(&fetched.bytes) != *subject) else {
            return Ok(Index::default());
        };
        Index::parse(&fetched.bytes, fetched.kind.as_deref()).map_err(|source| self.not_understood(source))
    }

    pub(super) fn attach_file(
        &self,
        subject: &Descriptor,
        artifact_type: &str,
        file: Descriptor,
        bytes: &[u8],
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        self.upload_bytes(EMPTY_CONFIG, &Digest::of(EMPTY_CONFIG))?;
        self.upload_bytes(bytes, &file.digest)?;
        let artifact = Artifact::new(subject, artifact_type, file, annotations)
            .map_err(|source| StoreError::Encode { path: self.place(), source })?;
        let digest = artifact.descriptor.digest;
        self.put_listed(&artifact.into_tree()).map(|()| digest)
    }

    pub(super) fn put_listed(&self, tree: &Tree) -> Result<(), StoreError> {
        let (subject, entry) = artifact::root_of(tree, &self.place())?;
        let Some(((root, bytes), below)) = tree.documents.split_last() else { return Ok(()) };
        for (document, bytes) in below {
            let digest = &document.digest;
            self.put_manifest(&document.media_type, bytes, digest, &digest.to_string())?;
        }
        // Sent even if it is there: only the answer says who keeps the list.
        let answer = self.send_manifest(&root.media_type, bytes, &root.digest, &root.digest.to_string())?;
        if answer.header(SUBJECT).is_none() {
            self.tag_referrer(&subject, &entry)?;
        }
        Ok(())
    }

    /// Adds to the list that clients keep.
    fn tag_referrer(&self, subject: &Digest, referrer: &Descriptor) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut index = self.tagged_referrers(subject)?;
            if index.manifests.iter().any(|entry| entry.digest == referrer.digest) {
                return Ok(());
            }
            index.manifests.push(referrer.clone());
            media_type::OCI_INDEX.clone_into(&mut index.media_type);
            let bytes = index.encode().map_err(|source| StoreError::Encode { path: self.place(), source })?;
            self.send_manifest(media_type::OCI_INDEX, &bytes, &Digest::of(&bytes), &tag(subject))?;
        }
        Err(StoreError::Unlisted { path: self.place(), digest: referrer.digest, tag: tag(subject) })
    }
}

/// The tag of the list that clients keep.
fn tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn is_index(answer: &Answer) -> bool {
    let kind = answer.header(CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| kind.trim() == media_type::OCI_INDEX)
}

/// The target of `<…>; rel="next"` (RFC 8288).
fn next_target(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            let (name, value) = parameter.trim().split_once('=')?;
            Some(name.eq_ignore_ascii_case("rel") && value.trim_matches('"') == "next")
        };
        parameters.split(';').any(|parameter| is_next(parameter) == Some(true)).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (header, expected) in [
            (r#"</v2/a/referrers/x?n=2>; rel="next""#, Some("/v2/a/referrers/x?n=2")),
            ("<https://r.io/p>;rel=next", Some("https://r.io/p")),
            (r#"</first>; rel="first", </next>; title="n"; rel="next""#, Some("/next")),
            (r#"</prev>; rel="prev""#, None),
            ("</bare>", None),
            ("", None),
        ] {
            assert_eq!(next_target(header), expected, "{header}");
        }
    }
}
