"""What the guest is made of: kernels, a small root in memory, and a disk with the programs of Debian that suites use.

Everything comes from Debian's mirror by package name, through an apt configuration of its own: no root is needed and the host's apt is not touched. The result is
kept in ${XDG_CACHE_HOME:-~/.cache}/ring9-guest, each part under the sum of what it is made by: a change here is a new part, and one that was interrupted is none.
"""

import fcntl
import fnmatch
import glob
import hashlib
import inspect
import io
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile

KERNELS = {"6.1": "bookworm", "6.12": "trixie"}
USERLAND = "trixie"
PROCESS_KERNEL = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# In the order in which they are loaded; one that a kernel does not have, or has built in, is left out.
MODULES = "virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net netfs fscache 9pnet 9pnet_fd 9p virtio_blk crc16 crc32c_generic libcrc32c mbcache jbd2 ext4".split()

# What runs in the guest beside busybox; what they depend on comes along.
PROGRAMS = "bash dash mount coreutils sed grep mawk python3-minimal libpython3-stdlib attr acl util-linux sqlite3 git tar gzip diffutils findutils stress-ng dbench fio".split()

# What cargo builds for the guest, without a shared library.
CRATES = [("pjdfstest", "0.2.2"), ("fsx", "0.3.2")]


class Unavailable(Exception):
    """Something is missing on the host, with how to get it."""


ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/tmp:/bin/sh\ntests:x:1001:1001::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "group": "root:x:0:\nann:x:1000:\ntests:x:1001:\nnobody:x:65534:\n",
}


def cache() -> str:
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ring9-guest")


def run(*command: str, **options) -> bytes:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:4])} ...: {done.stderr.decode(errors='replace').strip()[-2000:]}")
    return done.stdout


def need(program: str, package: str) -> str:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Unavailable(f"there is no {program}: apt-get install {package}")
    return found


