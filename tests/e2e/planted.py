#!/usr/bin/env python3
"""Switches on the planted bugs of tests/planted/*.toml, one at a time, and asks which test finds each.

Usage: planted.py ROOT [--only a,b] [--quick] [--without sim,hostile] [--record] [--check]

Writes an instrumented copy of the repository into target/planted/tree (plant.py has its form) and builds its tests once. A checker is a test binary of the
root package, or the simulated kernel. First all checkers run with no bug switched on: they must pass. Then for each bug they run until one fails; a hang is a
failure. The first is the plan that tools/sim/seeds.txt has for that bug, if there is one. Then come the test or seed that has found the bug before
(tests/planted/finders.txt, which `--record` writes anew), the tests of the room that the bug is in, the simulated kernel, and then the others from the quickest
to the slowest.
A few bugs that are all in that file want only its checkers; the others run for those that escape them. Exits with 1 if a bug escapes.

`--check` only asks whether each bug's text is where the bug says, and builds nothing.
"""

import argparse
import concurrent.futures
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time

import plant

# One or two of each room, and none that is found late.
QUICK = [
    "trailing-bytes-accepted",  # wire
    "tag-in-flight-accepted",  # session
    "partial-walk-moves-newfid",  # session
    "rename-into-own-subtree",  # fs/mem
    "sealed-lowered-at-truncate",  # fs/mem
    "copy-on-write-skipped",  # arena
    "short-send-taken-as-whole",  # uring
    "freed-in-flight",  # uring
]
# What checks no behaviour of the server, or checks it by numbers that other work on the machine changes.
NO_CHECKERS = {"rooms"}
# Every submission of two seeds fails, one at a time.
SWEEP = ["--sweep", "1..3", "--steps", "300"]
AT_ONCE = 2
# A checker that takes so many times as long as with no bug hangs; but so many seconds are always allowed.
SLOWER, SECONDS_MIN = 4, 15
SECONDS_MAX = 300
# Of memory in use. Tests reserve far more, since an arena is never unmapped.
MEMORY_BYTES_MAX = 3 << 30
SIM = ["--seeds", "1..201", "--first", "--jobs", "1"]
# Checkers that are told a seed, not a test.
SIMULATED = {"sim", "relays", "stores"}
FINDERS = "tests/planted/finders.txt"
FINDERS_HEAD = """# What has found each planted bug: its name, the checker, and the test or the seed. `python3 tests/e2e/planted.py . --record` writes this file.
"""


# Test binaries that are about one room.
OF_ROOMS = {"relay": "relay", "store": "store", "uring": "completions"}


def plans(tree):
    """Flags of the simulated kernel that show a bug, by its name."""
    return dict(re.findall(r"^# ([a-z-]+)\n(--seed .*)$", open(os.path.join(tree, "tools/sim/seeds.txt")).read(), re.M))


def cargo(tree, target, *words):
    command = ["cargo", *words, "--target-dir", target]
    return subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(tree, target):
    """The checkers by name, each with its command."""
    checkers = {}
    for line in cargo(tree, target, "test", "--no-run", "--message-format", "json").splitlines():
        made = json.loads(line)
        if made.get("executable") and made.get("profile", {}).get("test"):
            name = "lib" if "lib" in made["target"]["kind"] else made["target"]["name"]
            if name not in NO_CHECKERS:
                checkers[name] = [made["executable"]]
    cargo(tree, target, "build", "--package", "ring9-sim", "--profile", "sim")
    sim = os.path.join(target, "sim/ring9-sim")
    checkers["sim"] = [sim, *SIM]
    checkers["relays"] = [sim, "--relay", *SIM]
    checkers["stores"] = [sim, "--store", *SIM]
    checkers["sweep"] = [sim, *SWEEP]
    return checkers


running = set()
lock = threading.Lock()


