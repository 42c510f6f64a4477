//! Nothing, many times: `nops crate N` through the io-uring crate, `nops seam N` through ring9's trait. Their instructions are compared by `tests/e2e/seam.py`.

use io_uring::{IoUring, opcode};
use ring9::uring::{Kernel, Ring, SQ_ENTRIES};
use std::hint::black_box;
use std::io;

/// Operations of one submission.
const BATCH: u64 = 32;

fn by_crate(count: u64) -> io::Result<u64> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(4096)
        .build(SQ_ENTRIES)?;
    let mut sum = 0;
    for start in (0..count).step_by(BATCH as usize) {
        for number in start..start + BATCH {
            let mut queue = ring.submission();
            if queue.is_full() {
                return Err(io::Error::other("the queue is full"));
            }
            #[expect(unsafe_code, reason = "the crate asks for it")]
            // SAFETY: the entry names no memory; there is room.
            if unsafe { queue.push(&opcode::Nop::new().build().user_data(number)) }.is_err() {
                return Err(io::Error::other("the queue is full"));
            }
        }
        ring.submitter().submit_and_wait(BATCH as usize)?;
        for cqe in ring.completion() {
            let (user_data, res, flags) = (cqe.user_data(), cqe.result(), cqe.flags());
            sum += black_box(user_data) + u64::from(flags) + res as u64;
        }
    }
    Ok(sum)
}

fn by_seam(ring: &mut impl Ring, count: u64) -> io::Result<u64> {
    let mut sum = 0;
    for start in (0..count).step_by(BATCH as usize) {
        for number in start..start + BATCH {
            #[expect(unsafe_code, reason = "the seam asks for it")]
            // SAFETY: the entry names no memory.
            if !unsafe { ring.push(|| opcode::Nop::new().build().user_data(number)) } {
                return Err(io::Error::other("the queue is full"));
            }
        }
        ring.submit_and_wait(BATCH as u32)?;
        ring.drain(|user_data, res, flags| sum += black_box(user_data) + u64::from(flags) + res as u64);
    }
    Ok(sum)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let count = args.get(2).and_then(|count| count.parse().ok());
    let sum = match (args.get(1).map(String::as_str), count) {
        (Some("crate"), Some(count)) => by_crate(count)?,
        (Some("seam"), Some(count)) => by_seam(&mut Kernel::new(1)?, count)?,
        _ => return Err(io::Error::other("nops crate|seam COUNT")),
    };
    println!("{sum}");
    Ok(())
}
