#!/usr/bin/env python3
"""The work of every kind of message against the largest state that the limits allow, and the work of a turn, in instructions under callgrind.

Usage: work.py ROOT        (needs valgrind; builds bench/micro)

`ring9-work` sends each kind of message to a session whose tree has the most locked ranges and attributes of a file, and thousands of names, parents, blocks, fids and connections;
once at full size and once at a sixteenth. Fails where a message takes more than its bound, where it takes more at full size although its work must not depend on the size, and where a turn
takes more than the budget of a turn and one message.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

PARTS = 16
# Instructions of a message, at most.
MESSAGE = 80_000
# Those of a turn: 256 units of work of a thousand instructions or so, less what units are rough about.
TURN = 600_000
# Growth from a sixteenth of the state to all of it: a deeper search tree, and tables of another size.
GROWTH, SLACK = 1.5, 4_000
# What may take more, with the reason.
LARGE = {
    "Treaddir from the start": (1_500_000, "64 KiB of entries"),
    "Treaddir in the middle": (1_500_000, "64 KiB of entries"),
    "Tread of a large directory": (1_500_000, "64 KiB of records"),
    "Tread of latency": (300_000, "32 records"),
    "Txattrwalk of all names": (1_200_000, "64 KiB of names"),
    "Tlopen of a table": (9_000_000, "a histogram of 216 KiB, for each line of the table"),
    "Tlopen of tables": (9_000_000, "the same"),
    "Tlopen of stats": (500_000, "four passes over a histogram"),
    "Tread of connections": (1_000_000, "128 lines"),
    "Tlock of a range more": (150_000, "4,096 ranges"),
    "Tlock that gives one back": (150_000, "4,096 ranges"),
    "Tlock of all": (250_000, "4,096 ranges that go"),
    "Tclunk with locks": (250_000, "4,096 ranges that go"),
    "Tread of random": (1_500_000, "64 KiB of random bytes"),
}
# What looks at all ranges of a file, 4,096 at most, or at as many names as are there: it grows up to that, and no further.
GROWS = ("Tlock", "Tgetlock", "Tclunk with locks", "Txattrwalk of all names", "Tclunk of a list", "Treaddir", "Tread of a large directory", "Trenameat in a deep tree")


def build(root: str) -> str:
    target = os.path.join(root, "target/micro")
    subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "ring9-micro", "--bin", "ring9-work"], cwd=root, env={**os.environ, "CARGO_TARGET_DIR": target}, check=True)
    return os.path.join(target, "release/ring9-work")


def measure(program: str, parts: int) -> dict[str, int]:
    """Instructions by line of the program's output: each line names one call of the function that is counted."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--dump-before=ring9_work::measured*", "--dump-before=ring9_work::counted*", f"--callgrind-out-file={out}", program, str(parts)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        names = done.stdout.splitlines()
        counts = []
        for number in range(1, len(names) + 1):
            # The first count of each pair is that of what came before.
            text = open(f"{out}.{2 * number}").read()
            counts.append(int(re.search(r"^(?:totals|summary): (\d+)", text, re.M)[1]))
    return dict(zip(names, counts, strict=True))


def main() -> int:
    program = build(os.path.abspath(sys.argv[1]))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        small, large = pool.map(lambda parts: measure(program, parts), (PARTS, 1))
    failed = 0
    print(f"{'':<52} {'instructions':>12} {'at 1/' + str(PARTS):>10} {'at most':>10}")
    for line, count in large.items():
        what, name = line.split(" ", 1)
        most, _ = LARGE.get(name, (MESSAGE, ""))
        if what == "turn":
            most = TURN + most
        wrong = count > most
        if what == "message" and not name.startswith(GROWS):
            wrong |= count > small[line] * GROWTH + SLACK
        failed += wrong
        print(f"{line:<52} {count:>12} {small[line]:>10} {most:>10}{'   FAIL' if wrong else ''}")
    print(f"{len(large) - failed} passed, {failed} failed")
    return int(failed > 0)


sys.exit(main())
