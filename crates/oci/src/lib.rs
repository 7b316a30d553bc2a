//! Images as values: digests, references, manifests, configurations.
