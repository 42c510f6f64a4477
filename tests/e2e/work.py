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
# Instructions of a unit of work (session::WORK_MAX): a thousand or so. What is charged as one takes this many at most: charges are made by the size of what is worked on, and
# an entry, a range or a block does not always take the same.
UNIT = 2_500
# A message is charged as one unit. Of those without a further charge, a rename takes the most: two names are found, taken out, put in and dated.
ORDINARY = 3
# Growth from a sixteenth of the state to all of it. What is searched has at most 13 levels (8,192 names, halved each time) instead of 9: 1.44 times as many.
GROWTH = 1.5
# And what a message may do the first time at one size and not at the other: a table that grows, a page of the arena that is touched.
SLACK = 4_000


class Bounds:
    """Bounds of messages, from the constants of the sources: what a message is charged, and the bytes that it copies or zeroes."""

    def __init__(self, root: str):
        self.root = root
        of = self.constant
        session, locks, waste, tree = "session/mod.rs", "fs/mem/locks.rs", "fs/mem/waste.rs", "fs/mem/tree.rs"
        listing = of(session, "OWN_BYTES_MAX") // of(session, "LISTED_BYTES_PER_UNIT")
        look = of(locks, "FILE_MAX") // of(locks, "RANGES_PER_UNIT")
        release = of(waste, "AT_ONCE") // of(waste, "PER_UNIT")
        # 64 KiB of entries or records: as much as a reply may have that is in no file.
        self.units = {"Treaddir from the start": listing, "Treaddir in the middle": listing, "Tread of a large directory": listing}
        # 32 records of 96 bytes.
        self.units["Tread of latency"] = 32 * 96 // of(session, "LISTED_BYTES_PER_UNIT")
        self.units["Twalk of 16 names"] = 16 // of(session, "NAMES_PER_UNIT")
        # Map nodes down to a unit that is far away.
        self.units["Twrite far behind the end"] = 12 // of(waste, "PER_UNIT")
        self.units["Tread of 1 MiB"] = (1 << 20) // of(session, "SHOWN_BYTES_PER_UNIT")
        # All ranges of a file: once for what is in the way, and once for the owner's own, which go or change.
        self.units |= {"Tlock of a range more": 2 * look, "Tlock of all": 2 * look, "Tclunk with locks": 2 * look}
        self.units |= {"Tlock that gives one back": look, "Tgetlock": look}
        # As many parents as a move looks at.
        self.units["Trenameat in a deep tree"] = of(tree, "PARENTS_MAX") // of(tree, "PARENTS_PER_UNIT")
        # The 5,000 names of ring9-work.
        self.units["Txattrwalk of all names"] = 5000 // of("fs/mem/attrs.rs", "NAMES_PER_UNIT")
        # A histogram of 216 KiB for each line of a table, and four times one for `stats`.
        self.units |= {"Tlopen of a table": of("fs/ctl/mod.rs", "TABLE_UNITS"), "Tlopen of tables": of("fs/ctl/mod.rs", "TABLE_UNITS")}
        self.units["Tlopen of stats"] = of("fs/ctl/mod.rs", "STATS_UNITS")
        self.units["Tread of connections"] = of("fs/ctl/listing.rs", "LINES_MAX") * of("fs/ctl/mod.rs", "LINE_UNITS")
        self.units["Tread of random"] = of("fs/dev.rs", "RANDOM_BYTES_MAX") // of("fs/dev.rs", "RANDOM_BYTES_PER_UNIT")
        # What is freed at once of a large file or of many attributes.
        large = ("Tsetattr that cuts half", "Tsetattr that cuts all", "Trenameat over a large file", "Tremove of a large file", "Tlopen that truncates", "Tremove of a file with attributes")
        self.units |= dict.fromkeys(large, release)
        # Each fid that is closed is a unit.
        self.units["Tversion with many fids"] = of(session, "CLOSED_MAX")
        # Copied or zeroed, by instructions that callgrind counts once for each byte: the payload, the rest of the last block, the target of a link.
        self.bytes = {"Twrite": 16_000, "Tsetattr that grows": 64 << 10, "Treadlink": 4_000}
        self.turn_units = of(session, "WORK_MAX")

    def constant(self, file: str, name: str) -> int:
        """A constant of src: a number, or a number that is shifted."""
        text = open(os.path.join(self.root, "src", file)).read()
        number, shift = re.search(rf"const {name}: \w+ = ([\d_]+)(?: << (\d+))?;", text).groups()
        return int(number) << int(shift or 0)

    def message(self, name: str) -> int:
        return UNIT * (ORDINARY + self.units.get(name, 0)) + self.bytes.get(name, 0)

    def turn(self, name: str) -> int:
        """A turn takes its units, and what its last message takes beyond them. It may be any of those that alternate."""
        return UNIT * self.turn_units + max(self.message(one) for one in (name, *name.split(", ")))


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
    root = os.path.abspath(sys.argv[1])
    bounds = Bounds(root)
    program = build(root)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        small, large = pool.map(lambda parts: measure(program, parts), (PARTS, 1))
    failed = 0
    print(f"{'':<52} {'instructions':>12} {'at 1/' + str(PARTS):>10} {'at most':>10}")
    for line, count in large.items():
        what, name = line.split(" ", 1)
        most = bounds.turn(name) if what == "turn" else bounds.message(name)
        wrong = count > most
        if what == "message" and not name.startswith(GROWS):
            wrong |= count > small[line] * GROWTH + SLACK
        failed += wrong
        print(f"{line:<52} {count:>12} {small[line]:>10} {most:>10}{'   FAIL' if wrong else ''}")
    print(f"{len(large) - failed} passed, {failed} failed")
    return int(failed > 0)


sys.exit(main())
