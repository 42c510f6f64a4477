#!/usr/bin/python3
"""One system call after the other on /mnt. Before each, the name of a file that is not there is looked up, and names the call in the server's trace."""

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import subprocess
import sys

os.chdir("/mnt")
libc = ctypes.CDLL(None, use_errno=True)
CALLS = []


def call(name):
    def add(function):
        CALLS.append((name, function))
        return function

    return add


def mark(name):
    try:
        os.stat(f"/mnt/@{name}")
    except FileNotFoundError:
        pass


def on_file(name, flags, use, mode=0o644):
    file = os.open(name, flags, mode)
    try:
        return use(file)
    finally:
        os.close(file)


def as_another(function):
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)
        function()
        os._exit(0)
    os.waitpid(child, 0)


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def record(kind, start=0, length=0):
    return struct.pack("hhqqi4x", kind, 0, start, length, 0)


CALLS += [
    ("stat, nothing there", lambda: os.stat("none")),
    ("stat", lambda: os.stat("file")),
    ("open, read, read, close", lambda: on_file("file", os.O_RDONLY, lambda file: (os.read(file, 100), os.read(file, 100)))),
    ("open, pread inside, close", lambda: on_file("large", os.O_RDONLY, lambda file: os.pread(file, 100, 0))),
    ("creat, write, close", lambda: on_file("created", os.O_CREAT | os.O_EXCL | os.O_WRONLY, lambda file: os.write(file, b"x"))),
    ("open O_TRUNC, close", lambda: on_file("created", os.O_WRONLY | os.O_TRUNC, lambda file: None)),
    ("truncate", lambda: os.truncate("file", 3)),
    ("open, write of 1 MiB, close", lambda: on_file("large", os.O_WRONLY, lambda file: os.write(file, bytes(1 << 20)))),
    ("open, read of 1 MiB, close", lambda: on_file("large", os.O_RDONLY, lambda file: os.read(file, 1 << 20))),
    ("open, fsync, fdatasync, close", lambda: on_file("file", os.O_WRONLY, lambda file: (os.fsync(file), os.fdatasync(file)))),
    ("mkdir", lambda: os.mkdir("made")),
    ("opendir, readdir, closedir", lambda: os.listdir("dir")),
    ("rename", lambda: os.rename("created", "renamed")),
    ("unlink", lambda: os.unlink("renamed")),
    ("rmdir", lambda: os.rmdir("made")),
    ("link", lambda: os.link("file", "linked")),
    ("symlink", lambda: os.symlink("file", "symbolic")),
    ("readlink", lambda: os.readlink("symbolic")),
    ("mknod", lambda: os.mknod("pipe", 0o010644)),
    ("statfs", lambda: os.statvfs("/mnt")),
    ("chmod", lambda: os.chmod("file", 0o600)),
    ("chown", lambda: os.chown("file", 1000, 1000)),
    ("utimensat, now", lambda: os.utime("file")),
    ("utimensat, given", lambda: os.utime("file", (1, 2))),
    ("setxattr", lambda: os.setxattr("file", "user.a", b"value")),
    ("getxattr", lambda: os.getxattr("file", "user.a")),
    ("listxattr", lambda: os.listxattr("file")),
    ("removexattr", lambda: os.removexattr("file", "user.a")),
    ("open, fcntl F_SETLK, close", lambda: on_file("file", os.O_RDWR, lambda file: fcntl.fcntl(file, fcntl.F_SETLK, record(fcntl.F_WRLCK, 1, 2)))),
    ("open, fcntl F_SETLKW, close", lambda: on_file("file", os.O_RDWR, lambda file: fcntl.fcntl(file, fcntl.F_SETLKW, record(fcntl.F_RDLCK)))),
    ("open, fcntl F_GETLK, close", lambda: on_file("file", os.O_RDWR, lambda file: fcntl.fcntl(file, fcntl.F_GETLK, record(fcntl.F_WRLCK)))),
    ("open, flock, close", lambda: on_file("file", os.O_RDWR, lambda file: fcntl.flock(file, fcntl.LOCK_EX))),
    ("stat by another user", lambda: as_another(lambda: os.stat("/mnt/file"))),
    ("stat of a path of 20 names", lambda: os.stat("/".join(["deep"] * 20))),
    ("cd there, stat by another user", lambda: (os.chdir("/".join(["deep"] * 20)), as_another(lambda: os.stat(".")), os.chdir("/mnt"))),
    ("renameat2 RENAME_NOREPLACE", lambda: checked(libc.renameat2(-100, b"linked", -100, b"moved", 1))),
    ("renameat2 RENAME_EXCHANGE", lambda: checked(libc.renameat2(-100, b"linked", -100, b"large", 2))),
    ("open O_TMPFILE", lambda: on_file(".", os.O_TMPFILE | os.O_RDWR, lambda file: None)),
    ("open, fallocate, close", lambda: on_file("file", os.O_RDWR, lambda file: checked(libc.fallocate(file, 1, ctypes.c_long(0), ctypes.c_long(100))))),
    ("open, lseek SEEK_DATA, close", lambda: on_file("file", os.O_RDWR, lambda file: os.lseek(file, 0, os.SEEK_DATA))),
    ("open, mmap shared and writable, close", lambda: on_file("file", os.O_RDWR, lambda file: mmap.mmap(file, 3).close())),
    ("open, copy_file_range of 100,000 bytes, close", lambda: on_file("large", os.O_RDONLY, lambda file: on_file("copy", os.O_CREAT | os.O_WRONLY, lambda copy: os.copy_file_range(file, copy, 100_000)))),
]

for name, data in (("file", b"content"), ("large", bytes(1 << 20))):
    with open(name, "wb") as file:
        file.write(data)
os.mkdir("dir")
for name in ("a", "b"):
    open(f"dir/{name}", "w").close()
os.makedirs("/".join(["deep"] * 20))
mark("begin")
for name, function in CALLS:
    mark(name)
    try:
        function()
        how = "0"
    except OSError as error:
        how = errno.errorcode[error.errno]
    mark("end")
    print(f"{how} {name}", flush=True)
sys.stdout.flush()
