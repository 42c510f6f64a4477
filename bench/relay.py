#!/usr/bin/env python3
"""What a relay costs: `ring9-bench compare` of a relay (examples/relay.rs) in front of ring9, and of that ring9 itself.

Usage: relay.py [BIN-FOLDER] [--cpu N] [--rounds N] [--duration TIME] [--socket unix|tcp] [--out FOLDER]

BIN-FOLDER has ring9, ring9-bench and examples/relay: `cargo build --release --workspace --bins --examples` fills target/release.
Server, relay and load share one cpu, so a ratio of 2 is what a second server on the way costs. Ends with 1 where a goal
of docs/relay.md is missed.
"""
import argparse
import os
import subprocess
import sys
import tempfile

# Depth, and what the relay has to keep to, as `ring9-bench compare --goal` has it.
LOADS = [(1, "p50 <= 2.2"), (16, "throughput >= 0.4")]


def start(words: list[str], cpu: int) -> tuple[subprocess.Popen, str]:
    """A server on this cpu, and where it listens."""
    process = subprocess.Popen(["taskset", "-c", str(cpu), *words], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline().split()
    if len(line) < 3 or line[1] != "ready":
        process.kill()
        raise SystemExit(f"{words[0]} does not start")
    return process, line[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="target/release", metavar="BIN-FOLDER")
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--duration", default="1s")
    parser.add_argument("--socket", choices=("unix", "tcp"), default="tcp")
    parser.add_argument("--out", help="leave compare.json and report.html of each depth in this folder")
    flags = parser.parse_args()
    program = lambda name: os.path.join(flags.folder, name)
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = lambda name: "tcp:127.0.0.1:0" if flags.socket == "tcp" else f"unix:{scratch}/{name}"
        servers = []
        try:
            server, direct = start([program("ring9"), "--memory", "256MiB", "--trust", "all", "--listen", place("ring9")], flags.cpu)
            servers.append(server)
            front, relayed = start([program("examples/relay"), "--trust", "all", "--listen", place("relay"), "--to", direct], flags.cpu)
            servers.append(front)
            for depth, goal in LOADS:
                print(f"4 KiB reads over {flags.socket}, depth {depth}, all on cpu {flags.cpu}", flush=True)
                words = [program("ring9-bench"), "compare", f"relay={relayed}", f"direct={direct}", "--cpu", str(flags.cpu)]
                words += ["--op", "read", "--size", "4096", "--depth", str(depth), "--goal", goal]
                words += ["--rounds", str(flags.rounds), "--duration", flags.duration]
                if flags.out:
                    words += ["--out", os.path.join(flags.out, f"depth-{depth}")]
                code = subprocess.run(words).returncode
                missed |= code == 1
                if code > 1:
                    return code
        finally:
            for process in reversed(servers):
                process.terminate()
                process.wait(30)
    return int(missed)


sys.exit(main())
