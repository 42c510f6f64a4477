#!/usr/bin/env python3
"""The answers that docs/protocol.md marks with a dagger, from a running server.

Usage: protocol.py BIN-FOLDER
"""
import errno
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from p9 import text

L, U, P9 = b"9P2000.L", b"9P2000.u", b"9P2000"
NOFID = NONE = 0xFFFFFFFF
CLOSED = "closed"
passed = failed = 0


def check(name: str, got: object, wanted: object) -> None:
    global passed, failed
    ok = got == wanted
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{'' if ok else f': {got!r} instead of {wanted!r}'}", flush=True)


class Peer:
    """A connection; answers are (type, body), a negative errno, or CLOSED."""

    address = {}

    def __init__(self, dialect: bytes = L, where: str = "all", uname: bytes = b"root", uid: int = 0, attach: bool = True, agree: bool = True):
        kind, _, rest = self.address[where].partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(20)
        self.dialect = dialect
        if agree:
            self.version(dialect)
            if attach:
                self.attach(0, uname=uname, uid=uid)

    def send(self, kind: int, body: bytes, tag: int = 1, size: int | None = None) -> None:
        self.socket.sendall(struct.pack("<IBH", 7 + len(body) if size is None else size, kind, tag) + body)

    def receive(self) -> object:
        head = self.exactly(7)
        if head is None:
            return CLOSED
        size, kind, self.tag = struct.unpack("<IBH", head)
        body = self.exactly(size - 7)
        if body is None:
            return CLOSED
        if kind == 7:
            return -struct.unpack("<I", body)[0]
        if kind == 107:
            length = struct.unpack_from("<H", body)[0]
            self.ename = body[2 : 2 + length]
            known = {os.strerror(number).encode(): -number for number in errno.errorcode}
            return -struct.unpack_from("<I", body, 2 + length)[0] if self.dialect == U else known.get(self.ename, self.ename)
        return kind, body

    def exactly(self, n: int) -> bytes | None:
        got = b""
        while len(got) < n:
            try:
                part = self.socket.recv(n - len(got))
            except ConnectionResetError:
                return None
            if not part:
                return None
            got += part
        return got

    def ask(self, kind: int, body: bytes = b"", tag: int = 1) -> object:
        self.send(kind, body, tag)
        return self.receive()

    def version(self, version: bytes, msize: int = 65536, tag: int = 0xFFFF) -> object:
        return self.ask(100, struct.pack("<I", msize) + text(version), tag)

    def attach(self, fid: int, uname: bytes = b"root", aname: bytes = b"", uid: int = 0, afid: int = NOFID) -> object:
        number = b"" if self.dialect == P9 else struct.pack("<I", uid)
        return self.ask(104, struct.pack("<II", fid, afid) + text(uname) + text(aname) + number)

    def walk(self, fid: int, new: int, *names: bytes) -> object:
        return self.ask(110, struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names)))

    def mkdir(self, name: bytes) -> object:
        return self.ask(72, struct.pack("<I", 0) + text(name) + struct.pack("<II", 0o755, 0))

    def lopen(self, fid: int, flags: int = 0) -> object:
        return self.ask(12, struct.pack("<II", fid, flags))

    def make(self, fid: int, name: bytes, flags: int = 2, mode: int = 0o644) -> object:
        """A new file behind a new fid, in the root."""
        self.walk(0, fid)
        return self.ask(14, struct.pack("<I", fid) + text(name) + struct.pack("<III", flags, mode, 0))

    def open(self, fid: int, mode: int = 0) -> object:
        return self.ask(112, struct.pack("<IB", fid, mode))

    def create(self, fid: int, name: bytes, perm: int = 0o644, mode: int = 2, extension: bytes = b"") -> object:
        return self.ask(114, struct.pack("<I", fid) + text(name) + struct.pack("<IB", perm, mode) + (text(extension) if self.dialect == U else b""))

    def read(self, fid: int, offset: int = 0, count: int = 100) -> object:
        return self.ask(116, struct.pack("<IQI", fid, offset, count))

    def list(self, fid: int, offset: int = 0, count: int = 1000) -> object:
        return self.ask(40, struct.pack("<IQI", fid, offset, count))

    def write(self, fid: int, offset: int, data: bytes) -> object:
        return self.ask(118, struct.pack("<IQI", fid, offset, len(data)) + data)

    def clunk(self, fid: int) -> object:
        return self.ask(120, struct.pack("<I", fid))

    def remove(self, fid: int) -> object:
        return self.ask(122, struct.pack("<I", fid))

    def set(self, fid: int, valid: int, mode: int = 0, uid: int = 0, gid: int = 0, size: int = 0, nsec: int = 0) -> object:
        return self.ask(26, struct.pack("<IIIIIQQQQQ", fid, valid, mode, uid, gid, size, 0, 0, 0, nsec))

    def rename(self, old: bytes, fid: int, new: bytes) -> object:
        return self.ask(74, struct.pack("<I", 0) + text(old) + struct.pack("<I", fid) + text(new))

    def unlink(self, name: bytes, flags: int = 0) -> object:
        return self.ask(76, struct.pack("<I", 0) + text(name) + struct.pack("<I", flags))

    def wstat(self, fid: int, type_: int = 0xFFFF, mode: int = NONE, length: int = 2**64 - 1, name: bytes = b"", uid: bytes = b"", muid: bytes = b"") -> object:
        record = struct.pack("<HIBIQ", type_, NONE, 0xFF, NONE, 2**64 - 1) + struct.pack("<IIIQ", mode, NONE, NONE, length)
        record += text(name) + text(uid) + text(b"") + text(muid) + (text(b"") + struct.pack("<III", NONE, NONE, NONE) if self.dialect == U else b"")
        return self.ask(126, struct.pack("<I", fid) + text(text(record)))

    def facts(self, fid: int) -> dict[str, int]:
        _, body = self.ask(24, struct.pack("<IQ", fid, 0x3FFF))
        _, version, path, mode, uid, gid, nlink, _, size = struct.unpack_from("<BIQIIIQQQ", body, 8)
        return {"version": version, "path": path, "mode": mode & 0o7777, "uid": uid, "gid": gid, "nlink": nlink, "size": size}


