#!/usr/bin/env python3
"""What the seam between the loop and its kernel costs: 32,000 NOPs through the trait and through the io-uring crate, in instructions by callgrind.

Each figure is the difference between a run of 32,000 and one of none, so that the start falls out. Fails where the trait costs more than 1 %.
Usage: seam.py PATH-TO-NOPS        (needs valgrind; built by `cargo build --release -p ring9-bench --example nops`)
"""
import re
import subprocess
import sys
import tempfile

COUNT = 32_000
LIMIT = 1.01


def instructions(way: str, count: int) -> int:
    with tempfile.NamedTemporaryFile() as out:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", sys.argv[1], way, str(count)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120)
        return int(re.search(r"^(?:totals|summary): (\d+)", open(out.name).read(), re.M)[1])


def main() -> int:
    crate, seam = (instructions(way, COUNT) - instructions(way, 0) for way in ("crate", "seam"))
    ratio = seam / crate
    print(f"seam: {seam / COUNT:.2f} instructions for each of {COUNT} NOPs through the trait, {crate / COUNT:.2f} on the crate: {ratio:.4f}")
    print(f"{int(ratio <= LIMIT)} passed, {int(ratio > LIMIT)} failed")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
