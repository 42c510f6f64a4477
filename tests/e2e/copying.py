#!/usr/bin/env python3
"""Copies of r9 that do not come to their end: nothing half-made has a name, nothing is left beside it, and r9 says what it did.

Usage: copying.py BIN-FOLDER
"""
import fcntl
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from server import Server

MIB = 1 << 20
LARGE_BYTES = 20 * MIB
DIALECTS = ["9P2000.L", "9P2000.u", "9P2000"]
TEMPORARY = re.compile(rb"\.r9-[a-z2-9]{6}$")

passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {str(detail)[:500]}' if detail and not ok else ''}", flush=True)


class Tool:
    def __init__(self, program: str, address: str, *more: str):
        self.words = [program, "--addr", address, *more]

    def run(self, *command: str, data: bytes = b"", **how) -> subprocess.CompletedProcess:
        return subprocess.run([*self.words, *command], input=data, capture_output=True, timeout=60, **how)

    def start(self, *command: str, **how) -> subprocess.Popen:
        return subprocess.Popen([*self.words, *command], **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how})

    def cat(self, path: str) -> bytes:
        return self.run("cat", path).stdout

    def names(self, path: str) -> list[bytes]:
        return self.run("ls", path).stdout.splitlines()


class Slow:
    """Passes bytes on to a server, and stops after some of them until it is told to go on. So a copy is in its middle for as long as a test likes."""

    def __init__(self, path: str, server: str, bytes_: int):
        self.address, self.server, self.left = f"unix:{path}", server.partition(":")[2], bytes_
        self.is_full, self.goes_on = threading.Event(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.open: list = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            server = socket.socket(socket.AF_UNIX)
            try:
                client, _ = self.listener.accept()
                server.connect(self.server)
            except OSError:
                return
            self.open += [client, server]
            threading.Thread(target=self.pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, client, False), daemon=True).start()

    def pass_on(self, source, target, is_counted: bool) -> None:
        try:
            while part := source.recv(1 << 16):
                if is_counted and self.left < len(part) and not self.goes_on.is_set():
                    self.is_full.set()
                    self.goes_on.wait(30)
                self.left -= len(part) if is_counted else 0
                target.sendall(part)
            target.shutdown(1)
        except OSError:
            pass

    def cut(self) -> None:
        """The connections end as if the server had died; a further one finds it again."""
        # Not those of a connection that is made meanwhile.
        for end in list(self.open):
            try:
                end.shutdown(2)
            except OSError:
                pass
        self.goes_on.set()

    def close(self) -> None:
        self.listener.close()


def beside(names: list[bytes]) -> list[bytes]:
    return [name for name in names if TEMPORARY.search(name)]


def interrupted_put(tool: Tool, program: str, server: str, dialect: str, local: str, scratch: str) -> None:
    """A signal in the middle of a large file that replaces another one."""
    for n, number in enumerate((signal.SIGINT, signal.SIGTERM)):
        tool.run("write", "/large", data=b"old\n")
        slow = Slow(os.path.join(scratch, f"slow{n}{dialect}"), server, 5 * MIB)
        put = Tool(program, slow.address, "--dialect", dialect).start("put", local, "/large")
        slow.is_full.wait(30)
        during = tool.names("/"), tool.cat("/large")
        put.send_signal(number)
        slow.goes_on.set()
        _, err = put.communicate(timeout=30)
        where = f"{number.name} in a put in {dialect}"
        check(f"{where}: the copy is aside until it is complete", during[1] == b"old\n" and len(beside(during[0])) == 1, during)
        check(f"{where} ends r9 by that signal", put.returncode == -number, f"{put.returncode} {err}")
        check(f"{where}: r9 says what it did", f"r9: {number.name}: ends here\nr9: put: stopped: 0 files complete, not complete: /large\n".encode() == err, err)
        check(f"{where} leaves the old file and nothing else", tool.cat("/large") == b"old\n" and not beside(tool.names("/")), tool.names("/"))
        slow.close()
    tool.run("rm", "/large")


