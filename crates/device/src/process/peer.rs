//! The two socket options that say who is at the other end, which `rustix` does not offer as needed:
//! it has no `SO_PEERPIDFD`, and its `SO_PEERCRED` cannot represent the pid 0 of a foreign PID namespace.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::{c_int, c_void};
use std::io;

// asm-generic/socket.h, which these architectures use.
const SOL_SOCKET: c_int = 1;
const SO_PEERCRED: c_int = 17;
const SO_PEERPIDFD: c_int = 77;

#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "s390x",
)))]
compile_error!("look up SO_PEERCRED and SO_PEERPIDFD for this architecture");

// SAFETY: the signature is that of getsockopt(2) in POSIX; `socklen_t` is u32 on Linux.
#[expect(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
unsafe extern "C" {
    /// From the C library that std links already.
    fn getsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut u32,
    ) -> c_int;
}

/// `struct ucred`. The pid is 0 if the peer is not visible in our PID namespace.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Credentials {
    pub(super) pid: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The peer's credentials when it connected.
pub(super) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    option(socket, SO_PEERCRED, Credentials::default())
}

/// A pidfd of the process that connected; `None` if the kernel does not know the option (before 6.5).
pub(super) fn pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    match option(socket, SO_PEERPIDFD, -1_i32) {
        Ok(raw) if raw >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us (close-on-exec), nobody else owns it.
            #[expect(unsafe_code, reason = "a descriptor that a socket option made")]
            let owned = unsafe { OwnedFd::from_raw_fd(raw) };
            Ok(Some(owned))
        }
        Ok(_) => Err(io::Error::other("SO_PEERPIDFD gave no descriptor")),
        Err(error) if error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Types of plain integers, for which every bit pattern is a value.
trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for Credentials {}

fn option<T: Plain>(socket: BorrowedFd<'_>, name: c_int, initial: T) -> io::Result<T> {
    let mut value = initial;
    let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut length = size;
    // SAFETY: `value` is valid for writes of `length` bytes, any bytes are a valid `T` (`Plain`), and the
    // kernel writes no more than `length`. The socket is borrowed for the call.
    #[expect(unsafe_code, reason = "rustix has no SO_PEERPIDFD")]
    let result = unsafe {
        getsockopt(
            socket.as_raw_fd(),
            SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if length != size {
        return Err(io::Error::other(format!(
            "socket option {name} has {length} bytes instead of {size}"
        )));
    }
    Ok(value)
}

#[derive(Debug)]
pub(super) enum PidError {
    Gone,
    Elsewhere,
    Read(io::Error),
}

/// The pid of `pidfd` in our namespace: `Pid:` in its fdinfo, -1 once reaped, 0 if not visible from here.
pub(super) fn pid_of(pidfd: &OwnedFd) -> Result<i32, PidError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(path).map_err(PidError::Read)?;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|rest| rest.trim().parse::<i32>().ok())
        .ok_or_else(|| PidError::Read(io::Error::other("no Pid line in fdinfo")))?;
    match pid {
        1.. => Ok(pid),
        0 => Err(PidError::Elsewhere),
        _ => Err(PidError::Gone),
    }
}
