#!/usr/bin/env python3
"""How the server starts, refuses to start, and ends: exit codes, the ready line, the lines that say what to do.

Usage: start.py BIN-FOLDER
"""
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from p9 import P9, stats
from server import Server

passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


def deaf(address: str) -> P9:
    """A client that has asked for more than its socket holds and does not read it."""
    client = P9(address)
    client.walk(0, 1)
    client.create(1, b"deaf")
    size = 60_000
    for part in range(20):
        client.write(1, part * size, bytes(size))
    for part in range(20):
        client.send(116, struct.pack("<IQI", 1, part * size, size), tag=part)
    time.sleep(0.3)
    return client


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        ring9, r9 = (shutil.copy(os.path.join(sys.argv[1], name), folder) for name in ("ring9", "r9"))
        path = os.path.join(folder, "sock")

        def refused(name: str, code: int, words: list[str], *command: str, **options) -> None:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, **options)
            text = done.stdout + done.stderr
            check(name, done.returncode == code and all(word in text for word in words), f"{done.returncode} {text}")

        refused("a usage error exits 2", 2, ["--memory"], ring9, "--memory", "much")
        refused("an address that is none exits 2", 2, ["unknown kind"], ring9, "--listen", "udp:a:1")
        refused("msize has bounds", 2, ["4KiB to 1MiB"], ring9, "--msize", "8MiB")
        three = ["io_uring_setup(2)", "kernel.io_uring_disabled", "shell:", "systemd:", "container:"]
        forbidden = os.path.join(HERE, "forbidden.py")
        refused("a forbidden io_uring exits 69 and says what to do", 69, three, sys.executable, forbidden, ring9, "--listen", f"unix:{path}")
        refused("check says so too", 69, ["cannot serve"], sys.executable, forbidden, ring9, "check")
        refused("check prints what is there", 0, ["ring9 can serve here", "io_uring_setup(2): works"], ring9, "check", "--memory", "16MiB")
        # What check says is what a start does.
        few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))}
        tcp, unix = ["--listen", "tcp:127.0.0.1:0"], ["--listen", f"unix:{path}"]
        for name, code, words, flags, options in [
            ("more memory than there is", 1, ["could take", "less --memory"], ["--memory", "200GiB", *unix], {}),
            ("more files than fit", 1, ["could take", "--max-inodes"], ["--max-inodes", "2000000000", *unix], {}),
            ("more connections than descriptors", 1, ["--max-connections 50", "ulimit -n"], ["--max-connections", "50", "--memory", "16MiB", *unix], few),
            ("a cpu that is not there", 1, ["--cpu 777: sched_setaffinity(2) refuses it; this process runs on 0"], ["--cpu", "777", "--memory", "16MiB", *unix], {}),
            ("a table of groups that is not there", 66, ["--groups", "/no/groups", "No such file"], ["--groups", "/no/groups", "--memory", "16MiB", *unix], {}),
            ("a trust that TCP cannot have", 1, ["peer-uid", "--trust squash"], ["--memory", "16MiB", "--trust", "peer-uid", *tcp], {}),
            ("a trust behind the last listener", 2, ["--trust all has no effect"], [*unix, "--trust", "all"], {}),
            ("a trust in front of another one", 2, ["--trust squash has no effect"], ["--trust", "squash", "--trust", "all", *unix], {}),
        ]:
            refused(f"{name} is refused", code, words, ring9, *flags, **options)
            refused("and check says so", code, words, ring9, "check", *flags, **options)
        refused("check says that fewer connections are served", 0, ["at most 36 connections", "can serve here"], ring9, "check", "--memory", "16MiB", **few)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            refused("a port that is taken", 1, [f"--listen tcp:127.0.0.1:{port}: ", "another port"], ring9, "--memory", "16MiB", "--listen", f"tcp:127.0.0.1:{port}")
        refused("an address of another machine", 1, ["--listen tcp:192.0.2.1:5640: ", "no interface"], ring9, "--memory", "16MiB", "--listen", "tcp:192.0.2.1:5640")
        refused("a folder that is not there", 1, [f"--listen unix:{folder}/none/sock: ", "make its folder"], ring9, "--memory", "16MiB", "--listen", f"unix:{folder}/none/sock")
        refused("a path that is too long", 1, ["107 bytes"], ring9, "--memory", "16MiB", "--listen", f"unix:{folder}/{'x' * 100}")

        # Whom a listener believes is said, and where that is everyone who comes from anywhere, with a warning.
        server = Server(ring9, "--memory", "16MiB", *unix, "--trust", "squash", *unix[:1], f"unix:{path}2", "--trust", "all", *tcp, "--listen", "tcp:0.0.0.0:0")
        code, err = server.end()
        trusts = ["(--trust peer-uid)", "(--trust squash)", "(--trust all)", "(--trust all)"]
        said = [any(line.startswith(f"ring9: {address}: ") and line.endswith(trust) for line in err.splitlines()) for address, trust in zip(server.addresses, trusts)]
        check("each listener's trust is said", said == [True] * 4, (server.addresses, err))
        warned = [line for line in err.splitlines() if "warn" in line and "--trust all" in line]
        check("everyone from anywhere as anyone is warned of", len(warned) == 1 and server.addresses[3] in warned[0], err)

        refused("r9 without a server says so", 1, ["cannot be reached", path], r9, "--addr", f"unix:{path}", "ls")

        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}", "--trust", "squash", "--listen", "tcp:127.0.0.1:0", "--listen", "tcp:[::1]:0")
        check("the ready line has real addresses", len(server.addresses) == 3 and not any(a.endswith(":0") for a in server.addresses), server.addresses)
        check("the socket is the user's alone", os.stat(path).st_mode & 0o777 == 0o600)
        refused("a live socket is not stolen", 1, ["another server"], ring9, "--memory", "16MiB", "--listen", f"unix:{path}")
        for address in server.addresses:
            P9(address).walk(0, 1)
        counted = stats(server.addresses[0])
        check("ctl counts messages", counted["messages_Tattach"] >= 4 and counted["accepted"] >= 4, counted)
        # A peer that has asked and not read yet keeps nobody from ending.
        idle = P9(server.addresses[0])
        idle.send(116, b"\0" * 16)
        code, err = server.end(signal.SIGINT)
        check("SIGINT ends it orderly", code == 0 and not os.path.exists(path), f"{code} {err}")

        # What has no meaning does nothing, and is said; what ends it says what is lost.
        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}")
        client = P9(server.addresses[0])
        for name in (b"one", b"two"):
            client.walk(0, 1)
            client.create(1, name)
            client.write(1, 0, bytes(1000))
            client.clunk(1)
        kept = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
        kept |= {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS}
        others = sorted(set(signal.valid_signals()) - kept)
        for number in others:
            server.process.send_signal(number)
            client.walk(0, 1, b"one")
            client.clunk(1)
        code, err = server.end()
        said = [line for line in err.splitlines() if "is ignored" in line]
        check("signals without a meaning are ignored", code == 0 and len(others) > 40, f"{code} {err}")
        named = [signal.Signals(number).name for number in others if number < signal.SIGRTMIN]
        check("and each is said once", all(err.count(f"{name} has no meaning") == 1 for name in named) and len(named) >= 12, err)
        real_time = [line for line in said if ": signal " in line]
        more = re.search(r"(\d+) more lines of the kind real-time signal were left out", err)
        check("those of real time as far as the log's limit goes", len(real_time) >= 5 and len(real_time) + int(more[1] if more else 0) == len(others) - len(named), err)
        check("the end says why, and what is lost", "SIGTERM: the server ends" in err and "2 files, 2000 bytes" in err, err)
        check("and the path is gone after all of them", not os.path.exists(path))

        # Several start over a path that a killed server has left: one of them has it, whoever is in between look, bind and listen.
        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}")
        server.process.kill()
        server.process.communicate()
        found = []
        for _ in range(20):
            racers = [subprocess.Popen([ring9, "--memory", "16MiB", "--listen", f"unix:{path}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
            ready = [racer for racer in racers if select.select([racer.stdout], [], [], 20)[0] and racer.stdout.readline()]
            with socket.socket(socket.AF_UNIX) as client:
                reached = client.connect_ex(path) == 0
            for racer in racers:
                racer.kill()
            lost = [racer.communicate()[1] for racer in racers]
            found.append((len(ready), reached, sum("another server" in text for text in lost)))
        check("of three that start at once one serves", found == [(1, True, 2)] * 20, found)
        # One that is ending has replies to send when the next one starts: it does not take the path along.
        server = Server(ring9, "--memory", "32MiB", "--listen", f"unix:{path}")
        silent = deaf(server.addresses[0])
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        second = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}")
        check("the next one starts while one ends", server.process.poll() is None and second.addresses == [f"unix:{path}"], second.addresses)
        server.end()
        silent.socket.close()
        P9(second.addresses[0])
        second.end()
        check("no lock is left", sorted(os.listdir(folder)) == ["r9", "ring9"], os.listdir(folder))

        # One that does not read what it has asked for delays the end by seconds, unless there is a second signal.
        server = Server(ring9, "--memory", "32MiB", "--listen", f"unix:{path}")
        silent = deaf(server.addresses[0])
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        check("it waits for who does not read", server.process.poll() is None)
        code, err = server.end()
        took = time.monotonic() - began
        check("a second signal does not wait", code == 0 and took < 2.5, f"{code} {took:.1f} s {err}")
        silent.socket.close()

        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}", "--trace")
        P9(server.addresses[0]).walk(0, 1, b"..")
        code, err = server.end()
        check("--trace prints each message on one line", 'Twalk tag=1 fid=0 newfid=1 wnames=[".."]' in err, err)

        # Limits: what does not fit is refused, or said where it was not asked for.
        refused("more memory than there is", 1, ["could take", "--max-inodes"], ring9, "--max-inodes", "2000000000", "--max-connections", "1000", "--listen", f"unix:{path}")
        fix = ["RLIMIT_NOFILE is at most 100", "ulimit -n", "systemd:", "container:"]
        refused("more connections than files", 1, ["--max-connections 50", *fix], ring9, "--max-connections", "50", "--memory", "16MiB", "--listen", f"unix:{path}", **few)
        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}", **few)
        code, err = server.end()
        check("fewer connections than usual are said", code == 0 and "at most 36 connections" in err and all(word in err for word in fix), f"{code} {err}")
        server = Server(ring9, "--memory", "16MiB", "--max-connections", "2", "--listen", f"unix:{path}")
        first, second = P9(server.addresses[0]), P9(server.addresses[0])
        try:
            P9(server.addresses[0])
            third = "served"
        except OSError as error:
            third = error
        check("a connection too many is closed", isinstance(third, ConnectionError), third)
        first.walk(0, 1)
        second.socket.close()
        counted = None
        for _ in range(100):
            try:
                counted = stats(server.addresses[0])
                break
            except OSError:
                time.sleep(0.05)
        check("and one in place of another is served", counted is not None and counted["refused"] >= 1, counted)
        check("the most memory is shown", counted is not None and counted["memory_bound_bytes"] > 16 << 20, counted)
        server.end()

        # No descriptor is left: who is connected is served, who is not waits, and nothing spins.
        others = [os.dup(0) for _ in range(60)]
        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}", pass_fds=others, **few)
        for fd in others:
            os.close(fd)
        pid = server.process.pid
        clients = []
        for _ in range(36):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(struct.pack("<IBHIH", 21, 100, 0xFFFF, 8192, 8) + b"9P2000.L")
            client.settimeout(5)
            clients.append(client)
        time.sleep(0.3)
        ready = select.select(clients, [], [], 0)[0]
        cpu = sum(map(int, open(f"/proc/{pid}/stat").read().split()[13:15]))
        time.sleep(1)
        spent = sum(map(int, open(f"/proc/{pid}/stat").read().split()[13:15])) - cpu
        check("who has a descriptor is served", 0 < len(ready) < 36, len(ready))
        check("without descriptors nothing spins", spent <= 10, f"{spent} of 100 ticks")
        for client in ready[:12]:
            client.close()
        rest = [client for client in clients if client not in ready[:12]]
        check("once there are some, who waited is served", all(client.recv(100)[4] == 101 for client in rest))
        code, err = server.end()
        check("and it was said once", code == 0 and err.count("accept:") == 1, f"{code} {err}")

        # Whoever is at the other end of a unix socket is who it must be. Only root can be somebody else to show it.
        server = Server(ring9, "--memory", "16MiB", "--listen", f"unix:{path}")
        os.chmod(path, 0o666)
        ask = "import os, sys; sys.path.insert(0, sys.argv[1]); import p9; os.setgid(65534); os.setuid(65534); p9.os.geteuid = lambda: int(sys.argv[3]); p9.P9(sys.argv[2])"
        for uid, served in ((65534, True), (0, False), (1000, False)) if os.geteuid() == 0 else ():
            done = subprocess.run([sys.executable, "-c", ask, HERE, server.addresses[0], str(uid)], capture_output=True, text=True)
            denied = "Operation not permitted" in done.stderr
            check(f"uid 65534 is {'let in' if served else 'refused'} as {uid}", (done.returncode == 0) == served and denied != served, done.stderr[-200:])
        # So is its group: Tmknod of a file of mode 2755 in group 77.
        make = ask.replace("setgid(65534)", "setgid(int(sys.argv[4]))") + ".call(18, bytes(4) + p9.text(sys.argv[4].encode()) + p9.struct.pack('<IIII', 0o102755, 0, 0, 77))"
        for gid, served in ((77, True), (78, False)) if os.geteuid() == 0 else ():
            done = subprocess.run([sys.executable, "-c", make, HERE, server.addresses[0], "65534", str(gid)], capture_output=True, text=True)
            denied = "Operation not permitted" in done.stderr
            check(f"a peer of group {gid} {'may' if served else 'may not'} make a file of group 77", (done.returncode == 0) == served and denied != served, done.stderr[-200:])
        server.end()
        server = Server(ring9, "--memory", "16MiB", "--trust", "all", "--listen", f"unix:{path}")
        os.chmod(path, 0o666)
        for uid in (0, 65534) if os.geteuid() == 0 else ():
            for aname, denied in (("", False), ("ctl", True)):
                program = ask.replace("P9(sys.argv[2])", f"P9(sys.argv[2], {aname.encode()})")
                done = subprocess.run([sys.executable, "-c", program, HERE, server.addresses[0], str(uid)], capture_output=True, text=True)
                ok = ("Operation not permitted" in done.stderr) if denied else done.returncode == 0
                check(f"uid 65534 that says it is {uid} is {'refused' if denied else 'let in'} to {aname or 'the files'}", ok, done.stderr[-200:])
        server.end()
        if os.geteuid() == 0:
            user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            os.mkdir(os.path.join(folder, "user"))
            os.chown(os.path.join(folder, "user"), 65534, 65534)
            server = Server(*user, ring9, "--memory", "16MiB", "--listen", f"unix:{folder}/user/sock")
            os.chmod(f"{folder}/user/sock", 0o666)
            for name, who, code in (("root", [], 0), ("the server's own user", user, 0), ("another user", ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"], 1)):
                done = subprocess.run([*who, r9, "--addr", server.addresses[0], "--aname", "ctl", "cat", "/version"], capture_output=True, text=True)
                told = done.stdout.startswith("ring9 ") if code == 0 else "server's own user" in done.stderr
                check(f"{name} is {'refused' if code else 'let in'} to ctl", done.returncode == code and told, done)
            server.end()
            shutil.rmtree(os.path.join(folder, "user"))

        # What older kernels lack, one by one and all at once.
        features = ["registered", "deferred", "shared"]
        for lacking in [[name] for name in features] + [features]:
            without = [word for name in lacking for word in ("--without", name)]
            server = Server(ring9, "--memory", "64MiB", "--listen", f"unix:{path}", *without)
            source, copy = os.path.join(folder, "source"), os.path.join(folder, "copy")
            with open(source, "wb") as file:
                file.write(os.urandom(5 << 20))
            for command in (["put", source, "/file"], ["get", "/file", copy], ["rm", "/file"]):
                subprocess.run([r9, "--addr", server.addresses[0], *command], check=True)
            same = open(source, "rb").read() == open(copy, "rb").read()
            os.unlink(copy)
            code, err = server.end()
            warned = "without registered memory" in err
            check(f"serves without {', '.join(lacking)}", same and code == 0 and warned == ("registered" in lacking), f"{code} {err}")

        # Somebody speaks another protocol.
        server = Server(ring9, "--memory", "16MiB", "--listen", "tcp:127.0.0.1:0")
        host, _, port = server.addresses[0].partition(":")[2].rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            check("who speaks HTTP is hung up on", other.recv(100) == b"")
        P9(server.addresses[0]).walk(0, 1)
        code, err = server.end()
        check("and that is logged", code == 0 and "a message of" in err, f"{code} {err}")

        server = Server(ring9, "--memory", "256MiB", "--grow", "--listen", f"unix:{path}")
        data, client = os.urandom(1 << 20), P9(server.addresses[0])
        client.walk(0, 1)
        client.create(1, b"large")
        for n in range(200):
            client.write(1, n * 1000000, data[:1000000])
        check("--grow serves what was written before and after", all(client.read(1, n * 1000000, 1000000) == data[:1000000] for n in (0, 60, 199)))
        client.walk(0, 2)
        client.create(2, b"more")
        code, err = server.end()
        check("--grow says how it went", "longest stall" in err, err)

        if os.geteuid() == 0:
            plain = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "prlimit", "--memlock=8388608:8388608"]
            home = os.path.join(folder, "home")
            os.mkdir(home)
            os.chown(home, 65534, 65534)
            environment = {"PATH": os.environ["PATH"], "TMPDIR": home}
            # Without capabilities the limit counts.
            plain = ["setpriv", "--bounding-set=-all", *plain[1:]]
            server = Server(*plain, ring9, "--memory", "64MiB", env=environment)
            check("an ordinary user's server starts on a socket of its own", server.addresses == [f"unix:{home}/ring9-65534/ring9.sock"], server.addresses)
            put = subprocess.run([*plain, r9, "put", "/etc/passwd", "/passwd"], env=environment, capture_output=True, text=True)
            cat = subprocess.run([*plain, r9, "cat", "/passwd"], env=environment, capture_output=True)
            with open("/etc/passwd", "rb") as file:
                check("and serves its user", cat.stdout == file.read(), put.stderr)
            for command in (["mkdir", "/dir"], ["ln", "-s", "x", "/link"], ["put", "-r", home, "/home"]):
                subprocess.run([*plain, r9, *command], env=environment, check=True)
            listed = subprocess.run([*plain, r9, "ls", "-l", "/"], env=environment, capture_output=True, text=True).stdout.splitlines()
            owners = {tuple(line.split()[2:4]) for line in listed}
            check("files that r9 makes are of the user and the user's group", len(listed) == 4 and owners == {("65534", "65534")}, listed)
            code, err = server.end()
            advice = ["serving without registered memory", "RLIMIT_MEMLOCK", "8 MiB", "shell:", "systemd:", "container:"]
            check("and says why it is unregistered", code == 0 and all(word in err for word in advice), f"{code} {err}")
            # Anyone can make a folder in the temporary directory, and a socket in it. Neither end uses it.
            shared = os.path.join(folder, "tmp")
            os.mkdir(shared)
            os.chmod(shared, 0o1777)
            shutil.copy("/etc/passwd", os.path.join(folder, "given"))
            other = ["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups"]
            theirs = os.path.join(shared, "ring9-65534")
            subprocess.run([*other, "mkdir", "-m", "777", theirs], check=True)
            foreign = Server(*other, ring9, "--memory", "16MiB", "--trust", "all", "--listen", f"unix:{theirs}/ring9.sock")
            os.chmod(f"{theirs}/ring9.sock", 0o777)
            for name, variable, words in [
                ("in a temporary directory", {"TMPDIR": shared}, [theirs, "user 1234", "0777"]),
                ("by XDG_RUNTIME_DIR", {"XDG_RUNTIME_DIR": theirs}, [theirs, "user 1234", "0777"]),
            ]:
                environment_ = {"PATH": os.environ["PATH"], **variable}
                refused(f"r9 refuses a folder of another user {name}", 1, [*words, "--addr"], *plain, r9, "put", f"{folder}/given", "/given", env=environment_)
                refused(f"ring9 refuses a folder of another user {name}", 1, [*words, "--listen"], *plain, ring9, "--memory", "16MiB", env=environment_)
            # The folder is the user's, and the server is not: it was there before the folder was closed.
            os.chown(theirs, 65534, 65534)
            os.chmod(theirs, 0o700)
            refused("r9 refuses a server of another user", 1, ["user 1234's", "cannot be reached"], *plain, r9, "ls", env={"PATH": os.environ["PATH"], "TMPDIR": shared})
            named = subprocess.run([*plain, r9, "--addr", foreign.addresses[0], "ls", "/"], capture_output=True, text=True)
            check("but not one that is named", (named.returncode, named.stdout, named.stderr) == (0, "", ""), named)
            foreign.end()
            refused("--require-registered is fatal", 1, ["--require-registered", "RLIMIT_MEMLOCK"], *plain, ring9, "--memory", "64MiB", "--require-registered", env=environment)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
