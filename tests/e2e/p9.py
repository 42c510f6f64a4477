"""A minimal client of the three dialects, for checks that must not share code with ring9. The short methods are those of 9P2000.L."""
import os
import socket
import struct


class P9:
    def __init__(self, address: str, aname: bytes = b"", msize: int = 1 << 20, dialect: bytes = b"9P2000.L"):
        kind, _, rest = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, body = self.call(100, struct.pack("<I", msize) + text(dialect), 0xFFFF)
        self.msize = struct.unpack_from("<I", body)[0]
        number = b"" if dialect == b"9P2000" else struct.pack("<I", os.geteuid())
        self.call(104, struct.pack("<II", 0, 0xFFFFFFFF) + text(b"root") + text(aname) + number)

    def send(self, kind: int, body: bytes, tag: int = 1) -> None:
        self.socket.sendall(struct.pack("<IBH", 7 + len(body), kind, tag) + body)

    def next(self) -> tuple[int, int, bytes]:
        """The next reply: type, tag, body."""
        size, kind, tag = struct.unpack("<IBH", self.exactly(7))
        return kind, tag, self.exactly(size - 7)

    def receive(self) -> tuple[int, bytes]:
        kind, _, body = self.next()
        if kind == 7:
            raise OSError(struct.unpack("<I", body)[0], os.strerror(struct.unpack("<I", body)[0]))
        if kind == 107:
            size = struct.unpack_from("<H", body)[0]
            raise OSError(int.from_bytes(body[2 + size :], "little"), body[2 : 2 + size].decode(errors="replace"))
        return kind, body

    def exactly(self, n: int) -> bytes:
        parts = bytearray(n)
        view = memoryview(parts)
        while n:
            got = self.socket.recv_into(view, n)
            if got == 0:
                raise EOFError("the server closed the connection")
            view, n = view[got:], n - got
        return bytes(parts)

    def call(self, kind: int, body: bytes, tag: int = 1) -> tuple[int, bytes]:
        self.send(kind, body, tag)
        return self.receive()

    def walk(self, fid: int, new: int, *names: bytes) -> None:
        self.call(110, struct.pack("<IIH", fid, new, len(names)) + b"".join(map(text, names)))

    def create(self, fid: int, name: bytes) -> None:
        self.call(14, struct.pack("<I", fid) + text(name) + struct.pack("<III", 0o102, 0o100644, 0))

    def open(self, fid: int, flags: int = 0) -> None:
        self.call(12, struct.pack("<II", fid, flags))

    def read(self, fid: int, offset: int, count: int) -> bytes:
        return self.call(116, struct.pack("<IQI", fid, offset, count))[1][4:]

    def write(self, fid: int, offset: int, data: bytes) -> int:
        return struct.unpack("<I", self.call(118, struct.pack("<IQI", fid, offset, len(data)) + data)[1])[0]

    def clunk(self, fid: int) -> None:
        self.call(120, struct.pack("<I", fid))

    def remove(self, fid: int) -> None:
        self.call(122, struct.pack("<I", fid))


def text(bytes_: bytes) -> bytes:
    return struct.pack("<H", len(bytes_)) + bytes_


def stats(address: str) -> dict[str, int]:
    """The server's own counters."""
    client = P9(address, b"ctl")
    client.walk(0, 1, b"stats")
    client.open(1)
    lines = client.read(1, 0, 1 << 16).decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}
