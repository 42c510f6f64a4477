"""A guest from its start to its end, and how that went."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import image

# Exit codes that are not those of the command.
MOUNT_FAILED, COMPLAINT, LOST, SERVER, EMULATOR, UNAVAILABLE = 120, 121, 122, 123, 124, 125

# What a sound kernel does not say.
COMPLAINTS = re.compile(rb"Oops|BUG:|WARNING:|Call Trace|Kernel panic|blocked for more than|9pnet: |9p: .*(error|bogus)|refcount|use-after|general protection", re.I)
COMPLAINT_LINES = 40
# What the client says of itself and goes on (docs/linux-client.md). Only at these places, and with nothing else.
OF_THE_CLIENT = re.compile(rb"WARNING: .* at fs/netfs/buffered_write\.c:\d+ (netfs_page_mkwrite)\+|Call Trace")
# What no server can cause: the flags of the cpu have changed by themselves, and every instruction traps.
EMULATED = re.compile(rb"WARNING: .* exc_debug_kernel")

# How the guest sees the loopback of this host (QEMU's user network).
HOST = "10.0.2.2"

QEMU = "qemu-system-x86_64"

INIT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "init")

# Where a ring9 inside of the guest listens.
SOCKET = "/tmp/ring9.sock"
# Its flags there, where memory is scarce.
SMALL = "--max-connections 16"


class Listening:
    """A program of this project that serves on a port of this host's loopback, for one guest."""

    def __init__(self, name: str, build: str, program: str, *flags: str, port: int = 0) -> None:
        """`name`: what its ready line begins with. `build`: the command that makes it. `port`: 0 for any that is free."""
        self.name = name
        self.log = tempfile.TemporaryFile()
        words = [program, "--trust", "all", "--listen", f"tcp:127.0.0.1:{port}", *flags]
        try:
            self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=self.log)
        except OSError as error:
            raise image.Unavailable(f"{program}: {error.strerror}: {build}") from error
        ready = self.process.stdout.readline()
        if not ready.startswith(f"{name} ready tcp:".encode()):
            self.process.wait()
            raise image.Unavailable(f"{program} does not start: {self.text()}")
        self.port = int(ready.split()[2].rsplit(b":", 1)[1])

    def text(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def end(self) -> str:
        """What it has to complain of."""
        died = self.process.poll()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        if died is not None or code != 0:
            return f"{self.name} has ended with {died if died is not None else code}: {self.text()}"
        return ""


class Server(Listening):
    """A ring9."""

    aname = ""

    def __init__(self, program: str, flags: list[str], socket: str = "", port: int = 0) -> None:
        """`socket`: the path of a unix socket beside, over which `ctl` can be attached to."""
        beside = ["--listen", f"unix:{socket}"] if socket else []
        super().__init__("ring9", "cargo build --release", program, *beside, *flags, port=port)


class Stored:
    """A ring9 with a store in a fresh directory. It can be killed and started again over the same store and on the same port."""

    aname = ""

    def __init__(self, program: str, flags: list[str]) -> None:
        self.folder = tempfile.mkdtemp(prefix="ring9-guest-store.")
        self.program, self.flags = program, [*flags, "--store", os.path.join(self.folder, "store")]
        try:
            self.server = Server(program, self.flags)
        except image.Unavailable:
            shutil.rmtree(self.folder)
            raise
        self.port = self.server.port

    def kill(self) -> None:
        """SIGKILL, and a new start."""
        self.server.process.kill()
        self.server.process.wait()
        self.server.log.close()
        self.server = Server(self.program, self.flags, port=self.port)

    def end(self) -> str:
        """What there is to complain of: of its end, and of the store that it leaves."""
        try:
            complaint = self.server.end()
            checked = subprocess.run([self.program, "store", "check", self.flags[-1]], capture_output=True, text=True)
            return complaint + (f"the store is damaged: {checked.stdout}{checked.stderr}" if checked.returncode else "")
        finally:
            shutil.rmtree(self.folder)


class Killer(threading.Thread):
    """Kills a server when the guest asks for it, over a port of this host's loopback.

    The guest sends a line: how many seconds to wait. Then the server is killed and started again over the same store, and the answer is a line.
    """

    def __init__(self, stored: Stored) -> None:
        super().__init__(daemon=True)
        self.stored = stored
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.complaint = ""
        self.start()

    def run(self) -> None:
        try:
            guest, _ = self.listener.accept()
            with guest, guest.makefile("rw") as lines:
                for line in lines:
                    # The clock of a guest that gets little of a processor runs fast.
                    time.sleep(min(float(line), 2))
                    self.stored.kill()
                    print("up", file=lines, flush=True)
        except (image.Unavailable, OSError) as error:
            self.complaint = f"no start after a kill: {error}"

    def end(self) -> str:
        self.listener.close()
        return self.complaint


class Diod:
    """Debian's diod over a tmpfs, to see what another server does with the same suites. It has to be root: it acts as whoever asks."""

    def __init__(self) -> None:
        program = image.need("diod", "diod")
        # Linux keeps user attributes on tmpfs since 6.6.
        self.aname = tempfile.mkdtemp(prefix="ring9-diod.", dir="/dev/shm")
        os.chmod(self.aname, 0o1777)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        flags = ["-f", "-n", "-L", "stderr", "-l", f"127.0.0.1:{self.port}", "-e", self.aname]
        self.process = subprocess.Popen([program, *flags], stderr=self.log)
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.05)
        self.end()
        raise image.Unavailable("diod does not start")

    def end(self) -> str:
        """What it has to complain of."""
        died = self.process.poll()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.aname, ignore_errors=True)
        self.log.seek(0)
        return f"diod has ended with {died}: {self.log.read()[-500:].decode(errors='replace')}" if died is not None else ""


