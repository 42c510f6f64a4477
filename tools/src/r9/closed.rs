//! Whether standard input and output were open when the process began.
//!
//! The runtime of Rust opens /dev/null in place of those that are closed, before `main`. Then what
//! is printed seems to have arrived, and an input that is not there seems to be empty. So they are
//! looked at before that, by a function in the list that the loader calls first (`.init_array`).
//! The attribute for that is unsafe code: the symbol must be a list of functions of that kind. They
//! run on the only thread there is, and this one only asks for two flags (fcntl(2)) and stores them.

use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

static STDIN: AtomicBool = AtomicBool::new(false);
static STDOUT: AtomicBool = AtomicBool::new(false);

#[used]
#[allow(unsafe_code, reason = "a function that runs before the runtime; the head of this file says why that is sound")]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let is_closed = |fd: &dyn AsFd| fcntl(fd.as_fd(), FcntlArg::F_GETFD).is_err();
    STDIN.store(is_closed(&io::stdin()), Ordering::Relaxed);
    STDOUT.store(is_closed(&io::stdout()), Ordering::Relaxed);
}

/// Standard input was closed.
pub(crate) fn stdin() -> bool {
    STDIN.load(Ordering::Relaxed)
}

/// Standard output was closed.
pub(crate) fn stdout() -> bool {
    STDOUT.load(Ordering::Relaxed)
}
