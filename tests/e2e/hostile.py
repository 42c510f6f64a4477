"""Hostile clients of six kinds, each a process of its own that can be told to rest: what soak.py and its like let loose on a server."""
import multiprocessing
import os
import random
import socket
import struct
import time

from p9 import P9, text

def reset(client: P9) -> None:
    """Closes so that the other end gets a reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.socket.close()


# Each kind of hostile client: one turn of it. What the server refuses, or how it ends a connection, is its business.


def churn(address: str, dice: random.Random) -> None:
    client = P9(address)
    client.walk(0, 1, b"file")
    client.open(1)
    client.read(1, 0, 4096)
    reset(client) if dice.random() < 0.5 else client.socket.close()


def vanish(address: str, dice: random.Random) -> None:
    """Goes in the middle of a large write, of a small one, or of a head."""
    client = P9(address)
    client.walk(0, 1, b"big")
    client.open(1, 1)
    count = dice.choice([1000, 100_000, 1_000_000])
    message = struct.pack("<IBHIQI", 23 + count, 118, 1, 1, dice.randrange(1 << 20), count) + bytes(count)
    client.socket.settimeout(5)
    client.socket.sendall(message[: dice.randrange(1, len(message))])
    reset(client)


def hoard(address: str, dice: random.Random) -> None:
    """Asks for 64 MB and takes a little of it."""
    client = P9(address)
    client.walk(0, 1, b"big")
    client.open(1)
    for tag in range(64):
        client.send(116, struct.pack("<IQI", 1, 0, 1_000_000), tag)
    for _ in range(10):
        client.socket.recv(1000)
        time.sleep(0.02)
    reset(client)


def babble(address: str, dice: random.Random) -> None:
    """Not 9P, or not quite."""
    client = P9(address)
    junk = dice.randbytes(dice.randrange(1, 5000))
    forms = [junk, struct.pack("<IBH", 0, 100, 1), struct.pack("<IBH", 1 << 30, 116, 1), struct.pack("<IBH", 7 + len(junk), dice.randrange(256), 1) + junk]
    client.socket.settimeout(0.05)
    try:
        client.socket.sendall(dice.choice(forms))
        client.socket.recv(1 << 16)
    except OSError:
        pass
    client.socket.close()


def drip(address: str, dice: random.Random) -> None:
    """A byte at a time, and a flush of what was never asked."""
    client = P9(address)
    message = struct.pack("<IBHH", 9, 108, 7, 3) + struct.pack("<IBHIIH", 17, 110, 8, 0, 5, 0)
    for at in range(len(message)):
        client.socket.sendall(message[at : at + 1])
        time.sleep(0.005)
    client.next()
    client.next()
    client.socket.close()


def litter(address: str, dice: random.Random) -> None:
    """Files made, written, cut, unlinked while open, and left behind."""
    client = P9(address)
    name = b"litter.%d" % dice.randrange(50)
    client.walk(0, 1)
    try:
        client.create(1, name)
    except OSError:
        client.walk(0, 2, name)
        client.open(2, 2)
        client.write(2, 0, bytes(dice.randrange(1, 200_000)))
        client.call(26, struct.pack("<IIIIIQQQQQ", 2, 8, 0, 0, 0, dice.randrange(1000), 0, 0, 0, 0))
        client.call(76, struct.pack("<I", 0) + text(name) + struct.pack("<I", 0))
        client.write(2, 0, bytes(300_000))
    else:
        client.write(1, 0, bytes(dice.randrange(1, 200_000)))
    client.socket.close()


KINDS = [churn, vanish, hoard, babble, drip, litter]


class Attacker:
    """A process with hostile clients of one kind, one after the other, that rests until it is told otherwise."""

    def __init__(self, kind, address: str, seed: int, cpu: int | None, pause: float):
        self.name = kind.__name__
        # A child of this process, not of a server of forks: it ends when its parent has.
        fork = multiprocessing.get_context("fork")
        self.counted = fork.Value("L", 0)
        self.go, self.rests = fork.Event(), fork.Event()
        self.process = fork.Process(target=self.work, args=(kind, address, seed, cpu, pause, os.getpid()), daemon=True)
        self.process.start()

    def work(self, kind, address: str, seed: int, cpu: int | None, pause: float, parent: int) -> None:
        dice = random.Random(seed)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        while os.getppid() == parent:
            if not self.go.is_set():
                self.rests.set()
                self.go.wait(1)
                continue
            try:
                kind(address, dice)
            except (OSError, EOFError):
                pass
            self.counted.value += 1
            time.sleep(pause)

    def start(self) -> None:
        self.go.set()

    def rest(self) -> None:
        """Returns when the turn that was under way is over."""
        self.go.clear()
        self.rests.clear()  # it may still say so of the last time
        if not self.rests.wait(60):
            raise TimeoutError(f"a turn of {self.name} does not end")

    @property
    def turns(self) -> int:
        return self.counted.value

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
