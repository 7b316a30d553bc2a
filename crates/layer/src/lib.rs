//! Bytes of layers: tar writing, hashing, compression, extraction.
