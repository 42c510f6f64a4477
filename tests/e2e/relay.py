#!/usr/bin/env python3
"""A relay (examples/relay.rs) in front of ring9, and in front of Debian's diod: r9 through it.

Usage: relay.py BIN-FOLDER [RELAY]        (BIN-FOLDER has ring9 and r9, and examples/relay if no RELAY is given; diod is left out where it is not installed)
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import commands
from commands import R9, check
from others import facts
from p9 import stats


# All servers that were started here.
servers: list[subprocess.Popen] = []


def start(words: list[str], stderr: int = subprocess.PIPE) -> subprocess.Popen:
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True)
    servers.append(process)
    return process


def program(folder: str) -> str:
    return sys.argv[2] if len(sys.argv) > 2 else os.path.join(folder, "examples", "relay")


def relay(folder: str, to: str, *more: str) -> tuple[subprocess.Popen, str]:
    """A relay to this address, and where it listens."""
    words = [program(folder), "--listen", "tcp:127.0.0.1:0", "--trust", "all", "--to", to, *more]
    process = start(words)
    return process, process.stdout.readline().split()[2]


def ends(process: subprocess.Popen, name: str) -> str:
    process.terminate()
    _, said = process.communicate(timeout=30)
    check(f"{name} ends as it should", process.returncode == 0, f"{process.returncode} {said[:2000]}")
    return said


def tree(r9: R9, odd: str, back: str, name: str) -> None:
    """A tree of odd cases goes there and comes back."""
    for command in (["put", "-r", odd, "/odd"], ["get", "-r", "/odd", back], ["ls", "-l", "/odd"], ["df"], ["mv", "/odd/names", "/odd/empty/moved"], ["rm", "-r", "/odd/many"]):
        done = r9.run(*command)
        check(f"r9 {command[0]} with {name}", done.returncode == 0, done.stderr[:2000])
    same = facts(odd) == facts(back) and subprocess.run(["diff", "-r", "--no-dereference", odd, back]).returncode == 0
    check(f"what went into {name} came back", same)
    subprocess.run(["chmod", "-R", "u+rwX", back], check=True)
    shutil.rmtree(back)


def with_ring9(folder: str, odd: str, scratch: str) -> None:
    server = start([os.path.join(folder, "ring9"), "--memory", "256MiB", "--trust", "all", "--listen", f"unix:{scratch}/sock", "--listen", "tcp:127.0.0.1:0"])
    addresses = server.stdout.readline().split()[2:]
    for address in addresses:
        front, here = relay(folder, address)
        client = os.path.join(folder, "r9")
        # The far side speaks .L: what a stat record can say and .L cannot has no way through.
        for dialect in ("9P2000.L",):
            r9 = R9(client, here, dialect)
            commands.names_and_bytes(r9, scratch)
            commands.lines(r9)
            commands.times_and_owners(r9, dialect)
            commands.links_and_devices(r9, dialect)
            commands.appends(r9, here, dialect)
            commands.attributes_and_locks(r9, dialect)
            r9.does("rm", "-r", "/d")
        for dialect in ("9P2000.u", "9P2000"):
            r9 = R9(client, here, dialect)
            r9.does("mkdir", "-p", "/d/x")
            r9.does("write", "/d/f", data=b"one\ntwo\n")
            r9.does("cat", "/d/f", out=b"one\ntwo\n")
            r9.does("ls", "/d", out=b"f\nx\n")
            r9.does("chmod", "0640", "/d/f")
            check(f"chmod in {r9.where}", r9.facts("/d/f")["mode"] == "-rw-r----- 0640", r9.facts("/d/f"))
            r9.does("mv", "/d/x", "/d/y")
            r9.does("ls", "/d", out=b"f\ny\n")
            r9.does("rm", "-r", "/d")
        tree(R9(client, here), odd, os.path.join(scratch, "back"), f"ring9 behind a relay over {address.partition(':')[0]}")
        R9(client, here).does("rm", "-r", "/odd")
        ends(front, "a relay")
    now = stats(addresses[0])
    check("the far server has all of it back", now["arena_used_bytes"] == 0 and now["accepted"] - now["closed"] <= 1, now)
    # The far server ends and starts again: the next attach makes a new connection.
    front, here = relay(folder, addresses[0])
    r9 = R9(os.path.join(folder, "r9"), here)
    r9.does("mkdir", "/d")
    ends(server, "ring9")
    r9.refuses("ls", "/", says="")
    server = start([os.path.join(folder, "ring9"), "--memory", "16MiB", "--trust", "all", "--listen", addresses[0]])
    server.stdout.readline()
    r9.does("ls", "/")
    ends(front, "a relay whose far server was another one in between")
    ends(server, "ring9")


def with_diod(folder: str, odd: str, scratch: str) -> None:
    diod = shutil.which("diod", path=f"{os.environ['PATH']}:/usr/sbin")
    if not diod:
        print("diod is not installed: left out")
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    export = os.path.join(scratch, "export")
    os.mkdir(export)
    words = [diod, "-f", "-n", "-N", "-L", "stderr", "-l", f"127.0.0.1:{port}", "-e", export]
    start(words, stderr=subprocess.DEVNULL)
    for _ in range(50):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    front, here = relay(folder, f"tcp:127.0.0.1:{port}", "--aname", export)
    tree(R9(os.path.join(folder, "r9"), here), odd, os.path.join(scratch, "back"), "diod behind a relay")
    ends(front, "a relay in front of diod")


def with_silence(folder: str) -> None:
    """A far server that takes connections and says nothing does not keep a relay from its end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        front, here = relay(folder, f"tcp:127.0.0.1:{silent.getsockname()[1]}")
        clients = [start([os.path.join(folder, "r9"), "--addr", here, "ls", "/"]) for _ in range(3)]
        taken, _ = silent.accept()
        taken.recv(1000)
        ends(front, "a relay whose far server is silent")
        taken.close()
        for client in clients:
            _, said = client.communicate(timeout=30)
            check("a client of it is told", client.returncode != 0 and said != "", f"{client.returncode} {said[:500]}")