def interrupted_tree(tool: Tool, program: str, server: str, tree: str, scratch: str) -> None:
    """A signal in the middle of a tree: each file is there whole or not at all, and those that are there are counted."""
    slow = Slow(os.path.join(scratch, "slowtree"), server, 3 * MIB)
    put = Tool(program, slow.address).start("put", "-v", "-r", tree, "/tree")
    slow.is_full.wait(30)
    put.send_signal(signal.SIGINT)
    slow.goes_on.set()
    _, err = put.communicate(timeout=30)
    names = tool.names("/tree/d")
    whole = all(tool.cat(f"/tree/d/{name.decode()}") == open(os.path.join(tree, "d", name.decode()), "rb").read() for name in names)
    told = {line.rpartition(b"/")[2] for line in err.splitlines() if line.startswith(b"r9: /tree/d/")}
    count = int(re.search(rb"stopped: ([\d,]+) files? complete", err)[1].replace(b",", b""))
    check("a tree that is interrupted has whole files alone", put.returncode == -signal.SIGINT and 0 < len(names) < 200 and whole, f"{len(names)} {err[-300:]}")
    check("r9 -v has told which ones, and counts them", told == set(names) and count == len(names), f"{count} {len(told)} {len(names)}")
    check("r9 names files that are not complete, and directories", b"not complete: /tree/d/" in err and b"2 directories without final permissions and times" in err, err[-300:])
    tool.run("rm", "-r", "/tree")


def lost_connections(tool: Tool, program: str, server: str, local: str, scratch: str) -> None:
    """A connection that breaks, while the server goes on: what was made is removed over another one."""
    tool.run("write", "/large", data=b"old\n")
    slow = Slow(os.path.join(scratch, "cut"), server, 5 * MIB)
    put = Tool(program, slow.address).start("put", local, "/large")
    slow.is_full.wait(30)
    slow.cut()
    _, err = put.communicate(timeout=30)
    check("a connection that breaks is an error with the address", put.returncode == 1 and err.startswith(f"r9: {slow.address}: ".encode()), err)
    check("what was made is removed over another one", tool.cat("/large") == b"old\n" and not beside(tool.names("/")), f"{tool.names('/')} {err}")
    slow.close()
    tool.run("rm", "/large")


def killed_server(ring9: str, program: str, local: str, scratch: str) -> None:
    """With a server that is gone r9 says what may be left."""
    server = Server(ring9, "--memory", "64MiB", "--listen", f"unix:{scratch}/gone")
    slow = Slow(os.path.join(scratch, "slowgone"), server.address, 5 * MIB)
    put = Tool(program, slow.address).start("put", local, "/large")
    slow.is_full.wait(30)
    server.end(signal.SIGKILL)
    slow.close()
    slow.cut()
    _, err = put.communicate(timeout=30)
    left = re.search(rb"/\.large\.r9-[a-z2-9]{6}: may be left, and can be removed\n", err)
    check("a server that is killed: r9 names what may be left", put.returncode == 1 and left and b"not complete: /large" in err, err)


def killed_client(tool: Tool, program: str, server: str, local: str, scratch: str) -> None:
    """SIGKILL leaves the old file, and the new one aside under a name that tells."""
    tool.run("write", "/large", data=b"old\n")
    slow = Slow(os.path.join(scratch, "killed"), server, 5 * MIB)
    put = Tool(program, slow.address).start("put", local, "/large")
    slow.is_full.wait(30)
    put.kill()
    put.communicate()
    names = tool.names("/")
    check("a put that is killed leaves the old file", tool.cat("/large") == b"old\n" and len(beside(names)) == 1 and beside(names)[0].startswith(b".large.r9-"), names)
    tool.run("rm", "/large", f"/{beside(names)[0].decode()}")
    slow.close()


