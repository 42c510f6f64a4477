#!/usr/bin/env python3
"""kill -9 of a server with a store, under load, again and again: what was acknowledged is there after the restart.

Four clients make, write, cut, link, rename and remove files, each in a directory of its own, with several requests on their way. Each client has a model of its directory
after every request. The server is killed (each fifth time it is ended by SIGTERM) and started again over the same store. What a client then finds must be the model after some request
at or behind the last one that was acknowledged: all of each request, or nothing of it. The clients go on from there.

The page cache survives a kill, so this says nothing of power cuts: it shows what leaves before it is written, and what a restart makes of a log without an end.

Usage: kill.py PATH-TO-RING9 [--cycles N] [--seconds S] [--seed N] [--folder DIR | --filesystem ext4|xfs] [--store-size SIZE]

DIR is where the store is made; otherwise a temporary folder. --filesystem makes a file system in a sparse file and mounts it (root); it is gone at the end.
"""
import argparse
import contextlib
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from p9 import P9, text

CLIENTS = 4
NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"]
SIZE = 200_000  # of a file, at most
passed = failed = 0
Names = dict[bytes, int]  # which file a name leads to


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    if detail != "" or not ok:
        print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail != '' else ''}", flush=True)


class State:
    """A directory: names, and the bytes of files. It is never changed; each request leads to another one."""

    def __init__(self, names: Names, files: dict[int, bytes]):
        self.names, self.files = names, {file: files.get(file, b"") for file in names.values()}

    def with_name(self, name: bytes, file: int) -> "State":
        return State({**self.names, name: file}, self.files)

    def without_name(self, name: bytes) -> "State":
        return State({other: file for other, file in self.names.items() if other != name}, self.files)

    def with_bytes(self, file: int, data: bytes) -> "State":
        return State(self.names, {**self.files, file: data})

    def shape(self) -> dict[bytes, tuple[bytes, list[bytes]]]:
        """Of each name: the bytes, and all names of the same file."""
        together: dict[int, list[bytes]] = {}
        for name in sorted(self.names):
            together.setdefault(self.names[name], []).append(name)
        return {name: (self.files[file], together[file]) for name, file in self.names.items()}


