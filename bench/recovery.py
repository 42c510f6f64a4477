#!/usr/bin/env python3
"""How long a start with a store takes, beside reading the same segments from the same disk.

Usage: recovery.py [BIN-FOLDER] [--folder FOLDER] [--rounds N] [--bytes BYTES] [--out FILE]

BIN-FOLDER has ring9 and r9: `cargo build --release --workspace` fills target/release. FOLDER is on the disk that is measured; it must take O_DIRECT. Two stores are made
there: BYTES in ten files, and BYTES in files of 4 KiB. In each round every store is read by this script alone, all of its segments with O_DIRECT, as a start reads
them, and then by a start of ring9, whose own line says how long that took: locking, reading, verifying, building the tree, and making segments to go on in.
Memory is populated before that. The medians of the rounds are printed, with the least and the greatest in brackets.
"""
import argparse
import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/e2e"))
from server import Server

PAGE = 4096
# Small files of one directory.
FILES = 512
READ = 64 << 20


class Bench:
    def __init__(self, flags: argparse.Namespace, folder: str):
        self.flags, self.folder, self.socket = flags, folder, f"unix:{folder}/socket"

    def start(self, store: str) -> Server:
        inodes = str(2 * self.flags.bytes // PAGE + 1000)
        memory = f"{self.flags.bytes * 2 >> 20}MiB"
        words = ["--memory", memory, "--max-inodes", inodes, "--store", store, "--sync", "fsync", "--listen", self.socket]
        server = Server(os.path.join(self.flags.bin, "ring9"), *words)
        if not server.address:
            raise SystemExit(server.ended()[1])
        return server

    def make(self, name: str, sizes: list[int]) -> str:
        """A store with files of these sizes."""
        source, store = os.path.join(self.folder, "source"), os.path.join(self.folder, name)
        for number, size in enumerate(sizes):
            if number % FILES == 0:
                os.makedirs(os.path.join(source, str(number // FILES)))
            with open(os.path.join(source, str(number // FILES), str(number)), "wb") as file:
                file.write(os.urandom(size))
        server = self.start(store)
        subprocess.run([os.path.join(self.flags.bin, "r9"), "--addr", self.socket, "put", "-r", source, "/source"], check=True)
        server.end()
        shutil.rmtree(source)
        return store

    def recover(self, store: str) -> tuple[int, float]:
        """Bytes of the log that a start has read, and its seconds."""
        code, err = self.start(store).end()
        found = re.search(r"batches of (\d+) bytes, ([\d.]+) s$", err, re.MULTILINE)
        if code != 0 or not found:
            raise SystemExit(f"the start of {store} has ended with {code}\n{err}")
        return int(found[1]), float(found[2])


def read(store: str) -> tuple[int, float]:
    """Bytes of all segments, and the seconds that the disk needs for them."""
    memory, total = mmap.mmap(-1, READ), 0
    began = time.monotonic()
    for name in sorted(os.listdir(store)):
        if name.startswith("seg-"):
            file = os.open(os.path.join(store, name), os.O_RDONLY | os.O_DIRECT)
            at = 0
            while n := os.preadv(file, [memory], at):
                at += n
            os.close(file)
            total += at
    return total, time.monotonic() - began


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f}-{max(values):,.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", nargs="?", default="target/release", metavar="BIN-FOLDER")
    parser.add_argument("--folder", default=".", help="on the disk that is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1 << 30, help="bytes of the files of each store")
    parser.add_argument("--out", help="leave what is printed in this file, too")
    flags = parser.parse_args()
    lines = []
    say = lambda line: (lines.append(line), print(line, flush=True))
    with tempfile.TemporaryDirectory(prefix="ring9-recovery-", dir=flags.folder) as folder:
        bench = Bench(flags, os.path.abspath(folder))
        count = flags.bytes // PAGE
        stores = {"ten files": bench.make("large", [flags.bytes // 10] * 10), f"{count:,} files of 4 KiB": bench.make("small", [PAGE] * count)}
        results = {name: [] for name in stores}
        for _ in range(flags.rounds):
            for name, store in stores.items():
                (all_bytes, disk), (log_bytes, start) = read(store), bench.recover(store)
                results[name].append((disk, start, all_bytes / disk / 1e6, all_bytes / start / 1e6, disk / start, log_bytes))
        say("| | log, MB | disk alone, s | start, s | disk alone, MB/s | start, MB/s | of the disk alone |\n|---|---|---|---|---|---|---|")
        for name, rounds in results.items():
            *numbers, log_bytes = zip(*rounds)
            say(f"| {name} | {log_bytes[0] / 1e6:,.0f} | {' | '.join(map(shown, numbers))} |")
    if flags.out:
        with open(flags.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return 0


sys.exit(main())