def full(program: str, ring9: str, local: str, scratch: str) -> None:
    """No space, there and here."""
    server = Server(ring9, "--memory", "16MiB", "--trust", "all", "--listen", f"unix:{scratch}/full")
    for dialect in DIALECTS:
        tool = Tool(program, server.address, "--dialect", dialect)
        tool.run("write", "/large", data=b"old\n")
        put = tool.run("put", local, "/large")
        check(f"a full server is an error in {dialect}", put.returncode == 1 and put.stderr.endswith(b": /large: No space left on device (ENOSPC)\n"), put.stderr)
        check(f"and the old file stays in {dialect}", tool.cat("/large") == b"old\n" and tool.names("/") == [b"large"], tool.names("/"))
        write = tool.run("write", "/large", data=bytes(1) * LARGE_BYTES)
        check(f"the same of write in {dialect}", write.returncode == 1 and tool.cat("/large") == b"old\n" and tool.names("/") == [b"large"], f"{write.stderr} {tool.names('/')}")
    server.end()
    server = Server(ring9, "--memory", "64MiB", "--trust", "all", "--listen", f"unix:{scratch}/sock2")
    tool = Tool(program, server.address)
    tool.run("put", local, "/large")
    to = os.path.join(scratch, "into")
    os.mkdir(to)
    with open(os.path.join(to, "large"), "wb") as file:
        file.write(b"old\n")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    get = tool.run("get", "/large", to, preexec_fn=limit)
    check("a file that grows too large here is an error", get.returncode == 1 and get.stderr == f"r9: {to}/large: File too large (EFBIG)\n".encode(), get.stderr)
    check("and the old file stays here", os.listdir(to) == ["large"] and open(os.path.join(to, "large"), "rb").read() == b"old\n", os.listdir(to))
    for number in (signal.SIGINT, signal.SIGTERM):
        get = tool.start("get", "/large", "/large", "/large", "/large", to)
        time.sleep(0.02)
        get.send_signal(number)
        _, err = get.communicate(timeout=30)
        # It may have been quicker than the signal, or the signal quicker than that it was caught.
        size = os.path.getsize(os.path.join(to, "large"))
        check(f"{number.name} in a get leaves an old or a new file and nothing else", os.listdir(to) == ["large"] and size in (4, LARGE_BYTES), f"{os.listdir(to)} {size} {err}")
    server.end()


def broken_source(tool: Tool, scratch: str) -> None:
    """A source that cannot be read to its end."""
    tool.run("write", "/f", data=b"old\n")
    for source, says in [("/proc/self/mem", b"Input/output error (EIO)"), (os.path.join(scratch, "none"), b"No such file or directory (ENOENT)")]:
        put = tool.run("put", source, "/f")
        ok = put.returncode == 1 and put.stderr == b"r9: %s: %s\n" % (source.encode(), says)
        check(f"a source that cannot be read: {source}", ok and tool.cat("/f") == b"old\n" and not beside(tool.names("/")), put.stderr)
    tool.run("rm", "/f")


def old_or_new(tool: Tool, dialect: str, scratch: str) -> None:
    """A reader of a file that is put again and again sees one of two contents: whole files of one letter, of different lengths."""
    contents = [b"a" * 300_000, b"b" * 40_000]
    paths = [os.path.join(scratch, f"content{n}") for n in range(2)]
    for path, content in zip(paths, contents):
        with open(path, "wb") as file:
            file.write(content)
    tool.run("put", paths[0], "/f")
    ends = threading.Event()

    def write() -> None:
        n = 0
        while not ends.is_set():
            n += 1
            # One in ten is killed in the middle, wherever that is.
            put = tool.start("put", paths[n % 2], "/f")
            if n % 10 == 0:
                time.sleep(0.003)
                put.kill()
            put.communicate()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    for _ in range(60):
        got = tool.run("cat", "/f")
        # Plain 9P2000 cannot replace a name: for a moment there is none.
        if dialect == "9P2000" and got.returncode == 1 and b"ENOENT" in got.stderr:
            continue
        seen.append(got.stdout)
    ends.set()
    writer.join()
    wrong = [len(content) for content in seen if content not in contents]
    check(f"a reader sees the old or the new file in {dialect}", not wrong and {len(content) for content in seen} <= {300_000, 40_000} and len(seen) > 10, wrong)
    for name in beside(tool.names("/")):
        tool.run("rm", f"/{name.decode()}")
    tool.run("rm", "/f")