def ok(answer: object) -> object:
    """The type of a reply, or the error as it is."""
    return answer[0] if isinstance(answer, tuple) else answer


def framing() -> None:
    for name, peer, size in [("size 6", Peer(), 6), ("size above msize", Peer(), 65537), ("9000 bytes before Tversion", Peer(agree=False), 9000)]:
        peer.send(120, b"", size=size)
        check(name, peer.receive(), CLOSED)
    for dialect in (L, U, P9):
        peer = Peer(dialect)
        for name, kind, body, wanted in [
            ("an unknown type", 200, b"x", errno.EOPNOTSUPP),
            ("an R type", 121, b"", errno.EOPNOTSUPP),
            ("a message of another dialect", 112 if dialect == L else 12, b"\0" * 8, errno.EOPNOTSUPP),
            ("a short body", 120, b"\0", errno.EINVAL),
            ("a long body", 120, b"\0" * 5, errno.EINVAL),
            ("a string past the end", 110, struct.pack("<IIHH", 0, 9, 1, 500), errno.EINVAL),
            ("a NUL in a string", 110, struct.pack("<IIH", 0, 9, 1) + text(b"a\0"), errno.EINVAL),
            ("17 names", 110, struct.pack("<IIH", 0, 9, 17) + text(b"a") * 17, errno.EINVAL),
            ("a count unlike the payload", 118, struct.pack("<IQI", 0, 0, 9) + b"x", errno.EINVAL),
        ]:
            check(f"{name} in {dialect.decode()}", peer.ask(kind, body), -wanted)
        check(f"NOTAG in {dialect.decode()}", peer.ask(120, b"\0" * 4, tag=0xFFFF), -errno.EINVAL)
        auth = peer.ask(102, struct.pack("<I", 9) + text(b"root") + text(b"") + (b"" if dialect == P9 else b"\0" * 4))
        check(f"Tauth in {dialect.decode()}", auth, {L: -errno.ENOENT, U: -errno.EINVAL, P9: b"authentication not required"}[dialect])
    peer = Peer()
    check("20 KiB that are no write", peer.ask(110, b"x" * 20_000), -errno.EMSGSIZE)
    check("and then goes on", ok(peer.walk(0, 1)), 111)
    errors = [peer.ask(200) for _ in range(63)]
    check("the 64th error", (errors[:62], errors[62]), ([-errno.EOPNOTSUPP] * 62, CLOSED))
    check("before Tversion", Peer(agree=False).clunk(0), CLOSED)
    peer = Peer()
    peer.send(120, struct.pack("<I", 0))
    peer.send(108, struct.pack("<H", 5), tag=7)
    peer.socket.shutdown(socket.SHUT_WR)
    check("half-close", [ok(peer.receive()) for _ in range(3)], [121, 109, CLOSED])
    check("flush of nothing, and of itself", [ok(Peer().ask(108, struct.pack("<H", tag))) for tag in (99, 1)], [109, 109])


