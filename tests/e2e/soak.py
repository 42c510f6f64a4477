#!/usr/bin/env python3
"""A crowd that stays, hostile clients of six kinds that come and go (hostile.py), and an honest one beside them, for as long as you like: nothing may grow, nobody may be starved.

Quiet windows alternate with windows of attack: first of each kind alone, then of all six at once. Each attack has a line: the honest client's response times, p50 and p99, quiet and under attack; what is
held while it lasts, and the memory when it is over and all of it has gone. Fails if the honest client is refused once or slows down, if memory passes the bound that the server computed, if memory, descriptors,
slots, fids or pins grow with the turns of hostile clients, if something is left after any attack, if the server has panicked or is another process than at the start.
How many times its quiet p99 the honest client has under attack is printed; with --judge it fails above 2 where the machine was still, and if it hardly ever was. Where there are two cpus the server has one, all clients the other, and hostile ones give way to the honest one (SCHED_IDLE): it is measured who is in whose way in the server, not how
clients share a cpu. With --beside the honest client shares the server's.

Usage: soak.py PATH-TO-RING9 [--seconds N] [--connections N] [--pause MS] [--beside] [--judge]
"""
import argparse
import gc
import os
import resource
import socket
import statistics
import struct
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile import KINDS, Attacker
from p9 import P9, stats, text
from watched import Server

MARGIN = 1000  # connections that are allowed beyond the crowd
SAMPLES = 2000  # of a window: twenty above its p99
CONNECTION = 4 << 10  # bytes of one, with two lists of views
FOUND = 4 << 20  # bytes that nobody counts, beyond those of the start: what the allocator keeps
PACE = 0.0002  # of the honest client, in seconds
ALONE = 0.3  # of the time is for each kind alone
PAIRS = 10  # of a quiet window and one of attack, at least
LEFT = ("files", "slots", "pins", "orphaned", "granted")  # after an attack: none more than before it
# When, what, and by how much it may grow in all windows, and more for 1,000 turns of hostile clients.
GROWTH = [("after", "memory", 256 << 10, 256), ("during", "files", 20, 0), ("during", "slots", 20, 0), ("during", "pins", 200, 0)]
STILL = 4.0  # quiet p99 to quiet p50, above which others are at work on this machine
JUDGES = 5  # windows without them that say whether the promise is kept
RATIO = 2.0  # of p99 under attack to quiet p99: the promise
passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail != '' else ''}", flush=True)


