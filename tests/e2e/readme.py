#!/usr/bin/env python3
"""Runs every command of the console blocks in README.md, in order, in one shell per block, as a new user would type them.

A line that starts with "$ " is a command. It must succeed; what it prints need not be the same to the byte, but lines that the README shows without any digit must appear.
A command that ends with " &" is left running until the block ends. Usage: readme.py ROOT BIN-FOLDER
"""
import os
import re
import signal
import subprocess
import sys
import tempfile


def blocks(text: str) -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)


def main() -> int:
    root, folder = map(os.path.abspath, sys.argv[1:])
    passed = failed = 0
    for block in blocks(open(os.path.join(root, "README.md")).read()):
        steps = re.split(r"^\$ ", block, flags=re.M)[1:]
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home, "PATH": f"{folder}:{os.environ['PATH']}"}
            running = []
            for step in steps:
                command, _, shown = step.partition("\n")
                if command.endswith(" &"):
                    process = subprocess.Popen(["bash", "-c", f"exec {command[:-2]}"], cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
                    running.append(process)
                    output, code = process.stdout.readline(), process.poll() or 0
                else:
                    done = subprocess.run(["bash", "-c", command], cwd=home, env=environment, capture_output=True, text=True, timeout=600)
                    output, code = done.stdout + done.stderr, done.returncode
                expected = [line for line in shown.splitlines() if line.strip() and not re.search(r"\d|\.\.\.", line)]
                missing = [line for line in expected if line not in output]
                ok = code == 0 and not missing
                passed, failed = passed + ok, failed + (not ok)
                print(f"{'ok  ' if ok else 'FAIL'} $ {command}", "" if ok else f"\nexit {code}, missing {missing}\n{output}", flush=True)
            for process in running:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
