//! Makes frames of zstd, with the encoder of libzstd in Rust.

use libzstd_rs_sys::{
    ZSTD_CCtx, ZSTD_compressBound, ZSTD_compressCCtx, ZSTD_createCCtx, ZSTD_freeCCtx, ZSTD_getErrorName,
    ZSTD_isError,
};
use std::ffi::CStr;
use std::ptr::NonNull;

use crate::error::LayerError;

/// What the encoder keeps from one frame to the next.
pub(crate) struct Encoder(NonNull<ZSTD_CCtx>);

#[expect(unsafe_code, reason = "the encoder has the interface of the C library")]
// SAFETY: what a context points to is its own, and it is used through `&mut` only.
unsafe impl Send for Encoder {}

#[expect(unsafe_code, reason = "the encoder has the interface of the C library")]
impl Encoder {
    pub(crate) fn new() -> Result<Self, LayerError> {
        // SAFETY: it has no conditions.
        let context = unsafe { ZSTD_createCCtx() };
        NonNull::new(context).map(Self).ok_or_else(|| LayerError::Compress { reason: "no memory".to_owned() })
    }

    /// A frame of its own, in place of what is in `out`.
    pub(crate) fn encode(&mut self, bytes: &[u8], level: u8, out: &mut Vec<u8>) -> Result<(), LayerError> {
        let bound = ZSTD_compressBound(bytes.len());
        out.clear();
        out.reserve(bound);
        // SAFETY: the context is alive and ours alone; `bytes` can be read and the room of `out`, `bound` at least, be
        // written to its length.
        let count = unsafe {
            ZSTD_compressCCtx(
                self.0.as_ptr(),
                out.as_mut_ptr().cast(),
                out.capacity(),
                bytes.as_ptr().cast(),
                bytes.len(),
                i32::from(level),
            )
        };
        if ZSTD_isError(count) != 0 {
            // SAFETY: the name of a code is a text that is never freed.
            let name = unsafe { CStr::from_ptr(ZSTD_getErrorName(count)) };
            return Err(LayerError::Compress { reason: name.to_string_lossy().into_owned() });
        }
        // SAFETY: so many bytes were written, which is no more than there was room for.
        unsafe { out.set_len(count) };
        Ok(())
    }
}

#[expect(unsafe_code, reason = "the encoder has the interface of the C library")]
impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: it was created, and is not used any more.
        unsafe { ZSTD_freeCCtx(self.0.as_ptr()) };
    }
}
