#!/usr/bin/env python3
"""r9 against servers that lie. It must end by itself with a clear error, write nothing outside of its folder, use little memory, and send nothing to a terminal that a server made up.

Usage: hostile_server.py BIN-FOLDER
"""
import os
import pty
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from fake9p import DIR, Fake, entry, getattr_body, qid, record, text

ALL = ["9P2000.L", "9P2000.u", "9P2000"]
LINUX, CLASSIC = ALL[:1], ALL[1:]
SECONDS_MAX = 20
MEMORY_BYTES_MAX = 200 << 20
DATA = b"data\n" * 1000
FILES = {b"f": DATA, b"d": {b"inside": b"inside\n"}}

passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


class Case:
    """A lie, the commands that meet it, and the words of which their errors have one. `says` None: there is nothing to complain of."""

    def __init__(self, name: str, lie, commands: list[list[str]], says: str | tuple | None, dialects: list[str] = ALL, tree: dict = FILES):
        self.name, self.lie, self.commands, self.dialects, self.tree = name, lie, commands, dialects, tree
        self.says = (says,) if isinstance(says, str) else says


GET, GET_ALL, CAT, LS, TREE, STAT, TAIL = ["get", "/f", "{to}"], ["get", "-r", "/", "{to}"], ["cat", "/f"], ["ls", "-l", "/"], ["tree", "/"], ["stat", "/f"], ["tail", "/f"]
PUT, WRITE, RM = ["put", "{local}", "/f"], ["write", "/f"], ["rm", "-r", "/d"]


