#!/usr/bin/env python3
"""A crowd that stays, hostile clients of every kind that come and go, and an honest one beside them, for as long as you like: nothing may grow.

Prints a line for each tenth of the time: memory, descriptors, connections, pins, and the honest client's response times. Fails if memory passes the bound that the server computed, if anything has
grown from the second line to the last, if the honest client is refused once or slows down, or if something is left when all have gone.

Usage: soak.py PATH-TO-RING9 [--seconds N] [--connections N]
"""
import argparse
import multiprocessing
import os
import random
import re
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from p9 import P9, stats, text

LINES = 10
MEMORY = "128MiB"
passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail != '' else ''}", flush=True)


def reset(client: P9) -> None:
    """Closes so that the other end gets a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


# Each kind of hostile client: one turn of it. What the server refuses, or how it ends a connection, is its business.


def churn(address: str, dice: random.Random) -> None:
    client = P9(address)
    client.walk(0, 1, b"file")
    client.open(1)
    client.read(1, 0, 4096)
    reset(client) if dice.random() < 0.5 else client.socket.close()


def vanish(address: str, dice: random.Random) -> None:
    """Goes in the middle of a large write, of a small one, or of a head."""
    client = P9(address)
    client.walk(0, 1, b"big")
    client.open(1, 1)
    count = dice.choice([1000, 100_000, 1_000_000])
    message = struct.pack("<IBHIQI", 23 + count, 118, 1, 1, dice.randrange(1 << 20), count) + bytes(count)
    client.socket.settimeout(5)
    client.socket.sendall(message[: dice.randrange(1, len(message))])
    reset(client)


def hoard(address: str, dice: random.Random) -> None:
    """Asks for 64 MiB and takes a little of it."""
    client = P9(address)
    client.walk(0, 1, b"big")
    client.open(1)
    for tag in range(64):
        client.send(116, struct.pack("<IQI", 1, 0, 1_000_000), tag)
    for _ in range(10):
        client.socket.recv(1000)
        time.sleep(0.02)
    reset(client)


def babble(address: str, dice: random.Random) -> None:
    """Not 9P, or not quite."""
    client = P9(address)
    junk = dice.randbytes(dice.randrange(1, 5000))
    forms = [junk, struct.pack("<IBH", 0, 100, 1), struct.pack("<IBH", 1 << 30, 116, 1), struct.pack("<IBH", 7 + len(junk), dice.randrange(256), 1) + junk]
    client.socket.settimeout(0.05)
    try:
        client.socket.sendall(dice.choice(forms))
        client.socket.recv(1 << 16)
    except OSError:
        pass
    client.socket.close()


def drip(address: str, dice: random.Random) -> None:
    """A byte at a time, and a flush of what was never asked."""
    client = P9(address)
    message = struct.pack("<IBHH", 9, 108, 7, 3) + struct.pack("<IBHIIH", 17, 110, 8, 0, 5, 0)
    for at in range(len(message)):
        client.socket.sendall(message[at : at + 1])
        time.sleep(0.005)
    client.next()
    client.next()
    client.socket.close()


def litter(address: str, dice: random.Random) -> None:
    """Files made, written, cut, unlinked while open, and left behind."""
    client = P9(address)
    name = b"litter.%d" % dice.randrange(50)
    client.walk(0, 1)
    try:
        client.create(1, name)
    except OSError:
        client.walk(0, 2, name)
        client.open(2, 2)
        client.write(2, 0, bytes(dice.randrange(1, 200_000)))
        client.call(26, struct.pack("<IIIIIQQQQQ", 2, 8, 0, 0, 0, dice.randrange(1000), 0, 0, 0, 0))
        client.call(76, struct.pack("<I", 0) + text(name) + struct.pack("<I", 0))
        client.write(2, 0, bytes(300_000))
    else:
        client.write(1, 0, bytes(dice.randrange(1, 200_000)))
    client.socket.close()


KINDS = [churn, vanish, hoard, babble, drip, litter]


def hostile(kind, address: str, seed: int, until: float, turns) -> None:
    dice = random.Random(seed)
    os.nice(10)
    while time.monotonic() < until:
        try:
            kind(address, dice)
        except (OSError, EOFError):
            pass
        turns.value += 1
        time.sleep(0.002)


class Watch:
    def __init__(self, process: subprocess.Popen, address: str):
        self.pid, self.address = process.pid, address

    def memory(self) -> int:
        return int(re.search(r"Anonymous:\s+(\d+)", open(f"/proc/{self.pid}/smaps_rollup").read())[1]) * 1024

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self, now: dict[str, int]) -> int:
        return now["accepted"] - now["closed"] - now["refused"]


def honest(client: P9, until: float) -> list[float]:
    times = []
    while time.monotonic() < until:
        start = time.perf_counter()
        assert client.read(1, 0, 4096) == b"x" * 4096
        times.append((time.perf_counter() - start) * 1e6)
        time.sleep(0.001)
    return sorted(times)


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("program")
    flags.add_argument("--seconds", type=float, default=600)
    flags.add_argument("--connections", type=int, default=10_000)
    flags = flags.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(flags.connections, hard - 500)
    with tempfile.TemporaryDirectory() as folder:
        words = ["--memory", MEMORY, "--trust", "all", "--max-connections", str(count + 1000), "--listen", f"unix:{folder}/sock"]
        process = subprocess.Popen([flags.program, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = process.stdout.readline().split()[2]
        watch = Watch(process, address)
        client = P9(address)
        client.walk(0, 1)
        client.create(1, b"file")
        client.write(1, 0, b"x" * 4096)
        client.walk(0, 2)
        client.create(2, b"big")
        client.write(2, 0, bytes(1_000_000))
        crowd = []
        for _ in range(count):
            one = P9(address)
            one.walk(0, 1, b"file")
            crowd.append(one)
        start = stats(address)
        files, connections, bound = watch.files(), watch.connections(start), start["memory_bound_bytes"]
        quiet = honest(client, time.monotonic() + 2)
        print(f"     quiet, {count} connections: p50 {statistics.median(quiet):.0f} us, p99 {quiet[len(quiet) * 99 // 100]:.0f} us")
        until = time.monotonic() + flags.seconds
        turns = [multiprocessing.Value("L", 0) for _ in KINDS]
        attack = [multiprocessing.Process(target=hostile, args=(kind, address, seed, until, turns[seed])) for seed, kind in enumerate(KINDS)]
        for one in attack:
            one.start()
        lines = []
        for number in range(LINES):
            times = honest(client, until - flags.seconds * (LINES - 1 - number) / LINES)
            now = stats(address)
            line = {"memory": watch.memory(), "files": watch.files(), "connections": watch.connections(now), "pins": now["pins"], "p50": statistics.median(times), "p99": times[len(times) * 99 // 100]}
            lines.append(line)
            print(f"     {line['memory'] >> 10} KiB, {line['files']} descriptors, {line['connections']} connections, {line['pins']} pins; honest p50 {line['p50']:.0f} us, p99 {line['p99']:.0f} us", flush=True)
        for one in attack:
            one.join()
        did = {kind.__name__: each.value for kind, each in zip(KINDS, turns)}
        check("every kind of hostile client had its turns", all(each > 0 for each in did.values()), did)
        check("memory stays below the bound", max(line["memory"] for line in lines) <= bound, f"{max(line['memory'] for line in lines) >> 20} of {bound >> 20} MiB")
        # What hostile clients hold at a moment differs by their dice: by some grants, and some replies.
        grown = lines[-1]["memory"] - max(line["memory"] for line in lines[1:4])
        check("memory does not grow", grown <= 16 << 20, f"{grown >> 10} KiB")
        check("descriptors and connections do not grow", all(lines[-1][what] <= lines[1][what] + 50 for what in ("files", "connections")), (lines[1], lines[-1]))
        slower = statistics.median(line["p50"] for line in lines[-3:]) / statistics.median(line["p50"] for line in lines[1:4])
        check("the honest client does not slow down", slower <= 4, f"p50 by {slower:.2f}; under attack {statistics.median(line['p50'] for line in lines) / statistics.median(quiet):.2f} of quiet")
        for _ in range(200):
            now = stats(address)
            if watch.connections(now) == connections and watch.files() <= files and now["pins"] == 0:
                break
            time.sleep(0.1)
        left = {"connections": watch.connections(now) - connections, "files": watch.files() - files, "pins": now["pins"], "granted": now["arena_granted_bytes"], "orphaned": now["arena_orphaned_bytes"]}
        check("nothing is left of them", not any(left.values()), left)
        for number in range(50):
            try:
                client.call(76, struct.pack("<I", 0) + text(b"litter.%d" % number) + struct.pack("<I", 0))
            except OSError:
                pass
        used = stats(address)["arena_used_bytes"] - start["arena_used_bytes"]
        # "big" may have been written in part, never more than it is.
        check("and what they wrote is gone with their files", used <= 4 << 20, f"{used >> 10} KiB")
        del crowd
        process.terminate()
        check("it ends well", process.wait(60) == 0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