def replaced(program: str, server: str, scratch: str) -> None:
    """What becomes of the file that is replaced: mode, owner, links, and what is no file."""
    tool = Tool(program, server)
    local = os.path.join(scratch, "new")
    with open(local, "wb") as file:
        file.write(b"new\n")
    os.chmod(local, 0o640)
    facts = lambda path: dict(line.split(None, 1) for line in tool.run("stat", path).stdout.decode().splitlines())
    tool.run("write", "/f", data=b"old\n")
    tool.run("ln", "/f", "/hard")
    tool.run("chown", "1234:4321", "/f")
    tool.run("chmod", "0444", "/f")
    put = tool.run("put", local, "/f")
    now = facts("/f")
    check("put replaces a read-only file, and keeps its owner", put.returncode == 0 and (now["mode"], now["owner"]) == ("-rw-r----- 0640", "1234 4321"), f"{put.stderr} {now}")
    check("another hard link keeps the old file", tool.cat("/hard") == b"old\n" and now["links"] == "1", now)
    tool.run("chmod", "0604", "/f")
    tool.run("write", "/f", data=b"written\n")
    check("write keeps permissions and owner", (facts("/f")["mode"], facts("/f")["owner"]) == ("-rw----r-- 0604", "1234 4321"), facts("/f"))
    tool.run("ln", "/f", "/hard2")
    put = tool.run("put", "--in-place", local, "/f")
    check("put --in-place writes into the file", put.returncode == 0 and tool.cat("/hard2") == b"new\n" and facts("/f")["links"] == "2", put.stderr)
    tool.run("ln", "-s", "f", "/soft")
    put = tool.run("put", local, "/soft")
    check("put replaces a symbolic link", put.returncode == 0 and facts("/soft")["mode"].startswith("-") and tool.cat("/f") == b"new\n", put.stderr)
    tool.run("mknod", "/pipe", "p")
    put = tool.run("put", local, "/pipe")
    check("put replaces no pipe", put.returncode == 1 and b"/pipe: is a pipe, a socket or a device" in put.stderr and facts("/pipe")["mode"].startswith("p"), put.stderr)
    name = "n" * 255
    check("a name of 255 bytes", tool.run("put", local, f"/{name}").returncode == 0 and tool.cat(f"/{name}") == b"new\n")
    dev = Tool(program, server, "--aname", "dev")
    check("write goes straight into a file where no other can be made", dev.run("write", "/null", data=b"x").returncode == 0)
    put = dev.run("put", local, "/null")
    check("put says what to do there", put.returncode == 1 and b"tree dev: /null: " in put.stderr and b"--in-place" in put.stderr, put.stderr)
    # Here.
    to = os.path.join(scratch, "to")
    os.symlink("behind", to)
    with open(os.path.join(scratch, "behind"), "wb") as file:
        file.write(b"old\n")
    tool.run("get", "/f", to)
    check("get follows a link that is named", os.path.islink(to) and open(to, "rb").read() == b"new\n")
    os.mkdir(os.path.join(scratch, "folder"))
    got = tool.run("get", "/f", os.path.join(scratch, "folder"))
    check("get into a directory", got.returncode == 0 and os.listdir(os.path.join(scratch, "folder")) == ["f"], got.stderr)
    for path in ("/f", "/hard", "/hard2", "/soft", "/pipe", f"/{name}"):
        tool.run("rm", path)


