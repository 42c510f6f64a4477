//! What a disk and one ring can do without a server: some writes with O_DIRECT, all at once, then fdatasync(2); again and again.
//!
//! `raw_disk FOLDER BYTES COUNT SECONDS` makes a file of 64 MiB in FOLDER and writes all of it once, as a log does with a segment. Then it repeats rounds for SECONDS. A round is COUNT
//! writes of BYTES bytes and one sync. The program prints `syncs_per_s p50_us cpu_us`: rounds for each second, the median time of a round, and the cpu time of a round. `bench/store.py` runs it.
//!
//! Must not know: servers, messages. **Unsafe**: names memory to the kernel. The mapping lives until the process ends.
#![expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]

use io_uring::{IoUring, opcode, types};
use memmap2::MmapMut;
use nix::libc::O_DIRECT;
use rustix::time::{ClockId, clock_gettime};
use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const FILE_BYTES: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, bytes, count, seconds] = &arguments[..] else {
        return Err("usage: raw_disk FOLDER BYTES COUNT SECONDS".into());
    };
    let (bytes, count): (usize, usize) = (bytes.parse()?, count.parse()?);
    if bytes == 0 || bytes % 4096 != 0 || count == 0 || bytes * count > FILE_BYTES || count > 256 {
        return Err("a multiple of 4096 bytes, at most 256 times and 64 MiB in all".into());
    }
    let path = Path::new(folder).join(format!("raw-disk-{}", std::process::id()));
    let done = measure(&path, bytes, count, Duration::from_secs_f64(seconds.parse()?));
    std::fs::remove_file(&path)?;
    let Done { mut rounds, wall, cpu } = done?;
    rounds.sort_unstable();
    let (number, per_second) = (rounds.len(), rounds.len() as f64 / wall.as_secs_f64());
    let p50 = rounds[number / 2].as_secs_f64() * 1e6;
    println!("{per_second:.1} {p50:.1} {:.2}", cpu.as_secs_f64() * 1e6 / number as f64);
    Ok(())
}

struct Done {
    /// How long each round took.
    rounds: Vec<Duration>,
    /// All of them together, and the cpu time of this process.
    wall: Duration,
    cpu: Duration,
}

fn measure(path: &Path, bytes: usize, count: usize, time: Duration) -> io::Result<Done> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).custom_flags(O_DIRECT).open(path)?;
    let mut memory = MmapMut::map_anon((bytes * count).max(1 << 20))?;
    memory.fill(b'x');
    for at in (0..FILE_BYTES).step_by(1 << 20) {
        file.write_all_at(&memory[..1 << 20], at as u64)?;
    }
    file.sync_all()?;
    let mut ring: IoUring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(256)?;
    let fd = types::Fd(file.as_raw_fd());
    let (mut at, mut rounds) = (0, Vec::new());
    let (began, cpu_before) = (Instant::now(), cpu());
    while began.elapsed() < time {
        let start = Instant::now();
        if at + bytes * count > FILE_BYTES {
            at = 0;
        }
        for number in 0..count {
            let from = &memory[number * bytes..][..bytes];
            let write = opcode::Write::new(fd, from.as_ptr(), bytes as u32).offset((at + number * bytes) as u64);
            push(&mut ring, &write.build())?;
        }
        complete(&mut ring, count, bytes as i32)?;
        push(&mut ring, &opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build())?;
        complete(&mut ring, 1, 0)?;
        at += bytes * count;
        rounds.push(start.elapsed());
    }
    Ok(Done { rounds, wall: began.elapsed(), cpu: cpu() - cpu_before })
}

/// Cpu time of this process.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

fn push(ring: &mut IoUring, entry: &io_uring::squeue::Entry) -> io::Result<()> {
    // SAFETY: the memory that the entry names is a mapping that lives until its completion was taken.
    unsafe { ring.submission().push(entry) }.map_err(|_| io::Error::other("the queue is full"))
}

/// Waits for `count` completions. Each must have the result `result`.
fn complete(ring: &mut IoUring, count: usize, result: i32) -> io::Result<()> {
    ring.submit_and_wait(count)?;
    for cqe in ring.completion() {
        if cqe.result() != result {
            return Err(io::Error::other(format!("an operation has ended with {}", cqe.result())));
        }
    }
    Ok(())
}