def versions() -> None:
    answer = lambda msize, version: (101, struct.pack("<I", msize) + text(version))
    for version, msize, wanted in [
        (L, 4095, -errno.EMSGSIZE),
        (L, 4096, answer(4096, L)),
        (L, 2**32 - 1, answer(1 << 20, L)),
        (b"9P2000.zzz", 8192, answer(8192, P9)),
        (b"9P2000x", 8192, answer(8192, b"unknown")),
        (b"", 8192, answer(8192, b"unknown")),
        (b"x" * 4000, 2**32 - 1, answer(1 << 20, b"unknown")),
    ]:
        peer = Peer(agree=False)
        check(f"version {version[:10]!r} with msize {msize}", peer.version(version, msize), wanted)
        if wanted == -errno.EMSGSIZE or wanted[1].endswith(b"unknown"):
            check("and nothing is agreed on", peer.attach(0), CLOSED)
    peer = Peer(agree=False)
    check("Tversion with a tag", (ok(peer.version(L, tag=5)), peer.tag), (101, 5))
    peer = Peer()
    check("a second Tversion ends all fids", (ok(peer.version(L)), peer.clunk(0)), (101, -errno.EBADF))


def fids() -> None:
    peer = Peer()
    check("an unknown fid", peer.clunk(9), -errno.EBADF)
    peer.walk(0, 1)
    check("newfid in use, NOFID", (peer.walk(0, 1), peer.walk(0, NOFID), peer.attach(1)), (-errno.EINVAL,) * 3)
    check("an afid", peer.attach(5, afid=3), -errno.EACCES)
    check("a second clunk", (ok(peer.clunk(1)), peer.clunk(1)), (121, -errno.EBADF))
    peer.mkdir(b"dir")
    for name in (b"", b"a/b", b"none"):
        check(f"walk to {name!r}", peer.walk(0, 1, name), -errno.ENOENT)
    check("walk to a long name", peer.walk(0, 1, b"x" * 256), -errno.ENAMETOOLONG)
    check("a later name is missing", (peer.walk(0, 1, b"dir", b"none")[1][:2], peer.clunk(1)), (b"\1\0", -errno.EBADF))
    peer.walk(0, 1)
    check("walk to .", peer.walk(0, 2, b".", b"dir", b".")[1][:2], b"\3\0")
    peer.clunk(2)
    check(".. at the root", peer.walk(1, 2, b"..", b"..")[1][2:], peer.walk(1, 3, b"..")[1][2:] * 2)
    check("create tells iounit", peer.make(4, b"file")[1][13:], struct.pack("<I", 65536 - 24))
    check("open and create on an open fid", (peer.lopen(4), peer.ask(14, struct.pack("<I", 4) + text(b"q") + b"\0" * 12)), (-errno.EINVAL,) * 2)
    check("which is as it was", ok(peer.write(4, 0, b"abc")), 119)
    check("clone of an open fid, but not onto itself", (ok(peer.walk(4, 5)), peer.walk(4, 4)), (111, -errno.EINVAL))
    check("read of a fid not opened", peer.read(5), -errno.EBADF)
    peer.lopen(5)
    check("write to one opened for reading, readdir of it", (peer.write(5, 0, b"x"), peer.list(5)), (-errno.EBADF, -errno.ENOTDIR))
    check("readdir of a directory not opened", peer.list(3), -errno.EBADF)
    peer.lopen(3)
    check("read and write of a directory", (peer.read(3), peer.write(3, 0, b"x")), (-errno.EISDIR,) * 2)
    peer.unlink(b"file")
    check("a file without a name", (peer.read(5)[1][4:], peer.facts(5)["nlink"]), (b"abc", 0))
    check("Tremove of the root", (ok(peer.walk(0, 6)), peer.remove(6), peer.clunk(6)), (111, -errno.EBUSY, -errno.EBADF))
    many = Peer()
    for first in range(1, 70_000, 5):
        body = lambda fid: struct.pack("<IIH", 0, fid, 0)
        for fid in range(first, first + 5):
            many.send(110, body(fid), tag=fid - first)
        bad = [answer for answer in (many.receive() for _ in range(5)) if ok(answer) != 111]
        if bad:
            check("70,000 fids", bad, [])
            break


