#!/usr/bin/env python3
"""Instructions of single operations of wire, session and memfs, by callgrind: those of this tree, beside those of the commit before it.

Usage: micro.py ROOT [--table FILE]        (needs valgrind and git; builds both)

Each figure is the difference between 2,000 operations and none, divided by 2,000, so that the start falls out. Fails where one rises by more than 3 % and by more than
5 instructions. Both are built in one run, by one compiler, from one bench/micro. Where the commit before has another interface, or there is none, nothing is compared, and
that is said.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

COUNT = 2_000
LIMIT = 1.03
# Less is the length of a name, or a table that has grown.
SLACK = 5.0


def build(root: str, target: str) -> str | None:
    """The program, or None if it does not build."""
    done = subprocess.run(["cargo", "build", "--quiet", "--release", "--package", "ring9-micro", "--bin", "ring9-micro"], cwd=root, env={**os.environ, "CARGO_TARGET_DIR": target}, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return os.path.join(target, "release/ring9-micro")


def before(root: str, folder: str) -> str | None:
    """The commit before this one, with the operations of this one; None if there is none."""
    if not shutil.which("git"):
        return None
    git = ("git", "-c", "safe.directory=*", "-C", root)
    # What is not committed is compared with what is.
    changed = subprocess.run([*git, "status", "--porcelain", "--", "src"], stdout=subprocess.PIPE, text=True).stdout.strip()
    commit = "HEAD" if changed else "HEAD^"
    archive = subprocess.run([*git, "archive", commit], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if archive.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    shutil.copytree(os.path.join(root, "bench/micro"), os.path.join(folder, "bench/micro"), dirs_exist_ok=True)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(os.path.join(root, name), folder)
    # The members of the workspace are those of this one.
    for name in re.findall(r'"([^"]+)"', re.search(r"^members = \[(.*)\]", open(os.path.join(root, "Cargo.toml")).read(), re.M)[1]):
        if not os.path.exists(os.path.join(folder, name)):
            shutil.copytree(os.path.join(root, name), os.path.join(folder, name))
    return commit


def instructions(program: str, name: str, count: int) -> int:
    with tempfile.NamedTemporaryFile() as out:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", program, name, str(count)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120)
        return int(re.search(r"^(?:totals|summary): (\d+)", open(out.name).read(), re.M)[1])


def measure(program: str, names: list[str]) -> dict[str, float]:
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        of = {(name, count): pool.submit(instructions, program, name, count) for name in names for count in (0, COUNT)}
        return {name: (of[name, COUNT].result() - of[name, 0].result()) / COUNT for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--table", help="write what this tree needs into this file")
    given = parser.parse_args()
    root = os.path.abspath(given.root)
    program = build(root, os.path.join(root, "target/micro"))
    if not program:
        return 1
    names = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    now = measure(program, names)
    with tempfile.TemporaryDirectory() as folder:
        commit = before(root, folder)
        other = commit and build(folder, os.path.join(root, "target/micro-before"))
        then = measure(other, names) if other else {}
    failed = 0
    print(f"{'operation':<24} {'instructions':>12} {'before':>10} {'ratio':>8}")
    for name in names:
        worse = name in then and now[name] > then[name] * LIMIT and now[name] > then[name] + SLACK
        failed += worse
        beside = f"{then[name]:>10.1f} {now[name] / then[name]:>8.3f}" if name in then else f"{'-':>10} {'-':>8}"
        print(f"{name:<24} {now[name]:>12.1f} {beside}{'   FAIL' if worse else ''}")
    if not then:
        print(f"nothing to compare with: {commit + ' does not build with this bench/micro' if commit else 'there is no commit before'}")
    if given.table:
        with open(given.table, "w") as file:
            file.write("# Instructions of single operations\n\n`python3 tests/e2e/micro.py . --table bench/results/instructions.md`: by callgrind, a release build, 2,000 of each, without the start.\n\n")
            file.write("| operation | instructions |\n|---|---|\n")
            file.writelines(f"| {name} | {value:.0f} |\n" for name, value in now.items())
    print(f"{len(names) - failed} passed, {failed} failed")
    return int(failed > 0)


sys.exit(main())
