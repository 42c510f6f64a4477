#!/usr/bin/env python3
"""r9 against a server that is not ring9: Debian's diod takes the odd tree and gives it back.

Usage: others.py BIN-FOLDER        (needs diod)
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def facts(top: str) -> list[bytes]:
    every = subprocess.run(["find", top, "-type", "d", "-printf", r"%P %y %m %T@\n", "-o", "-printf", r"%P %y %m %T@ %l %s\n"], capture_output=True, check=True)
    return sorted(every.stdout.splitlines())


def main() -> int:
    diod = shutil.which("diod", path=f"{os.environ['PATH']}:/usr/sbin")
    if not diod:
        print("diod is not installed\n0 passed, 1 failed")
        return 1
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    passed = failed = 0
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        odd, export, back = (os.path.join(scratch, name) for name in ("odd", "export", "back"))
        subprocess.run([sys.executable, os.path.join(HERE, "odd_tree.py"), odd], check=True)
        os.mkdir(export)
        with subprocess.Popen([diod, "-f", "-n", "-N", "-L", "stderr", "-l", f"127.0.0.1:{port}", "-e", export], stderr=subprocess.PIPE) as server:
            r9 = [os.path.join(sys.argv[1], "r9"), "--addr", f"tcp:127.0.0.1:{port}", "--aname", export]
            for _ in range(50):
                if subprocess.run([*r9, "ls"], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
            for command in (["put", "-r", odd, "/odd"], ["get", "-r", "/odd", back], ["ls", "-l", "/odd"], ["df"], ["mv", "/odd/names", "/odd/empty/moved"], ["rm", "-r", "/odd/many"]):
                done = subprocess.run([*r9, *command], capture_output=True, text=True)
                ok = done.returncode == 0
                passed, failed = passed + ok, failed + (not ok)
                print(f"{'ok  ' if ok else 'FAIL'} r9 {command[0]} with diod", "" if ok else done.stderr[:2000])
            server.terminate()
        same = facts(odd) == facts(back) and subprocess.run(["diff", "-r", "--no-dereference", odd, back]).returncode == 0
        passed, failed = passed + same, failed + (not same)
        print(f"{'ok  ' if same else 'FAIL'} what went into diod came back")
        subprocess.run(["chmod", "-R", "u+rwX", scratch], check=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
