#!/usr/bin/env python3
"""Every subcommand of r9, in every dialect, over TCP and a unix socket, with exact results; and what it says when things go wrong.

Usage: commands.py BIN-FOLDER
"""
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from fake9p import Fake, getattr_body
from p9 import P9, stats, text

passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


class R9:
    def __init__(self, program: str, address: str, dialect: str = "9P2000.L", *more: str):
        self.words = [program, "--addr", address, "--dialect", dialect, "--uname", "root", *more]
        self.where = f"{dialect} over {address.partition(':')[0]}"

    def run(self, *command: str, data: bytes = b"") -> subprocess.CompletedProcess:
        return subprocess.run([*self.words, *command], input=data, capture_output=True, timeout=60)

    def does(self, *command: str, out: bytes = b"", data: bytes = b"") -> None:
        """It succeeds, prints this and nothing else."""
        done = self.run(*command, data=data)
        ok = (done.returncode, done.stdout, done.stderr) == (0, out, b"")
        check(f"r9 {' '.join(command)} in {self.where}", ok, f"{done.returncode} {done.stdout[:500]!r} {done.stderr[:500]!r}")

    def refuses(self, *command: str, says: str, code: int = 1, out: bytes = b"", data: bytes = b"") -> None:
        """It fails with this code, and stderr has these words."""
        done = self.run(*command, data=data)
        ok = (done.returncode, done.stdout) == (code, out) and says.encode() in done.stderr
        check(f"r9 {' '.join(command)} in {self.where} is refused", ok, f"{done.returncode} {done.stdout[:500]!r} {done.stderr[:500]!r}")

    def facts(self, path: str) -> dict[str, str]:
        done = self.run("stat", path)
        return dict(line.split(None, 1) for line in done.stdout.decode().splitlines())

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen([*self.words, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read_until(process: subprocess.Popen, wanted: bytes) -> bytes:
    """What it prints, up to these bytes or the end; 30 s at most."""
    got, end = b"", time.monotonic() + 30
    while wanted not in got and time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.5)[0]:
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                break
            got += part
    return got


def names_and_bytes(r9: R9, scratch: str) -> None:
    """What all dialects can."""
    r9.does("mkdir", "/d")
    r9.refuses("mkdir", "/d", says=": /d: File exists")
    r9.refuses("mkdir", "/no/where", says="/no/where: No such file or directory")
    r9.does("mkdir", "-p", "/d/x/y", "/d/x")
    r9.does("write", "/d/f", data=b"one\ntwo\n")
    r9.does("cat", "/d/f", "/d/f", out=b"one\ntwo\n" * 2)
    r9.does("write", "/d/f", data=b"three\n")
    r9.does("cat", "/d/f", out=b"three\n")
    r9.refuses("cat", "/d/none", "/d/f", says=": /d/none: No such file or directory", out=b"three\n")
    r9.refuses("write", "/d", says="/d: Is a directory", data=b"x")
    r9.does("write", "--append", "/d/f", data=b"four\n")
    r9.does("write", "--append", "/d/new", data=b"first\n")
    r9.does("cat", "/d/f", "/d/new", out=b"three\nfour\nfirst\n")
    r9.does("ls", "/d", out=b"f\nnew\nx\n")
    r9.does("ls", "/d/f", "/d/x", out=b"/d/f\n/d/x:\ny\n")
    r9.refuses("ls", "/none", says=": /none: No such file or directory")
    r9.does("tree", "/d", out=b"/d\n  f\n  new\n  x/\n    y/\n")
    r9.does("mv", "/d/new", "/d/newer")
    r9.refuses("mv", "/d/new", "/d/newest", says="/d/new -> /d/newest: No such file or directory")
    r9.does("rm", "/d/newer")
    r9.refuses("rm", "/d/newer", says=": /d/newer: No such file or directory")
    r9.refuses("rm", "/d/x", says="is a directory (-r removes it)")
    r9.refuses("rm", "/", says="the root cannot be removed")
    r9.does("chmod", "0640", "/d/f")
    check(f"chmod in {r9.where}", r9.facts("/d/f")["mode"] == "-rw-r----- 0640", r9.facts("/d/f"))
    r9.refuses("chmod", "9", "/d/f", says="octal permissions", code=2)
    r9.refuses("chmod", "600", "/d/none", says=": /d/none: No such file or directory")
    r9.does("fsync", "/d/f", "/d")
    r9.refuses("fsync", "/d/none", says=": /d/none: No such file or directory")
    # There and back, as files and whole.
    local = os.path.join(scratch, "local")
    with open(local, "wb") as file:
        file.write(os.urandom(3_000_001))
    r9.does("put", local, "/d/x")
    r9.does("get", "/d/x/local", local + ".back")
    check(f"what was put is what is got in {r9.where}", open(local, "rb").read() == open(local + ".back", "rb").read())
    r9.refuses("get", "/d/none", local + ".back", says=": /d/none: No such file or directory")
    r9.refuses("get", "/d", local + ".back", says="is a directory (-r copies it)")
    r9.refuses("put", local + ".none", "/d", says="local.none: No such file")
    r9.refuses("get", "-r", "/d/x", "/d/..", scratch, says="has no name that it could get")
    os.unlink(local + ".back")


def lines(r9: R9) -> None:
    text_of = lambda some: b"".join(b"line %d\n" % n for n in some)
    r9.does("write", "/d/lines", data=text_of(range(20_000)))
    r9.does("tail", "/d/lines", out=text_of(range(19_990, 20_000)))
    r9.does("tail", "-n", "0", "/d/lines")
    r9.does("tail", "-n", "15000", "/d/lines", out=text_of(range(5_000, 20_000)))
    r9.does("tail", "-n", "99999", "/d/lines", out=text_of(range(20_000)))
    r9.does("write", "/d/lines", data=b"a\n\nlast")
    r9.does("tail", "-n", "2", "/d/lines", out=b"\nlast")
    r9.does("write", "/d/lines")
    r9.does("tail", "/d/lines")
    r9.refuses("tail", "/d/none", says=": /d/none: No such file or directory")
    r9.refuses("tail", "-n", "x", "/d/f", says="invalid value", code=2)
    # Growth, a cut, growth; then Ctrl-C.
    r9.does("write", "/d/lines", data=b"one\ntwo\n")
    tail = r9.start("tail", "-f", "-n", "1", "--interval", "0.05", "/d/lines")
    seen = read_until(tail, b"two\n")
    r9.does("write", "--append", "/d/lines", data=b"three\n")
    seen += read_until(tail, b"three\n")
    r9.does("write", "--in-place", "/d/lines", data=b"cut\n")
    seen += read_until(tail, b"cut\n")
    tail.send_signal(signal.SIGINT)
    rest, err = tail.communicate(timeout=10)
    check(f"tail -f in {r9.where}", seen + rest == b"two\nthree\ncut\n", seen + rest)
    check(f"Ctrl-C ends tail -f in {r9.where}", tail.returncode == -signal.SIGINT and err.endswith(b": /d/lines: it became shorter\n") and err.count(b"\n") == 1, f"{tail.returncode} {err}")


def times_and_owners(r9: R9, dialect: str) -> None:
    r9.does("touch", "/d/t", "/d/f")
    r9.does("cat", "/d/t")
    now = r9.facts("/d/t")["written"]
    check(f"touch takes the time of now in {r9.where}", now[:4] == time.strftime("%Y", time.gmtime()), now)
    r9.does("touch", "-t", "1000000000.25", "/d/t")
    fraction = "250000000" if dialect == "9P2000.L" else "000000000"
    check(f"touch -t in {r9.where}", r9.facts("/d/t")["written"] == f"2001-09-09 01:46:40.{fraction} UTC", r9.facts("/d/t"))
    r9.does("touch", "-t", "5", "/d/made")
    check(f"touch -t of a new file in {r9.where}", r9.facts("/d/made")["written"].startswith("1970-01-01 00:00:05"), r9.facts("/d/made"))
    r9.refuses("touch", "-t", "yesterday", "/d/t", says="seconds since 1970", code=2)
    r9.refuses("touch", "/none/t", says=": /none/t: No such file or directory")
    if dialect == "9P2000.L":
        r9.does("touch", "-t", "-1.5", "/d/t")
        check(f"touch before 1970 in {r9.where}", r9.facts("/d/t")["written"] == "1969-12-31 23:59:58.500000000 UTC", r9.facts("/d/t"))
    else:
        r9.refuses("touch", "-t", "-1.5", "/d/t", says="times from 1970 to 2106")
    owner = lambda: r9.facts("/d/t")["owner"]
    if dialect == "9P2000":
        r9.refuses("chown", "1234", "/d/t", says="9P2000 cannot change the owner of a file")
        r9.does("chown", ":4321", "/d/t")
        check(f"chown of the group in {r9.where}", owner() == "root 4321", owner())
        r9.refuses("chown", "1234:4321", "/d/t", says="9P2000 cannot change the owner of a file")
    else:
        root = "0" if dialect == "9P2000.L" else "root"
        for who, then in [("1234", f"1234 {root}"), (":4321", "1234 4321"), ("77:88", "77 88"), ("root:", f"{root} {root}")]:
            r9.does("chown", who, "/d/t")
            check(f"chown {who} in {r9.where}", owner() == then, owner())
        # Who gives a file away must not leave a way to become its owner.
        r9.does("chmod", "4755", "/d/t")
        r9.does("chown", "9", "/d/t")
        check(f"chown clears set-user-id in {r9.where}", r9.facts("/d/t")["mode"] == "-rwxr-xr-x 0755", r9.facts("/d/t"))
    r9.refuses("chown", "nobody here", "/d/t", says="there is no user", code=2)
    r9.refuses("chown", ":4321", "/d/none", says=": /d/none: No such file or directory")


def links_and_devices(r9: R9, dialect: str) -> None:
    if dialect == "9P2000":
        none = "9P2000 has no links and no special files"
        r9.refuses("ln", "/d/f", "/d/hard", says=none)
        r9.refuses("ln", "-s", "f", "/d/soft", says=none)
        r9.refuses("mknod", "/d/pipe", "p", says=none)
        r9.refuses("df", says="9P2000 does not tell")
        r9.refuses("mv", "/d/t", "/d/x/t", says="Invalid cross-device link")
        return
    r9.does("ln", "/d/f", "/d/hard")
    r9.does("ln", "/d/f", "/d/x")
    r9.does("write", "--append", "/d/hard", data=b"five\n")
    r9.does("cat", "/d/x/f", out=b"three\nfour\nfive\n")
    if dialect == "9P2000.L":
        check(f"ln makes links in {r9.where}", r9.facts("/d/f")["links"] == "3", r9.facts("/d/f"))
    r9.refuses("ln", "/d/f", "/d/hard", says="/d/hard -> /d/f: File exists")
    r9.refuses("ln", "/d/none", "/d/h", says="No such file or directory")
    r9.refuses("ln", "/d/x", "/d/h", says="Operation not permitted")
    r9.does("ln", "-s", "x/f", "/d/soft")
    check(f"ln -s in {r9.where}", r9.facts("/d/soft").get("target") == "x/f", r9.facts("/d/soft"))
    for words, mode, device in [
        (["/d/pipe", "p"], "prw-r--r-- 0644", None),
        (["/d/socket", "s"], "srw-r--r-- 0644", None),
        (["/d/null", "c", "1", "3"], "crw-r--r-- 0644", "1 3"),
        (["/d/tty", "u", "4", "300"], "crw-r--r-- 0644", "4 300"),
        (["-m", "0666", "/d/disk", "b", "8", "70000"], "brw-rw-rw- 0666", "8 70000"),
    ]:
        r9.does("mknod", *words)
        path = next(word for word in words if word.startswith("/"))
        facts = r9.facts(path)
        check(f"mknod {path} in {r9.where}", (facts["mode"], facts.get("device")) == (mode, device), facts)
    r9.refuses("mknod", "/d/pipe", "p", says=": /d/pipe: File exists")
    r9.refuses("mknod", "/d/n", "c", says="a device has two numbers", code=2)
    r9.refuses("mknod", "/d/n", "c", "1", says="a device has two numbers", code=2)
    r9.refuses("mknod", "/d/n", "p", "1", "2", says="only devices have numbers", code=2)
    r9.refuses("mknod", "/d/n", "x", says="invalid value", code=2)
    r9.refuses("mknod", "/d/n", "b", "1", "9999999", says="is not in", code=2)
    r9.refuses("mknod", "/no/n", "p", says=": /no/n: No such file or directory")
    if dialect == "9P2000.L":
        r9.does("mv", "/d/t", "/d/x/t")
        r9.does("mv", "/d/x/t", "/d")
        check(f"df in {r9.where}", b"files" in r9.run("df").stdout)
    else:
        r9.refuses("mv", "/d/t", "/d/x/t", says="Invalid cross-device link")
        r9.refuses("df", says="9P2000.u does not tell")


def appends(r9: R9, address: str, dialect: str) -> None:
    """Eight at a time, each more than a socket takes at once; none may be torn."""
    if dialect == "9P2000":
        # Here it is the file that says so: DMAPPEND.
        raw = P9(address, dialect=b"9P2000")
        raw.walk(0, 1, b"d")
        raw.call(114, struct.pack("<I", 1) + text(b"log") + struct.pack("<IB", 0x40000000 | 0o666, 1))
        raw.clunk(1)
    writers = []
    for n in range(8):
        process = subprocess.Popen([*r9.words, "write", "--append", "/d/log"], stdin=subprocess.PIPE)
        writers.append((process, b"%d" % n * 900_000 + b"\n"))
    for process, data in writers:
        process.stdin.write(data)
    for process, _ in writers:
        process.stdin.close()
    codes = [process.wait(60) for process, _ in writers]
    there = r9.run("cat", "/d/log").stdout
    whole = sorted(there.splitlines(keepends=True)) == [data for _, data in writers]
    check(f"appends stay whole in {r9.where}", codes == [0] * 8 and whole, f"{codes} {len(there)} bytes")
    if dialect == "9P2000":
        r9.does("chmod", "600", "/d/log")
        r9.does("write", "/d/log", data=b"more\n")
        check(f"chmod leaves a file append-only in {r9.where}", r9.run("cat", "/d/log").stdout == there + b"more\n")


def true_lengths(program: str, address: str, dialect: str, scratch: str) -> None:
    """Files that are read to their ends, whatever length they show."""
    ctl, dev = (R9(program, address, dialect, "--aname", name) for name in ("ctl", "dev"))
    to = os.path.join(scratch, "stats")
    if address.startswith("tcp:"):
        ctl.refuses("cat", "stats", says='tree "ctl": attach as root: Operation not permitted (EPERM); ctl is for root')
    else:
        figures = ctl.run("cat", "stats").stdout
        check(f"cat of ctl in {ctl.where}", b"\naccepted " in figures and figures.endswith(b"\n"))
        ctl.does("get", "/stats", to)
        check(f"get of ctl in {ctl.where}", open(to, "rb").read().endswith(b"\n"))
        os.unlink(to)
    dev.does("get", "/null", to)
    check(f"get of dev in {ctl.where}", os.path.getsize(to) == 0)
    zeros = subprocess.run(f"{' '.join(dev.words)} cat /zero | head -c 50000000 | wc -c", shell=True, capture_output=True)
    check(f"cat of a file without end in {ctl.where}", zeros.stdout.strip() == b"50000000" and not zeros.stderr, zeros)


def strange_lengths(program: str, scratch: str) -> None:
    """Files that show 0, more than there is, or less; and one that waits at its end."""
    content = b"".join(b"%d\n" % n for n in range(50_000))

    def lie(shown: int, waits: bool = False):
        def answer(peer, kind: int, tag: int, body: bytes) -> bool:
            if kind == 24 and isinstance(peer.node(body), bytes):
                peer.reply(25, tag, getattr_body(b"", shown))
                return True
            return waits and kind == 116 and struct.unpack_from("<Q", body, 4)[0] >= len(content)

        return answer

    for n, shown in enumerate([0, 1, 65_536, len(content) - 1, len(content) + 1, (1 << 63) - 1]):
        fake = Fake(os.path.join(scratch, f"fake{n}"), {b"f": content}, lie(shown))
        # Many messages, so that reads are in flight together.
        r9 = R9(program, fake.address, "9P2000.L", "--msize", "8192")
        r9.where = f"a file that shows {shown} of {len(content)}"
        to = os.path.join(scratch, "to")
        r9.does("cat", "/f", out=content)
        r9.does("get", "/f", to)
        check(f"get of {r9.where}", open(to, "rb").read() == content)
        if shown in (0, len(content) + 1, (1 << 63) - 1):
            r9.does("tail", "-n", "2", "/f", out=b"49998\n49999\n")
        os.unlink(to)
        fake.close()
    fake = Fake(os.path.join(scratch, "waits"), {b"log": content}, lie(0, waits=True))
    r9 = R9(program, fake.address)
    tail = r9.start("tail", "-f", "/log")
    last = b"".join(content.splitlines(keepends=True)[-10:])
    seen = read_until(tail, last)
    check("tail -f prints the last lines of a file that waits", seen == last, len(seen))
    check("and waits with it", tail.poll() is None)
    tail.send_signal(signal.SIGINT)
    rest, err = tail.communicate(timeout=10)
    check("Ctrl-C ends it while it waits", (tail.returncode, rest, err) == (-signal.SIGINT, b"", b""), f"{tail.returncode} {rest} {err}")


def attributes_and_locks(r9: R9, dialect: str) -> None:
    if dialect != "9P2000.L":
        r9.refuses("xattr", "ls", "/d/f", says=f"{dialect} has no extended attributes; --dialect 9P2000.L does")
        r9.refuses("lock", "/d/f", "true", says=f"{dialect} has no locks; --dialect 9P2000.L does")
        return
    large = os.urandom(65536)
    r9.does("xattr", "ls", "/d/f")
    r9.does("xattr", "set", "/d/f", "user.a", "one")
    r9.does("xattr", "set", "/d/f", "user.b", data=large)
    r9.does("xattr", "set", "/d/f", "user.c", "")
    r9.does("xattr", "ls", "/d/f", out=b"user.a\nuser.b\nuser.c\n")
    r9.does("xattr", "get", "/d/f", "user.a", out=b"one")
    r9.does("xattr", "get", "/d/f", "user.b", out=large)
    r9.does("xattr", "get", "/d/f", "user.c")
    r9.does("xattr", "rm", "/d/f", "user.b")
    r9.refuses("xattr", "rm", "/d/f", "user.b", says=": /d/f: user.b: No data available")
    r9.refuses("xattr", "get", "/d/f", "user.b", says=": /d/f: user.b: No data available")
    r9.refuses("xattr", "set", "/d/f", "other", "x", says="other: Operation not supported")
    r9.refuses("xattr", "set", "/d/f", "user.d", says="user.d: Argument list too long", data=bytes(65537))
    r9.refuses("xattr", "ls", "/d/none", "/d/f", says="/d/none: No such file or directory", out=b"/d/f: user.a\n/d/f: user.c\n")
    # A command runs while it is locked, and its code is that of r9.
    r9.does("lock", "/d/f", "sh", "-c", "echo inside", out=b"inside\n")
    r9.refuses("lock", "/d/f", "sh", "-c", "exit 7", says="", code=7)
    r9.refuses("lock", "/d/f", "sh", "-c", "kill -9 $$", says="", code=137)
    holder = r9.start("lock", "--bytes", "0..10", "/d/f", "sh", "-c", "echo locked; exec sleep 20 > /dev/null 2>&1")
    read_until(holder, b"locked\n")
    r9.refuses("lock", "--nonblock", "/d/f", "true", says=": /d/f: somebody else has locked it")
    r9.refuses("lock", "--nonblock", "--shared", "--bytes", "9..20", "/d/f", "true", says="somebody else has locked it")
    r9.does("lock", "--nonblock", "--bytes", "10..", "/d/f", "true")
    waits = r9.start("lock", "/d/f", "echo", "at last")
    check("r9 lock waits for who has it", not select.select([waits.stdout], [], [], 0.5)[0])
    holder.kill()
    holder.communicate()
    check("and gets it when they are gone", waits.communicate(timeout=30)[0] == b"at last\n" and waits.returncode == 0)
    r9.refuses("lock", "/d/none", "true", says="/d/none: No such file or directory")
    r9.refuses("lock", "/d/f", "no such program", says="no such program: No such file or directory")
    r9.refuses("lock", "--bytes", "5..5", "/d/f", "true", says="FIRST..END or FIRST..", code=2)
    r9.refuses("lock", "/d/f", says="required", code=2)


def progress(program: str, address: str, scratch: str) -> None:
    """On a terminal, bytes are counted, and summed up at the end."""
    local = os.path.join(scratch, "large")
    with open(local, "wb") as file:
        file.truncate(1 << 20)
    us, it = pty.openpty()
    command = [program, "--addr", address, "put", local, "/large"]
    with subprocess.Popen(command, stderr=it, stdout=it, env={**os.environ, "TERM": "xterm"}):
        os.close(it)
        shown = b""
        try:
            while part := os.read(us, 4096):
                shown += part
        except OSError:
            pass
    check("progress counts bytes", re.search(rb"\d+% of 1\.00 MiB \(.*/s, .* left\)", shown) is not None and b"put: 1 file, 1.00 MiB in " in shown, shown)


def dead_servers(program: str, ring9: str, scratch: str) -> None:
    path = os.path.join(scratch, "dying")
    server = subprocess.Popen([ring9, "--memory", "16MiB", "--listen", f"unix:{path}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    server.stdout.readline()
    r9 = R9(program, f"unix:{path}")
    r9.does("write", "/f", data=b"x\n")
    tail = r9.start("tail", "-f", "--interval", "0.05", "/f")
    read_until(tail, b"x\n")
    server.kill()
    server.communicate()
    _, err = tail.communicate(timeout=30)
    check("a server that dies ends tail -f", tail.returncode == 1 and err.startswith(f"r9: unix:{path}: /f: ".encode()), f"{tail.returncode} {err}")
    r9.refuses("ls", says=f"unix:{path}: cannot be reached: Connection refused (ECONNREFUSED); is the server running?")
    R9(program, "tcp:127.0.0.1:1").refuses("ls", says="tcp:127.0.0.1:1: cannot be reached: Connection refused (ECONNREFUSED)")
    R9(program, "nowhere").refuses("ls", says="is no address", code=2)
    private_socket(program)
    R9(program, f"unix:{path}", "9P3000").refuses("ls", says="invalid value", code=2)
    r9.refuses("frobnicate", says="unrecognized subcommand", code=2)


def private_socket(program: str) -> None:
    """A server is there, but this user may not enter its folder: r9 does not ask whether it is running."""
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        copy, folder = shutil.copy(program, top), f"{top}/private"
        os.mkdir(folder, 0)
        user = {"user": 65534} if os.geteuid() == 0 else {}
        done = subprocess.run([copy, "--addr", f"unix:{folder}/sock", "ls"], capture_output=True, text=True, timeout=60, **user)
        said = "this user may not use that socket, or not enter its folder"
        check("r9 with a socket of another user", done.returncode == 1 and said in done.stderr and "running" not in done.stderr, done.stderr)


def wrong_trees(program: str, addresses: list[str], dialect: str) -> None:
    """A refused attach is told from a server that is not there, and says what was asked for."""
    for address in addresses:
        said = 'tree "nowhere": attach as root: No such file or directory (ENOENT); ring9 has the trees "", "dev" and "ctl" (--aname)'
        R9(program, address, dialect, "--aname", "nowhere").refuses("ls", says=said)


def main() -> int:
    # For the children as well: jobs in the background of a script are started without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = os.path.abspath(sys.argv[1])
    ring9, program = os.path.join(folder, "ring9"), os.path.join(folder, "r9")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        listen = ["--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{scratch}/sock"]
        with subprocess.Popen([ring9, "--memory", "64MiB", "--trust", "all", *listen], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                addresses = server.stdout.readline().split()[2:]
                for address in addresses:
                    for dialect in ("9P2000.L", "9P2000.u", "9P2000"):
                        r9 = R9(program, address, dialect)
                        names_and_bytes(r9, scratch)
                        lines(r9)
                        times_and_owners(r9, dialect)
                        links_and_devices(r9, dialect)
                        appends(r9, address, dialect)
                        attributes_and_locks(r9, dialect)
                        true_lengths(program, address, dialect, scratch)
                        r9.does("rm", "-r", "/d")
                        r9.does("ls", "/")
                for dialect in ("9P2000.L", "9P2000.u", "9P2000"):
                    wrong_trees(program, addresses, dialect)
                progress(program, addresses[1], scratch)
                R9(program, addresses[1]).does("rm", "/large")
                # No client has left anything behind.
                now = stats(addresses[1])
                check("everything was given back", now["arena_used_bytes"] == 0 and now["accepted"] - now["closed"] <= 1, now)
            finally:
                server.terminate()
                server.communicate(timeout=30)
        strange_lengths(program, scratch)
        dead_servers(program, ring9, scratch)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
