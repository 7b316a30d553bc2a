//! What happens during a build, as values: shown to a person, printed as JSON lines, or sent between processes.

use crate::process::Invocation;
use crate::summary::Summary;
use serde::{Deserialize, Serialize};
use strata_spec::group::GroupElement;

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// What a platform's log always has, and a person sees when asking for more.
    Detail,
    /// For everyone.
    Info,
    /// Something that is probably not meant.
    Warn,
}

/// One thing that happened. New kinds and fields may be added; readers skip what they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A phase began.
    PhaseStarted {
        /// `detect`, `build` or `export`.
        phase: String,
    },
    /// A phase succeeded.
    PhaseFinished {
        /// The phase.
        phase: String,
        /// Wall-clock time in milliseconds.
        millis: u64,
    },
    /// Something was said by Strata.
    Message {
        /// How much it matters.
        level: Level,
        /// One or more lines.
        text: String,
    },
    /// A group passed detection.
    Detected {
        /// The buildpacks that take part, in order.
        buildpacks: Vec<GroupElement>,
        /// The image extensions that do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        extensions: Vec<GroupElement>,
        /// How many were tried in this group.
        tried: usize,
    },
    /// No group passed detection; the failure follows.
    NothingDetected {
        /// Whether a buildpack erred, rather than not being meant for the app.
        has_error: bool,
        /// Which ones erred, and how.
        #[serde(default)]
        errors: Vec<String>,
    },
    /// A `bin/detect` said something. Others run at the same time.
    DetectOutput {
        /// `id@version`.
        buildpack: String,
        /// One line, without its end.
        line: String,
    },
    /// An image extension's `bin/generate` began; what it says comes as [`Event::Output`].
    ExtensionStarted {
        /// `id@version`.
        extension: String,
    },
    /// An image extension has generated what it has to.
    ExtensionFinished {
        /// `id@version`.
        extension: String,
        /// Wall-clock time in milliseconds.
        millis: u64,
    },
    /// A buildpack's `bin/build` began.
    BuildpackStarted {
        /// `id@version`.
        buildpack: String,
    },
    /// A buildpack's `bin/build` succeeded.
    BuildpackFinished {
        /// `id@version`.
        buildpack: String,
        /// Wall-clock time in milliseconds.
        millis: u64,
        /// The names of the layers that it left.
        #[serde(default)]
        layers: Vec<String>,
    },
    /// A buildpack said something.
    Output {
        /// `id@version`.
        buildpack: String,
        /// One line, without its end.
        line: String,
    },
    /// A buildpack has not ended its line yet. It comes again, longer or drawn anew, and at last as [`Event::Output`].
    OutputSoFar {
        /// `id@version`.
        buildpack: String,
        /// What there is of the line.
        line: String,
    },
    /// What a layer had in it came back from the cache.
    Restored {
        /// `<buildpack>:<layer>`
        id: String,
        /// Bytes uncompressed.
        size: u64,
    },
    /// A buildpack changed what another one made.
    Changed {
        /// What, and what becomes of it.
        changes: strata_spec::sealed::Changes,
    },
    /// A layer is in the image.
    Layer {
        /// `<buildpack>:<layer>` or a name of Strata's own.
        id: String,
        /// Digest of the uncompressed layer.
        diff_id: String,
        /// Digest of the layer as stored.
        digest: String,
        /// Bytes as stored.
        size: u64,
        /// Bytes uncompressed, where that is known.
        uncompressed_size: Option<u64>,
        /// Whether the previous image had it.
        is_reused: bool,
    },
    /// The image is complete.
    Image {
        /// Its names and places.
        names: Vec<String>,
        /// Manifest digest.
        digest: String,
        /// Bytes of all layers as stored.
        size: u64,
        /// The default process type, if there is one.
        process: Option<String>,
    },
    /// Images begin to be taken to another place.
    TransferStarted {
        /// Where they are, when they are fetched for the build.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// Where they go.
        to: String,
        /// How many blobs they have.
        blobs: usize,
        /// Bytes of all blobs; 0 when that is not known.
        size: u64,
    },
    /// One blob of a transfer is there.
    Blob {
        /// Its digest.
        digest: String,
        /// Bytes.
        size: u64,
        /// `copied`; `cloned` or `linked`, when places share its storage; `present`, when it was there; `absent`, when
        /// nobody has it.
        how: String,
    },
    /// How far a transfer is. A Docker daemon is sent all layers, unpacked, when they are gathered: then the numbers
    /// start again.
    Progress {
        /// Bytes that are there, moved or not.
        done: u64,
        /// Bytes of all blobs; 0 when that is not known.
        size: u64,
        /// Bytes that were moved.
        moved: u64,
        /// Bytes that were moved in a second, so far.
        rate: u64,
    },
    /// Nothing more is moved; why, if it is not all, is said by what follows.
    TransferFinished {
        /// Bytes that were moved.
        moved: u64,
        /// Wall-clock time in milliseconds.
        millis: u64,
    },
    /// A transfer is complete.
    Copied {
        /// Where the images were.
        from: String,
        /// Where they are now, too.
        to: String,
        /// Digest of the image or the index; of an image that is in Docker now, where it was.
        digest: String,
        /// The image's id, where it is in Docker's daemon or an archive of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image_id: Option<String>,
        /// How many things came along that refer to them.
        artifacts: usize,
        /// How many did not, though nobody asked for that.
        #[serde(default)]
        left_behind: usize,
        /// Bytes that were moved.
        moved: u64,
        /// Wall-clock time in milliseconds.
        millis: u64,
    },
    /// The build succeeded; nothing follows.
    Summary(Box<Summary>),
    /// The build failed; nothing follows.
    Failed(crate::failure::Failure),
}

/// Takes events as they happen, from several threads.
pub trait Observer: Sync {
    /// Takes one event. Must not fail: an observer that cannot show something drops it.
    fn event(&self, event: Event);

    /// Takes a buildpack's output byte for byte as it comes. An observer that returns `false` gets
    /// [`Event::Output`] with whole lines instead.
    fn output(&self, bytes: &[u8]) -> bool {
        bytes.is_empty()
    }

    /// Whether it gets [`Event::DetectOutput`] while detection goes on. Others get all that was said in the end.
    fn hears_detect(&self) -> bool {
        false
    }

    /// Looks at a `bin/build` that failed, before anything of it is removed.
    fn failed(&self, buildpack: &str, invocation: &Invocation) {
        let _unused = (buildpack, invocation);
    }

    /// Says something at [`Level::Info`].
    fn info(&self, text: String) {
        self.event(Event::Message { level: Level::Info, text });
    }

    /// Says something at [`Level::Detail`].
    fn detail(&self, text: String) {
        self.event(Event::Message { level: Level::Detail, text });
    }

    /// Says something at [`Level::Warn`].
    fn warn(&self, text: String) {
        self.event(Event::Message { level: Level::Warn, text });
    }

    /// Says something at [`Level::Debug`].
    fn debug(&self, text: String) {
        self.event(Event::Message { level: Level::Debug, text });
    }
}
