//! Whether a tree is what it was, without reading what its files hold.
//!
//! A [`Fingerprint`] is a digest of what the file system says of every entry of a tree: path, kind, mode, size, inode, and
//! the times of the last changes of its contents (mtime) and of anything about it (ctime). The owner is left out: a user
//! namespace shows another one, no layer has it, and a change of it changes the ctime. Two equal fingerprints of a place
//! mean two equal trees if three things hold, each of which is made sure of here:
//!
//! * **No change leaves the ctime alone.** A program can set every mtime, but no ctime: the kernel sets that to its own
//!   clock at each write, truncation, link, rename, and change of mode, owner or mtime. So an mtime that was set back
//!   shows, and so does a copy in the place of the tree: it has inodes and ctimes of its own. Only file systems are
//!   trusted of which this is known ([`Clock::of`]): not those over a network, which may answer from what they remember,
//!   nor those in memory, which miss writes to mapped files.
//! * **No change has the ctime of the change before it.** Clocks of file systems tick every 1 to 10 ms, so a file that is
//!   written twice within a tick has the same ctime. A tree is therefore read only once the clock is past its newest
//!   ctime ([`Clock::pass`]): whatever changes it from then on gets a newer one.
//! * **The clock does not go back.** Whoever trusts a fingerprint looks whether the clock is at least where it was when
//!   the tree was read. A clock that went back and has come forward again since could only deceive about a change at
//!   the very nanosecond of the one before.
//!
//! The order is: fingerprint, [`Clock::pass`], read, fingerprint. If both are equal, they stand for what was read. Of a
//! tree that one has just written oneself, it is: [`Clock::pass`] the moment of the end, fingerprint; it stands for what was
//! written if its newest ctime is before. What a
//! loss of power does to files does not show in any of this, so nothing is trusted that another boot of the machine
//! has recorded ([`Clock::boot`]).

mod clock;
mod fingerprint;

pub use clock::{BadMoment, Clock, Moment};
pub use fingerprint::{Fingerprint, fingerprint, renew, survey, survey_plain};
