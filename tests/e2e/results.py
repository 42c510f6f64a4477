"""The README's table of runtimes is what the committed result says.

Usage: results.py REPOSITORY            checks it
       results.py REPOSITORY --print    prints it, to be put there
"""

import glob
import json
import os
import statistics
import sys

# Of the result, in the order of the table: the load, and what it is called there.
LOADS = [
    ("tcp-64-read-4k", "64 TCP connections"),
    ("unix-64-read-4k", "64 unix"),
    ("tcp-1-read-4k", "1 TCP"),
    ("one-cpu-1x16-read-4k", "1 unix, depth 16, one cpu"),
    ("tcp-1x4-write-1m", "writes of 1 MB, 1 TCP, depth 4"),
]
OTHERS = ["epoll", "threads", "tokio", "smol", "monoio", "compio", "glommio", "tokio-uring", "epoll-floor", "ring-floor"]


def ratio(shape: dict, to: str, statistic: str) -> str:
    found = [one for one in shape["comparison"]["ratios"] if one["of"] == "ring9" and one["to"] == to and one["statistic"] == statistic]
    return f"{statistics.median(found[0]['rounds']):.2f}" if found else "-"


def table(repository: str) -> str:
    newest = sorted(glob.glob(os.path.join(repository, "bench/results/*/*/result.json")), key=lambda path: path.split(os.sep)[-2])[-1]
    shapes = {shape["id"]: shape for shape in json.load(open(newest))["shapes"]}
    lines = ["| ring9 to | " + " | ".join(name for _, name in LOADS) + " |", "|---|" + "---|" * len(LOADS)]
    for other in OTHERS:
        cells = [f"{ratio(shapes[load], other, 'throughput')}, {ratio(shapes[load], other, 'cpu')}" for load, _ in LOADS]
        lines.append(f"| {other} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    made = table(sys.argv[1])
    if "--print" in sys.argv:
        print(made, end="")
        return 0
    holds = made in open(os.path.join(sys.argv[1], "README.md")).read()
    print("1 passed, 0 failed" if holds else f"the README has another table than\n{made}0 passed, 1 failed")
    return 0 if holds else 1


sys.exit(main())
