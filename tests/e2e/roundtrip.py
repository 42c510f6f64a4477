#!/usr/bin/env python3
"""Copies trees in and out with r9, and lets clients that share no code with ring9 look at them.

Usage: roundtrip.py BIN-FOLDER [--quick] [--diod] SOURCE...
BIN-FOLDER has ring9 and r9. --quick: one dialect and socket for each source but the odd cases. --diod: all sums through Debian's diodcat as well.
"""
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from p9 import stats

passed = failed = 0


def check(name: str, ok: bool, detail: str = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{': ' + detail if detail and not ok else ''}", flush=True)


def run(*command: object, expect: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([os.fspath(c) if isinstance(c, os.PathLike) else c for c in command], capture_output=True)
    if done.returncode != expect:
        words = b" ".join(os.fsencode(str(word)) for word in command).decode(errors="replace")
        check(f"exit code of {words}", False, f"{done.returncode}: {done.stderr.decode(errors='replace')[:2000]}")
    return done


def walk(top: bytes):
    """Paths below `top`, without following links."""
    todo = [top]
    while todo:
        path = todo.pop()
        yield path
        if stat.S_ISDIR(os.lstat(path).st_mode):
            todo.extend(sorted(os.path.join(path, name) for name in os.listdir(path)))


def facts(top: bytes, dialect: str) -> dict[bytes, tuple]:
    """What a copy must keep: of find -printf '%P %y %m %T@ %l %s', what the dialect can carry. The size of a directory is its file system's affair."""
    found = {}
    for path in walk(top):
        now = os.lstat(path)
        kind = stat.S_IFMT(now.st_mode)
        if dialect == "9P2000" and kind not in (stat.S_IFREG, stat.S_IFDIR):
            continue
        mode = stat.S_IMODE(now.st_mode) & (0o777 if dialect == "9P2000" else 0o7777)
        when = now.st_mtime_ns if dialect == "9P2000.L" else now.st_mtime_ns // 10**9
        target = os.readlink(path) if kind == stat.S_IFLNK else b""
        size = now.st_size if kind == stat.S_IFREG else None
        found[os.path.relpath(path, top)] = (kind, mode, when, target, size)
    return found


def there_and_back(r9: str, address: str, dialect: str, source: str, scratch: str) -> None:
    name = f"{os.path.basename(source)} in {dialect} over {address.partition(':')[0]}"
    copy = os.path.join(scratch, "copy")
    tool = [r9, "--addr", address, "--dialect", dialect]
    run(*tool, "put", "-r", *(["--skip-special"] if dialect == "9P2000" else []), source, "/tree")
    run(*tool, "get", "-r", "/tree", copy)
    here, back = facts(os.fsencode(source), dialect), facts(os.fsencode(copy), dialect)
    different = [path for path in here.keys() | back.keys() if here.get(path) != back.get(path)]
    first = f"{len(different)} differ, first {different[0]!r}: {here.get(different[0])} {back.get(different[0])}" if different else ""
    check(f"facts of {len(here)} files of {name}", not different, first)
    diff = subprocess.run(["diff", "-r", "--no-dereference", source, copy], capture_output=True)
    lines = [line for line in diff.stdout.splitlines() if dialect != "9P2000" or not is_link_line(line, source)]
    check(f"diff -r of {name}", not lines and not diff.stderr, f"{lines[:3]} {diff.stderr[:500]!r}")
    subprocess.run(["chmod", "-R", "u+rwX", copy], check=True)
    subprocess.run(["rm", "-rf", copy], check=True)


def is_link_line(line: bytes, source: str) -> bool:
    """9P2000 has no links: what diff misses for that reason."""
    if not line.startswith(b"Only in " + os.fsencode(source)):
        return False
    folder, _, name = line[len(b"Only in ") :].partition(b": ")
    return os.path.islink(os.path.join(folder, name))


def holes(r9: str, address: str, scratch: str) -> None:
    """3 GiB with four islands of data: no more is stored or sent than the islands."""
    path = os.path.join(scratch, "sparse")
    with open(path, "wb") as out:
        for offset in (0, 1 << 20, (1 << 30) + 5, (3 << 30) - 100_000):
            out.seek(offset)
            out.write(os.urandom(5000))
        out.truncate(3 << 30)
    before = stats(address)["arena_used_bytes"]
    run(r9, "--addr", address, "put", path, "/sparse")
    used = stats(address)["arena_used_bytes"] - before
    check("holes are not stored", used <= 1 << 20, f"{used} bytes")
    back = path + ".back"
    run(r9, "--addr", address, "get", "/sparse", back)
    same = subprocess.run(["cmp", path, back], capture_output=True)
    check("3 GiB with holes come back", same.returncode == 0, same.stdout.decode())
    blocks = os.stat(back).st_blocks
    check("holes come back as holes", blocks * 512 <= 1 << 20, f"{blocks * 512} bytes")
    os.unlink(path), os.unlink(back)


def diod_agrees(address: str, source: str) -> None:
    """The sum of every file, through diodcat: 100 files at a time."""
    where = address.partition(":")[2]
    top = os.fsencode(source)
    files = [path for path in walk(top) if stat.S_ISREG(os.lstat(path).st_mode)]
    wrong = 0
    for at in range(0, len(files), 100):
        some = files[at : at + 100]
        here = hashlib.sha256()
        for path in some:
            with open(path, "rb") as file:
                here.update(file.read())
        remote = [b"tree/" + os.path.relpath(path, top) for path in some]
        there = subprocess.run(["diodcat", "-s", where, "-a", "/", *remote], capture_output=True)
        wrong += hashlib.sha256(there.stdout).digest() != here.digest()
    check(f"sha256 of {len(files)} files of {os.path.basename(source)} through diodcat", wrong == 0, f"{wrong} hundreds differ")
    listed = run("diodls", "-s", where, "-a", "/", "/tree").stdout.split(b"\n")
    names = {name for name in listed if name} - {b".", b".."}
    check("diodls lists the same names", names == set(os.listdir(top)), str(names ^ set(os.listdir(top)))[:300])


def py9p_agrees(address: str, source: str) -> None:
    """A listing and reads through python-9p, in plain 9P2000."""
    try:
        import py9p
    except ImportError:
        check("python-9p is there", False, "pip install python-9p")
        return
    host, _, port = address.partition(":")[2].rpartition(":")
    with py9p.Client.connect_tcp(host, int(port), msize=65536) as client:
        client.negotiate()
        client.attach(0, uname="root")
        client.walk(0, 1, ["tree"])
        client.open(1)
        data, names = b"", []
        while part := client.read(1, 60000, len(data)):
            data += part
        while data:
            size = int.from_bytes(data[:2], "little") + 2
            names.append(os.fsencode(py9p.decode_dir(data[:size]).name))
            data = data[size:]
        here = {name for name in os.listdir(os.fsencode(source)) if not os.path.islink(os.path.join(os.fsencode(source), name))}
        check("python-9p lists the same names", here <= set(names), str(here - set(names))[:300])
        read = 0
        for path in walk(os.fsencode(source)):
            relative = os.path.relpath(path, os.fsencode(source))
            if not stat.S_ISREG(os.lstat(path).st_mode) or read >= 200:
                continue
            try:
                steps = ["tree", *relative.decode().split("/")]
            except UnicodeDecodeError:
                continue
            if len(steps) > 16:
                continue
            client.walk(0, 2, steps)
            client.open(2)
            got = b""
            while part := client.read(2, 60000, len(got)):
                got += part
            client.clunk(2)
            with open(path, "rb") as file:
                if got != file.read():
                    check(f"python-9p reads {relative!r}", False)
            read += 1
        check(f"python-9p reads {read} files", read > 0)


def main() -> int:
    arguments = sys.argv[1:]
    quick, diod = "--quick" in arguments, "--diod" in arguments
    folder, *sources = [argument for argument in arguments if not argument.startswith("--")]
    ring9, r9 = os.path.join(folder, "ring9"), os.path.join(folder, "r9")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as scratch:
        odd = os.path.join(scratch, "odd")
        run(sys.executable, os.path.join(HERE, "odd_tree.py"), odd)
        socket = os.path.join(scratch, "sock")
        command = [ring9, "--trust", "all", "--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{socket}", "--memory", "1GiB"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                tcp, unix = server.stdout.readline().split()[2:]
                every = [(address, dialect) for address in (tcp, unix) for dialect in ("9P2000.L", "9P2000.u", "9P2000")]
                for source in [odd, *sources]:
                    ways = every if source == odd or not quick else [(unix, "9P2000.L")]
                    for address, dialect in ways:
                        start = time.monotonic()
                        there_and_back(r9, address, dialect, source, scratch)
                        print(f"     ({time.monotonic() - start:.1f} s)")
                        if (address, dialect) == ways[-1]:
                            # The last copy stays for the others to look at; in .L, so that it has everything.
                            run(r9, "--addr", unix, "rm", "-r", "/tree")
                            run(r9, "--addr", unix, "put", "-r", source, "/tree")
                            if diod:
                                diod_agrees(tcp, source)
                            py9p_agrees(tcp, source)
                        run(r9, "--addr", unix, "rm", "-r", "/tree")
                holes(r9, unix, scratch)
                run(r9, "--addr", unix, "rm", "/sparse")
                now = stats(unix)
                gauges = {name: now[name] for name in ("arena_used_bytes", "arena_orphaned_bytes", "pins")}
                check("everything was given back", not any(gauges.values()), str(gauges))
            finally:
                server.terminate()
                code = server.wait(30)
        check("SIGTERM ends the server orderly", code == 0 and not os.path.exists(socket), f"{code} {server.stderr and ''}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
