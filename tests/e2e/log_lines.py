#!/usr/bin/env python3
"""Log lines and whoever reads them, or does not: pipes that are full, closed or shared, a terminal that is stopped, files, floods of lines.

The server serves whatever becomes of its lines, says how many are missing, and ends when it is told to.

Usage: log_lines.py BIN-FOLDER
"""
import errno
import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from p9 import P9, stats

F_SETPIPE_SZ = 1031
PIPE_BYTES = 4096
# Nobody has to wait for longer: a drain with nobody in it, and the last lines.
END_S = 3.0
passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


def pipe(full: bool) -> tuple[int, int]:
    """A small pipe, that somebody has filled."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES)
    if full:
        os.write(writer, b"-" * (PIPE_BYTES - 1) + b"\n")
    return reader, writer


def read_all(reader: int) -> str:
    """What is there, until nothing more comes."""
    text, quiet = b"", 0
    os.set_blocking(reader, False)
    while quiet < 20:
        try:
            part = os.read(reader, 1 << 16)
            if not part:
                break
            text, quiet = text + part, 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.1)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            break
    return text.decode(errors="replace")


class Server:
    """A server whose lines go to this descriptor."""

    def __init__(self, program: str, folder: str, stderr: int, *flags: str, stdout: int = subprocess.PIPE):
        self.path = os.path.join(folder, "sock")
        self.address = f"unix:{self.path}"
        command = [program, "--memory", "16MiB", "--listen", self.address, *flags]
        self.process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        if stdout == subprocess.PIPE:
            self.process.stdout.readline()

    def stranger(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.settimeout(5)
            other.connect(self.path)
            other.sendall(b"GET / HTTP/1.1\r\n\r\n")
            other.recv(10)

    def client(self, aname: bytes = b"") -> P9:
        client = P9(self.address, aname)
        client.socket.settimeout(5)
        return client

    def log(self) -> str:
        client = self.client(b"ctl")
        client.walk(0, 1, b"log")
        client.open(1)
        return client.read(1, 0, 1 << 17).decode()

    def end(self, by: int = signal.SIGTERM, times: int = 1) -> tuple[int | None, float]:
        """Exit code (None: it had to be killed), and seconds."""
        began = time.monotonic()
        for _ in range(times):
            self.process.send_signal(by)
            time.sleep(0.05)
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        if self.process.stdout:
            self.process.stdout.close()
        return code, time.monotonic() - began


def ends(name: str, server: Server, times: int = 1) -> None:
    code, took = server.end(times=times)
    check(name, code == 0 and took < END_S, f"exit code {code} after {took:.1f} s")


def served(name: str, server: Server, strangers: int, requests: int = 20) -> None:
    """An honest client is served while strangers come and go."""
    try:
        honest = server.client()
        for number in range(strangers):
            server.stranger()
            if number % (strangers // requests or 1) == 0:
                honest.walk(0, 1)
                honest.clunk(1)
        check(name, True)
    except OSError as error:
        check(name, False, repr(error))


def main() -> int:
    program = os.path.join(sys.argv[1], "ring9")
    with tempfile.TemporaryDirectory() as folder:
        # A pipe that nobody reads.
        reader, writer = pipe(full=True)
        server = Server(program, folder, writer)
        served("a full stderr keeps nobody waiting", server, 300)
        ends("and SIGTERM ends the server", server)
        os.close(reader), os.close(writer)

        reader, writer = pipe(full=True)
        server = Server(program, folder, writer)
        server.stranger()
        ends("a second signal does not wait for it either", server, times=2)
        os.close(reader), os.close(writer)

        # More lines than are kept for stderr; then its reader goes on.
        reader, writer = pipe(full=True)
        server = Server(program, folder, writer, "--trace")
        os.close(writer)
        served("with --trace", server, 30)
        busy, asked = server.client(), 0
        while stats(server.address)["log_lines_dropped"] == 0 and asked < 50_000:
            for _ in range(500):
                busy.walk(0, 1)
                busy.clunk(1)
            asked += 500
        check("lines that find no room are counted", asked < 50_000, asked)
        resident = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1])
        for _ in range(10_000):
            busy.walk(0, 1)
            busy.clunk(1)
        grown = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{server.process.pid}/status").read())[1]) - resident
        check("and take no memory", grown < 512, f"{grown} KiB")
        text = read_all(reader)
        busy.walk(0, 1)
        text += read_all(reader)
        lines = text.splitlines()[1:]
        missing = [int(n) for n in re.findall(r"^ring9: warn: (\d+) lines were dropped$", text, re.M)]
        dropped = stats(server.address)["log_lines_dropped"]
        check("once it is read, it says how many are missing", sum(missing) == dropped > 10_000, f"{missing}, {dropped} counted")
        whole = re.compile(r"peer \d+ [<>] \w+ tag=\S+.*|ring9: .*")
        check("and every line is whole", all(map(whole.fullmatch, lines)), [line for line in lines if not whole.fullmatch(line)][:3])
        ends("and it ends", server)
        os.close(reader)

        # Who reads has gone.
        reader, writer = pipe(full=False)
        server = Server(program, folder, writer)
        os.close(reader), os.close(writer)
        served("a stderr whose reader is gone keeps nobody waiting", server, 10)
        time.sleep(2.2)
        server.stranger()
        log = server.log()
        check("ctl/log has the lines", log.count("a message of") >= 6, log)
        counted = stats(server.address)["log_lines_dropped"]
        check("and they count as dropped", counted >= 5, counted)
        ends("and it ends", server)

        # No descriptor, or one that takes nothing.
        command = f'exec {program} --memory 16MiB --listen unix:{folder}/sock 2>&- >&-'
        server = Server.__new__(Server)
        server.path, server.address = f"{folder}/sock", f"unix:{folder}/sock"
        server.process = subprocess.Popen(["sh", "-c", command])
        for _ in range(100):
            time.sleep(0.05)
            if os.path.exists(server.path):
                break
        served("closed standard streams keep nobody waiting", server, 10)
        ends("and it ends", server)

        full = os.open("/dev/full", os.O_WRONLY)
        server = Server(program, folder, full)
        served("a stderr without space keeps nobody waiting", server, 10)
        time.sleep(1.2)
        counted = stats(server.address)["log_lines_dropped"]
        check("its lines count as dropped", counted >= 5, counted)
        ends("and it ends", server)
        os.close(full)

        # A file that others append to as well.
        path = os.path.join(folder, "file")
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, b"before\n")
        server = Server(program, folder, file)
        server.stranger()
        time.sleep(0.3)
        os.write(file, b"between\n")
        server.stranger()
        ends("a file takes lines", server)
        lines = open(path).read().splitlines()
        order = [line if line.startswith("be") else "line" for line in lines if line.startswith("be") or "a message of" in line]
        check("where it ends", order == ["before", "line", "between", "line"], lines)
        os.close(file)

        # A terminal that is stopped, by ^S.
        master, slave = pty.openpty()
        server = Server(program, folder, slave, "--trace")
        os.write(master, b"\x13")
        time.sleep(0.1)
        served("a stopped terminal keeps nobody waiting", server, 50)
        read_all(master)
        os.write(master, b"\x11")
        check("when it goes on, so do the lines", "Tversion" in read_all(master))
        os.write(master, b"\x13")
        time.sleep(0.1)
        served("when it stops again", server, 10)
        ends("it ends all the same", server)
        os.close(master), os.close(slave)

        # A description that another process has set to O_NONBLOCK, and that stays as it is.
        for flag in (0, os.O_NONBLOCK):
            reader, writer = pipe(full=True)
            os.set_blocking(writer, not flag)
            server = Server(program, folder, writer)
            served("a shared stderr keeps nobody waiting", server, 10)
            kept = fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK == flag
            check("and stays as it was", kept)
            text = read_all(reader)
            check("its lines come once there is room", text.count("a message of") >= 5, text[-300:])
            ends("and it ends", server)
            os.close(reader), os.close(writer)

        # Who waits for the ready line reads it late.
        reader, writer = pipe(full=True)
        err = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        server = Server(program, folder, err, stdout=writer)
        for _ in range(100):
            time.sleep(0.05)
            if "ready line" in open(path).read():
                break
        check("a full stdout is said", "stdout did not take the ready line" in open(path).read(), open(path).read())
        served("and keeps nobody waiting", server, 10)
        ends("and it ends", server)
        os.close(reader), os.close(writer), os.close(err)

        # A flood of lines of one kind.
        err = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        server = Server(program, folder, err, "--max-connections", "50")
        came, began = 0, time.monotonic()
        while time.monotonic() < began + 3:
            server.stranger()
            came += 1
        time.sleep(2.2)
        log = server.log()
        shown = log.count("a message of")
        left_out = sum(int(n) for n in re.findall(r"^ring9: (\d+) more lines of the kind broken-peer were left out$", log, re.M))
        check("a flood makes few lines", 5 <= shown <= 25, f"{shown} of {came}")
        check("and the rest is said in numbers", shown + left_out == came and came > 100, f"{shown} + {left_out} of {came}")
        counted = stats(server.address)["log_lines_left_out"]
        check("and counted", counted == left_out, f"{counted}, {left_out}")
        ends("and it ends", server)
        said = open(path).read()
        check("stderr says the same", said.startswith(log), said[:300])
        rest = said[len(log) :].splitlines()
        check("and then how it ended", len(rest) == 2 and "SIGTERM: the server ends" in rest[0] and "0 files" in rest[1], rest)
        os.close(err)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
