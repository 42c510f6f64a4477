#!/usr/bin/env python3
"""The files of dev and ctl of a running server, seen by a client that shares no code with it: reads that wait, Tflush, readers that vanish, an interval log.

Usage: ctl.py BIN-FOLDER
"""
import base64
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from p9 import P9

RLERROR, RGETATTR, TFLUSH, RFLUSH, TREAD, RREAD, TCLUNK = 7, 25, 108, 109, 116, 117, 120

passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


def opened(address: str, name: bytes, aname: bytes = b"ctl", flags: int = 0) -> P9:
    client = P9(address, aname)
    client.walk(0, 1, *name.split(b"/"))
    client.open(1, flags)
    return client


def waits(client: P9, offset: int, tag: int) -> None:
    """Asks for a read at the end of fid 1. What is asked after it, and answered before it, shows that it waits."""
    client.send(TREAD, struct.pack("<IQI", 1, offset, 4096), tag)
    client.send(TCLUNK, struct.pack("<I", 99), tag + 1)
    kind, found, _ = client.next()
    check("a read at the end waits", (kind, found) == (RLERROR, tag + 1), (kind, found))


def end_of(client: P9) -> int:
    """The offset of the end of a log that is open as fid 1: a read there waits, and is taken back."""
    at = 0
    while True:
        client.send(TREAD, struct.pack("<IQI", 1, at, 4096), 5)
        client.send(TFLUSH, struct.pack("<H", 5), 6)
        _, tag, body = client.next()
        if tag == 6:
            return at
        at += len(body) - 4
        client.next()


def speaks_http(path: str) -> None:
    """Makes the server log a line."""
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(path)
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        other.recv(1)


def histogram_count(text: str) -> int:
    """The number of values in a V2 histogram with DEFLATE: zigzag LEB128 counts, negative ones are runs of zeros."""
    outer = base64.b64decode(text)
    cookie, size = struct.unpack_from(">II", outer)
    inner = zlib.decompress(outer[8 : 8 + size])
    inner_cookie, payload = struct.unpack_from(">II", inner)
    if (cookie, inner_cookie) != (0x1C849314, 0x1C849313):
        raise ValueError(f"cookies {cookie:#x} {inner_cookie:#x}")
    total = value = shift = 0
    for byte in inner[40 : 40 + payload]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            total += max((value >> 1) ^ -(value & 1), 0)
            value = shift = 0
    return total


def checks(address: str, path: str) -> None:
    reader = opened(address, b"log")
    at = end_of(reader)
    waits(reader, at, 5)
    speaks_http(path)
    kind, tag, body = reader.next()
    line = body[4:]
    check("a line that another connection causes ends the wait", (kind, tag) == (RREAD, 5) and line.startswith(b"ring9: peer ") and line.count(b"\n") == 1, line)
    check("messages (--trace) are not in it", b"Tread" not in line, line)
    at += len(line)
    waits(reader, at, 5)
    reader.send(TFLUSH, struct.pack("<H", 5), 7)
    reader.send(24, struct.pack("<IQ", 1, 0x3FFF), 5)
    replies = [reader.next()[:2] for _ in range(2)]
    check("a flush takes it back, and its tag serves again", replies == [(RFLUSH, 7), (RGETATTR, 5)], replies)
    waits(reader, at, 5)
    reader.socket.close()
    # Killed, rather than closed.
    dies = os.fork()
    if dies == 0:
        # The end of the first reader has logged that its replies could not be sent.
        reader = opened(address, b"log")
        waits(reader, end_of(reader), 5)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(dies, 0)
    speaks_http(path)
    after = opened(address, b"log")
    check("a reader that vanishes takes nothing with it", after.read(1, 0, 4096).count(b"a message of") == 2)

    follow = [os.path.join(sys.argv[1], "r9"), "--addr", address, "--aname", "ctl", "tail", "-n", "1", "-f", "/log"]
    with subprocess.Popen(follow, stdout=subprocess.PIPE) as tail:
        first = tail.stdout.readline()
        speaks_http(path)
        second = tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        code = tail.wait(10)
    check("r9 tail -f follows the log", b"a message of" in first and b"a message of" in second and code == -signal.SIGINT, (first, second, code))

    lines = opened(address, b"connections").read(1, 0, 1 << 16).decode().splitlines()
    # Who has vanished may take a turn or two to go.
    check("connections are listed", len(lines) >= 3 and all(line.split()[1] == "9P2000.L" and line.endswith(address) for line in lines[1:3]), lines)
    table = opened(address, b"latency/Tread").read(1, 0, 1 << 16).decode()
    check("percentiles are a table", table.split()[:2] == ["Value", "Percentile"] and "#[Mean" in table, table)

    intervals = opened(address, b"latency.hlog")
    head = intervals.read(1, 0, 4096)
    check("an interval log has a head", head.startswith(b"#[Histogram log format version 1.3]\n#[StartTime: "), head)
    at, counts = len(head), {}
    # The lines of an interval come one in each turn, and a read gets those that are there.
    for _ in range(20):
        if counts.get("Tag=Tlopen") and counts.get("Tag=Tread", 0) >= 2:
            break
        text = intervals.read(1, at, 1 << 16)
        at += len(text)
        for line in text.decode().splitlines():
            tag, start, length, longest, histogram = line.split(",")
            counts[tag] = counts.get(tag, 0) + histogram_count(histogram)
    # Opening it and the read of its head are in the first interval, the first wait in the second.
    check("each interval has its histograms", counts.get("Tag=Tlopen") == 1 and counts.get("Tag=Tread", 0) >= 2, counts)

    random = opened(address, b"random", b"dev", 2)
    first, second = (random.read(1, 0, 1 << 19) for _ in range(2))
    check("random gives new bytes, 64 KiB at a time", len(first) == len(second) == 1 << 16 and first != second and len(set(first)) == 256)
    check("and takes any", random.write(1, 0, bytes(100_000)) == 100_000)
    full = opened(address, b"full", b"dev", 2)
    for size in (1, 1_000_000):
        try:
            full.write(1, 0, bytes(size))
            check(f"full takes no {size} bytes", False)
        except OSError as error:
            check(f"full takes no {size} bytes", error.errno == errno.ENOSPC, error)
    check("full reads as zeros", full.read(1, 1 << 40, 9) == bytes(9))


def main() -> int:
    # For the children as well: jobs in the background of a script are started without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sock")
        command = [os.path.join(sys.argv[1], "ring9"), "--memory", "16MiB", "--trace", "--listen", f"unix:{path}"]
        with open(os.path.join(folder, "err"), "w+") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as server:
            try:
                checks(server.stdout.readline().split()[2], path)
            finally:
                server.send_signal(signal.SIGTERM)
                code = server.wait(30)
            check("SIGTERM ends it while readers wait", code == 0, code)
            err.seek(0)
            check("the log is on stderr too", "a message of" in err.read())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
