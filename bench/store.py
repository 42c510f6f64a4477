#!/usr/bin/env python3
"""What durable writes cost: the disk alone, ring9 with a store, ring9 in memory, diod with Tfsync, and Redis with appendfsync always.

Usage: store.py [BIN-FOLDER] [--folder FOLDER] [--rounds N] [--seconds N] [--only LOAD,LOAD] [--server-cpu N] [--client-cpu N] [--out FILE]

BIN-FOLDER has ring9, r9, ring9-bench and examples/raw_disk: `cargo build --release --workspace --bins --examples` fills target/release.
FOLDER is on the disk that is measured; it must take O_DIRECT, so it is not on tmpfs. diod and redis-server are Debian's; without
one of them its rows are left out. In each round every program is measured once, in a random order, with files of its own
on the same file system. Server and load have a cpu each. All numbers are medians of the rounds, with the least and the
greatest in brackets. The load is a closed loop. Changes of a flush are from ctl/stats of ring9.
"""
import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/e2e"))
from server import Server

LARGE = 255 * 4096
# Bytes of one write to diod, whose messages have at most 64 KiB.
DIOD_BYTES = 15 * 4096
# Name, operation, bytes, connections, depth.
LOADS = [
    ("4 KiB writes, 1 connection", "write", 4096, 1, 1),
    ("4 KiB writes, 16 connections", "write", 4096, 16, 1),
    ("4 KiB writes, 64 connections", "write", 4096, 64, 1),
    ("files of 1 KiB: create, write, close, 1 connection", "put", 1024, 1, 1),
    ("files of 1 KiB: create, write, close, 64 connections", "put", 1024, 64, 1),
    ("1 MB writes, depth 4", "write", LARGE, 1, 4),
]
PROGRAMS = ["raw", "store", "memory", "diod", "redis"]
# Before a store is measured its log has gone round once: later segments are earlier ones that are used again.
WARM_BYTES = 700 << 20


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run(words: list[str], **options) -> str:
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stderr}")
    return done.stdout