def on(kinds: int | tuple, answer):
    """Answers these requests, and no others."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)

    def lie(peer, kind, tag, body):
        if kind not in kinds:
            return False
        return answer(peer, kind, tag, body) is not False

    return lie


def is_file(peer, body) -> bool:
    return isinstance(peer.node(body), bytes)


def frame(kind: int, tag: int, body: bytes, size: int | None = None) -> bytes:
    return struct.pack("<IBH", 7 + len(body) if size is None else size, kind, tag) + body


def named(*names: bytes):
    """The root has these names as well."""

    def answer(peer, kind, tag, body):
        offset = struct.unpack_from("<Q", body, 4)[0]
        if peer.node(body) is not peer.tree:
            return False
        if kind == 40:
            every = b"".join(entry(name, b"", n + 1) for n, name in enumerate(names))
            peer.data(41, tag, every if offset == 0 else b"")
        else:
            peer.data(117, tag, b"".join(record(name, b"", peer.is_u()) for name in names)[offset:])

    def walk(peer, kind, tag, body):
        # And each of them can be walked to.
        count = struct.unpack_from("<H", body, 8)[0]
        if count != 1 or body[12:] in peer.tree:
            return False
        peer.fids[struct.unpack_from("<I", body, 4)[0]] = (body[12:], b"evil\n")
        peer.reply(111, tag, struct.pack("<H", 1) + qid(b""))

    def lie(peer, kind, tag, body):
        return on((40, 116), answer)(peer, kind, tag, body) if kind != 110 else on(110, walk)(peer, kind, tag, body)

    return lie


def endless(cookie):
    """A listing without end; `cookie` of the number of an entry. Names of 8 bytes."""
    blocks: dict[int, bytes] = {}

    def answer(peer, kind, tag, body):
        offset, count = struct.unpack_from("<QI", body, 4)
        if is_file(peer, body):
            return False
        if kind == 40:
            if cookie is None:
                first = offset
                block = b"".join(struct.pack("<BIQQB", 0, 1, n, n, 8) + text(b"%08d" % (n % 10**8)) for n in range(first + 1, first + 4001))
            else:
                block = blocks.setdefault(0, b"".join(entry(b"%08d" % n, b"", cookie) for n in range(4000)))
        else:
            one = record(b"12345678", b"", peer.is_u())
            block = blocks.setdefault(len(one), one * (count // len(one)))
        peer.data(kind + 1, tag, block[:count])

    return on((40, 116), answer)


def twice(peer, kind, tag, body):
    peer.answer(kind, tag, body)
    peer.answer(kind, tag, body)


def loud(peer, kind, tag, body):
    ename = (b"\x1b]0;owned\x07\x1b[2J\r\x08 \xc2\x9b" * 6000)[:65000]
    peer.error(tag, 5, ename)


def other_dialect(peer, kind, tag, body):
    if peer.dialect == b"9P2000.L":
        peer.reply(107, tag, text(b"no"))
    else:
        peer.reply(7, tag, struct.pack("<I", 2))


def link_then_folder(victim: str):
    """A link, and then a folder of the same name: what goes into it must not go through the link."""
    inside = {b"pwned": b"evil\n"}
    walks = [0]

    def answer(peer, kind, tag, body):
        if kind == 40 and peer.node(body) is peer.tree:
            offset = struct.unpack_from("<Q", body, 4)[0]
            peer.data(41, tag, b"" if offset else entry(b"a", inside, 1) + entry(b"a", inside, 2))
        elif kind == 110 and body[12:] == b"a":
            walks[0] += 1
            node = victim if walks[0] == 2 else inside
            peer.fids[struct.unpack_from("<I", body, 4)[0]] = (b"a", node)
            peer.reply(111, tag, struct.pack("<H", 1) + qid(node))
        else:
            return False

    return on((40, 110), answer)


def cases(victim: str) -> list[Case]:
    odd = [b"../up", os.fsencode(os.path.join(os.path.dirname(victim), "up")), b"a/b", b"", b"nul\0"]
    round_: dict = {}
    round_[b"again"] = round_
    shown = lambda size: on((24, 124), lambda peer, kind, tag, body: is_file(peer, body) and (
        peer.reply(25, tag, getattr_body(b"", size)) if kind == 24 else peer.reply(125, tag, text(record(b"f", b"", peer.is_u(), size)))) is None)
    return [
        *[Case(f"a name {os.path.basename(name)!r} after {len(os.path.dirname(name))} bytes", named(name), [GET_ALL], ("leads elsewhere", "a NUL in a string")) for name in odd],
        Case("the names . and ..", named(b".", b".."), [GET_ALL, LS, TREE], None),
        Case("more bytes than asked for", on(116, lambda peer, kind, tag, body: is_file(peer, body) and peer.data(117, tag, b"x" * (struct.unpack_from("<I", body, 12)[0] + 1)) is None), [CAT, GET, TAIL, GET_ALL], "asked for"),
        Case("more of a listing than asked for", on(40, lambda peer, kind, tag, body: peer.data(41, tag, entry(b"n", b"", 1) * 9000)), [LS, TREE, GET_ALL], "asked for", LINUX),
        Case("more written than sent", on(118, lambda peer, kind, tag, body: peer.reply(119, tag, struct.pack("<I", 1 << 30))), [PUT, WRITE], "asked for"),
        Case("nothing written", on(118, lambda peer, kind, tag, body: peer.reply(119, tag, struct.pack("<I", 0))), [PUT, WRITE], "Input/output error"),
        Case("more steps than names", on(110, lambda peer, kind, tag, body: peer.reply(111, tag, struct.pack("<H", 3) + qid({}) * 3)), [CAT, LS], "asked for"),
        Case("no step and no error", on(110, lambda peer, kind, tag, body: struct.unpack_from("<H", body, 8)[0] > 0 and peer.reply(111, tag, struct.pack("<H", 0)) is None), [CAT, LS, GET_ALL], "No such file", ALL),
        Case("another tag", on((24, 124), lambda peer, kind, tag, body: peer.answer(kind, tag ^ 1, body)), [STAT, GET, LS], "no request"),
        Case("no tag", on((24, 124), lambda peer, kind, tag, body: peer.answer(kind, 0xFFFF, body)), [STAT, GET], "no request"),
        Case("each reply twice", on((110, 24, 124), twice), [STAT, GET, LS], ("no request", "answers another request")),
        Case("a reply above msize", on((24, 124), lambda peer, kind, tag, body: peer.raw(frame(kind + 1, tag, b"", peer.msize + 1))), [STAT, GET], "agreed on"),
        Case("a reply of 4 GiB", on((24, 124), lambda peer, kind, tag, body: peer.raw(frame(kind + 1, tag, b"", 0xFFFFFFFF))), [STAT, GET], "agreed on"),
        Case("a reply of 3 bytes", on((24, 124), lambda peer, kind, tag, body: peer.raw(frame(kind + 1, tag, b"", 3))), [STAT, GET], "agreed on"),
        Case("a body cut short", on((24, 124), lambda peer, kind, tag, body: peer.reply(kind + 1, tag, b"\x20\0" * 10)), [STAT, GET], "protocol error"),
        Case("a body with more behind it", on(120, lambda peer, kind, tag, body: peer.reply(121, tag, b"more")), [STAT], "protocol error"),
        Case("a count above the payload", on(116, lambda peer, kind, tag, body: is_file(peer, body) and peer.reply(117, tag, struct.pack("<I", 500) + b"x") is None), [CAT, GET], "protocol error"),
        Case("qids that are not there", on(110, lambda peer, kind, tag, body: peer.reply(111, tag, struct.pack("<H", 1))), [STAT], "protocol error"),
        Case("half an entry", on((40, 116), lambda peer, kind, tag, body: not is_file(peer, body) and peer.data(kind + 1, tag, b"\x40\0\0\0") is None), [LS, GET_ALL, TREE, RM], "a directory:"),
        Case("one cookie again and again", endless(7), [LS, TREE, GET_ALL, RM], "goes in circles", LINUX),
        Case("a listing without end", endless(None), [LS], "more names than", LINUX),
        Case("a listing without end", endless(None), [LS, GET_ALL], "more names than", CLASSIC),
        Case("a file that claims 2^63-1 bytes", shown((1 << 63) - 1), [CAT, GET, GET_ALL, TAIL], None),
        Case("a file that claims 2^64-1 bytes", shown((1 << 64) - 1), [CAT, GET, GET_ALL, TAIL], None),
        Case("links in a circle", None, [GET_ALL, LS, TREE], None, ALL[:2], {b"a": "b", b"b": "a", b"self": "self", b"up": "..", b"d": {b"top": "/"}}),
        Case("a folder in itself", None, [GET_ALL, TREE, ["rm", "-r", "/again"]], "below more than 4096", ALL, round_),
        Case("a link and then a folder of its name", link_then_folder(victim), [GET_ALL], "File exists", LINUX),
        Case("the end in the middle of a reply", on((24, 124), lambda peer, kind, tag, body: (peer.raw(frame(kind + 1, tag, b"half", 160)), peer.connection.shutdown(2))), [STAT, GET, LS], "closed the connection"),
        Case("the end in the middle of a file", on(116, lambda peer, kind, tag, body: is_file(peer, body) and (peer.raw(frame(117, tag, b"\0\x10\0\0half", 4107)), peer.connection.shutdown(2)) is not None), [CAT, GET, TAIL], "closed the connection"),
        Case("another reply", on((24, 124), lambda peer, kind, tag, body: peer.reply(121, tag, b"")), [STAT, GET, LS], "answers another request"),
        Case("a request as a reply", on((24, 124), lambda peer, kind, tag, body: peer.reply(120, tag, b"\0\0\0\0")), [STAT, GET], "answers another request"),
        Case("a reply that nobody knows", on((24, 124), lambda peer, kind, tag, body: peer.reply(199, tag, b"")), [STAT, GET], "protocol error"),
        Case("an error of another dialect", on((24, 124), other_dialect), [STAT, GET], "protocol error"),
        Case("64 KiB of error for a terminal", on((124, 112, 114), loud), [STAT, GET, LS, PUT, WRITE, CAT], "\\u{1b}]0;owned", CLASSIC),
        Case("an owner for a terminal", on(124, lambda peer, kind, tag, body: peer.reply(125, tag, text(record(*peer.fids[struct.unpack_from("<I", body)[0]], peer.is_u(), owner=b"\x1b[2J")))), [STAT, LS], None, CLASSIC),
        Case("names for a terminal", named(b"\x1b[2J\x07"), [GET_ALL], None),
        Case("names for a terminal that fail", lambda *request: request[1] in (12, 112) and is_file(request[0], request[3]) and request[0].error(request[2], 13) is None or named(b"\x1b[2J\x07")(*request), [GET_ALL], "ermission denied"),
        Case("times that cannot be", on(24, lambda peer, kind, tag, body: peer.reply(25, tag, getattr_body(peer.node(body), nsec=(1 << 64) - 1))), [STAT, LS], None, LINUX),
        Case("numbers that overflow", on(8, lambda peer, kind, tag, body: peer.reply(9, tag, struct.pack("<II", 1, 0xFFFFFFFF) + b"\xff" * 48 + struct.pack("<I", 255))), [["df"]], None, LINUX),
        Case("a version for a terminal", on(100, lambda peer, kind, tag, body: peer.reply(101, tag, struct.pack("<I", 8192) + text(b"\x1b[2J" * 1000))), [LS], "does not speak"),
        Case("an msize above the one asked for", on(100, lambda peer, kind, tag, body: peer.reply(101, tag, struct.pack("<I", 1 << 30) + body[4:])), [LS], "msize"),
        Case("an msize in which nothing fits", on(100, lambda peer, kind, tag, body: peer.reply(101, tag, struct.pack("<I", 24) + body[4:])), [LS], "msize"),
        Case("an msize of one byte more", on(100, lambda peer, kind, tag, body: peer.reply(101, tag, struct.pack("<I", 25) + body[4:])), [CAT], "where 7 to 25 are agreed on"),
        Case("a version of 4 GiB", on(100, lambda peer, kind, tag, body: peer.raw(frame(101, tag, b"", 0xFFFFFFFF))), [LS], "agreed on"),
    ]


def listing(top: str, but: str) -> list[tuple]:
    """Everything below `top` except for what is below `but`."""
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) != but]
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and os.path.isfile(path):
                found.append((path, open(path, "rb").read()))
        found.extend((os.path.join(folder, name), b"") for name in folders)
    return sorted(found)


def run(command: list[str]) -> tuple[int | None, bytes, bytes, int]:
    """Exit code (None: it had to be killed), both outputs, and the most memory in bytes."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err)
        try:
            process.stdin.write(DATA)
            process.stdin.close()
        except BrokenPipeError:
            pass
        timer = threading.Timer(SECONDS_MAX, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        code = None if process.returncode == -9 else process.returncode
        return code, *(file.seek(0) or file.read(1 << 20) for file in (out, err)), usage.ru_maxrss * 1024


def on_a_terminal(command: list[str]) -> bytes:
    """What a terminal gets of it."""
    us, it = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=it, stderr=it):
        os.close(it)
        got = b""
        try:
            while part := os.read(us, 1 << 16):
                got += part
        except OSError:
            pass
    return got


