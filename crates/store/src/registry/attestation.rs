//! Statements where Sigstore's tools look for them: envelopes in an image under the tag `sha256-<hex>.att`
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>, "Tag-based discovery").
//!
//! The tag belongs to nobody: whoever signs adds to what is there by reading and replacing it, and so loses what somebody
//! else added in between. So nothing is ever added here to what is there, and nothing replaced.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::json;
use strata_oci::{Descriptor, Digest, Manifest, media_type};
use ureq::http::Method;
use ureq::http::header::{CONTENT_TYPE, IF_NONE_MATCH};

use super::auth::Access;
use super::http::{Payload, Request};
use super::{Image, check_stored};
use crate::StoreError;

/// The type of an envelope in such an image.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";
/// The annotation that has what was signed; empty where the envelope has the signatures.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation by which envelopes are told apart.
const PREDICATE: &str = "predicateType";
/// A registry says so when the tag is there by now.
const PRECONDITION_FAILED: u16 = 412;

/// A statement about an image, as in-toto has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The type of its bytes.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The type of what it says.
    pub predicate: String,
}

/// What became of statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// They are under the tag, which has nothing else.
    There,
    /// The tag has something else, which stays as it is.
    Taken,
}

impl Image {
    /// Puts statements about an image, unsigned, where Sigstore's tools find them, if nothing is there yet. Idempotent.
    ///
    /// # Errors
    ///
    /// When the registry refuses, or what is under the tag cannot be read.
    pub fn offer_statements(&self, subject: &Digest, all: &[Statement]) -> Result<Offered, StoreError> {
        let Attested { envelopes, config, manifest, digest } = self.attested(all)?;
        let tag = tag(subject);
        if let Some(offered) = self.look(&tag, &digest)? {
            return Ok(offered);
        }
        self.upload_bytes(&config, &Digest::of(&config))?;
        envelopes.iter().try_for_each(|(layer, bytes)| self.upload_bytes(bytes, &layer.digest))?;
        // Registries that do not know the condition pass it over; others make sure that nothing is lost.
        let mut request = Request::new(Method::PUT, self.manifest_address(&tag)?)
            .header(CONTENT_TYPE, media_type::OCI_MANIFEST)
            .header(IF_NONE_MATCH, "*")
            .payload(Payload::Bytes(&manifest));
        let answer = self.endpoint()?.send(&mut request, &self.scope(Access::Push))?;
        match answer.status() {
            200..300 => {
                check_stored(&answer, &digest)?;
                Ok(Offered::There)
            }
            // This very manifest, when the answer to it was lost.
            PRECONDITION_FAILED => Ok(self.look(&tag, &digest)?.unwrap_or(Offered::Taken)),
            _ => Err(self.refused(answer)),
        }
    }

    /// Whether Sigstore's tools find something else about an image than these statements, unsigned, alone.
    ///
    /// # Errors
    ///
    /// When what is under the tag cannot be read.
    pub fn has_other_statements(&self, subject: &Digest, all: &[Statement]) -> Result<bool, StoreError> {
        let found = self.look(&tag(subject), &self.attested(all)?.digest)?;
        Ok(found == Some(Offered::Taken))
    }

    fn attested(&self, all: &[Statement]) -> Result<Attested, StoreError> {
        Attested::new(all).map_err(|source| StoreError::Encode { path: self.place(), source })
    }

    /// What is under the tag; `None` when there is nothing.
    fn look(&self, tag: &str, wanted: &Digest) -> Result<Option<Offered>, StoreError> {
        let found = self.get_manifest(tag)?;
        Ok(found.map(
            |found| {
                if Digest::of(&found.bytes) == *wanted { Offered::There } else { Offered::Taken }
            },
        ))
    }
}

/// An image of statements.
struct Attested {
    envelopes: Vec<(Descriptor, Vec<u8>)>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    digest: Digest,
}

impl Attested {
    fn new(all: &[Statement]) -> Result<Self, serde_json::Error> {
        let envelopes = all.iter().map(envelope).collect::<Result<Vec<_>, _>>()?;
        let config = config(&envelopes)?;
        let mut manifest =
            Manifest::new(media_type::OCI_MANIFEST, Descriptor::of(media_type::OCI_CONFIG, &config));
        manifest.layers = envelopes.iter().map(|(layer, _)| layer.clone()).collect();
        let manifest = manifest.encode()?;
        let digest = Digest::of(&manifest);
        Ok(Self { envelopes, config, manifest, digest })
    }
}

/// A statement in an envelope that nobody has signed (<https://github.com/secure-systems-lab/dsse>).
fn envelope(statement: &Statement) -> Result<(Descriptor, Vec<u8>), serde_json::Error> {
    let Statement { media_type, bytes, predicate } = statement;
    let value = json!({ "payloadType": media_type, "payload": BASE64.encode(bytes), "signatures": [] });
    let bytes = serde_json::to_vec(&value)?;
    let mut layer = Descriptor::of(ENVELOPE, &bytes);
    layer.annotations =
        BTreeMap::from([(SIGNATURE.to_owned(), String::new()), (PREDICATE.to_owned(), predicate.clone())]);
    Ok((layer, bytes))
}

/// An image's configuration with nothing but as many layers: whoever adds to the image adds to it, too.
fn config(envelopes: &[(Descriptor, Vec<u8>)]) -> Result<Vec<u8>, serde_json::Error> {
    let time = "0001-01-01T00:00:00Z";
    let layers: Vec<String> = envelopes.iter().map(|(layer, _)| layer.digest.to_string()).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({ "created": time })).collect();
    serde_json::to_vec(&json!({
        "architecture": "",
        "os": "",
        "created": time,
        "config": {},
        "history": history,
        "rootfs": { "type": "layers", "diff_ids": layers },
    }))
}

fn tag(subject: &Digest) -> String {
    format!("sha256-{}.att", subject.hex())
}
