//! Writes to a descriptor that do not hang, for the time in which no loop runs.
//!
//! `O_NONBLOCK` is a property of the open file description, which other processes may share. It
//! is left as it is: poll(2) comes before each write, and a write is no longer than what a
//! writable pipe takes at once.
//!
//! Must not know: lines.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// PIPE_BUF (pipe(7)): a writable pipe takes as many bytes without blocking.
const PIECE_BYTES_MAX: usize = 4096;

/// Writes as many bytes as the descriptor takes within this time. Returns their number, and the
/// error that ended the writing, if there was one.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> (usize, Option<Errno>) {
    let until = Instant::now() + patience;
    let mut written = 0;
    while written < bytes.len() {
        let left = until.saturating_duration_since(Instant::now());
        let mut asked = [PollFd::new(fd, PollFlags::POLLOUT)];
        match poll(&mut asked, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::EINTR) if !left.is_zero() => continue,
            Err(Errno::EINTR) => break,
            Err(error) => return (written, Some(error)),
        }
        // poll(2) also ends for a closed descriptor and for a pipe without a reader. The error of
        // the write tells them apart.
        let piece = &bytes[written..bytes.len().min(written + PIECE_BYTES_MAX)];
        match nix::unistd::write(fd, piece) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(Errno::EINTR | Errno::EAGAIN) if !left.is_zero() => {}
            Err(Errno::EINTR | Errno::EAGAIN) => break,
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_full_pipe_is_given_up_and_a_closed_one_is_an_error() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let bytes = vec![b'x'; 1 << 20];
        let began = Instant::now();
        let (n, error) = write(writer.as_fd(), &bytes, Duration::from_millis(20));
        assert!(n >= PIECE_BYTES_MAX && n < bytes.len() && error.is_none(), "{n} bytes, {error:?}");
        assert_eq!(write(writer.as_fd(), b"more", Duration::ZERO), (0, None));
        assert!(began.elapsed() < Duration::from_secs(10));
        let mut some = [0; PIECE_BYTES_MAX];
        assert_eq!(nix::unistd::read(&reader, &mut some), Ok(PIECE_BYTES_MAX));
        assert_eq!(write(writer.as_fd(), b"more", Duration::ZERO), (4, None));
        drop(reader);
        assert_eq!(write(writer.as_fd(), b"more", Duration::ZERO), (0, Some(Errno::EPIPE)));
    }
}