def harmless(output: bytes) -> bool:
    """No control character but the end of a line."""
    return all(c in "\r\n" or not (ord(c) < 32 or 127 <= ord(c) < 160) for c in output.decode(errors="replace"))


def try_case(r9: str, case: Case, dialect: str, outer: str, address: str) -> None:
    inner = os.path.join(outer, "inner")
    local = os.path.join(outer, "local")
    for n, command in enumerate(case.commands):
        to = os.path.join(inner, f"to{n}")
        os.mkdir(inner)
        before = listing(outer, inner)
        words = [r9, "--addr", address, "--dialect", dialect, *(word.format(to=to, local=local) for word in command)]
        start = time.monotonic()
        code, out, err, memory = run(words)
        seconds = time.monotonic() - start
        wrong = []
        if code != (0 if case.says is None else 1):
            wrong.append(f"exit code {code} after {seconds:.1f} s")
        if case.says is not None and not any(word.encode() in err for word in case.says):
            wrong.append("another error")
        if case.says is not None and not err.startswith(b"r9: "):
            wrong.append("no word of who says it")
        if not harmless(err) or len(err) > 12_000:
            wrong.append(f"{len(err)} bytes, or control characters, of error")
        # The bytes of a file are nobody's business, and names go raw to a pipe.
        if command[0] in ("ls", "stat", "df", "get") and not harmless(out):
            wrong.append("control characters in what is shown")
        if memory > MEMORY_BYTES_MAX:
            wrong.append(f"{memory >> 20} MiB of memory")
        if listing(outer, inner) != before:
            wrong.append("something outside changed")
        if any(name != f"to{n}" for name in os.listdir(inner)):
            wrong.append(f"beside the copy: {os.listdir(inner)}")
        check(f"{case.name}: r9 {command[0]} in {dialect}", not wrong, f"{'; '.join(wrong)}: {err[:300]!r} {out[:100]!r}")
        subprocess.run(["rm", "-rf", inner], check=True)


