#!/usr/bin/env python3
"""Records what real clients say to ring9, and what they hear: seeds of the fuzz targets are made of it (docs/fuzzing.md).

Usage: capture.py BIN-FOLDER OUT-FOLDER        (needs diod; python-9p if it is to be recorded too)
BIN-FOLDER has ring9 and r9. Each connection becomes two files, NAME-N.said and NAME-N.heard: the bytes as they were.
"""
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = f"{os.environ['PATH']}:/usr/sbin"
# No more of a connection is written down in each direction.
BYTES_MAX = 512 << 10


class Recorder:
    """Stands between clients and a server, and writes down both directions of each connection."""

    def __init__(self, server: tuple[str, int], out: str):
        self.server, self.out = server, out
        self.name, self.count, self.running = "", 0, []
        # Bytes of clients that are replaced on their way.
        self.instead: tuple[bytes, bytes] = (b"", b"")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            self.count += 1
            path = os.path.join(self.out, f"{self.name}-{self.count}")
            thread = threading.Thread(target=self.relay, args=(client, path), daemon=True)
            self.running.append(thread)
            thread.start()

    def relay(self, client: socket.socket, path: str) -> None:
        with client, socket.create_connection(self.server) as server, open(f"{path}.said", "wb") as said, open(f"{path}.heard", "wb") as heard:
            ways = {client: (server, said), server: (client, heard)}
            while ways:
                for one in select.select(list(ways), [], [])[0]:
                    other, record = ways[one]
                    try:
                        data = one.recv(1 << 16)
                        if self.instead[0]:
                            data = data.replace(*self.instead)
                        if record.tell() < BYTES_MAX:
                            record.write(data)
                        if data:
                            other.sendall(data)
                            continue
                        other.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass
                    del ways[one]

    def record(self, name: str, run) -> None:
        """What is connected while `run` runs is recorded under this name."""
        self.name, self.count = name, 0
        run()
        for thread in self.running:
            thread.join(10)
        self.running.clear()
        print(f"{name}: {self.count} connections", flush=True)


def r9(tool: str, address: str, dialect: str, scratch: str) -> None:
    """A day in the life of r9, as far as the dialect has words for it."""
    small, large, folder = (os.path.join(scratch, name) for name in ("small", "large", "folder"))
    with open(small, "wb") as file:
        file.write(b"hello, ring\n")
    with open(large, "wb") as file:
        file.write(os.urandom(40_000))
    os.makedirs(os.path.join(folder, "b", "c"), exist_ok=True)
    shutil.copy(small, os.path.join(folder, "a"))
    for command in (
        ["mkdir", "-p", "/d/e"],
        ["put", small, "/a"],
        ["put", large, "/d/b"],
        ["put", "-r", folder, "/d/c"],
        ["ls", "-l", "/d"],
        ["tree", "/"],
        ["cat", "/a"],
        ["cat", "/nowhere"],
        ["stat", "/d/b"],
        ["chmod", "0600", "/a"],
        ["mv", "/a", "/f"],
        *([["ln", "/f", "/a"], ["ln", "-s", "d/b", "/e"], ["stat", "/e"], ["df"], ["mv", "/a", "/d/a"]] if dialect == "9P2000.L" else []),
        ["get", "-r", "/d", os.path.join(scratch, f"back-{dialect}")],
        ["rm", "-r", "/d"],
        ["rm", "/f"],
    ):
        subprocess.run([tool, "--addr", address, "--dialect", dialect, *command], capture_output=True)
    subprocess.run([tool, "--addr", address, "--dialect", dialect, "--aname", "dev", "ls", "-l"], capture_output=True)


def diod(tool: str, *arguments: str) -> None:
    subprocess.run([shutil.which(tool, path=PATH) or tool, *arguments], capture_output=True, timeout=20)


def python_9p(port: int) -> None:
    import py9p

    with py9p.Client.connect_tcp("127.0.0.1", port, msize=65536) as client:
        client.negotiate()
        client.attach(0, uname="root")
        client.walk(0, 1, ["d"])
        client.open(1)
        client.read(1, 60000, 0)
        client.clunk(1)
        client.walk(0, 2, ["d", "b"])
        client.stat(2)
        client.open(2)
        client.read(2, 60000, 0)
        client.clunk(2)
        try:
            client.walk(0, 3, ["nowhere"])
        except Exception as error:  # What it raises is its own affair.
            print(f"    python-9p heard {error}")


def main() -> int:
    folder, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    ring9, tool = os.path.join(folder, "ring9"), os.path.join(folder, "r9")
    with tempfile.TemporaryDirectory() as scratch:
        command = [ring9, "--memory", "64MiB", "--trust", "all", "--listen", "tcp:127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                host, _, port = server.stdout.readline().split()[2].removeprefix("tcp:").rpartition(":")
                recorder = Recorder((host, int(port)), out)
                here, address = f"127.0.0.1:{recorder.port}", f"tcp:127.0.0.1:{recorder.port}"
                for dialect in ("9P2000.L", "9P2000.u", "9P2000"):
                    recorder.record(f"r9-{dialect.removeprefix('9P2000').strip('.') or 'classic'}", lambda: r9(tool, address, dialect, scratch))
                # Something for the others to read.
                direct = [tool, "--addr", f"tcp:{host}:{port}"]
                subprocess.run([*direct, "mkdir", "/d"], check=True)
                subprocess.run([*direct, "put", os.path.join(scratch, "large"), "/d/b"], check=True)
                subprocess.run([*direct, "put", os.path.join(scratch, "small"), "/a"], check=True)
                recorder.record("diodls", lambda: (diod("diodls", "-l", "-s", here, "-a", "/", "/d"), diod("diodls", "-s", here, "-a", "/")))
                recorder.record("diodcat", lambda: (diod("diodcat", "-s", here, "-a", "/", "a", "d/b"), diod("diodcat", "-s", here, "-a", "/", "nowhere")))
                # It wants zero and null in diod's tree ctl; ring9 has them in dev.
                recorder.instead = (b"\x03\0ctl", b"\x03\0dev")
                recorder.record("diodload", lambda: (diod("diodload", "-s", here, "-n", "1", "-r", "1"), diod("diodload", "-g", "-s", here, "-n", "1", "-r", "1")))
                recorder.instead = (b"", b"")
                try:
                    recorder.record("python-9p", lambda: python_9p(recorder.port))
                except ImportError:
                    print("python-9p is not installed")
            finally:
                server.terminate()
                server.wait(30)
    return 0


sys.exit(main())