def classic() -> None:
    for dialect in (P9, U):
        peer, said = Peer(dialect), dialect.decode()
        peer.walk(0, 1)
        check(f"create in {said}", ok(peer.create(1, b"c" + dialect)), 115)
        peer.walk(0, 2)
        check(f"create of what is there in {said}", peer.create(2, b"c" + dialect), -errno.EEXIST)
        check(f"append by open in {said}", ok(peer.open(2, 0x80)), -errno.EINVAL if dialect == P9 else 113)
        check(f"walk on from an open fid in {said}", peer.walk(1, 3, b"x"), -errno.EINVAL if dialect == P9 else -errno.ENOTDIR)
        peer.walk(0, 4, b"dir")
        check(f"ORCLOSE of a directory in {said}", peer.open(4, 0x40), -errno.EISDIR)
        peer.walk(0, 5)
        peer.open(5)
        check(f"a listing at another offset in {said}", peer.read(5, 7, 8000), -errno.EINVAL)
        check(f"a listing into too little in {said}", peer.read(5, 0, 10), -errno.EINVAL)
        peer.walk(0, 6)
        check(f"DMSYMLINK in {said}", peer.create(6, b"s" + dialect, 0x02000777, 0, b"target")[1][0], 0 if dialect == P9 else 2)
        check(f"wstat of nothing in {said}", ok(peer.wstat(1)), 127)
        check(f"wstat of type and muid in {said}", (peer.wstat(1, type_=7), peer.wstat(1, muid=b"ghost")), (-errno.EPERM,) * 2)
        check(f"wstat onto a directory in {said}", peer.wstat(1, name=b"dir"), -errno.EEXIST if dialect == P9 else -errno.EISDIR)
        peer.walk(0, 8)
        peer.create(8, b"old" + dialect)
        check(f"wstat onto a file in {said}", ok(peer.wstat(1, name=b"old" + dialect)), -errno.EEXIST if dialect == P9 else 127)
        check(f"walk to . in {said}", peer.walk(0, 9, b"."), -errno.ENOENT)
        check(f"wstat of the root's name in {said}", peer.wstat(5, name=b"x"), -errno.EBUSY)
        if dialect == P9:
            check("the owner in 9P2000", peer.wstat(1, uid=b"nobody"), -errno.EPERM)
        peer.walk(0, 7)
        check(f"ORCLOSE in {said}", ok(peer.create(7, b"gone", mode=0x41)), 115)
        peer.socket.close()
        other, end = Peer(dialect), time.monotonic() + 10
        while ok(found := other.walk(0, 1, b"gone")) == 111 and time.monotonic() < end:
            other.clunk(1)
        check(f"and then the connection goes in {said}", found, -errno.ENOENT)
        other.walk(0, 2)
        other.create(2, b"x" + dialect, 0x20000666)
        other.walk(0, 3, b"x" + dialect)
        check(f"DMEXCL in {said}", (other.open(3), ok(other.clunk(2)), ok(other.open(3))), (-errno.EBUSY, 121, 113))