def run(tree, command, bug, seconds_max):
    """How a checker fails, in a few words, or None; and how long it took."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RING9_")}
    environment["RUST_BACKTRACE"] = "0"
    if bug:
        environment["RING9_PLANTED"] = bug

    def limits():
        # A bug may leave a dump of all its memory.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    start = time.monotonic()
    process = subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=limits,
    )
    with lock:
        running.add(process.pid)
    output = None
    try:
        how = "hang"
        while time.monotonic() < start + seconds_max and output is None:
            try:
                output = process.communicate(timeout=0.5)[0].decode(errors="replace")
                how = None if process.returncode == 0 else symptom(output, process.returncode)
            except subprocess.TimeoutExpired:
                # A bug may take all the memory of the machine.
                if memory_bytes(process.pid) > MEMORY_BYTES_MAX:
                    how = "takes memory without end"
                    break
    finally:
        with lock:
            running.discard(process.pid)
        try:
            # The session that it began, and nothing else.
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()
    return how, time.monotonic() - start


def memory_bytes(pid):
    try:
        resident = open(f"/proc/{pid}/statm").read().split()[1]
    except OSError:
        return 0
    return int(resident) * resource.getpagesize()


def symptom(output, code):
    """The test that failed and what it said; without one, how the process ended."""
    panic = re.search(r"^thread '([^']*)'[^\n]* panicked at ([^\n]*):\n([^\n]*)(?:\n([^\n]*))?", output, re.M)
    if panic:
        test, place, message, more = panic.groups()
        # A list of what went wrong begins with an empty line.
        message = message.strip() or (more or "").strip()
        return f"{test.removeprefix('tests::')}: {message or place}"
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    found = re.search(r"^seed \d+: .*$", output, re.M)
    if found:
        return found[0]
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"


def finders(root):
    """What has found each bug before: the checker, and the test or seed, which is empty if that is not known."""
    try:
        lines = open(os.path.join(root, FINDERS)).read().splitlines()
    except FileNotFoundError:
        return {}
    words = (line.split(" ", 2) for line in lines if not line.startswith("#"))
    return {bug: (checker, *part, "")[:2] for bug, checker, *part in words}


def record(root, found):
    """Writes down what has found each bug."""
    lines = [" ".join(filter(None, (bug, *finder))) for bug, finder in sorted(found.items())]
    with open(os.path.join(root, FINDERS), "w") as file:
        file.write(FINDERS_HEAD + "".join(f"{line}\n" for line in lines))


def narrowed(checker, command, part):
    """The part of a checker that has found a bug before."""
    if not part:
        return command
    if checker in SIMULATED:
        seed = int(part)
        return [f"{seed}..{seed + 1}" if word == SIM[1] else word for word in command]
    return [*command, part]


def part_of(checker, how):
    """The test or seed that a symptom names."""
    if checker in SIMULATED:
        seed = re.match(r"seed (\d+): ", how)
        return seed[1] if seed else ""
    # Other threads than those of tests have no path.
    test = re.match(r"((?:\w+::)*[a-z_]\w*): ", how)
    return test[1] if test and test[1] != "main" else ""


def near(file, checkers):
    """The tests of the room that a file is in: those among the sources, and the test binary that is about it."""
    rooms = os.path.dirname(file).split("/")
    if rooms[0] != "src" or len(rooms) < 2:
        return []
    found = {"lib": [*checkers["lib"], "::".join(rooms[1:3]) + "::"]} if "lib" in checkers else {}
    binary = OF_ROOMS.get(rooms[1])
    if binary in checkers:
        found[binary] = checkers[binary]
    return list(found.items())


def pass_with_no_bug(tree, checkers, seconds):
    """Runs checkers with no bug switched on, and notes how long each takes. Returns those that fail."""
    wrong = []
    for name, command in checkers.items():
        how, seconds[name] = run(tree, command, None, SECONDS_MAX)
        if how:
            wrong.append(name)
        print(f"{name:<12} {seconds[name]:6.1f} s  {how or 'passes with no bug'}", flush=True)
    return wrong


def hunt(tree, order, limits, bug):
    """The checker that finds the bug, how, and the seconds until then."""
    start = time.monotonic()
    for name, command in order:
        how, _ = run(tree, command, bug, limits[name])
        if how:
            return name, how, time.monotonic() - start
    return None, "", time.monotonic() - start


def end_children(*_):
    with lock:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)
    os._exit(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("--only", help="names with commas between")
    parser.add_argument("--quick", action="store_true", help="a choice over all rooms")
    parser.add_argument("--without", default="", help="checkers that are not to run")
    parser.add_argument("--record", action="store_true", help=f"write {FINDERS} anew, for the bugs that are looked for")
    parser.add_argument("--check", action="store_true", help="only look for the bugs' texts")
    options = parser.parse_args()
    root = os.path.abspath(options.root)
    tree = os.path.join(root, "target/planted/tree")
    try:
        if options.check:
            bugs = plant.read(root)
            print(f"{len(plant.edits(root, bugs))} texts of {len(bugs)} planted bugs are where they should be")
            sys.exit(0)
        bugs = [(bug["name"], bug["row"], bug["what"], bug["file"]) for bug in plant.copy(root, tree)]
    except plant.Wrong as wrong:
        sys.exit(str(wrong))
    wanted = QUICK if options.quick else options.only.split(",") if options.only else [bug for bug, *_ in bugs]
    known = {bug for bug, *_ in bugs}
    unknown = set(wanted) - known
    if unknown:
        sys.exit(f"no such planted bug: {', '.join(sorted(unknown))}")
    bugs = [bug for bug in bugs if bug[0] in wanted]
    signal.signal(signal.SIGTERM, end_children)
    signal.signal(signal.SIGINT, end_children)

    start = time.monotonic()
    checkers = build(tree, os.path.join(root, "target/planted/target"))
    print(f"built in {time.monotonic() - start:.0f} s")
    for name in options.without.split(","):
        checkers.pop(name, None)
    first = {bug: near(file, checkers) for bug, _, _, file in bugs}
    found_by = finders(root)
    for bug, (name, part) in found_by.items():
        if name in checkers and bug in first:
            first[bug].insert(0, (name, narrowed(name, checkers[name], part)))
    for bug, flags in plans(tree).items():
        if "sim" in checkers and bug in first:
            first[bug].insert(0, ("plan", [checkers["sim"][0], *flags.split()]))

    # A few bugs that were found before want the checkers that have found them. The others run only if that is not enough.
    wants = {found_by[bug][0] for bug in wanted if bug in found_by}
    is_known = bool(options.quick or options.only) and all(bug in found_by for bug in wanted)
    parts = [wants, set(checkers) - wants] if is_known else [set(checkers)]
    caught, seconds = 0, {}
    for part in parts:
        part = {name: command for name, command in checkers.items() if name in part}
        wrong = pass_with_no_bug(tree, part, seconds)
        if wrong:
            print(f"these fail with no bug switched on: {', '.join(wrong)}")
            sys.exit(1)
        # The simulated kernel first: it is what the bugs of the ring are for.
        order = sorted(part.items(), key=lambda item: (item[0] != "sim", seconds[item[0]]))
        limits = {name: max(SECONDS_MIN, SLOWER * taken) for name, taken in seconds.items()}
        limits["plan"] = SECONDS_MIN
        look = lambda bug: hunt(tree, [one for one in first[bug[0]] if one[0] in limits] + order, limits, bug[0])
        print(f"\n{'bug':<32} {'for':<5} {'found by':<12} {'s':>6}  how")
        escaped = []
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for bug, (name, how, taken) in zip(bugs, pool.map(look, bugs)):
                if name:
                    caught += 1
                    if name != "plan":
                        found_by[bug[0]] = (name, part_of(name, how))
                    if options.record:
                        record(root, {bug: finder for bug, finder in found_by.items() if bug in known})
                else:
                    escaped.append(bug)
                print(f"{bug[0]:<32} {bug[1].split(':')[0]:<5} {name or 'NONE':<12} {taken:6.1f}  {how[:150]}", flush=True)
        if not escaped:
            break
        bugs = escaped
    for bug, _, what, _ in escaped:
        print(f"escaped: {bug}: {what}")
    print(f"{caught} of {len(wanted)} caught")
    sys.exit(1 if escaped else 0)


if __name__ == "__main__":
    main()