def refuses(program: str, scratch: str) -> None:
    """What is wrong with its flags is said in one line."""
    path = f"unix:{scratch}/front"
    for words, says in [
        (["--listen", "tcp:127.0.0.1:0", "--trust", "peer-uid", "--to", path], "--trust peer-uid: tcp:127.0.0.1:0 does not tell who connects"),
        (["--listen", "tcp:localhost", "--to", path], "--listen tcp:localhost: the port is missing"),
        (["--listen", path, "--to", "udp:a:1"], "--to udp:a:1: unknown kind"),
        (["--listen", path, "--to", path, "--trust", "me"], "--trust me: it is all"),
        (["--listen", path, "--to"], "--to needs a value"),
        (["--listen", path], "--to ADDR is missing"),
        (["--listen", f"unix:{scratch}/none/front", "--to", path], f"--listen unix:{scratch}/none/front"),
    ]:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=30)
        ok = done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("relay: ") and says in done.stderr
        check(f"a relay with {' '.join(words[:4])} is refused", ok, f"{done.returncode} {done.stderr[:500]}")


def main() -> int:
    # A shell lets what it runs in the background ignore it, and so would what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = os.path.abspath(sys.argv[1])
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        odd = os.path.join(scratch, "odd")
        subprocess.run([sys.executable, os.path.join(HERE, "odd_tree.py"), odd], check=True)
        refuses(program(folder), scratch)
        try:
            with_ring9(folder, odd, scratch)
            with_diod(folder, odd, scratch)
            with_silence(folder)
        finally:
            for process in servers:
                process.kill()
                process.wait()
        subprocess.run(["chmod", "-R", "u+rwX", scratch], check=True)
    print(f"{commands.passed} passed, {commands.failed} failed")
    return 1 if commands.failed else 0


sys.exit(main())
