#!/usr/bin/env python3
"""Cost per entry of creating files in one directory and of listing it, in instructions of the server by callgrind, from 1,000 entries up.

Usage: big_directory.py PATH-TO-RING9 [--entries N]        (needs valgrind)
"""
import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from p9 import P9, text

BATCH = 200
# Ordered trees take a few more comparisons with every power of ten.
GROWTH_MAX = 1.15


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("<IBH", 7 + len(body), kind, 1) + body


def create(client: P9, count: int) -> None:
    for start in range(0, count, BATCH):
        requests = []
        for n in range(start, start + BATCH):
            requests.append(message(110, struct.pack("<IIH", 0, 1, 0)))
            requests.append(message(14, struct.pack("<I", 1) + text(b"%08d" % n) + struct.pack("<III", 0o101, 0o100644, 0)))
            requests.append(message(120, struct.pack("<I", 1)))
        client.socket.sendall(b"".join(requests))
        for _ in range(3 * BATCH):
            client.receive()


def entries(client: P9) -> int:
    """Lists the root; how many entries it has."""
    client.walk(0, 1)
    client.open(1)
    cookie = count = 0
    while True:
        body = client.call(40, struct.pack("<IQI", 1, cookie, 1 << 20))[1][4:]
        if not body:
            return count
        at = 0
        while at < len(body):
            cookie, _, length = struct.unpack_from("<QBH", body, at + 13)
            at, count = at + 24 + length, count + 1


def instructions(count: int, lists: bool) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out, path = os.path.join(folder, "out"), os.path.join(folder, "sock")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", program, "--trust", "all", "--listen", f"unix:{path}"]
        command += ["--memory", "16MiB", "--max-inodes", str(count + 1000)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        client = P9(server.stdout.readline().split()[2])
        create(client, count)
        if lists:
            assert entries(client) == count + 2
        # Killed, so that what ends is not counted.
        subprocess.run(["callgrind_control", "--dump", str(server.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        server.kill()
        server.wait()
        return int(re.search(r"^(?:totals|summary): (\d+)", open(f"{out}.1").read(), re.M)[1])


def main() -> int:
    base = instructions(0, False)
    print(f"{'entries':>9} {'per create':>11} {'per entry listed':>17}   instructions")
    rows = []
    count = 1000
    while count <= entries_max:
        created, listed = instructions(count, False), instructions(count, True)
        rows.append(((created - base) / count, (listed - created) / count))
        print(f"{count:>9} {rows[-1][0]:>11.0f} {rows[-1][1]:>17.0f}", flush=True)
        count *= 10
    worst = [last / first for first, last in zip(rows[0], rows[-1])]
    flat = max(worst) <= GROWTH_MAX
    print(f"{'ok  ' if flat else 'FAIL'} the last row is {worst[0]:.2f} and {worst[1]:.2f} times the first (at most {GROWTH_MAX})")
    return not flat


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("program")
    flags.add_argument("--entries", type=int, default=1_000_000)
    flags = flags.parse_args()
    program, entries_max = flags.program, flags.entries
    sys.exit(main())