class Bench:
    def __init__(self, flags: argparse.Namespace, folder: str):
        self.flags, self.folder = flags, folder
        self.pin = ["taskset", "-c", str(flags.server_cpu)]
        self.ring9 = {}
        self.port = {}
        self.servers = []
        # Operations each second that Redis had in the last round of a load, and changes of a flush in each round.
        self.rates = {}
        self.per_flush = []

    def program(self, name: str) -> str:
        return os.path.join(self.flags.bin, name)

    def start(self) -> None:
        """All servers, each with files of its own."""
        base = [*self.pin, self.program("ring9"), "--trust", "all", "--listen", "tcp:127.0.0.1:0", "--memory", "1GiB"]
        self.ctl = f"unix:{self.folder}/ctl"
        store = ["--store", os.path.join(self.folder, "store"), "--listen", self.ctl]
        for name, more in (("store", store), ("memory", [])):
            server = Server(*base, *more)
            if not server.address:
                raise SystemExit(f"ring9, {name}: {server.ended()[1]}")
            self.ring9[name] = server
        diod = shutil.which("diod", path=f"{os.environ['PATH']}:/usr/sbin")
        if diod:
            export = os.path.join(self.folder, "diod")
            os.mkdir(export)
            self.port["diod"] = free_port()
            words = [*self.pin, diod, "-f", "-n", "-N", "-L", "stderr", "-l", f"127.0.0.1:{self.port['diod']}", "-e", export]
            self.servers.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        redis = shutil.which("redis-server")
        if redis and shutil.which("redis-benchmark"):
            data = os.path.join(self.folder, "redis")
            os.mkdir(data)
            self.port["redis"] = free_port()
            words = [*self.pin, redis, "--port", str(self.port["redis"]), "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes"]
            words += ["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]
            self.servers.append(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        for port in self.port.values():
            self.wait_for(port)

    def wait_for(self, port: int) -> None:
        for _ in range(200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"nobody listens on port {port}")

    def stop(self) -> None:
        for server in self.ring9.values():
            server.end()
        for server in self.servers:
            server.terminate()
            server.wait(30)

    def programs(self) -> list[str]:
        return [name for name in PROGRAMS if name not in ("diod", "redis") or name in self.port]

    def load(self, target: list[str], op: str, size: int, connections: int, depth: int, seconds: float) -> tuple[float, float, float]:
        """Operations each second, the median time of one in us, and us of cpu of the server for each operation, if it is known."""
        with tempfile.TemporaryDirectory() as out:
            words = [self.program("ring9-bench"), "run", *target, "--op", op, "--size", str(size), "--connections", str(connections)]
            words += ["--depth", str(depth), "--duration", f"{seconds}s", "--files", "1", "--file-size", "16MiB"]
            run([*words, "--cpu", str(self.flags.client_cpu), "--out", out])
            with open(os.path.join(out, "result.json"), encoding="utf-8") as file:
                result = json.load(file)
        p50 = next(each["value"] for each in result["operations"][op]["service"]["percentiles"] if abs(each["p"] - 0.5) < 1e-9)
        cost = result.get("cost")
        cpu = cost["cpu_us"] if cost else 0.0
        return result["throughput"]["achieved_per_s"], p50 / 1e3, cpu

    def flushed(self) -> list[int]:
        """Batches of the store, and changes in them."""
        lines = run([self.program("r9"), "--addr", self.ctl, "--aname", "ctl", "cat", "stats"]).splitlines()
        stats = dict(line.split() for line in lines)
        return [int(stats[f"store_{name}"]) for name in ("batches", "operations")]

    def measure(self, name: str, op: str, size: int, connections: int, depth: int) -> tuple[float, float, float]:
        seconds = self.flags.seconds
        if name == "raw":
            aligned, count = max(size, 4096), connections * depth
            words = [*self.pin, self.program("examples/raw_disk"), self.folder, str(aligned), str(count), str(seconds)]
            syncs, p50, cpu = map(float, run(words).split())
            return syncs * count, p50, cpu / count
        if name in self.ring9:
            server = self.ring9[name]
            before = self.flushed()
            # taskset(1) becomes the server.
            target = ["--target", server.address, "--pid", str(server.process.pid)]
            done = self.load(target, op, size, connections, depth, seconds)
            batches, operations = (after - before for after, before in zip(self.flushed(), before))
            if name == "store":
                self.per_flush.append(operations / max(1, batches))
            return done
        if name == "diod":
            target = ["--target", f"tcp:127.0.0.1:{self.port['diod']}", "--aname", os.path.join(self.folder, "diod"), "--fsync"]
            parts = -(-size // DIOD_BYTES)
            per_second, p50, cpu = self.load(target, op, size // parts, connections, depth * parts, seconds)
            return per_second / parts, p50, cpu
        rate = self.rates.get((op, size, connections), 200.0)
        words = ["taskset", "-c", str(self.flags.client_cpu), "redis-benchmark", "-p", str(self.port["redis"]), "-t", "set", "-d", str(size)]
        words += ["-c", str(connections * depth), "-n", str(max(100, int(rate * seconds))), "-r", "100000", "--csv"]
        _, per_second, _, _, p50, *_ = run(words).splitlines()[-1].replace('"', "").split(",")
        self.rates[op, size, connections] = float(per_second)
        return float(per_second), float(p50) * 1e3, 0.0

    def warm(self) -> None:
        seconds = 0.0
        target = ["--target", self.ring9["store"].address]
        while seconds < 120 and not os.path.exists(os.path.join(self.folder, "store", f"seg-{WARM_BYTES // (64 << 20):016x}")):
            self.load(target, "write", LARGE, 1, 4, 2)
            seconds += 2


def shown(values: list[float]) -> str:
    digits = 0 if statistics.median(values) >= 100 else 2
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", nargs="?", default="target/release", metavar="BIN-FOLDER")
    parser.add_argument("--folder", default=".", help="on the disk that is measured")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", help="numbers of loads, from 0")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--client-cpu", type=int, default=1)
    parser.add_argument("--out", help="leave the numbers of all rounds in this file")
    flags = parser.parse_args()
    chosen = [LOADS[int(number)] for number in flags.only.split(",")] if flags.only else LOADS
    lines, everything = [], {}
    say = lambda line: (lines.append(line), print(line, flush=True))
    with tempfile.TemporaryDirectory(prefix="ring9-store-", dir=flags.folder) as folder:
        bench = Bench(flags, os.path.abspath(folder))
        try:
            bench.start()
            bench.warm()
            for load, *words in chosen:
                results = {name: [] for name in bench.programs()}
                bench.per_flush.clear()
                for _ in range(flags.rounds):
                    order = bench.programs()
                    random.shuffle(order)
                    for name in order:
                        results[name].append(bench.measure(name, *words))
                everything[load] = results
                say(f"\n{load}\n\n| | operations/s | MB/s | p50, us | cpu, us each | of raw |\n|---|---|---|---|---|---|")
                for name, values in results.items():
                    rates, medians, cpus = zip(*values)
                    megabytes = [rate * words[1] / 1e6 for rate in rates]
                    share = [rate / raw[0] for rate, raw in zip(rates, results["raw"])]
                    cpu = shown(cpus) if any(cpus) else ""
                    say(f"| {name} | {shown(rates)} | {shown(megabytes)} | {shown(medians)} | {cpu} | {shown(share)} |")
                # The files of a put are removed one by one, which are changes as well.
                if words[0] == "write":
                    say(f"\nChanges of a flush: {shown(bench.per_flush)}")
        finally:
            bench.stop()
    if flags.out:
        with open(flags.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return 0


sys.exit(main())
