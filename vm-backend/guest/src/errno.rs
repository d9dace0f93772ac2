//! Error numbers, as in include/uapi/asm-generic/errno-base.h and errno.h of Linux.

/// An error number, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

/// What a call gives back to the program.
pub type Result<T = u64> = core::result::Result<T, Errno>;

macro_rules! numbers {
    ($($name:ident = $number:literal),* $(,)?) => {
        $(#[doc = concat!("Error ", $number, ".")] pub const $name: Errno = Errno($number);)*
    };
}

numbers! {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EBADF = 9, ECHILD = 10, EAGAIN = 11, ENOMEM = 12, EACCES = 13, EFAULT = 14,
    EEXIST = 17, ENODEV = 19, ENOTDIR = 20, EISDIR = 21, EINVAL = 22, EMFILE = 24, ENOTTY = 25, EFBIG = 27, ENOSPC = 28,
    ESPIPE = 29, EROFS = 30, EPIPE = 32, ERANGE = 34, ENAMETOOLONG = 36, ENOSYS = 38, ENOTEMPTY = 39,
    ETIMEDOUT = 110,
}

/// The value of the result register.
pub fn to_register(result: Result) -> u64 {
    match result {
        Ok(value) => value,
        Err(Errno(number)) => (-i64::from(number)) as u64,
    }
}

/// A result register of the monitor's, read back.
pub fn from_monitor(value: i64) -> Result {
    if value < 0 { Err(Errno((-value) as u16)) } else { Ok(value as u64) }
}