class Client:
    def __init__(self, number: int, seed: int):
        self.name, self.random = b"client%d" % number, random.Random(f"{seed}/{number}")
        self.serial = self.requests = self.changes = self.survived = self.acknowledged = 0
        # The states that a restart may find, the oldest first: the first one is acknowledged.
        self.states = [State({}, {})]
        self.error: object = None

    def connect(self, address: str) -> None:
        self.p9 = P9(address)
        try:
            self.p9.walk(0, 1, self.name)
        except OSError:
            self.p9.call(72, struct.pack("<I", 0) + text(self.name) + struct.pack("<II", 0o755, 0))
            self.p9.walk(0, 1, self.name)

    def found(self) -> State:
        """What is in the directory now."""
        p9, names, files, offset = self.p9, {}, {}, 0
        p9.walk(1, 2)
        p9.open(2)
        while body := p9.call(40, struct.pack("<IQI", 2, offset, 60_000))[1][4:]:
            at = 0
            while at < len(body):
                path, offset, _, size = struct.unpack_from("<QQBH", body, at + 5)
                name = body[at + 24 : at + 24 + size]
                at += 24 + size
                if name not in (b".", b".."):
                    names[name] = path
        p9.clunk(2)
        for name, path in names.items():
            p9.walk(1, 2, name)
            p9.open(2)
            data = b""
            while part := p9.read(2, len(data), 100_000):
                data += part
            p9.clunk(2)
            files.setdefault(path, data)
        return State(names, files)

    def plan(self, state: State) -> list[tuple[int, bytes, State | None]]:
        """Requests of one operation, each with the state that it leads to if it changes anything."""
        self.serial += 1
        name, other, chance = self.random.choice(NAMES), self.random.choice(NAMES), self.random.random()
        walk = (110, struct.pack("<IIH", 1, 2, 1) + text(name), None)
        clunk = (120, struct.pack("<I", 2), None)
        data = b"%d/%d " % (self.serial, len(name))
        data = (data * (self.random.choice((20, 600, 5_000, 60_000)) // len(data) + 1))[: self.random.choice((17, 4096, 5_001, 20_000, 60_000, 150_000))]
        if name not in state.names:
            made = state.with_name(name, self.serial).with_bytes(self.serial, b"")
            create = (14, struct.pack("<I", 2) + text(name) + struct.pack("<III", 0o102, 0o644, 0), made)
            write = (118, struct.pack("<IQI", 2, 0, len(data)) + data, made.with_bytes(self.serial, data))
            return [(110, struct.pack("<IIH", 1, 2, 0), None), create, write, clunk]
        file, old = state.names[name], state.files[state.names[name]]
        if chance < 0.5:
            offset = min(self.random.choice((0, len(old), self.random.randrange(len(old) + 1))), SIZE - len(data))
            new = old[:offset] + data + old[offset + len(data) :]
            write = (118, struct.pack("<IQI", 2, offset, len(data)) + data, state.with_bytes(file, new))
            return [walk, (12, struct.pack("<II", 2, 2), None), write, clunk]
        if chance < 0.6:
            size = self.random.choice((0, 100, 5_000, 70_000))
            # Tsetattr: of the size alone.
            body = struct.pack("<IIIIIQQQQQ", 2, 8, 0, 0, 0, size, 0, 0, 0, 0)
            return [walk, (26, body, state.with_bytes(file, old[:size].ljust(size, b"\0"))), clunk]
        if chance < 0.75:
            renamed = state if state.names.get(other) == file else state.with_name(other, file).without_name(name)
            return [(74, struct.pack("<I", 1) + text(name) + struct.pack("<I", 1) + text(other), renamed)]
        if chance < 0.85 and other not in state.names:
            return [walk, (70, struct.pack("<II", 1, 2) + text(other), state.with_name(other, file)), clunk]
        return [(76, struct.pack("<I", 1) + text(name) + struct.pack("<I", 0), state.without_name(name))]

    def burst(self) -> list[tuple[int, bytes, State | None]]:
        """The requests of a few operations, to be sent together."""
        requests: list[tuple[int, bytes, State | None]] = []
        for _ in range(self.random.randrange(1, 9)):
            state = next((state for *_, state in reversed(requests) if state), self.states[-1])
            requests += self.plan(state)
        return requests

    def heard(self) -> None:
        """A change was acknowledged: `changes` counts it."""

    def exchange(self, requests: list[tuple[int, bytes, State | None]]) -> None:
        """Sends them and hears all replies."""
        self.states = self.states[-1:]
        # What is known of each request before it is sent: a kill may come at any time.
        self.states += [state for *_, state in requests if state]
        position, places = 0, []
        for *_, state in requests:
            position += state is not None
            places.append(position)
        burst = b"".join(struct.pack("<IBH", 7 + len(body), kind, tag) + body for tag, (kind, body, _) in enumerate(requests))
        self.acknowledged = 0
        self.p9.socket.sendall(burst)
        for _ in requests:
            kind, tag, body = self.p9.next()
            if kind != requests[tag][0] + 1:
                raise ValueError(f"request {requests[tag][:1]} was answered with {kind} {body!r}")
            if requests[tag][2]:
                self.acknowledged = max(self.acknowledged, places[tag])
                self.changes += 1
                self.heard()
            self.requests += 1
        self.states = self.states[-1:]

    def work(self) -> None:
        """Bursts of requests until the connection ends."""
        try:
            while True:
                self.exchange(self.burst())
        except (EOFError, ConnectionError):
            if len(self.states) > 1:
                self.states = self.states[self.acknowledged :]
        except Exception as error:  # noqa: BLE001: it is shown
            self.error = error


class Server:
    last: "Server | None" = None

    def __init__(self, program: str, folder: str, store: str, *words: str):
        self.log = os.path.join(folder, "stderr")
        command = [program, "--memory", "64MiB", "--store", store, "--listen", f"unix:{folder}/sock", *words]
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(self.log, "wb"), text=True)
        Server.last = self
        ready = self.process.stdout.readline().split()
        self.seconds = time.monotonic() - began
        if len(ready) < 3:
            raise SystemExit(f"the server does not start: {open(self.log).read()}\n{passed} passed, {failed + 1} failed")
        self.address = ready[2]

    def end(self, by: int) -> int:
        self.process.send_signal(by)
        return self.process.wait(60)

    def said(self) -> list[str]:
        return open(self.log, errors="replace").read().splitlines()


def difference(found: State, wanted: State) -> str:
    one, two = found.shape(), wanted.shape()
    parts = []
    for name in sorted({*one, *two}):
        if one.get(name) != two.get(name):
            (data, names), (wanted_data, wanted_names) = one.get(name, (None, None)), two.get(name, (None, None))
            if data is None or wanted_data is None:
                parts.append(f"{name!r} is {'missing' if data is None else 'there'}")
            elif names != wanted_names:
                parts.append(f"{name!r} has the names {names}, not {wanted_names}")
            else:
                at = next((at for at, (a, b) in enumerate(zip(data, wanted_data)) if a != b), min(len(data), len(wanted_data)))
                parts.append(f"{name!r} has {len(data)} bytes, not {len(wanted_data)}, and differs from byte {at} on")
    return "; ".join(parts) or "no difference"


def compare(client: Client, cycle: int) -> None:
    found = client.found()
    shape = found.shape()
    same = next((at for at, state in enumerate(client.states) if state.shape() == shape), None)
    what = f"cycle {cycle}: {client.name.decode()} finds what was acknowledged, and each further request whole or not at all"
    if same is None:
        nearest = "; or ".join(difference(found, state) for state in (client.states[0], client.states[-1]))
        check(what, False, f"{len(client.states)} states were possible; {nearest}")
    else:
        check(what, True)
        client.survived += same
    # The files have the numbers of the server from now on.
    client.serial += 1 << 32
    client.states = [State(found.names, found.files)]


@contextlib.contextmanager
def file_system(kind: str) -> Iterator[str]:
    """A folder on a new file system of this kind, in a sparse file."""
    environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with tempfile.TemporaryDirectory() as folder:
        image, top = os.path.join(folder, "image"), os.path.join(folder, "top")
        os.mkdir(top)
        with open(image, "wb") as file:
            file.truncate(2 << 30)
        subprocess.run([f"mkfs.{kind}", "-q", image], check=True, env=environment)
        subprocess.run(["mount", "-t", kind, "-o", "loop", image, top], check=True, env=environment)
        try:
            yield top
        finally:
            if Server.last:
                Server.last.process.kill()
                Server.last.process.wait()
            # Lazily: it goes even if something is open, and the loop device goes with it.
            subprocess.run(["umount", "--lazy", top], check=True, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=0.4, help="of load in each cycle, at most")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder")
    parser.add_argument("--filesystem", choices=("ext4", "xfs"), help="on a new one, which is mounted (root)")
    parser.add_argument("--store-size", default="256MiB", help="small, so that checkpoints are frequent")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    # SIGTERM ends this program as an exception does: what is mounted goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    mounted = file_system(arguments.filesystem) if arguments.filesystem else contextlib.nullcontext(arguments.folder)
    with mounted as top, tempfile.TemporaryDirectory(dir=top) as folder:
        clients = [Client(number, arguments.seed) for number in range(CLIENTS)]
        store, slowest, torn, open_requests = os.path.join(folder, "store"), 0.0, 0, 0
        for cycle in range(arguments.cycles + 1):
            server = Server(arguments.program, folder, store, "--store-size", arguments.store_size)
            slowest = max(slowest, server.seconds)
            torn += any("cut off" in line for line in server.said())
            for client in clients:
                client.connect(server.address)
                compare(client, cycle)
            last = cycle == arguments.cycles
            threads = [threading.Thread(target=client.work) for client in clients if not last]
            for thread in threads:
                thread.start()
            time.sleep(0 if last else chance.uniform(0.02, arguments.seconds))
            by = signal.SIGTERM if last or cycle % 5 == 4 else signal.SIGKILL
            code = server.end(by)
            for thread in threads:
                thread.join(60)
            if by == signal.SIGTERM:
                said = server.said()[-1:]
                check(f"cycle {cycle}: SIGTERM ends it, and nothing is lost", code == 0 and any("nothing is lost" in line for line in said), "" if code == 0 else f"{code} {said}")
            else:
                check(f"cycle {cycle}: killed", code == -signal.SIGKILL, "" if code == -signal.SIGKILL else f"{code} {server.said()[-3:]}")
            panics = [line for line in server.said() if "panicked" in line or "error" in line]
            check(f"cycle {cycle}: no panic and no error", not panics, panics or "")
            for client in clients:
                check(f"cycle {cycle}: {client.name.decode()} was served", client.error is None, "" if client.error is None else repr(client.error))
                client.error = None
                open_requests += len(client.states) - 1
        requests, changes = (sum(getattr(client, what) for client in clients) for what in ("requests", "changes"))
        survived = sum(client.survived for client in clients)
        disk = sum(entry.stat().st_blocks * 512 for entry in os.scandir(store))
        print(f"kill: {arguments.cycles} cycles, {requests} requests answered, {changes} of them changes; of {open_requests} changes that were open at an end {survived} were there; "
              f"{torn} torn tails; slowest start {slowest:.2f} s; {disk >> 20} MiB on disk")
        check("there was load", changes > 20 * arguments.cycles)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