def part(name: str, make, *recipe) -> str:
    """A folder of the cache that `make` fills. It is there whole, or not at all; who comes second waits."""
    key = hashlib.sha256(repr((recipe, inspect.getsource(make), inspect.getsource(Apt), inspect.getsource(cpio))).encode()).hexdigest()[:12]
    place = os.path.join(cache(), f"{name}-{key}")
    if os.path.isdir(place):
        return place
    os.makedirs(cache(), exist_ok=True)
    with open(os.path.join(cache(), f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(place):
            print(f"guest: making {name} (once)", file=sys.stderr, flush=True)
            for old in glob.glob(os.path.join(cache(), f"{name}-*")):
                shutil.rmtree(old, ignore_errors=True)
            making = tempfile.mkdtemp(prefix=f"{name}-", suffix=".part", dir=cache())
            try:
                make(making)
                os.rename(making, place)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return place


class Apt:
    """Packages of one release."""

    def __init__(self, release: str, folder: str) -> None:
        self.folder = folder
        for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d"):
            os.makedirs(os.path.join(folder, name))
        open(os.path.join(folder, "status"), "w").close()
        with open(os.path.join(folder, "etc/sources.list"), "w") as out:
            print(f"deb [signed-by={KEYRING}] {MIRROR} {release} main", file=out)
        with open(os.path.join(folder, "apt.conf"), "w") as out:
            for key, value in {
                "Dir": folder, "Dir::State": f"{folder}/state", "Dir::State::status": f"{folder}/status", "Dir::Cache": f"{folder}/cache", "Dir::Etc": f"{folder}/etc",
                "Dir::Etc::sourcelist": f"{folder}/etc/sources.list", "Dir::Etc::sourceparts": "-", "Dir::Log": folder, "APT::Architecture": "amd64",
                "APT::Install-Recommends": "false", "APT::Sandbox::User": "", "Acquire::Languages": "none", "Debug::NoLocking": "true",
            }.items():
                print(f'{key} "{value}";', file=out)
        self.environment = dict(os.environ, APT_CONFIG=os.path.join(folder, "apt.conf"))
        self("apt-get", "update")

    def __call__(self, *command: str, **options) -> str:
        need(command[0], "apt")
        return run(*command, env=self.environment, **options).decode()

    def download(self, package: str) -> str:
        self("apt-get", "download", package, cwd=self.folder)
        [found] = [name for name in os.listdir(self.folder) if name.startswith(package.replace(":", "%3a") + "_") and name.endswith(".deb")]
        return os.path.join(self.folder, found)

    def with_dependencies(self, packages: list[str]) -> list[str]:
        self("apt-get", "install", "--download-only", "--yes", *packages)
        archives = os.path.join(self.folder, "cache/archives")
        return [os.path.join(archives, name) for name in os.listdir(archives) if name.endswith(".deb")]


def vmlinux(packed: bytes) -> bytes:
    """The kernel inside of a bzImage (Linux: Documentation/arch/x86/boot.rst): booted as it is, it need not unpack itself, which an emulated machine does slowly."""
    offset, length = struct.unpack_from("<II", packed, 0x248)
    start = ((packed[0x1F1] or 4) + 1) * 512 + offset
    payload = packed[start : start + length]
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        # Its last four bytes are the length of what it holds; they are not zstd's.
        done = subprocess.run([need("zstd", "zstd"), "-dc"], input=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        kernel = done.stdout
    elif payload.startswith(b"\xfd7zXZ"):
        kernel = lzma.LZMADecompressor().decompress(payload)
    else:
        raise Unavailable(f"a kernel packed in an unknown way: {payload[:6]!r}")
    if not kernel.startswith(b"\x7fELF"):
        raise Unavailable("a kernel that does not unpack")
    return kernel


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An archive for the kernel's root in memory (Documentation/driver-api/early-userspace/buffer-format.rst): by path, mode and content."""
    out = bytearray()
    for number, (path, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        name = path.encode() + b"\0"
        # The one device is the console.
        device = (5, 1) if stat.S_ISCHR(mode) else (0, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0))
        out += head + name
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def members(package: str, *patterns: str) -> dict[str, bytes]:
    """Files of a package whose paths are like one of these."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(run("dpkg-deb", "--fsys-tarfile", package))) as archive:
        for member in archive:
            path = member.name.removeprefix("./").removeprefix("usr/")
            if member.isfile() and any(fnmatch.fnmatch(path, pattern) for pattern in patterns):
                found[path] = archive.extractfile(member).read()
    return found


def kernel(version: str) -> str:
    """A folder with vmlinux and root.cpio: the kernel, its modules and busybox."""

    def make(folder: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            apt = Apt(KERNELS[version], scratch)
            [package] = re.findall(r"Depends: (linux-image-\S+)", apt("apt-cache", "depends", "linux-image-amd64"))
            found = members(apt.download(package), "boot/vmlinuz-*", *(f"lib/modules/*/{name}.ko*" for name in MODULES))
            busybox = members(apt.download("busybox-static"), "bin/busybox")["bin/busybox"]
        [packed] = [data for path, data in found.items() if path.startswith("boot/")]
        with open(os.path.join(folder, "vmlinux"), "wb") as out:
            out.write(vmlinux(packed))
        files = {name: (0o040755, b"") for name in "bin dev etc full given lib mnt mnt2 proc sys tmp".split()}
        files |= {"bin/busybox": (0o100755, busybox), "bin/sh": (0o120777, b"busybox"), "dev/console": (0o020600, b"")}
        files |= {f"etc/{name}": (0o100644, text.encode()) for name, text in ETC.items()}
        modules = {}
        for path, data in found.items():
            if path.startswith("lib/"):
                name = os.path.basename(path).split(".")[0].replace("-", "_")
                modules[name] = lzma.decompress(data) if path.endswith(".xz") else data
        loaded = [name for name in MODULES if name in modules]
        files |= {f"lib/{name}.ko": (0o100644, modules[name]) for name in loaded}
        files["lib/modules"] = (0o100644, " ".join(loaded).encode())
        with open(os.path.join(folder, "root.cpio"), "wb") as out:
            out.write(cpio(files))

    return part(f"linux-{version}", make, KERNELS, MODULES, ETC)


def process_kernel() -> str:
    """A folder with a kernel that runs as a process of this host (User-mode Linux), and the modules that a mount needs, in `modules`: a file for each, named in their order."""

    def make(folder: str) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            found = members(Apt(PROCESS_KERNEL, scratch).download("user-mode-linux"), "bin/linux.uml", *(f"lib/uml/modules/*/{name}.ko" for name in MODULES))
        os.mkdir(os.path.join(folder, "modules"))
        by_name = {os.path.basename(path).removesuffix(".ko"): data for path, data in found.items()}
        with open(os.path.join(folder, "linux"), "wb") as out:
            out.write(by_name["linux.uml"])
        os.chmod(os.path.join(folder, "linux"), 0o755)
        for number, name in enumerate(name for name in MODULES if name in by_name):
            with open(os.path.join(folder, f"modules/{number:02}-{name}.ko"), "wb") as out:
                out.write(by_name[name])

    return part("process-kernel", make, PROCESS_KERNEL, MODULES)


def userland() -> str:
    """A disk with the programs, read-only in use: their files as they were packed; no script of a package has run."""

    def make(folder: str) -> None:
        mke2fs = need("mke2fs", "e2fsprogs")
        with tempfile.TemporaryDirectory() as scratch:
            root = os.path.join(scratch, "root")
            for name in ("usr/bin", "usr/lib", "usr/lib64", "usr/sbin", "mnt", "mnt2", "proc", "sys", "dev", "tmp", "root", "given", "etc"):
                os.makedirs(os.path.join(root, name))
            for name in ("bin", "lib", "lib64", "sbin"):
                os.symlink(f"usr/{name}", os.path.join(root, name))
            apt = Apt(USERLAND, os.path.join(scratch, "apt"))
            left_out = [f"--exclude=./usr/share/{name}" for name in ("doc", "man", "locale")]
            for package in apt.with_dependencies(PROGRAMS):
                run("tar", "-x", "-C", root, "--no-same-owner", "--keep-directory-symlink", *left_out, input=run("dpkg-deb", "--fsys-tarfile", package))
            # What scripts of packages would have done.
            for name, program in (("sh", "dash"), ("awk", "mawk")):
                if not os.path.lexists(os.path.join(root, "usr/bin", name)):
                    os.symlink(program, os.path.join(root, "usr/bin", name))
            for name, text in ETC.items():
                with open(os.path.join(root, "etc", name), "w") as out:
                    out.write(text)
            size = int(run("du", "-sm", root).split()[0]) * 5 // 4 + 64
            run(mke2fs, "-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d", root, os.path.join(folder, "disk"), f"{size}M")

    return os.path.join(part("userland", make, USERLAND, PROGRAMS, ETC), "disk")


def crates() -> str:
    """A folder of programs that cargo has built for any Linux."""

    def make(folder: str) -> None:
        environment = dict(os.environ, RUSTFLAGS="-C target-feature=+crt-static")
        target = "x86_64-unknown-linux-gnu"
        for package, version in CRATES:
            # With a target of its own, so that macros of the build, which are shared libraries, are not static as well.
            run("cargo", "install", "--quiet", "--locked", "--root", folder, "--target", target, "--version", version, package, env=environment)

    return os.path.join(part("crates", make, CRATES), "bin")
