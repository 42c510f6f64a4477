//! What this kernel and the limits of this process offer, and how to fix what is missing: for
//! `ring9 check`, for errors at start, and for the bound on memory.

use super::ring::{Features, Kernel, Ring};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use std::fmt;
use std::io;

/// One line of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether ring9 has all of it.
    pub good: bool,
    /// What was found; and, if not good, what follows and what to do.
    pub found: String,
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// In the order of importance.
    pub findings: Vec<Finding>,
    /// Whether ring9 can serve at all.
    pub can_serve: bool,
    /// Whether the memory can be registered; false if that was not tried.
    pub registers: bool,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { what, good, found } in &self.findings {
            writeln!(f, "{} {what}: {found}", if *good { "ok  " } else { "MISS" })?;
        }
        f.write_str(if self.can_serve { "ring9 can serve here" } else { "ring9 cannot serve here" })
    }
}

/// Looks at this kernel and at the limits of this process, for a server that registers this much
/// memory at its start (`None`: it is not tried) and uses nothing beyond the minimum that is not
/// `allowed`.
pub fn check(memory_bytes: Option<u64>, allowed: Features) -> Check {
    let mut findings = Vec::new();
    let mut add = |what, good, found: String| findings.push(Finding { what, good, found });
    add("kernel", true, kernel_release());
    let ring = Kernel::with(1, allowed);
    let can_serve = ring.is_ok();
    let mut registers = false;
    match ring {
        Ok(mut ring) => {
            let Features { vectored_fixed, defer_taskrun, multishot, vectored_send } = ring.features();
            add("io_uring_setup(2)", true, "works".into());
            add("deferred task work", defer_taskrun, either(defer_taskrun, "yes", "no (Linux 6.1): more wake-ups"));
            let shared = either(multishot, "yes", "no (Linux 6.0): 16 KiB for every connection");
            add("shared receive buffers", multishot, shared);
            let fixed = either(vectored_fixed, "yes", "no (Linux 6.15): nothing is sent through registered memory");
            add("vectored registered buffers", vectored_fixed, fixed);
            let lists =
                either(vectored_send, "yes", "no (Linux 6.17): replies go by WRITEV_FIXED or SENDMSG, a little dearer");
            add("sends of lists", vectored_send, lists);
            let places = ring.has_places();
            let table = either(
                places,
                "yes",
                "no (Linux 6.15, and a limit of open files that allows it): descriptors are looked up",
            );
            add("places for sockets", places, table);
            let (limit, _) = memlock();
            let tried = memory_bytes.filter(|_| vectored_fixed);
            registers = tried.is_some_and(|bytes| register(&mut ring, bytes).is_ok());
            let found = match tried {
                Some(bytes) if registers => format!("{} can be registered", mebibytes(bytes)),
                Some(bytes) => memlock_advice(bytes),
                None => "not tried".into(),
            };
            add("memory to register", registers || tried.is_none(), format!("{found} (limit {})", limit_text(limit)));
        }
        Err(error) => add("io_uring_setup(2)", false, explain_setup_error(&error)),
    }
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    add("open files", files >= 1024, format!("{files} (ulimit -n): as many connections, less a dozen"));
    Check { findings, can_serve, registers }
}

/// Tries to register as much as a server would, with untouched memory of its own.
fn register(ring: &mut Kernel, bytes: u64) -> io::Result<()> {
    let arena = crate::arena::Arena::new(usize::try_from(bytes).map_err(io::Error::other)?)?;
    super::table::Table::new(arena.memory()).register(ring, arena.memory().len())
}

fn either(good: bool, yes: &str, no: &str) -> String {
    if good { yes.into() } else { no.into() }
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|error| error.to_string(), |text| text.trim().into())
}

/// RLIMIT_MEMLOCK, soft and hard, in bytes.
fn memlock() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0))
}

fn limit_text(bytes: u64) -> String {
    if bytes == libc::RLIM_INFINITY { "none".into() } else { mebibytes(bytes) }
}

fn mebibytes(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes >> 10) }
}

/// Bytes of memory that this process can have at most: those of the machine, or of the tightest control group above it (cgroups(7)).
pub fn available_memory() -> u64 {
    let field = |text: String| text.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(field).map_or(u64::MAX, |kib| kib << 10);
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folder = std::path::Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let limits = folder.ancestors().filter_map(|folder| {
        let text = std::fs::read_to_string(folder.join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    limits.fold(machine, u64::min)
}

/// Why memory could not be registered, with the limit, its live value and the fix: one line.
pub fn memlock_advice(needed_bytes: u64) -> String {
    let (soft, hard) = memlock();
    let kib = (needed_bytes >> 10) + 1024;
    format!(
        "RLIMIT_MEMLOCK is {} (at most {}), {} are to be registered; shell: `ulimit -l {kib}` as root first; systemd: `LimitMEMLOCK=infinity`; \
         container: `--ulimit memlock=-1`",
        limit_text(soft),
        limit_text(hard),
        mebibytes(needed_bytes),
    )
}

/// Why io_uring_setup(2) failed: the call, the live value, and the fix for shell, systemd and container.
pub fn explain_setup_error(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let disabled = disabled.as_deref().map(str::trim);
    let live = match disabled {
        Some(value) => format!("kernel.io_uring_disabled = {value}"),
        None => "there is no kernel.io_uring_disabled".into(),
    };
    let cause = match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some("1" | "2")) => {
            "io_uring is switched off; shell: `sysctl -w kernel.io_uring_disabled=0` as root; systemd: the same line in /etc/sysctl.d; \
             container: set it on the host"
        }
        (Some(libc::EPERM | libc::EACCES), _) => {
            "a system call filter forbids it; shell: leave the sandbox; systemd: `SystemCallFilter=io_uring_setup io_uring_enter io_uring_register` in addition; \
             container: a seccomp profile that allows these three calls (`--security-opt seccomp=FILE`)"
        }
        (Some(libc::ENOSYS), _) => {
            "this kernel has no io_uring, or a sandbox hides it; shell: Linux 6.1 or later with CONFIG_IO_URING; systemd: `SystemCallErrorNumber=` may be what answers; \
             container: gVisor has none, use runc"
        }
        (Some(libc::ENOMEM), _) => {
            "too little lockable memory; shell: `ulimit -l unlimited` as root first; systemd: `LimitMEMLOCK=infinity`; container: `--ulimit memlock=-1`"
        }
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            "no descriptor is free; shell: `ulimit -n 65536`; systemd: `LimitNOFILE=65536`; container: `--ulimit nofile=65536`"
        }
        _ => "Linux 6.1 or later is needed",
    };
    format!("io_uring_setup(2): {error}; {live}; {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_names_the_call_the_value_and_three_fixes() {
        for errno in [libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EMFILE] {
            let text = explain_setup_error(&io::Error::from_raw_os_error(errno));
            for part in ["io_uring_setup(2)", "kernel.io_uring_disabled", "shell:", "systemd:", "container:"] {
                assert!(text.contains(part), "{part} is missing in: {text}");
            }
        }
    }

    #[test]
    fn a_check_of_this_machine_says_one_line_per_finding() {
        let check = check(Some(1 << 20), Features::ALL);
        assert_eq!(check.to_string().lines().count(), check.findings.len() + 1);
    }
}