class Window:
    """Response times of the honest client for so many seconds, and longer where there would be too few."""

    def __init__(self, client: P9, seconds: float):
        times, start = [], time.monotonic()
        while (now := time.monotonic() - start) < seconds or len(times) < SAMPLES and now < 5 * seconds:
            asked = time.perf_counter()
            data = client.read(1, 0, 4096)
            times.append((time.perf_counter() - asked) * 1e6)
            if data != b"x" * 4096:
                raise ValueError("the honest client got other bytes than it wrote")
            time.sleep(PACE)
        times.sort()
        self.samples, self.p50, self.p99 = len(times), statistics.median(times), times[len(times) * 99 // 100]


class Pair:
    """A quiet window, then one under attack, and what the server held then and after it."""

    def __init__(self, server: Server, client: P9, attackers: list[Attacker], seconds: float, start: dict[str, int]):
        self.quiet = Window(client, seconds)
        before = sum(one.turns for one in attackers)
        for one in attackers:
            one.start()
        self.attack = Window(client, seconds)
        self.during = server.held()
        for one in attackers:
            one.rest()
        self.turns = sum(one.turns for one in attackers) - before
        self.after = server.settled(start)

    def ratio(self, what: str) -> float:
        return getattr(self.attack, what) / getattr(self.quiet, what)

    def show(self, name: str) -> None:
        q, a, d = self.quiet, self.attack, self.during
        times = f"{q.p50:4.0f} {a.p50:5.0f} {self.ratio('p50'):6.2f} {q.p99:6.0f} {a.p99:5.0f} {self.ratio('p99'):6.2f}"
        held = f"{d['files']:6} {d['slots']:6} {d['pins']:5} {d['orphaned'] >> 10:9} {d['granted'] >> 10:8} {d['used'] >> 10:7} {d['evicted']:7} {d['refused']:7}"
        print(f"     {name:8} {self.turns:6} {times} {held} {self.after['memory'] >> 10:7}", flush=True)


HEADER = "     attack    turns  p50 under  ratio    p99 under  ratio  files  slots  pins orphanedK grantedK   usedK evicted refused memoryK"


def slope(points: list[tuple[float, float]]) -> float:
    """Of the line through them, by Theil and Sen: the median of the slopes of all pairs, which single points do not bend."""
    slopes = [(y2 - y1) / (x2 - x1) for at, (x1, y1) in enumerate(points) for x2, y2 in points[at + 1 :] if x2 > x1]
    return statistics.median(slopes) if slopes else 0.0


def growth(pairs: list[Pair], when: str, what: str) -> float:
    """By how much more is held for each turn of hostile clients: the lesser of the slopes of both halves, since what leaks does so in both, and a table that finds its size is a step in one."""
    points, turns = [], 0
    for pair in pairs:
        turns += pair.turns
        points.append((turns, getattr(pair, when)[what]))
    half = len(points) // 2
    return min(slope(points[:half]), slope(points[half:]))


def judge_growth(pairs: list[Pair]) -> None:
    pairs = pairs[len(pairs) // 4 :]  # what comes late for the first time has come
    turns = sum(pair.turns for pair in pairs[1:])
    for when, what, allowed, each in GROWTH:
        grows = growth(pairs, when, what)
        check(f"{what} {when} attacks: no growth", grows * turns <= allowed + each * turns / 1000, f"by {grows * turns:.0f} in {turns} turns, {grows * 1000:.2f} for 1,000; {allowed} and {each} for 1,000 are allowed")


def judge_times(alone: list[Pair], pairs: list[Pair], judge: bool) -> None:
    third = max(len(pairs) // 3, 1)
    slower = statistics.median(pair.attack.p50 for pair in pairs[-third:]) / statistics.median(pair.attack.p50 for pair in pairs[:third])
    check("the honest client does not slow down", slower <= 4, f"its p50 under attack is {slower:.2f} of what it was at first")
    ratios = sorted(pair.ratio("p99") for pair in pairs)
    spread = f"{ratios[len(ratios) // 4]:.2f} to {ratios[len(ratios) * 3 // 4]:.2f} in half of {len(ratios)} windows"
    quiet, attack = ({what: statistics.median(getattr(window, what) for window in windows) for what in ("p50", "p99")} for windows in ([pair.quiet for pair in pairs], [pair.attack for pair in pairs]))
    # What others do on this machine is in both windows, and draws their ratio towards 1.
    still = [pair.ratio("p99") for pair in pairs if pair.quiet.p99 <= STILL * pair.quiet.p50]
    figure = statistics.median(still) if still else 0.0
    print(f"soak: honest client, quiet and under attack: p50 {quiet['p50']:.0f} and {attack['p50']:.0f} us, p99 {quiet['p99']:.0f} and {attack['p99']:.0f} us; ratio of p99 {statistics.median(ratios):.2f} ({spread}), {figure:.2f} in the {len(still)} where the machine was still")
    if judge:
        few = min(window.samples for pair in alone + pairs for window in (pair.quiet, pair.attack))
        check(f"each window has {SAMPLES} samples", few >= SAMPLES, few)
        check(f"the machine is still in {JUDGES} windows, to judge by", len(still) >= JUDGES, f"{len(still)} of {len(pairs)}")
        check(f"p99 under attack is at most {RATIO:.0f} times the quiet one", 0 < figure <= RATIO, f"{figure:.2f} in those")


def judge_held(server: Server, start: dict[str, int], pairs: list[Pair], bound: int) -> None:
    peak = max(server.status("status", "VmHWM"), *(pair.during["memory"] for pair in pairs))
    check("memory stays below the bound", peak <= bound, f"{peak >> 20} of {bound >> 20} MiB at most")
    more = lambda pair, what: pair.during[what] - start[what]
    found = max(more(pair, "memory") - more(pair, "counted") - max(more(pair, "slots"), 0) * CONNECTION for pair in pairs)
    check("what is counted is what the process takes", found <= FOUND, f"{found >> 10} KiB at most are found and not counted")
    most = max(pair.during["slots"] for pair in pairs)
    check("nobody is refused a slot", not any(pair.after["refused"] for pair in pairs), f"{most} of {server.slots} at most")
    left = [{what: pair.after[what] - start[what] for what in LEFT if pair.after[what] > start[what]} for pair in pairs]
    check("nothing is left after any attack", not any(left), next(filter(None, left), ""))


def judge_process(server: Server) -> None:
    said = server.said()
    panics = [line for line in said if "panicked" in line or "RUST_BACKTRACE" in line]
    check("the server did not panic", not panics, f"{len(said)} lines on stderr")
    if panics or server.process.poll() is not None:
        print("\n".join(f"     {line}" for line in said[-20:]))
    code = server.process.poll()
    try:
        who = server.answers_as() if code is None else f"ended with {code}"
    except (OSError, EOFError) as error:
        who = repr(error)
    check("and is the process that was started", who == server.process.pid, "" if who == server.process.pid else who)


def soak(server: Server, attackers: list[Attacker], count: int, seconds: float, judge: bool) -> None:
    client = P9(server.address)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
    client.walk(0, 1)
    client.create(1, b"file")
    client.write(1, 0, b"x" * 4096)
    client.walk(0, 2)
    client.create(2, b"big")
    client.write(2, 0, bytes(1_000_000))
    server.warm()
    crowd = []
    for _ in range(count):
        one = P9(server.address)
        one.walk(0, 1, b"file")
        crowd.append(one)
    # Whatever there is by now stays: nobody looks for garbage while the honest client waits.
    gc.collect()
    gc.disable()
    time.sleep(0.5)
    start, fids = server.held(), server.fids()
    print(f"     {count} idle connections, {start['files']} descriptors, {start['slots']} of {server.slots} slots, {fids} fids, {start['memory'] >> 10} KiB; times in us")
    print(HEADER)
    until = time.monotonic() + seconds
    length = min(max(seconds * (1 - ALONE) / (2 * PAIRS), 0.5), 1)
    alone, pairs = [], []
    for one in attackers:
        alone.append(Pair(server, client, [one], seconds * ALONE / (2 * len(attackers)), start))
        alone[-1].show(one.name)
    while len(pairs) < PAIRS or time.monotonic() < until:
        pairs.append(Pair(server, client, attackers, length, start))
        pairs[-1].show("all six")
    did = {one.name: one.turns for one in attackers}
    check("every kind of hostile client had its turns", all(did.values()), did)
    judge_times(alone, pairs, judge)
    judge_growth(pairs)
    judge_held(server, start, alone + pairs, stats(server.address)["memory_bound_bytes"])
    left = server.fids() - fids
    check("no fids either", left <= 0, left)
    for number in range(50):
        try:
            client.call(76, struct.pack("<I", 0) + text(b"litter.%d" % number) + struct.pack("<I", 0))
        except OSError:
            pass
    used = server.held()["used"] - start["used"]
    # "big" may have been written in part, never more than it is.
    check("and what they wrote is gone with their files", used <= 4 << 20, f"{used >> 10} KiB")


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("program")
    flags.add_argument("--seconds", type=float, default=600)
    flags.add_argument("--connections", type=int, default=10_000)
    flags.add_argument("--pause", type=float, default=0, help="of a hostile client between two turns, in ms")
    flags.add_argument("--beside", action="store_true", help="the honest client shares the server's cpu, not that of the hostile ones")
    flags.add_argument("--judge", action="store_true", help="p99 under attack is a matter of pass or fail")
    flags = flags.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(flags.connections, hard - MARGIN - 500)
    if count < 500:
        sys.exit(f"a limit of {hard} open files is too low for any crowd: {MARGIN + 1000} are the least (ulimit -n)")
    cpus = sorted(os.sched_getaffinity(0))
    served, other = (cpus[-1], cpus[0]) if len(cpus) > 1 else (None, None)
    honest = served if flags.beside else other
    print(f"     server on cpu {served}, honest client on cpu {honest}, hostile clients on cpu {other}" if len(cpus) > 1 else "     one cpu for all: the times are also of how they share it")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(flags.program, folder, count + MARGIN, served)
        attackers = [Attacker(kind, server.address, seed, other, flags.pause / 1000) for seed, kind in enumerate(KINDS)]
        if honest is not None:
            os.sched_setaffinity(0, {honest})
        try:
            soak(server, attackers, count, flags.seconds, flags.judge)
        except (OSError, EOFError, ValueError) as error:
            check("it runs to its end", False, repr(error))
        finally:
            for one in attackers:
                one.end()
            judge_process(server)
            code = server.end()
            check("it ends well", code == 0, code)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
