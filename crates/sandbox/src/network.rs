//! A network of its own, in which there is nobody else.

use rustix::io::{self, Errno};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `struct ifreq` of netdevice(7), as far as flags need it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// `SIOCSIFFLAGS`.
struct SetFlags(Request);

const SIOCSIFFLAGS: Opcode = 0x8914;
const IFF_UP: i16 = 1;

#[expect(unsafe_code, reason = "rustix has no safe form of this request")]
// SAFETY: the request is the one of the opcode, is only read by the kernel, and lives as long as the call.
unsafe impl Ioctl for SetFlags {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        SIOCSIFFLAGS
    }

    fn as_ptr(&mut self) -> *mut core::ffi::c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut core::ffi::c_void) -> io::Result<()> {
        Ok(())
    }
}

/// Brings up the loopback of a new network namespace: programs talk to themselves there.
pub(crate) fn start_loopback() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let request = SetFlags(Request { name, flags: IFF_UP, rest: [0; 22] });
    #[expect(unsafe_code, reason = "rustix has no safe form of this request")]
    // SAFETY: see the implementation above.
    unsafe {
        rustix::ioctl::ioctl(&socket, request)
    }
}
