#!/usr/bin/env python3
"""How many bytes the server touches: instructions per payload byte, by callgrind, with the client in another process.

Each row is the slope between two sizes of the same request, so that what a request costs by itself falls out. Also compares the server's own counters.
Usage: copies.py PATH-TO-RING9        (needs valgrind)
"""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
from p9 import P9, stats

ROUNDS = 40
WINDOW = 16384 - 23
SMALL, LARGE = 65536, 1048576 - 24


class Server:
    """A ring9 under callgrind."""

    def __enter__(self) -> "Server":
        self.out = tempfile.NamedTemporaryFile()
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out.name}", sys.argv[1]]
        # The load comes by TCP; the figures are to be had by a unix socket.
        self.folder = tempfile.TemporaryDirectory()
        command += ["--trust", "all", "--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{self.folder.name}/sock", "--memory", "64MiB"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address, self.figures = self.process.stdout.readline().split()[2:]
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def instructions(self) -> int:
        self.__exit__()
        return int(re.search(r"^(?:totals|summary): (\d+)", open(self.out.name).read(), re.M)[1])


def measure(size: int, work) -> tuple[int, dict[str, int]]:
    """Instructions of a server that does `work` with requests of `size` bytes, and what its counters say."""
    with Server() as server:
        client = P9(server.address)
        client.walk(0, 1)
        client.create(1, b"file")
        # The first payload after a while may come through shared buffers (docs/decisions/09-shared-buffers.md): see cold().
        client.walk(0, 2)
        client.create(2, b"other")
        client.write(2, 0, bytes(SMALL))
        before = stats(server.figures)
        work(client, size)
        counted = {name: value - before.get(name, 0) for name, value in stats(server.figures).items()}
        return server.instructions(), counted


def cold(size: int) -> float:
    """The share of a first payload that is copied."""
    with Server() as server:
        client = P9(server.address)
        client.walk(0, 1)
        client.create(1, b"file")
        client.write(1, 0, bytes(size))
        counted = stats(server.figures)
        return counted["copied_window_bytes"] / (counted["landed_bytes"] + counted["copied_window_bytes"])


def reads(client: P9, size: int) -> None:
    # The same file whatever the size that is read.
    for at in range(0, 2 << 20, 1 << 19):
        client.write(1, at, os.urandom(1 << 19))
    for n in range(ROUNDS):
        assert len(client.read(1, n * 4097, size)) == size


def appends(alignment: int):
    def work(client: P9, size: int) -> None:
        data = os.urandom(size)
        for n in range(ROUNDS):
            client.write(1, alignment + n * size, data)
    return work


def overwrites(alignment: int):
    def work(client: P9, size: int) -> None:
        data = os.urandom(1 << 20)
        for at in range(0, 4 << 20, 1 << 20):
            client.write(1, at, data[: 1 << 19])
            client.write(1, at + (1 << 19), data[1 << 19 :])
        for n in range(ROUNDS):
            client.write(1, alignment + n % 3 * 65536, data[:size])
    return work


def main() -> int:
    failed = 0
    print(f"{'request':<34} {'instructions/byte':>18} {'limit':>7} {'window share 64 KiB, 1 MiB':>28}")
    cases = [("read, any alignment", reads, True)]
    cases += [(f"append at {alignment} mod 65536", appends(alignment), True) for alignment in (0, 1, 4097, 32779)]
    cases += [(f"overwrite at {alignment} mod 65536", overwrites(alignment), alignment == 0) for alignment in (0, 4097)]
    for name, work, gated in cases:
        (low, counted_low), (high, counted_high) = measure(SMALL, work), measure(LARGE, work)
        slope = (high - low) / ROUNDS / (LARGE - SMALL)
        shares = ""
        ok = slope <= 0.02
        if work is not reads:
            share = [counted["copied_window_bytes"] / (counted["landed_bytes"] + counted["copied_window_bytes"]) for counted in (counted_low, counted_high)]
            shares = f"{share[0]:>20.2%} {share[1]:.2%}"
            ok = ok and share[0] <= 0.25 and share[1] <= 0.02 if name.startswith("append") else ok
            expected = ROUNDS * WINDOW
            if name.startswith("append") and counted_high["copied_window_bytes"] != expected:
                print(f"the counter says {counted_high['copied_window_bytes']} bytes copied from windows, not {expected}")
                ok = False
        elif counted_high["gathered_bytes"] < ROUNDS * LARGE:
            print("the counters do not show what was read")
            ok = False
        print(f"{name:<34} {slope:>18.4f} {0.02 if gated else '-':>7} {shares:>28} {'ok' if ok else 'MISS' if gated else ''}")
        failed += gated and not ok
    print(f"{'first write of a quiet client':<34} {'':>18} {'-':>7} {cold(SMALL):>20.2%} {cold(LARGE):.2%}")
    return failed


sys.exit(main())