def files() -> None:
    peer = Peer()
    peer.make(1, b"f")
    peer.write(1, 0, b"abcdef")
    check("reads of nothing", [peer.read(1, *of)[1][4:] for of in [(0, 0), (6, 9), (2**64 - 1, 9)]], [b""] * 3)
    check("a read above msize", peer.read(1, 0, NONE)[1][4:], b"abcdef")
    check("writes behind 2^63-1", [peer.write(1, offset, b"x") for offset in (2**64 - 1, 2**63 - 1)], [-errno.EFBIG] * 2)
    check("lengths", (peer.set(1, 8, size=2**63), ok(peer.set(1, 8, size=2**63 - 1)), ok(peer.write(1, 2**62, b"x"))), (-errno.EFBIG, 27, 119))
    check("masks of nothing", [ok(peer.set(1, valid)) for valid in (0, 0x40, 0x80000000)], [27] * 3)
    check("nanoseconds", peer.set(1, 0x120, nsec=10**9), -errno.EINVAL)
    peer.make(2, b"appended", flags=0o2001)
    peer.write(2, 0, b"abc"), peer.write(2, 0, b"def")
    check("appends", peer.facts(2)["size"], 6)
    peer.walk(0, 3)
    peer.lopen(3)
    check("a name made during a listing", (peer.list(3, 0, 30)[1][:4], ok(peer.mkdir(b"later")), peer.list(3, 2**62)[1], b"later" in peer.list(3, 3)[1], b"later" in peer.list(3)[1]), (struct.pack("<I", 25), 73, b"\0" * 4, False, True))
    check("an entry into too little, a cookie of nobody", (peer.list(3, 0, 10), peer.list(3, 2**63)[1]), (-errno.EINVAL, b"\0" * 4))
    for name, wanted in [(b"", errno.EINVAL), (b".", errno.EINVAL), (b"..", errno.EINVAL), (b"a/b", errno.EINVAL), (b"x" * 256, errno.ENAMETOOLONG)]:
        check(f"mkdir {name[:3]!r}", peer.mkdir(name), -wanted)
    symlink = lambda name, target: peer.ask(16, struct.pack("<I", 0) + text(name) + text(target) + struct.pack("<I", 0))
    check("targets", (symlink(b"s", b""), symlink(b"s", b"x" * 4096), ok(symlink(b"s", b"x"))), (-errno.ENOENT, -errno.ENAMETOOLONG, 17))
    peer.walk(0, 4, b"s")
    check("open of a link, readlink of none", (peer.lopen(4), peer.ask(22, struct.pack("<I", 1))), (-errno.ELOOP, -errno.EINVAL))
    peer.ask(18, struct.pack("<I", 0) + text(b"pipe") + struct.pack("<IIII", 0o10644, 0, 0, 0))
    peer.walk(0, 5, b"pipe")
    check("open of a pipe", peer.lopen(5), -errno.ENXIO)
    peer.mkdir(b"one"), peer.mkdir(b"two")
    peer.walk(0, 6, b"one")
    check("into itself", peer.rename(b"one", 6, b"x"), -errno.EINVAL)
    check("over each other", (peer.rename(b"f", 0, b"one"), peer.rename(b"one", 0, b"f"), ok(peer.rename(b"f", 0, b"f"))), (-errno.EISDIR, -errno.ENOTDIR, 75))
    peer.ask(72, struct.pack("<I", 6) + text(b"in") + struct.pack("<II", 0o755, 0))
    check("onto what is not empty", peer.rename(b"two", 0, b"one"), -errno.ENOTEMPTY)
    check("a remove that fails", (peer.remove(6), peer.clunk(6)), (-errno.ENOTEMPTY, -errno.EBADF))
    check("a link to a directory", peer.ask(70, struct.pack("<II", 0, 3) + text(b"l")), -errno.EPERM)
    walk_attr = lambda name, newfid=40: peer.ask(30, struct.pack("<II", 1, newfid) + text(name))
    set_attr = lambda fid, name, size, flags=0: peer.ask(32, struct.pack("<I", fid) + text(name) + struct.pack("<QI", size, flags))
    check("an attribute that is not there, one that cannot be", (walk_attr(b"user.x"), walk_attr(b"x"), set_attr(1, b"user.x", 1)), (-errno.ENODATA, -errno.EOPNOTSUPP, -errno.EINVAL))
    peer.walk(0, 40, b"f")
    check("an attribute that is being written is no file", (ok(set_attr(40, b"user.x", 3)), peer.read(40, 0, 9), peer.lopen(40), peer.write(40, 1, b"x")), (33, -errno.EBADF, -errno.EBADF, -errno.EINVAL))
    check("and is set by its clunk", (ok(peer.write(40, 0, b"one")), walk_attr(b"user.x", 41), ok(peer.clunk(40)), ok(walk_attr(b"user.x", 41)), peer.read(41, 0, 9), ok(peer.clunk(41))), (119, -errno.ENODATA, 121, 31, (117, b"\3\0\0\0one"), 121))
    peer.walk(0, 40, b"f")
    check("removexattr", (ok(set_attr(40, b"user.x", 0, 2)), ok(peer.clunk(40)), walk_attr(b"user.x")), (33, 121, -errno.ENODATA))
    lock = lambda process, kind=1: peer.ask(52, struct.pack("<IBI", 1, kind, 0) + struct.pack("<QQI", 0, 0, process) + text(b"c"))
    asks = lambda process, kind=2: peer.ask(54, struct.pack("<IB", 1, kind) + struct.pack("<QQI", 0, 0, process) + text(b"c"))
    check("a lock, and who is in the way", (lock(1)[1][:1], lock(2)[1][:1], asks(2)[1][:1], asks(1)[1][:1], lock(1, 2)[1][:1], lock(1, 7)), (b"\0", b"\1", b"\1", b"\2", b"\0", -errno.EINVAL))
    check("a shared lock, and whether it is in the way of its own connection", (lock(1, 0)[1][:1], asks(2)[1][:1], asks(2, 1)[1][:1], lock(1, 2)[1][:1]), (b"\0", b"\2", b"\0", b"\0"))
    check("Tfsync with and without datasync", [ok(peer.ask(50, b"\1\0\0\0" + rest)) for rest in (b"", b"\1\0\0\0")], [51, 51])
    # Memory is 16 MiB.
    peer.make(7, b"full")
    size = 0
    while ok(answer := peer.write(7, size, b"x" * 65_000)) == 119:
        size += 65_000
    check("full memory", (answer, peer.facts(7)["size"]), (-errno.ENOSPC, size))
    peer.remove(7)


