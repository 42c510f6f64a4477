"""A 9P server of a few lines, for checks of clients: it serves a small tree in every dialect, and lies where it is told to.

A tree is a dict of names; a file is bytes, a symbolic link a str. `lie(peer, kind, tag, body)` sees each request first: true if it has answered it.
"""
import os
import socket
import struct
import threading

DIR, LINK = 0x80, 0x02


def text(bytes_: bytes) -> bytes:
    return struct.pack("<H", len(bytes_)) + bytes_


def qid(node: object) -> bytes:
    kind = DIR if isinstance(node, dict) else LINK if isinstance(node, str) else 0
    return struct.pack("<BIQ", kind, 1, id(node) & 0xFFFFFFFF)


def entry(name: bytes, node: object, cookie: int) -> bytes:
    return qid(node) + struct.pack("<QB", cookie, 4 if isinstance(node, dict) else 8) + text(name)


def getattr_body(node: object, size: int | None = None, nsec: int = 0) -> bytes:
    mode = 0o40755 if isinstance(node, dict) else 0o120777 if isinstance(node, str) else 0o100644
    length = size if size is not None else 0 if isinstance(node, dict) else len(node)
    return struct.pack("<Q", 0x7FF) + qid(node) + struct.pack("<III", mode, 0, 0) + struct.pack("<15Q", 1, 0, length, 4096, 1, 0, nsec, 0, nsec, 0, nsec, 0, 0, 0, 0)


def record(name: bytes, node: object, is_u: bool, size: int | None = None, owner: bytes = b"root") -> bytes:
    mode = 0x80000000 | 0o755 if isinstance(node, dict) else 0x02000000 | 0o777 if isinstance(node, str) else 0o644
    length = size if size is not None else 0 if isinstance(node, dict) else len(node)
    fields = struct.pack("<HI", 0, 0) + qid(node) + struct.pack("<IIIQ", mode, 0, 0, length) + text(name) + text(owner) * 3
    if is_u:
        fields += text(node.encode() if isinstance(node, str) else b"") + struct.pack("<III", 0, 0, 0)
    return text(fields)


class Peer:
    def __init__(self, connection: socket.socket, tree: dict):
        self.connection, self.tree = connection, tree
        self.fids: dict[int, tuple[bytes, object]] = {}
        self.dialect, self.msize = b"", 0

    def raw(self, bytes_: bytes) -> None:
        self.connection.sendall(bytes_)

    def reply(self, kind: int, tag: int, body: bytes) -> None:
        self.raw(struct.pack("<IBH", 7 + len(body), kind, tag) + body)

    def error(self, tag: int, errno: int, ename: bytes | None = None) -> None:
        if self.dialect == b"9P2000.L":
            self.reply(7, tag, struct.pack("<I", errno))
        else:
            self.reply(107, tag, text(os.strerror(errno).encode() if ename is None else ename) + (struct.pack("<I", errno) if self.is_u() else b""))

    def is_u(self) -> bool:
        return self.dialect == b"9P2000.u"

    def node(self, body: bytes) -> object:
        return self.fids[struct.unpack_from("<I", body)[0]][1]

    def answer(self, kind: int, tag: int, body: bytes) -> None:
        fid = struct.unpack_from("<I", body)[0] if len(body) >= 4 else 0
        if kind == 100:
            self.msize, size = struct.unpack_from("<IH", body)
            self.dialect = body[6 : 6 + size]
            self.reply(101, tag, body)
        elif kind == 104:
            self.fids[fid] = (b"/", self.tree)
            self.reply(105, tag, qid(self.tree))
        elif kind == 110:
            new, count, at = *struct.unpack_from("<IH", body, 4), 10
            name, node = self.fids[fid]
            qids = b""
            for _ in range(count):
                size = struct.unpack_from("<H", body, at)[0]
                name, at = body[at + 2 : at + 2 + size], at + 2 + size
                if not isinstance(node, dict) or name not in node:
                    return self.error(tag, 2) if not qids else self.reply(111, tag, struct.pack("<H", len(qids) // 13) + qids)
                node = node[name]
                qids += qid(node)
            self.fids[new] = (name, node)
            self.reply(111, tag, struct.pack("<H", count) + qids)
        elif kind in (12, 112):
            self.reply(kind + 1, tag, qid(self.node(body)) + struct.pack("<I", 0))
        elif kind in (14, 114):
            size = struct.unpack_from("<H", body, 4)[0]
            self.fids[fid] = (body[6 : 6 + size], b"")
            self.reply(kind + 1, tag, qid(b"") + struct.pack("<I", 0))
        elif kind == 24:
            self.reply(25, tag, getattr_body(self.node(body)))
        elif kind == 124:
            self.reply(125, tag, text(record(*self.fids[fid], self.is_u())))
        elif kind == 22:
            self.reply(23, tag, text(self.node(body).encode()))
        elif kind == 40:
            names = list(self.node(body).items())[struct.unpack_from("<Q", body, 4)[0] :][:1000]
            first = struct.unpack_from("<Q", body, 4)[0]
            self.data(41, tag, b"".join(entry(name, node, first + n + 1) for n, (name, node) in enumerate(names)))
        elif kind == 116:
            offset, count = struct.unpack_from("<QI", body, 4)
            node = self.node(body)
            if isinstance(node, dict):
                node = b"".join(record(name, inside, self.is_u()) for name, inside in node.items())
            self.data(117, tag, node[offset : offset + count])
        elif kind == 118:
            self.reply(119, tag, body[12:16])
        elif kind in (26, 120, 122, 126):
            self.reply(kind + 1, tag, b"")
        else:
            self.error(tag, 95)

    def data(self, kind: int, tag: int, bytes_: bytes) -> None:
        self.reply(kind, tag, struct.pack("<I", len(bytes_)) + bytes_)


class Fake:
    """Serves a tree on a unix socket, one thread for each connection."""

    def __init__(self, path: str, tree: dict, lie=None):
        self.tree, self.lie = tree, lie or (lambda peer, kind, tag, body: False)
        self.address = f"unix:{path}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        peer = Peer(connection, self.tree)
        with connection, connection.makefile("rb") as source:
            try:
                while len(head := source.read(7)) == 7:
                    size, kind, tag = struct.unpack("<IBH", head)
                    body = source.read(size - 7)
                    try:
                        if not self.lie(peer, kind, tag, body):
                            peer.answer(kind, tag, body)
                    except KeyError:
                        # A fid that is none.
                        peer.error(tag, 9)
            except (OSError, ValueError):
                # The client has gone, or the lie was to go.
                pass

    def close(self) -> None:
        self.listener.close()