class Relay(Listening):
    """A relay (examples/relay.rs) in front of another server of this host, which ends with it."""

    def __init__(self, program: str, far: Server | Stored | Diod) -> None:
        self.far = far
        self.aname = far.aname
        try:
            super().__init__("relay", "cargo build --profile sim --example relay", program, "--to", f"tcp:127.0.0.1:{far.port}")
        except image.Unavailable:
            far.end()
            raise

    def end(self) -> str:
        """What it and the other server have to complain of."""
        return super().end() + self.far.end()


def logging_disk(image: str, log: str) -> list[str]:
    """Arguments of a disk whose writes and flushes are logged as by Linux' dm-log-writes (QEMU: block/blklogwrites.c).

    A write is logged when it has ended. A flush of the image does nothing and takes no time (no-flush), so a flush is logged where it begins: all that is logged in front of it
    had ended before, and nothing else is promised by it. Discards would be no writes; there are none.
    Requests that QEMU merges would have more parts than a write to the log may have.
    """
    files = [f"driver=file,node-name={name},filename={path},cache.no-flush=on" for name, path in (("image", image), ("log", log))]
    nodes = [*files, "driver=blklogwrites,node-name=logged,file=image,log=log,log-sector-size=512"]
    return [word for node in nodes for word in ("-blockdev", node)] + ["-device", "virtio-blk-pci,drive=logged,write-cache=on,request-merging=off,discard=off,write-zeroes=off"]