def trees() -> None:
    peer = Peer()
    names = [b"nowhere", b"..", b"//", b"ctl/", b"/dev"]
    check("any other aname leads nowhere", [peer.attach(fid, aname=name) for fid, name in enumerate(names, 20)], [-errno.ENOENT] * len(names))
    others = [Peer(where=where) for where in ("squash", "unix squash", "tcp all")]
    asked = [other.attach(1, aname=b"ctl", uid=uid) for other in others for uid in (0, os.geteuid(), 65534, NONE)]
    check("nobody sees ctl by TCP, or as nobody", asked, [-errno.EPERM] * 12)
    check("nor as somebody else", (peer.attach(1, aname=b"ctl", uid=77), peer.attach(1, uname=b"nobody", aname=b"ctl", uid=NONE)), (-errno.EPERM,) * 2)
    check("nor in another dialect", [Peer(dialect, "tcp all").attach(1, aname=b"ctl") for dialect in (U, P9)], [-errno.EPERM] * 2)
    peer.attach(4, aname=b"dev")
    ways = [client.walk(fid, 21, *names) for client, fid in ((others[2], 0), (peer, 0), (peer, 4)) for names in ((b"..", b"ctl"), (b"..", b"..", b"ctl", b"stats"))]
    check("no walk leads there", [way[1][:2] for way in ways], [b"\1\0", b"\2\0"] * 3)
    peer.clunk(4)
    check("ctl has stats", (ok(peer.attach(1, aname=b"ctl")), ok(peer.walk(1, 11, b"stats"))), (105, 111))
    peer.attach(4, aname=b"dev")
    peer.walk(4, 5, b"zero")
    link = struct.pack("<II", 0, 5) + text(b"x")
    move = struct.pack("<I", 4) + text(b"zero") + struct.pack("<I", 0) + text(b"x")
    check("from tree to tree", (peer.ask(70, link), peer.ask(74, move)), (-errno.EXDEV,) * 2)
    check("dev has no room", struct.unpack_from("<IIQQ", peer.ask(8, struct.pack("<I", 4))[1]), (0x01021997, 4096, 0, 0))
    check("dev stays as it is", peer.ask(72, struct.pack("<I", 4) + text(b"x") + b"\0" * 8), -errno.EPERM)
    check("ctl stays as it is", (peer.lopen(11, 1), peer.set(11, 1)), (-errno.EACCES, -errno.EPERM))