def main() -> int:
    r9 = os.path.abspath(os.path.join(sys.argv[1], "r9"))
    with tempfile.TemporaryDirectory() as scratch:
        outer = os.path.join(scratch, "outer")
        victim = os.path.join(outer, "victim")
        os.makedirs(victim)
        with open(os.path.join(outer, "local"), "wb") as file:
            file.write(DATA)
        # One that never answers, meanwhile.
        silent = Fake(os.path.join(scratch, "silent"), {}, lambda peer, kind, tag, body: True)
        waiting = subprocess.Popen([r9, "--addr", silent.address, "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n, case in enumerate(cases(victim)):
            fake = Fake(os.path.join(scratch, f"s{n}"), case.tree, case.lie)
            for dialect in case.dialects:
                try_case(r9, case, dialect, outer, fake.address)
            fake.close()
        # With a terminal, names are shown too, and progress is.
        fake = Fake(os.path.join(scratch, "loud"), FILES, named(b"\x1b[2J\x07", b"\xc2\x9b1m"))
        for dialect in ALL:
            for command in (["ls", "/"], ["tree", "/"]):
                shown = on_a_terminal([r9, "--addr", fake.address, "--dialect", dialect, *command])
                check(f"names on a terminal: r9 {command[0]} in {dialect}", harmless(shown) and b"\\x1b[2J\\x07" in shown, shown)
        _, err = waiting.communicate(timeout=30)
        check("a server that does not answer", waiting.returncode == 1 and b"does not answer" in err, err)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
