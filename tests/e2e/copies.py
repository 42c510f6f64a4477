#!/usr/bin/env python3
"""How many bytes the server copies, by its own counters and by a witness beside them.

The rule for writes. Each written byte is copied at most once out of a receive buffer. Beyond that:

- Nothing is copied where bytes are overwritten in place, and where whole blocks are replaced.
- Growth and merging copy at most one byte for each byte written, over the life of a file.
- Where replies pin the old bytes, at most two parts of 4 KiB are copied: those that the write covers in part.

Reads copy nothing. `allowance` has the rule as figures for each cell of a grid: sizes, offsets, states of the file, and how the payload comes.

The counters are those of `ctl/stats` with "copied" in their names. The witness is witness.c, a library that counts the bytes of memcpy and memmove. Both
have to agree in each cell. A loop that is written out in place would be seen by neither; so reads and appends are also counted in instructions, by callgrind.

The last part is a table of memory: how many scattered parts and small files fit into 64 MiB, beside a tmpfs of that size.

Usage: copies.py PATH-TO-RING9 [--only PARTS] [--all]        (needs a C compiler and valgrind)
PARTS: grid,lives,windows,reads,instructions,memory. --all prints each cell of the grid, not only those that fail.
"""
import argparse
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from typing import Iterator, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from p9 import P9, text

# Counters of ctl/stats. The payload's own copy, out of a buffer that was received into:
OWN = {"copied_small_bytes", "copied_window_bytes"}
# Sums of others:
SUMS = {"copied_bytes": OWN}
# All others with "copied" in their names are copies beyond that, whatever they are called.

BLOCK = 65536
PART = 4096
PAYLOAD_MAX = (1 << 20) - 24
SIZES = [1, 100, 4095, 4096, 4097, 16384, 20000, 32768, 65536, 100000, 131072, PAYLOAD_MAX]
STATES = ["empty", "full", "sparse", "pinned"]
# Messages up to 16 KiB do not land (docs/architecture.md, "The life of a write").
LANDS_FROM = 16384
# Bytes by which the witness and the counters may differ in a cell: heads of replies, which are copied beside the blocks before Linux 6.17. They do not differ by one here.
TOLERANCE = 64

# Of this script.
PARTS = "grid,lives,windows,reads,instructions,memory"

# Slopes between two sizes of the same request.
ROUNDS = 40
SMALL, LARGE = 65536, PAYLOAD_MAX
INSTRUCTIONS_PER_BYTE = 0.02


def message(kind: int, body: bytes, tag: int = 1) -> bytes:
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def twrite(fid: int, offset: int, data: bytes) -> bytes:
    return message(118, struct.pack("<IQI", fid, offset, len(data)) + data)


def tread(fid: int, offset: int, count: int) -> bytes:
    return message(116, struct.pack("<IQI", fid, offset, count))


class Figures(NamedTuple):
    """What was copied: by the counters, and by the witness, if there is one."""

    own: int
    beyond: int
    landed: int
    pins: int
    witness: tuple[int, int, int]

    def since(self, before: "Figures") -> "Figures":
        witness = tuple(now - then for now, then in zip(self.witness, before.witness))
        return Figures(self.own - before.own, self.beyond - before.beyond, self.landed - before.landed, self.pins, witness)


class Server:
    """A ring9, alone, under callgrind or with the witness."""

    def __init__(self, program: str, memory: int = 64 << 20, witness: str = "", callgrind: bool = False):
        self.folder = tempfile.TemporaryDirectory()
        command = [program, "--trust", "all", "--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{self.folder.name}/sock", "--memory", str(memory)]
        environment = dict(os.environ)
        self.out = f"{self.folder.name}/callgrind"
        if callgrind:
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.out}", *command]
        self.seen = None
        if witness:
            path = f"{self.folder.name}/witness"
            with open(path, "wb") as file:
                file.write(bytes(mmap.PAGESIZE))
            environment |= {"LD_PRELOAD": witness, "WITNESS_FILE": path, "WITNESS_MAPPING": str(memory)}
            with open(path, "r+b") as file:
                self.seen = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        self.tcp, self.unix = self.process.stdout.readline().split()[2:]
        self.ctl = P9(self.unix, b"ctl")
        self.ctl.walk(0, 1, b"stats")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def instructions(self) -> int:
        self.__exit__()
        with open(self.out) as file:
            return int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)[1])

    def counters(self) -> dict[str, int]:
        """All counters. What came to other connections before has been served by then."""
        self.ctl.walk(1, 2)
        self.ctl.open(2)
        lines = self.ctl.read(2, 0, 1 << 16).decode().splitlines()
        self.ctl.clunk(2)
        return {name: int(value) for name, value in (line.split() for line in lines)}

    def figures(self) -> Figures:
        counters = self.counters()
        copied = {name: value for name, value in counters.items() if "copied" in name}
        for name, parts in SUMS.items():
            if copied.pop(name) != sum(copied[part] for part in parts):
                sys.exit(f"{name} is no longer the sum of {', '.join(sorted(parts))}: mend the table at the head of copies.py")
        own = sum(copied.pop(name) for name in OWN)
        witness = struct.unpack("<QQQ", self.seen[:24]) if self.seen else (0, 0, 0)
        return Figures(own, sum(copied.values()), counters["landed_bytes"], counters["pins"], witness)


