#!/usr/bin/python3
"""Many names on /mnt, which is mounted with cache=loose: Linux keeps a fid for each. A line for each check, as in basics.py.

Usage: names.py COUNT [SECONDS]        COUNT is a multiple of 1,000; SECONDS is how long to stay mounted afterwards

SETTINGS in the environment is the file of settings, if it is not /given/settings.
"""

import os
import socket
import struct
import subprocess
import sys
import time
import traceback

COUNT = int(sys.argv[1])
# Names of a directory.
EACH = 1000
PROCESSES = 32
TOP = "/mnt/names"
settings = dict(line.split("=", 1) for line in open(os.environ.get("SETTINGS", "/given/settings")).read().replace("'", "").splitlines())


def message(kind, body, tag=1):
    return struct.pack("<IBH", 7 + len(body), kind, tag) + body


def text(name):
    return struct.pack("<H", len(name)) + name.encode()


class Other:
    """Another client of the server. What it makes, the mount has not seen."""

    def __init__(self):
        port = int(dict(option.partition("=")[::2] for option in settings["MOUNT"].split(","))["port"])
        self.socket = socket.create_connection((settings["FROM"], port))
        self.replies = self.socket.makefile("rb")
        self.ask(message(100, struct.pack("<I", 1 << 17) + text("9P2000.L"), 0xFFFF), 1)
        self.ask(message(104, struct.pack("<II", 0, 0xFFFFFFFF) + text("root") + text("") + struct.pack("<I", 0)), 1)

    def ask(self, requests, count):
        """Sends requests together. None may fail."""
        self.socket.sendall(requests)
        for _ in range(count):
            size, kind, _ = struct.unpack("<IBH", self.replies.read(7))
            body = self.replies.read(size - 7)
            assert kind != 7, os.strerror(struct.unpack("<I", body)[0])

    def walk(self, newfid, *names):
        self.ask(message(110, struct.pack("<IIH", 0, newfid, len(names)) + b"".join(map(text, names))), 1)

    def clunk(self, fid):
        self.ask(message(120, struct.pack("<I", fid)), 1)


def folders():
    return [f"{number:04}" for number in range(COUNT // EACH)]


def another_client_makes_them():
    other = Other()
    files = [f"{number:03}" for number in range(EACH)]
    # Parts that fit the socket: no request waits for replies that are not read.
    parts = [b"".join(message(18, struct.pack("<I", 2) + text(name) + struct.pack("<IIII", 0o100644, 0, 0, 0)) for name in files[at : at + 250]) for at in range(0, EACH, 250)]
    other.walk(1, "names")
    for folder in folders():
        other.ask(message(72, struct.pack("<I", 1) + text(folder) + struct.pack("<II", 0o755, 0)), 1)
        other.walk(2, "names", folder)
        for part in parts:
            other.ask(part, 250)
        other.clunk(2)


def each_is_seen():
    """By several programs at once: requests that are in flight together share a packet."""
    parts = [[f"{TOP}/{folder}" for folder in folders()[number::PROCESSES]] for number in range(PROCESSES)]
    # With -size, find(1) asks for the attributes of each.
    looks = [subprocess.Popen(["find", *part, "-type", "f", "-size", "0", "-perm", "0644", "-printf", "."], stdout=subprocess.PIPE) for part in parts if part]
    seen = sum(look.stdout.read().count(b".") for look in looks)
    assert [look.wait() for look in looks] == [0] * len(looks)
    assert seen == COUNT, seen


def each_is_held():
    """Names that another client removes still lead to their files, for each has its fid."""
    other = Other()
    for folder in folders():
        other.walk(2, "names", folder)
        other.ask(message(76, struct.pack("<I", 2) + text("500") + struct.pack("<I", 0)), 1)
        other.clunk(2)
        os.chmod(f"{TOP}/{folder}/500", 0o600)


def the_mount_goes_on():
    for number in range(100):
        name = f"{TOP}/{number % len(folders()):04}/new-{number}"
        with open(name, "xb") as out:
            out.write(name.encode() * 100)
        assert os.stat(name).st_size == len(name) * 100
        with open(name, "rb") as file:
            assert file.read() == name.encode() * 100
        os.rename(name, name + "-renamed")
        os.mkdir(name)
        os.rmdir(name)
        os.remove(name + "-renamed")
    # Where a name was seen first and last.
    for folder in (folders()[0], folders()[-1]):
        with open(f"{TOP}/{folder}/000", "r+b", buffering=0) as file:
            assert file.write(b"content") == 7
            assert os.fstat(file.fileno()).st_size == 7
        assert open(f"{TOP}/{folder}/000", "rb").read() == b"content"
    assert len(os.listdir(TOP)) == len(folders())


failed = 0
CHECKS = [another_client_makes_them, each_is_seen, each_is_held, the_mount_goes_on]
os.mkdir(TOP)
for check in CHECKS:
    began = time.monotonic()
    try:
        check()
        print(f"ok   {check.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    except BaseException:
        failed += 1
        print(f"FAIL {check.__name__}", flush=True)
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
print(f"{len(CHECKS) - failed} passed, {failed} failed", flush=True)
# What is written later is written before the machine ends.
os.sync()
if len(sys.argv) > 2:
    print("names: held", flush=True)
    time.sleep(float(sys.argv[2]))
sys.exit(failed)