class Guest:
    """A machine that runs one command."""

    def __init__(self, kernel: str, command: str, *, mount: str = "", inside: str = "", full: bool = False, given: dict[str, str] | None = None, memory: int = 512, logged: tuple[str, str] | None = None) -> None:
        """`given`: paths of files of this host, by the names that they have in /given. `inside`: flags of a `given` ring9 that runs in the guest, and is what it mounts.
        `logged`: paths of an image with ext4 that is mounted at /mnt2, and of the file where each write to it is logged."""
        # Where the client has warned of itself.
        self.known: set[str] = set()
        self.folder = tempfile.mkdtemp(prefix="ring9-guest.")
        folder = image.kernel(kernel)
        settings = f"MOUNT='{mount}'\nFROM='{SOCKET if inside else HOST}'\nINSIDE='{inside}'\nFULL={'1' if full else ''}\nLOGGED={'1' if logged else ''}\n"
        files = {"init": (0o100755, open(INIT, "rb").read()), "given": (0o040755, b""), "given/settings": (0o100644, settings.encode()), "given/command": (0o100755, command.encode())}
        for name, path in (given or {}).items():
            with open(path, "rb") as file:
                files[f"given/{name}"] = (0o100755, file.read())
        # Archives one behind the other are one root.
        root = os.path.join(self.folder, "root.cpio")
        with open(root, "wb") as out:
            with open(os.path.join(folder, "root.cpio"), "rb") as base:
                shutil.copyfileobj(base, out)
            out.write(image.cpio(files))
        self.console = os.path.join(self.folder, "console")
        # One processor: two are slower here. String instructions as loops: they are emulated byte by byte.
        arguments = f"""
            -machine q35,hpet=off,smm=off,vmport=off,usb=off -accel tcg,thread=single -cpu max,-erms,-fsrm -smp 1 -m {memory} -nodefaults -no-user-config -display none
            -no-reboot -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= -chardev stdio,id=out,signal=off -serial chardev:out
            -chardev file,id=console,path={self.console} -serial chardev:console -kernel {folder}/vmlinux -initrd {root}
        """.split()
        if full:
            arguments += ["-drive", f"file={image.userland()},format=raw,if=none,id=disk,readonly=on", "-device", "virtio-blk-pci,drive=disk"]
        if logged:
            arguments += logging_disk(*logged)
        line = "console=ttyS1 loglevel=5 rdinit=/init init_on_alloc=0 mitigations=off nokaslr random.trust_cpu=on tsc=reliable no_timer_check panic=-1 net.ifnames=0"
        if logged:
            # Not the client is tested, and the clock of a guest that gets little of a processor runs fast.
            line += " nosoftlockup rcupdate.rcu_cpu_stall_suppress=1"
        try:
            self.process = subprocess.Popen([image.need(QEMU, "qemu-system-x86"), *arguments, "-append", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except image.Unavailable:
            self.forget()
            raise

    def run(self, timeout: float, show=None) -> tuple[int, bytes]:
        """The exit code of the command, or one of this module, and what the command said; `show` gets that as it comes."""
        said = bytearray()

        def hear() -> None:
            while piece := os.read(self.process.stdout.fileno(), 1 << 16):
                said.extend(piece)
                if show:
                    show(piece)

        listener = threading.Thread(target=hear)
        listener.start()
        late = False
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            self.process.kill()
            self.process.wait()
            listener.join()
        console = open(self.console, "rb").read() if os.path.exists(self.console) else b""
        errors = self.process.stderr.read().decode(errors="replace").strip()
        self.forget()
        return self.judge(console, errors, late, timeout), bytes(said)

    def judge(self, console: bytes, errors: str, late: bool, timeout: float) -> int:
        lines = console.splitlines()
        self.known = {known[1].decode() for line in lines if (known := OF_THE_CLIENT.search(line)) and known[1]}
        if all(OF_THE_CLIENT.search(line) for line in lines if COMPLAINTS.search(line)):
            for name in self.known:
                tell(f"the client warns of itself in {name}")
            lines = [line for line in lines if not COMPLAINTS.search(line)]
        first = next((number for number, line in enumerate(lines) if COMPLAINTS.search(line)), len(lines))
        # The first one whole: what follows it says where it comes from.
        complaints = lines[first : first + COMPLAINT_LINES]
        ended = re.search(rb"^guest: exit (\d+)", console, re.M)
        for line in complaints:
            tell(line.decode(errors="replace"))
        if b"guest: mount failed" in console:
            tell(console[-1000:].decode(errors="replace"))
            tell("the mount has failed")
            return MOUNT_FAILED
        if complaints and EMULATED.search(complaints[0]):
            tell("the emulator has tripped")
            return EMULATOR
        if complaints:
            tell("the kernel complains")
            return COMPLAINT
        if b"guest: ring9 " in console:
            tell(console[-2000:].decode(errors="replace"))
            return SERVER
        if not ended:
            tell(f"the guest is lost{f': no end within {timeout:.0f} s' if late else ''}{': ' + errors if errors else ''}")
            tell(console[-2000:].decode(errors="replace"))
            return LOST
        if b"guest: still in use" in console:
            tell("something still used the mount at the end")
        return int(ended[1])

    def forget(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def tell(line: str) -> None:
    print(f"guest: {line}", file=sys.stderr, flush=True)


def options(*, port: int | None, version: str = "9p2000.L", msize: int = 262144, access: str = "client", cache: str = "none", uname: str = "root", aname: str = "", extra: str = "") -> str:
    """Options of a mount; without a port, of the server inside."""
    first = f"{f'trans=tcp,port={port}' if port else 'trans=unix'},version={version},msize={msize},uname={uname}"
    return ",".join(filter(None, [first, f"access={access}" if version == "9p2000.L" or access != "client" else "", f"cache={cache}", f"aname={aname}" if aname else "", extra]))


def seconds(since: float) -> str:
    return f"{time.monotonic() - since:.1f} s"