def users() -> None:
    for name, wanted, options in [
        ("n_uname", 77, {"uid": 77}),
        ("a name", 0, {"uid": NONE}),
        ("a number as a name", 1234, {"uname": b"1234", "uid": NONE}),
        ("an unknown name", 65534, {"uname": b"nobody knows", "uid": NONE}),
        ("no name", 65534, {"uname": b"", "uid": NONE}),
        ("everyone over TCP", 65534, {"where": "squash"}),
    ]:
        peer = Peer(**options)
        peer.make(1, name.encode())
        check(f"{name} is {wanted}", peer.facts(1)["uid"], wanted)
    root, owner, other = Peer(), Peer(uid=1000), Peer(uid=1001)
    owner.make(1, b"mine", mode=0o6775)
    before = owner.facts(1)
    owner.write(1, 0, b"abc")
    after = owner.facts(1)
    check("a write takes set-id away and is a new version", (after["mode"], after["version"] - before["version"]), (0o775, 1))
    owner.set(1, 1, mode=0o6755)
    check("new permissions are no new version", (owner.facts(1)["mode"], owner.facts(1)["version"]), (0o6755, after["version"]))
    owner.write(1, 2**63 - 1, b"x")
    check("nor is what fails", owner.facts(1)["version"], after["version"])
    root.walk(0, 1, b"mine")
    root.set(1, 8, size=1)
    check("root's new length leaves set-id", owner.facts(1)["mode"], 0o6755)
    root.set(1, 2, uid=1000)
    check("nor does a chown to the same owner", owner.facts(1)["mode"], 0o6755)
    other.walk(0, 1, b"mine")
    check("which a stranger may not ask for", (other.set(1, 2, uid=1000), owner.facts(1)["mode"]), (-errno.EPERM, 0o6755))
    root.set(1, 2, uid=1001)
    root.set(1, 2, uid=1000)
    check("root's chown takes it away", owner.facts(1)["mode"], 0o755)
    refused = other.set(1, 1, mode=0o777), other.set(1, 2, uid=1001), other.set(1, 0x120), other.unlink(b"mine"), owner.set(1, 2, uid=5)
    check("what is the owner's or root's", refused, (-errno.EPERM,) * 5)
    check("now, and open, without the right to write", (other.set(1, 0x20), other.lopen(1, 1)), (-errno.EACCES,) * 2)
    check("the owner gives any group", (ok(owner.set(1, 4, gid=5)), owner.facts(1)["gid"]), (27, 5))
    owner.set(1, 1, mode=0o060)
    owner.walk(0, 2, b"mine")
    check("the owner has the owner's bits, others the group's", (owner.lopen(2), ok(other.lopen(1, 2))), (-errno.EACCES, 13))
    check("an open fid keeps its rights", ok(owner.write(1, 0, b"x")), 119)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        listen = ["--trust", "all", "--listen", f"unix:{scratch}/sock", "--trust", "squash", "--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{scratch}/squash", "--trust", "all", "--listen", "tcp:127.0.0.1:0"]
        with subprocess.Popen([os.path.join(sys.argv[1], "ring9"), "--memory", "16MiB", *listen], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                Peer.address = dict(zip(["all", "squash", "unix squash", "tcp all"], server.stdout.readline().split()[2:]))
                for part in (framing, versions, fids, classic, files, trees, users):
                    part()
            finally:
                server.terminate()
                server.communicate(timeout=30)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
