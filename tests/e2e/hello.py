#!/usr/bin/env python3
"""A tree that the library serves (examples/hello.rs), as r9 and Debian's diodcat and diodls see it; how it ends, and what it refuses.

Usage: hello.py BIN-FOLDER HELLO        (BIN-FOLDER has r9; needs diod)
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import commands
from commands import R9, check


def by_r9(program: str, address: str) -> None:
    first = True
    for dialect in ("9P2000.L", "9P2000.u", "9P2000"):
        r9 = R9(program, address, dialect)
        r9.does("ls", "/", out=b"clock\ncount\nhello\n")
        r9.does("cat", "/hello", out=b"hello, world\n")
        before, after = (int(r9.run("cat", "/count").stdout) for _ in range(2))
        check(f"each open counts in {r9.where}", after == before + 1 and (before == 1 or not first), (before, after))
        first = False
        r9.refuses("write", "/hello", says="Permission denied")
        r9.refuses("mkdir", "/d", says="Operation not permitted")
        r9.refuses("cat", "/none", says="No such file or directory")


def by_diod(port: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin"
    for name, words, says in [("diodcat", ["hello", "count", "clock"], "hello, world\n"), ("diodls", ["-l", "/"], " clock\n")]:
        tool = shutil.which(name, path=path)
        if not tool:
            check(f"{name} is installed", False)
            continue
        done = subprocess.run([tool, "-s", f"127.0.0.1:{port}", "-a", "/", *words], capture_output=True, text=True, timeout=30)
        check(f"{name} reads it", done.returncode == 0 and says in done.stdout, f"{done.returncode} {done.stdout} {done.stderr}")


def main() -> int:
    # A shell lets what it runs in the background ignore it, and so would what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    program, hello = os.path.join(os.path.abspath(sys.argv[1]), "r9"), os.path.abspath(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        for address in ("tcp:127.0.0.1:0", f"unix:{scratch}/sock"):
            for end in (signal.SIGTERM, signal.SIGINT):
                with subprocess.Popen([hello, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
                    try:
                        where = server.stdout.readline().split()[2]
                        by_r9(program, where)
                        if where.startswith("tcp:"):
                            by_diod(where.rpartition(":")[2])
                    finally:
                        server.send_signal(end)
                        _, said = server.communicate(timeout=30)
                check(f"{end.name} ends it over {address.partition(':')[0]}", (server.returncode, said) == (0, ""), f"{server.returncode} {said}")
        check("its socket is gone", os.listdir(scratch) == [], os.listdir(scratch))
        for address, says in [("udp:1", 'Error: udp:1: unknown kind "udp"'), (f"unix:{scratch}/no/sock", "make its folder first")]:
            done = subprocess.run([hello, address], capture_output=True, text=True, timeout=30)
            check(f"{address.partition('/')[0]} is refused", done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr)
    print(f"{commands.passed} passed, {commands.failed} failed")
    return 1 if commands.failed else 0


sys.exit(main())
