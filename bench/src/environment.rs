//! What a result depends on beside the code: the machine, its kernel and how they are set.

use std::collections::BTreeMap;
use std::fs;

/// Facts by name, each a line of text; what cannot be found out is left out.
pub(crate) type Environment = BTreeMap<String, String>;

pub(crate) fn environment(generator_cpu: Option<usize>) -> Environment {
    let mut facts = Environment::new();
    let mut add = |name: &str, fact: Option<String>| {
        if let Some(fact) = fact.filter(|fact| !fact.is_empty()) {
            facts.insert(name.into(), fact);
        }
    };
    let uname = rustix::system::uname();
    add("kernel", Some(format!("{} {}", uname.release().to_string_lossy(), uname.version().to_string_lossy())));
    add("machine", Some(uname.machine().to_string_lossy().into_owned()));
    add("kernel command line", line("/proc/cmdline").map(|line| of_speed(&line)));
    add("cpu", of_cpu("model name"));
    add("cpus", line("/sys/devices/system/cpu/online"));
    add("cpu governor", line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add("turbo off", line("/sys/devices/system/cpu/intel_pstate/no_turbo"));
    add("hyperthreads", line("/sys/devices/system/cpu/smt/control"));
    add("mitigations", mitigations());
    add("virtualisation", virtualisation());
    add("clock source", line("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    add("transparent huge pages", line("/sys/kernel/mm/transparent_hugepage/enabled").map(|line| chosen(&line)));
    add("memory", of_memory("MemTotal"));
    add("limit of open files", limit("Max open files"));
    add("limit of locked memory", limit("Max locked memory"));
    add("io_uring disabled", line("/proc/sys/kernel/io_uring_disabled"));
    for (name, file) in [
        ("tcp receive buffer", "net/ipv4/tcp_rmem"),
        ("tcp send buffer", "net/ipv4/tcp_wmem"),
        ("tcp congestion control", "net/ipv4/tcp_congestion_control"),
        ("socket buffer", "net/core/wmem_default"),
        ("busy poll", "net/core/busy_poll"),
    ] {
        add(name, line(&format!("/proc/sys/{file}")));
    }
    add("socket options of the generator", Some("TCP_NODELAY; buffers as the kernel sets them".into()));
    add(
        "ring9-bench",
        Some(format!("{} {} {}", env!("CARGO_PKG_VERSION"), env!("RING9_REVISION"), env!("RING9_PROFILE"))),
    );
    add("generator", Some(generator_cpu.map_or("on any cpu".into(), |cpu| format!("on cpu {cpu}"))));
    facts
}

/// Of a kernel's command line, what makes a machine quicker or slower. The rest may name what is nobody's business.
fn of_speed(line: &str) -> String {
    const NAMES: [&str; 14] = [
        "mitigations",
        "nosmt",
        "isolcpus",
        "nohz",
        "nohz_full",
        "rcu_nocbs",
        "irqaffinity",
        "preempt",
        "idle",
        "processor.max_cstate",
        "intel_idle.max_cstate",
        "intel_pstate",
        "amd_pstate",
        "transparent_hugepage",
    ];
    let is_known = |word: &&str| NAMES.contains(&word.split('=').next().unwrap_or(word));
    line.split_whitespace().filter(is_known).collect::<Vec<_>>().join(" ")
}

/// What differs between two, each as "name: one | other".
pub(crate) fn differences(one: &Environment, other: &Environment) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let of = |facts: &Environment, name: &str| facts.get(name).cloned().unwrap_or_else(|| "unknown".into());
    let differs = |name: &&&String| one.get(**name) != other.get(**name);
    names.iter().filter(differs).map(|name| format!("{name}: {} | {}", of(one, name), of(other, name))).collect()
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What is known of a process: what it may run on, what it may use.
pub(crate) fn of_process(pid: u32) -> Environment {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (status, limits) = (read("status"), read("limits"));
    let of_status =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    // The two columns after the name: soft and hard.
    let of_limits = |name: &str| {
        let words: Vec<&str> = limits.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().collect();
        words.first().map(|soft| (*soft).to_owned())
    };
    let mut facts = Environment::new();
    let mut add = |name: &str, fact: Option<String>| facts.extend(fact.map(|fact| (name.to_owned(), fact)));
    add("cpus", of_status("Cpus_allowed_list").map(str::to_owned));
    add("threads", of_status("Threads").map(str::to_owned));
    add("limit of open files", of_limits("Max open files"));
    add("limit of locked memory", of_limits("Max locked memory"));
    facts
}

/// The word in brackets of a choice.
fn chosen(line: &str) -> String {
    line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(line, |(chosen, _)| chosen).into()
}

fn of_cpu(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    found.map(|(_, value)| value.trim().to_owned())
}

fn of_memory(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some(text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim().to_owned())
}

fn limit(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.to_owned())
}

fn mitigations() -> Option<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?.flatten() {
        let state = line(&entry.path().to_string_lossy())?;
        if state != "Not affected" {
            all.push(format!("{}: {state}", entry.file_name().to_string_lossy()));
        }
    }
    all.sort();
    Some(all.join("; "))
}

fn virtualisation() -> Option<String> {
    let flags = of_cpu("flags").unwrap_or_default();
    let guest = flags.split(' ').any(|flag| flag == "hypervisor");
    let vendor = line("/sys/class/dmi/id/sys_vendor");
    Some(match (guest, vendor) {
        (false, _) => "none".into(),
        (true, Some(vendor)) => format!("a guest, {vendor}"),
        (true, None) => "a guest".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_and_cpus() {
        let facts = environment(Some(1));
        assert!(facts.contains_key("kernel") && facts.contains_key("cpus"), "{facts:?}");
        assert_eq!(facts["generator"], "on cpu 1");
        assert!(facts.values().all(|fact| !fact.contains('\n')));
    }

    #[test]
    fn differences_are_named() {
        let one = Environment::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let other = Environment::from([("a".into(), "1".into()), ("b".into(), "3".into()), ("c".into(), "4".into())]);
        assert_eq!(differences(&one, &other), ["b: 2 | 3", "c: unknown | 4"]);
    }

    #[test]
    fn a_command_line_says_only_what_makes_quicker_or_slower() {
        let line = "mitigations=auto root=/dev/vda1 nohz_full=1 password=secret nosmt quiet -- --idle=no";
        assert_eq!(of_speed(line), "mitigations=auto nohz_full=1 nosmt");
    }

    #[test]
    fn the_choice_is_what_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen("never"), "never");
    }
}