def deep(tool: Tool, scratch: str) -> None:
    """A tree whose paths are longer than PATH_MAX, there and back, shown and removed."""
    depth, name = 3000, "d23456789a"
    top, back = os.path.join(scratch, "deep"), os.path.join(scratch, "deepback")

    def down(path: str):
        """Descriptors of the directories from `path` on, one after the other."""
        fd = os.open(path, os.O_RDONLY)
        yield fd
        while name in os.listdir(fd):
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
            yield fd
        os.close(fd)

    os.mkdir(top)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    bottom = os.open("bottom", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.write(bottom, b"deep\n")
    os.close(bottom)
    os.close(fd)
    start = time.monotonic()
    put = tool.run("put", "-r", top, "/deep")
    check("put -r of a tree that is deeper than a path is long", put.returncode == 0 and not put.stderr, put.stderr[-300:])
    get = tool.run("get", "-r", "/deep", back)
    check("get -r of it", get.returncode == 0 and not get.stderr, get.stderr[-300:])
    levels, text = -1, b""
    for fd in down(back):
        levels += 1
        if "bottom" in os.listdir(fd):
            text = os.read(os.open("bottom", os.O_RDONLY, dir_fd=fd), 100)
    check("all of it came back", (levels, text) == (depth, b"deep\n"), f"{levels} {text}")
    tree = tool.run("tree", "/deep").stdout.splitlines()
    check("tree shows it", len(tree) == depth + 2 and tree[-1].strip() == b"bottom", len(tree))
    rm = tool.run("rm", "-r", "/deep")
    check("rm -r removes it", rm.returncode == 0 and tool.names("/") == [], rm.stderr[-300:])
    print(f"     ({time.monotonic() - start:.1f} s)")
    subprocess.run(["rm", "-rf", top, back], check=True)


def outputs(tool: Tool, program: str, scratch: str) -> None:
    """Standard output that takes nothing is an error of each command that prints, and a reader that goes is told as SIGPIPE is."""
    tool.run("write", "/f", data=b"text\n" * 100_000)
    tool.run("xattr", "set", "/f", "user.a", "value")
    for command in (["cat", "/f"], ["ls", "/"], ["ls", "-l", "/f"], ["tree", "/"], ["stat", "/f"], ["df"], ["tail", "/f"], ["xattr", "ls", "/f"], ["xattr", "get", "/f", "user.a"]):
        with open("/dev/full", "wb") as sink:
            done = subprocess.run([*tool.words, *command], stdout=sink, stderr=subprocess.PIPE, timeout=60)
        check(f"r9 {command[0]} to /dev/full", (done.returncode, done.stderr) == (1, b"r9: standard output: No space left on device (ENOSPC)\n"), f"{done.returncode} {done.stderr}")
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *tool.words, *command], capture_output=True, timeout=60)
        check(f"r9 {command[0]} to a closed output", (done.returncode, done.stderr) == (1, b"r9: standard output: Bad file descriptor (EBADF)\n"), f"{done.returncode} {done.stderr}")
    piped = subprocess.run(["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "bash", *tool.words, "cat", "/f"], capture_output=True, timeout=60)
    check("r9 cat | head ends quietly, as by SIGPIPE", (piped.returncode, piped.stdout, piped.stderr) == (141, b"text\n", b""), piped)
    # A reader of the messages that goes does not end a copy.
    many = os.path.join(scratch, "many")
    os.mkdir(many)
    for n in range(200):
        with open(os.path.join(many, str(n)), "wb") as file:
            file.write(b"x")
    read, write = os.pipe()
    os.close(read)
    put = tool.start("put", "-v", "-r", many, "/many", stderr=write)
    os.close(write)
    check("a copy whose messages nobody reads goes on", put.wait(30) == 0 and len(tool.names("/many")) == 200, put.returncode)
    tool.run("rm", "-r", "/many", "/f")


def on_a_terminal(words: list[str]) -> bytes:
    us, it = pty.openpty()
    fcntl.ioctl(it, 0x5414, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=it, stderr=it, env={**os.environ, "TERM": "xterm"}):
        os.close(it)
        shown = b""
        try:
            while part := os.read(us, 4096):
                shown += part
        except OSError:
            pass
    return shown


def progress(tool: Tool, program: str, server: str, local: str, scratch: str) -> None:
    """On a terminal: percent, total, rate, time left, and a summary. Otherwise nothing, unless it is asked for."""
    slow = Slow(os.path.join(scratch, "slowshow"), server, 5 * MIB)
    threading.Timer(0.5, slow.goes_on.set).start()
    shown = on_a_terminal([program, "--addr", slow.address, "put", local, "/large"])
    summary = rb"r9: put: 1 file, 20\.00 MiB in \d+\.\d s \([\d.]+ \w+/s\)\r\n$"
    check("progress has percent, total, rate and time left", re.search(rb"\d+% of 20\.00 MiB \([\d.]+ \w+/s, \d+s left\)", shown) is not None, shown)
    check("and a summary at the end", re.search(summary, shown) is not None, shown[-200:])
    check("-q shows nothing", on_a_terminal([*tool.words, "put", "-q", local, "/large"]) == b"")
    get = on_a_terminal([*tool.words, "get", "/large", os.path.join(scratch, "got")])
    check("get has a summary, too", re.search(summary.replace(b"put", b"get"), get) is not None, get)
    for words in (["put", local, "/large"], ["get", "/large", os.path.join(scratch, "got")]):
        done = tool.run(*words)
        check(f"without a terminal {words[0]} is silent", (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done)
    done = tool.run("put", "-v", local, "/large")
    check("-v names the file and sums up", done.stdout == b"" and re.fullmatch(rb"r9: /large\nr9: put: 1 file, 20.00 MiB in .*\n", done.stderr) is not None, done.stderr)
    tool.run("rm", "/large")
    slow.close()


def addresses(program: str, server: str) -> None:
    run = lambda *words, address: subprocess.run([program, *words], capture_output=True, text=True, timeout=60, env={**os.environ, "RING9_ADDR": address})
    check("RING9_ADDR is the default of --addr", run("ls", "/", address=server).returncode == 0)
    check("--addr wins", run("--addr", server, "ls", "/", address="unix:/none").returncode == 0)
    bad = run("ls", "/", address="nowhere")
    check("a bad RING9_ADDR is named", bad.returncode == 2 and bad.stderr.startswith("error: the environment variable RING9_ADDR: "), bad.stderr)
    check("an empty one is none", "RING9_ADDR" not in run("--version", address="").stderr)
    down = run("ls", "/", address="unix:/none/sock")
    check("a server that is not there", down.returncode == 1 and down.stderr.startswith("r9: unix:/none/sock: cannot be reached: No such file or directory (ENOENT); is the server running? `ring9` starts one") and down.stderr.count("\n") == 1, down.stderr)


def main() -> int:
    # For the children as well: jobs in the background of a script are started without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    folder = os.path.abspath(sys.argv[1])
    ring9, program = os.path.join(folder, "ring9"), os.path.join(folder, "r9")
    with tempfile.TemporaryDirectory() as scratch:
        local, tree = os.path.join(scratch, "large"), os.path.join(scratch, "tree")
        with open(local, "wb") as file:
            file.write(os.urandom(LARGE_BYTES))
        os.makedirs(os.path.join(tree, "d"))
        for n in range(200):
            with open(os.path.join(tree, "d", str(n)), "wb") as file:
                file.write(os.urandom(30_000))
        server = Server(ring9, "--memory", "96MiB", "--trust", "all", "--listen", f"unix:{scratch}/sock")
        tool = Tool(program, server.address)
        for dialect in DIALECTS:
            in_dialect = Tool(program, server.address, "--dialect", dialect)
            interrupted_put(in_dialect, program, server.address, dialect, local, scratch)
            old_or_new(in_dialect, dialect, scratch)
        interrupted_tree(tool, program, server.address, tree, scratch)
        lost_connections(tool, program, server.address, local, scratch)
        killed_client(tool, program, server.address, local, scratch)
        killed_server(ring9, program, local, scratch)
        full(program, ring9, local, scratch)
        broken_source(tool, scratch)
        replaced(program, server.address, scratch)
        deep(tool, scratch)
        outputs(tool, program, scratch)
        progress(tool, program, server.address, local, scratch)
        addresses(program, server.address)
        check("nothing is left on the server", tool.names("/") == [], tool.names("/"))
        server.end()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
