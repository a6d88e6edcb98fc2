//! A TAP device: an Ethernet card whose other end is a file. What the kernel sends over the card is
//! read from the file, a frame a read; what is written to the file arrives at the card.
//!
//! Not a network: what happens to frames is for the reader to decide (jepsen-tests'
//! `cluster::network`). The device goes when the file is closed, however its process ends.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What one open file of the driver becomes.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
/// Ethernet frames.
const IFF_TAP: i16 = 0x0002;
/// Nothing before them.
const IFF_NO_PI: i16 = 0x1000;
/// Bytes of a device's name with its terminator.
const NAME_BYTES: usize = 16;

/// The kernel's `struct ifreq`, as far as this request reads it.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: i16,
    rest: [u8; 22],
}

/// Makes a device of this name. Reads do not wait: without a frame they say `WouldBlock`.
///
/// # Errors
/// A name that is too long; what the kernel says, such as that this process may not.
pub fn open(name: &str) -> io::Result<File> {
    if name.is_empty() || name.len() >= NAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no device's name")));
    }
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.read(true).write(true).open("/dev/net/tun")?;
    let mut request = Request { name: [0; NAME_BYTES], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the descriptor is open for the whole call, and the request is a live, writable value of
    // the size that the kernel's `struct ifreq` has.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
    if made < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}