class Cell(NamedTuple):
    """One write."""

    size: int
    where: str
    state: str
    comes: str

    @property
    def offset(self) -> int:
        match self.where:
            case "aligned":
                return self.size
            case "aligned+1":
                return self.size + 1
            case _:
                # Half of it lies before the border of two blocks.
                border = max(BLOCK, -(-(self.size // 2) // BLOCK) * BLOCK)
                return border - max(1, self.size // 2)

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def file_size(self) -> int:
        """Of a file that is not empty: some blocks more than the write reaches."""
        return (self.end // BLOCK + 3) * BLOCK

    def covered(self) -> list[int]:
        """Bytes of each block that it touches."""
        starts = range(self.offset // BLOCK * BLOCK, self.end, BLOCK)
        return [min(self.end, start + BLOCK) - max(self.offset, start) for start in starts]

    def is_split(self) -> bool:
        """Whether the message is not whole in one receive buffer."""
        return self.lands() or self.size + 23 > BLOCK

    def lands(self) -> bool:
        return self.comes == "in pieces" and self.size + 23 > LANDS_FROM


def grid() -> Iterator[Cell]:
    for comes in ["at once", "in pieces"]:
        for state in STATES:
            for where in ["aligned", "aligned+1", "across"]:
                for size in SIZES:
                    yield Cell(size, where, state, comes)


def allowance(cell: Cell) -> tuple[int, str]:
    """Bytes that may be copied for a cell beyond the payload's own copy, and why. This is the rule."""
    match cell.state:
        case "empty":
            # There are no bytes that could be kept, moved or merged.
            return 0, "nothing is there"
        case "full":
            # Every byte is overwritten where it is, or in a block that is replaced as a whole. What came beside its block for a part of it is merged: the part
            # goes to the block or the rest of the block to the part, whichever is less.
            edges = [min(covered, BLOCK - covered) for covered in cell.covered()] if cell.is_split() else []
            return sum(edges), "merging what came beside its block" if edges else "in place"
        case "sparse":
            # Merging copies each byte at most once in the life of a file. Each touched block has had PART bytes written to it, so no more can be merged.
            touched = -(-cell.end // BLOCK) - cell.offset // BLOCK
            return touched * PART, f"merging, {touched} parts are there"
        case "pinned":
            # Replies show the old bytes, so parts of 4 KiB are replaced. What is kept of the first and of the last of them has to be copied.
            low, high = cell.offset % PART, -cell.end % PART
            parts = {cell.offset // PART} if low else set()
            parts |= {(cell.end - 1) // PART} if high else set()
            return len(parts) * PART, f"{len(parts)} parts of 4 KiB that are kept in part"
    raise ValueError(cell.state)


def settle(client: P9, count: int) -> None:
    for _ in range(count):
        client.receive()


def write_all(client: P9, fid: int, offset: int, data: bytes) -> None:
    """In writes that replace whole blocks."""
    for at in range(0, len(data), BLOCK * 8):
        client.write(fid, offset + at, data[at : at + BLOCK * 8])


def set_size(client: P9, fid: int, size: int) -> None:
    client.call(26, struct.pack("<IIIIIQ", fid, 8, 0, 0, 0, size) + bytes(32))


def prepare(client: P9, cell: Cell) -> None:
    """Brings the file of fid 1 into its state."""
    if cell.state in ("full", "pinned"):
        write_all(client, 1, 0, b"o" * cell.file_size)
    elif cell.state == "sparse":
        set_size(client, 1, cell.file_size)
        starts = range(0, cell.file_size, BLOCK)
        client.socket.sendall(b"".join(twrite(1, start, b"o" * PART) for start in starts))
        settle(client, len(starts))


class Reader:
    """A client that asks for bytes and does not take them, so that replies stay queued and pin what they show."""

    def __init__(self, server: Server, cell: Cell):
        self.client = P9(server.unix)
        self.client.walk(0, 1, b"ballast")
        self.client.open(1)
        self.client.walk(0, 2, b"file")
        self.client.open(2)
        before = server.figures().pins
        # The socket takes some; what is queued behind it pins blocks.
        for _ in range(64):
            self.client.socket.sendall(tread(1, 0, 4 * BLOCK))
            if server.figures().pins > before:
                break
        else:
            sys.exit("no reply has stayed queued")
        # The write's own bytes, and the parts around it.
        ballast = server.figures().pins
        low, high = max(0, cell.offset - PART), min(cell.file_size, cell.end + PART)
        for start in range(low, high, PAYLOAD_MAX):
            self.client.socket.sendall(tread(2, start, min(PAYLOAD_MAX, high - start)))
        self.pins = server.figures().pins
        if self.pins <= ballast:
            sys.exit(f"{cell}: its bytes are not pinned")

    def close(self) -> None:
        self.client.socket.close()


def write_cell(server: Server, client: P9, cell: Cell, data: bytes) -> None:
    request = twrite(1, cell.offset, data)
    if cell.comes == "at once":
        client.socket.sendall(request)
    else:
        # Between two pieces another connection is answered, so each piece is received by itself.
        third = max(1, len(data) // 3)
        pieces = [request[:23]] + [request[start : start + third] for start in range(23, len(request), third)]
        for piece in pieces:
            client.socket.sendall(piece)
            server.counters()
    kind, body = client.receive()
    if kind != 119 or struct.unpack("<I", body)[0] != len(data):
        sys.exit(f"{cell}: not all was written")


def one_cell(server: Server, cell: Cell, data: bytes) -> Figures:
    client = P9(server.unix)
    client.walk(0, 1)
    client.create(1, b"file")
    prepare(client, cell)
    reader = Reader(server, cell) if cell.state == "pinned" else None
    # A connection that has written nothing yet: large payloads come to shared buffers first (docs/decisions/09-shared-buffers.md).
    writer = P9(server.unix)
    writer.walk(0, 1, b"file")
    writer.open(1, 2)
    before = server.figures()
    write_cell(server, writer, cell, data)
    figures = server.figures().since(before)
    if reader and figures.pins < reader.pins:
        sys.exit(f"{cell}: {figures.pins} of {reader.pins} pins are left behind the write, so it may have met none")
    if writer.read(1, cell.offset, cell.size) != data:
        sys.exit(f"{cell}: other bytes are read than were written")
    for other in (reader, writer):
        if other:
            (other.client if isinstance(other, Reader) else other).socket.close()
    client.remove(1)
    client.socket.close()
    return figures


def faults(cell: Cell, figures: Figures) -> list[str]:
    """What breaks the rule."""
    found = []
    allowed, why = allowance(cell)
    if figures.own > cell.size:
        found.append(f"its own copy is {figures.own} bytes")
    if figures.beyond > allowed:
        found.append(f"{figures.beyond} bytes copied beyond it, {allowed} allowed ({why})")
    if cell.lands() and figures.landed < cell.size // 2:
        found.append(f"only {figures.landed} bytes have landed")
    return found


def disagreement(counted: int, figures: Figures) -> list[str]:
    """Whether the witness and the counters differ; all copies into the memory of files count."""
    seen = sum(figures.witness[:2])
    return [f"the witness has seen {seen} bytes copied, the counters {counted}"] if abs(seen - counted) > TOLERANCE else []


def check_grid(program: str, witness: str, show_all: bool) -> int:
    failed, sums = 0, {}
    row = "{:<9} {:<10} {:<8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8}  {}"
    print(row.format("comes", "offset", "state", "size", "at", "own/B", "more/B", "allowed", "landed/B", ""))
    rng = random.Random(1)
    with Server(program, witness=witness) as server:
        client = P9(server.unix)
        client.walk(0, 1)
        client.create(1, b"ballast")
        write_all(client, 1, 0, bytes(4 * BLOCK))
        for cell in grid():
            figures = one_cell(server, cell, rng.randbytes(cell.size))
            found = faults(cell, figures)
            if witness:
                found += disagreement(figures.own + figures.beyond, figures)
            share = [f"{value / cell.size:.3f}" for value in (figures.own, figures.beyond, allowance(cell)[0], figures.landed)]
            if found or show_all:
                print(row.format(cell.comes, cell.where, cell.state, cell.size, cell.offset, *share, "MISS: " + "; ".join(found) if found else "ok"))
            failed += bool(found)
            misses, count = sums.get((cell.comes, cell.state), (0, 0))
            sums[cell.comes, cell.state] = misses + bool(found), count + 1
    for (comes, state), (misses, count) in sums.items():
        print(f"{comes}, {state}: {count - misses} of {count} cells are as they should be")
    return failed


def lives() -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """Files from their creation on, as lists of offset and size: what growth and merging copy has to be paid for by what was written."""
    rng = random.Random(2)

    def shuffled(end: int, size: int) -> list[tuple[int, int]]:
        writes = [(start, size) for start in range(0, end, size)]
        rng.shuffle(writes)
        return writes

    for size in [1, 100, 1000, PART, 5000, 20000, 100000]:
        end = min(1 << 20, size * 3000)
        yield f"{end} bytes, appended {size} at a time", [(start, size) for start in range(0, end, size)]
    yield "1 MiB, parts of 4 KiB from the end to the start", [(start, PART) for start in range((1 << 20) - PART, -1, -PART)]
    yield "1 MiB, parts of 4 KiB in a random order", shuffled(1 << 20, PART)
    yield "256 KiB, 512 bytes at a time in a random order", shuffled(1 << 18, 512)
    yield "1 MiB, 16 KiB at a time in a random order", shuffled(1 << 20, 4 * PART)
    yield "1 MiB, 20,000 bytes at a time in a random order", shuffled(1 << 20, 20000)
    yield "64 KiB in parts of 4 KiB, every other one first", [(start, PART) for first in (0, PART) for start in range(first, BLOCK, 2 * PART)]


def check_lives(program: str, witness: str) -> int:
    failed = 0
    print(f"\n{'a file, from its creation on':<52} {'own/B':>7} {'more/B':>7} {'allowed':>8}")
    with Server(program, witness=witness) as server:
        for name, writes in lives():
            client = P9(server.unix)
            client.walk(0, 1)
            client.create(1, b"file")
            before, written = server.figures(), 0
            for start in range(0, len(writes), 64):
                batch = writes[start : start + 64]
                # A batch of large writes would fill both sockets; these come one by one.
                parts = [batch] if batch[0][1] <= PART else [[one] for one in batch]
                for part in parts:
                    client.socket.sendall(b"".join(twrite(1, offset, b"w" * size) for offset, size in part))
                    settle(client, len(part))
                written += sum(size for _, size in batch)
            figures = server.figures().since(before)
            found = [] if figures.beyond <= written else ["more than was written"]
            found += [] if figures.own <= written else ["its own copies are more than one for each byte"]
            if witness:
                found += disagreement(figures.own + figures.beyond, figures)
            print(f"{name:<52} {figures.own / written:>7.3f} {figures.beyond / written:>7.3f} {1:>8} {'MISS: ' + '; '.join(found) if found else 'ok'}")
            failed += bool(found)
            client.remove(1)
            client.socket.close()
    return failed


def check_windows(program: str) -> int:
    """What comes along with the head of a large write: of a client that has sent one just before, and of one that was quiet."""
    failed = 0
    print(f"\n{'share of a payload that is copied out of a receive buffer':<60} {'64 KiB':>8} {'1 MiB':>8}")
    for name, limits in [("appends of a client that sends one after the other", (0.25, 0.02)), ("the first one of a quiet client", (1.0, 1.0))]:
        shares = []
        for size in (SMALL, LARGE):
            with Server(program) as server:
                client = P9(server.tcp)
                client.walk(0, 1)
                client.create(1, b"file")
                rounds = 1
                if limits[0] < 1:
                    client.write(1, 0, bytes(SMALL))
                    rounds = ROUNDS
                before = server.figures()
                for n in range(rounds):
                    client.write(1, SMALL + n * size, bytes(size))
                figures = server.figures().since(before)
                shares.append(figures.own / (rounds * size))
                if figures.own + figures.landed != rounds * size:
                    print(f"MISS: {figures.own} bytes copied and {figures.landed} landed are not {rounds * size}")
                    failed += 1
        ok = all(share <= limit for share, limit in zip(shares, limits))
        failed += not ok
        print(f"{name:<60} {shares[0]:>8.2%} {shares[1]:>8.2%} {'ok' if ok else 'MISS'}")
    return failed


def check_reads(program: str, witness: str) -> int:
    """Nothing is copied out of the memory of files."""
    failed = 0
    if not witness:
        return 0
    print(f"\n{'reads: bytes copied, by the witness':<52} {'read':>10} {'copied':>8}")
    with Server(program, witness=witness) as server:
        client = P9(server.unix)
        client.walk(0, 1)
        client.create(1, b"file")
        write_all(client, 1, 0, bytes(2 << 20))
        for size in [4096, 20000, SMALL, LARGE]:
            before = server.figures()
            for n in range(ROUNDS):
                if len(client.read(1, n * 4097, size)) != size:
                    sys.exit("a read was short")
            into, inside, out = server.figures().since(before).witness
            # Heads of replies may be copied beside the blocks, 11 bytes each.
            copied = into + inside + out
            ok = copied <= TOLERANCE * ROUNDS
            failed += not ok
            print(f"{f'{ROUNDS} reads of {size} bytes, any alignment':<52} {ROUNDS * size:>10} {copied:>8} {'ok' if ok else 'MISS'}")
    return failed


def instructions(program: str, size: int, work) -> int:
    with Server(program, callgrind=True) as server:
        client = P9(server.tcp)
        client.walk(0, 1)
        client.create(1, b"file")
        # The first payload after a while may come through shared buffers: its share is by chance.
        client.walk(0, 2)
        client.create(2, b"other")
        client.write(2, 0, bytes(SMALL))
        work(client, size)
        return server.instructions()


def reads(client: P9, size: int) -> None:
    # The same file whatever the size that is read.
    write_all(client, 1, 0, bytes(2 << 20))
    for n in range(ROUNDS):
        assert len(client.read(1, n * 4097, size)) == size


def appends(client: P9, size: int) -> None:
    for n in range(ROUNDS):
        client.write(1, 4097 + n * size, bytes(size))


def check_instructions(program: str) -> int:
    """Slopes between two sizes of the same request, so that what a request costs by itself falls out."""
    failed = 0
    print(f"\n{'instructions per byte, from 64 KiB to 1 MiB':<52} {'':>8} {'limit':>8}")
    for name, work in [("read, any alignment", reads), ("append at 4097 mod 65536", appends)]:
        low, high = instructions(program, SMALL, work), instructions(program, LARGE, work)
        slope = (high - low) / ROUNDS / (LARGE - SMALL)
        ok = slope <= INSTRUCTIONS_PER_BYTE
        failed += not ok
        print(f"{name:<52} {slope:>8.4f} {INSTRUCTIONS_PER_BYTE:>8} {'ok' if ok else 'MISS'}")
    return failed


# The table of memory.
MEMORY = 64 << 20
SCATTERED_MIN, SPARSE_FILES_MIN = 12_000, 6_000
SCATTER_OVER = 1 << 30


def scatter() -> list[int]:
    starts = list(range(0, SCATTER_OVER, PART))
    random.Random(3).shuffle(starts)
    return starts[: 2 * MEMORY // PART]


def until_full(client: P9, requests: Iterator[bytes]) -> int:
    """Requests that were answered well before the first ENOSPC, 64 at a time."""
    done = 0
    while True:
        batch = [request for _, request in zip(range(64), requests)]
        if not batch:
            return done
        client.socket.sendall(b"".join(batch))
        full = False
        for _ in batch:
            try:
                client.receive()
                done += not full
            except OSError as error:
                if error.errno != 28:
                    raise
                full = True
        if full:
            return done


def taken_by_ring9(program: str) -> tuple[int, int]:
    counts = []
    for which in ("scattered", "files"):
        with Server(program, memory=MEMORY) as server:
            client = P9(server.unix)
            if which == "scattered":
                client.walk(0, 1)
                client.create(1, b"file")
                counts.append(until_full(client, (twrite(1, start, b"s" * PART) for start in scatter())))
                continue
            done, full = 0, False
            while not full and done < 40_000:
                name = b"%d" % done
                walk = message(110, struct.pack("<IIH", 0, 1, 0))
                create = message(14, struct.pack("<I", 1) + text(name) + struct.pack("<III", 0o102, 0o100644, 0))
                clunk = message(120, struct.pack("<I", 1))
                client.socket.sendall(walk + create + twrite(1, 0, b"s" * PART) + twrite(1, 1 << 20, b"s" * PART) + clunk)
                for _ in range(5):
                    try:
                        client.receive()
                    except OSError as error:
                        if error.errno != 28:
                            raise
                        full = True
                done += not full
            counts.append(done)
    return counts[0], counts[1]


def fill_folder(folder: str) -> None:
    """The same in a folder; run in a mount namespace of its own. Prints both counts."""
    counts = []
    path, done = f"{folder}/file", 0
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        for start in scatter():
            done += os.pwrite(file, b"s" * PART, start) == PART
    except OSError:
        pass
    counts.append(done)
    os.close(file)
    os.unlink(path)
    done = 0
    try:
        while True:
            file = os.open(f"{folder}/{done}", os.O_RDWR | os.O_CREAT)
            try:
                for start in (0, 1 << 20):
                    if os.pwrite(file, b"s" * PART, start) != PART:
                        raise OSError(28, "no space")
            finally:
                os.close(file)
            done += 1
    except OSError:
        pass
    counts.append(done)
    print(*counts)


def taken_by_tmpfs() -> tuple[int, int] | str:
    if not shutil.which("unshare"):
        return "no unshare(1)"
    with tempfile.TemporaryDirectory() as folder:
        inside = f'mount -t tmpfs -o size={MEMORY} none "$0" && exec "$1" "$2" --fill "$0"'
        command = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", inside, folder, sys.executable, os.path.abspath(__file__)]
        said = subprocess.run(command, capture_output=True, text=True)
        counts = said.stdout.split()
        return (int(counts[0]), int(counts[1])) if len(counts) == 2 else said.stderr.strip() or f"exit code {said.returncode}"


def check_memory(program: str) -> int:
    ours, theirs = taken_by_ring9(program), taken_by_tmpfs()
    if isinstance(theirs, str):
        print(f"\nskipped: the tmpfs beside ring9 ({theirs})")
        theirs = ("-", "-")
    failed = 0
    print(f"\n{f'until ENOSPC, with {MEMORY >> 20} MiB':<52} {'ring9':>8} {'wanted':>8} {'tmpfs':>8}")
    for name, count, wanted, beside in [
        ("writes of 4 KiB at random parts of 1 GiB", ours[0], SCATTERED_MIN, theirs[0]),
        ("files with 4 KiB at 0 and 4 KiB at 1 MiB", ours[1], SPARSE_FILES_MIN, theirs[1]),
    ]:
        failed += count < wanted
        print(f"{name:<52} {count:>8} {wanted:>8} {beside:>8} {'ok' if count >= wanted else 'MISS'}")
    return failed


def build_witness(folder: str) -> str:
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if not compiler:
        sys.exit("a C compiler builds the witness: there is none")
    library = f"{folder}/witness.so"
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "witness.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-fno-builtin", "-o", library, source, "-ldl"], check=True)
    return library


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?")
    parser.add_argument("--only", default=PARTS)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--fill", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.fill:
        fill_folder(flags.fill)
        return 0
    parts = flags.only.split(",")
    if not flags.program or not set(parts) <= set(PARTS.split(",")):
        parser.error(f"PATH-TO-RING9, and --only with some of {PARTS}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        witness = build_witness(folder)
        if "grid" in parts:
            failed += check_grid(flags.program, witness, flags.all)
        if "lives" in parts:
            failed += check_lives(flags.program, witness)
        if "windows" in parts:
            failed += check_windows(flags.program)
        if "reads" in parts:
            failed += check_reads(flags.program, witness)
        if "instructions" in parts:
            failed += check_instructions(flags.program)
        if "memory" in parts:
            failed += check_memory(flags.program)
    print(f"\n{failed} figures miss the rule" if failed else "\nall figures keep the rule")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
