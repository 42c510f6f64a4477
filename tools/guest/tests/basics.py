#!/usr/bin/python3
"""What programs do with files, done in the guest on /mnt: a line for each check, and the number that failed as the exit code.

Each check is a function; its name says what holds. /mnt is mounted by root with access=client; `settings` in /given say how.
"""

import errno
import fcntl
import mmap
import os
import signal
import stat
import struct
import subprocess
import sys
import time
import traceback

TOP = "/mnt/basics"
settings = dict(line.split("=", 1) for line in open("/given/settings").read().replace("'", "").splitlines())
OPTIONS = dict(option.partition("=")[::2] for option in settings["MOUNT"].split(","))
CACHE = OPTIONS.get("cache", "none")
# Only these have shared mappings of a file that is open for writing (Linux: mm/filemap.c, generic_file_readonly_mmap).
SHARES = CACHE in ("mmap", "loose")
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def fails(number, call, *arguments, **more):
    """The call fails with this errno."""
    try:
        got = call(*arguments, **more)
    except OSError as error:
        assert error.errno == number, f"{errno.errorcode.get(error.errno)}, not {errno.errorcode[number]}"
    else:
        raise AssertionError(f"no error, but {got!r}; not {errno.errorcode[number]}")


def path(*names):
    return os.path.join(TOP, *names)


def pattern(length, seed=0):
    block = bytes((at * 131 + seed * 7919 >> 3) & 0xFF ^ at & 0xFF for at in range(4099))
    return (block * (length // len(block) + 1))[:length]


def put(name, data=b"content", mode=0o644):
    with open(path(name), "wb") as file:
        file.write(data)
    os.chmod(path(name), mode)
    return path(name)


def get(name):
    with open(path(name), "rb") as file:
        return file.read()


def as_user(uid, code):
    """Runs Python as another user; what it says."""
    done = subprocess.run([sys.executable, "-c", f"import os\nos.setgroups([]); os.setgid({uid}); os.setuid({uid})\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout.strip()


def mount(folder, **options):
    given = ",".join(f"{key}={value}" if value else key for key, value in {**OPTIONS, **options}.items() if value is not None)
    done = subprocess.run(["mount", "-i", "-t", "9p", "-o", given, settings["FROM"], folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def unmount(folder):
    subprocess.run(["umount", folder], check=True)


@check
def content_is_kept_across_all_edges_of_messages():
    msize = int(OPTIONS["msize"])
    for size in (0, 1, 4095, 4096, 4097, 65535, 65536, 65537, msize - 25, msize - 24, msize - 23, msize + 1, 3 * msize + 7):
        put("edges", pattern(size, size))
        assert os.stat(path("edges")).st_size == size and get("edges") == pattern(size, size), size


@check
def parts_are_overwritten_and_holes_are_zeros():
    data = bytearray(pattern(300_000))
    put("parts", data)
    with open(path("parts"), "r+b", buffering=0) as file:
        for at, length in ((0, 10), (65_530, 12), (131_072, 65_536), (299_990, 30), (400_000, 5)):
            new = pattern(length, at)
            data.extend(bytes(max(0, at + length - len(data))))
            data[at : at + length] = new
            assert os.pwrite(file.fileno(), new, at) == length
    assert get("parts") == data


@check
def truncating_cuts_and_growing_shows_zeros():
    put("cut", pattern(200_000))
    for size in (150_000, 65_536, 65_535, 1, 0, 70_000, 10):
        os.truncate(path("cut"), size)
        assert os.stat(path("cut")).st_size == size
    assert get("cut") == bytes(10)


@check
def an_unlinked_file_is_usable_until_it_is_closed():
    put("gone", b"0123456789")
    with open(path("gone"), "r+b", buffering=0) as file:
        os.unlink(path("gone"))
        fails(errno.ENOENT, os.stat, path("gone"))
        assert os.fstat(file.fileno()).st_nlink == 0 and os.fstat(file.fileno()).st_size == 10
        assert file.read() == b"0123456789"
        os.ftruncate(file.fileno(), 4)
        os.pwrite(file.fileno(), b"xy", 4)
        os.fchmod(file.fileno(), 0o600)
        assert os.pread(file.fileno(), 100, 0) == b"0123xy" and os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        os.fsync(file.fileno())


@check
def a_renamed_and_a_replaced_file_stay_usable():
    put("a", b"a")
    put("b", b"b")
    with open(path("a"), "rb") as a, open(path("b"), "rb") as b:
        os.rename(path("a"), path("b"))
        assert a.read() == b"a" and b.read() == b"b" and get("b") == b"a"
    os.mkdir(path("dir"))
    os.rename(path("b"), path("dir", "c"))
    os.rename(path("dir"), path("moved"))
    assert get("moved/c") == b"a"
    fails(errno.EINVAL, os.rename, path("moved"), path("moved", "into"))
    fails(errno.ENOTEMPTY, os.rmdir, path("moved"))
    fails(errno.EISDIR, os.unlink, path("moved"))


@check
def links_are_names_of_one_file():
    put("one", b"x")
    os.link(path("one"), path("two"))
    assert os.stat(path("two")).st_nlink == 2 and os.stat(path("one")).st_ino == os.stat(path("two")).st_ino
    os.unlink(path("one"))
    assert get("two") == b"x" and os.stat(path("two")).st_nlink == 1
    target = "t" * 4000
    os.symlink(target, path("long"))
    assert os.readlink(path("long")) == target and os.lstat(path("long")).st_size == 4000
    os.symlink("two", path("short"))
    assert get("short") == b"x"


@check
def nodes_are_kept():
    os.mkfifo(path("fifo"), 0o640)
    os.mknod(path("null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(path("large"), stat.S_IFBLK | 0o600, os.makedev(259, 70_000))
    assert stat.S_ISFIFO(os.stat(path("fifo")).st_mode)
    assert os.stat(path("null")).st_rdev == os.makedev(1, 3) and os.stat(path("large")).st_rdev == os.makedev(259, 70_000)
    with open(path("null"), "wb") as null:
        null.write(b"x")
    reader = subprocess.Popen(["cat", path("fifo")], stdout=subprocess.PIPE)
    with open(path("fifo"), "wb") as fifo:
        fifo.write(b"through")
    assert reader.communicate()[0] == b"through"


@check
def names_and_paths_may_be_long():
    name = "n" * 255
    put(name, b"x")
    assert get(name) == b"x" and name in os.listdir(TOP)
    fails(errno.ENAMETOOLONG, open, path("n" * 256), "w")
    deep = path("deep")
    for level in range(40):
        deep = os.path.join(deep, f"level{level}")
    os.makedirs(deep)
    with open(os.path.join(deep, "f"), "w") as file:
        file.write("deep")
    # Nothing of it is known to the kernel now: more than 16 names in one walk.
    with open("/proc/sys/vm/drop_caches", "w") as drop:
        drop.write("3")
    assert open(os.path.join(deep, "f")).read() == "deep"
    assert as_user(1000, f"print(open({os.path.join(deep, 'f')!r}).read())") == "deep"
    for name in ("ünïcode", "with space", "-dash", "new\nline", "%41"):
        put(name, name.encode())
        assert get(name) == name.encode() and name in os.listdir(TOP)


@check
def a_large_directory_is_listed_whole_and_removed():
    os.mkdir(path("many"))
    names = {f"file-{n:05}" for n in range(2000)}
    for name in names:
        os.close(os.open(path("many", name), os.O_CREAT | os.O_WRONLY, 0o644))
    assert set(os.listdir(path("many"))) == names
    subprocess.run(["rm", "-rf", path("many")], check=True)
    fails(errno.ENOENT, os.stat, path("many"))


@check
def modes_owners_and_times_change():
    put("attributes")
    os.chmod(path("attributes"), 0o4751)
    assert os.stat(path("attributes")).st_mode & 0o7777 == 0o4751
    os.chown(path("attributes"), 1000, 1001)
    found = os.stat(path("attributes"))
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 1001, 0o751)
    os.utime(path("attributes"), (1_000_000_000, 2_000_000_000))
    found = os.stat(path("attributes"))
    assert (found.st_atime, found.st_mtime) == (1_000_000_000, 2_000_000_000)
    before = time.time()
    os.utime(path("attributes"))
    found = os.stat(path("attributes")).st_mtime
    # By the server's clock or, with a cache, by the client's; that of an emulated machine may fall behind.
    put("clock")
    assert min(abs(found - before), abs(found - os.stat(path("clock")).st_mtime)) < 5


@check
def another_user_is_another_user():
    put("private", b"secret", 0o600)
    code = f"""
try: open({path("private")!r}); print("open")
except PermissionError: print("refused")
try: open({path("of-root")!r}, "w"); print("made")
except PermissionError: print("refused")
"""
    os.chmod(TOP, 0o755)
    assert as_user(1000, code).split() == ["refused", "refused"]
    os.chmod(TOP, 0o1777)
    as_user(1000, f"open({path('of-ann')!r}, 'w').write('x')")
    found = os.stat(path("of-ann"))
    assert (found.st_uid, found.st_gid) == (1000, 1000)
    assert as_user(65534, f"try: os.unlink({path('of-ann')!r}); print('gone')\nexcept PermissionError: print('refused')") == "refused"


@check
def writers_that_append_never_overwrite_each_other():
    put("appended", b"")
    # Where the kernel caches what is written, it is the page cache that appends.
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            file = os.open(path("appended"), os.O_WRONLY | os.O_APPEND)
            for line in range(50):
                os.write(file, f"{child} {line:03}\n".encode())
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    lines = get("appended").decode().splitlines()
    assert sorted(lines) == sorted(f"{child} {line:03}" for child in range(4) for line in range(50)), len(lines)


@check
def what_is_mapped_is_what_is_read():
    put("mapped", pattern(300_000))
    with open(path("mapped"), "r+b") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED if SHARES else mmap.MAP_PRIVATE) as view:
            assert view[:] == pattern(300_000)
        if SHARES:
            with mmap.mmap(file.fileno(), 0) as view:
                view[100_000:100_005] = b"wrote"
                view.flush()
            assert os.pread(file.fileno(), 5, 100_000) == b"wrote"


@check
def direct_access_reads_and_writes():
    file = os.open(path("direct"), os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o644)
    buffer = mmap.mmap(-1, 65536)
    buffer.write(pattern(65536))
    assert os.pwritev(file, [buffer], 4096) == 65536
    again = mmap.mmap(-1, 65536)
    assert os.preadv(file, [again], 4096) == 65536 and again[:] == pattern(65536)
    os.close(file)
    assert get("direct") == bytes(4096) + pattern(65536)


@check
def the_room_is_shown():
    room = os.statvfs(TOP)
    assert room.f_blocks > 0 and room.f_bavail <= room.f_blocks and room.f_files > 0 and room.f_namemax == 255
    assert struct.unpack("q", struct.pack("q", room.f_bsize))[0] == 4096


@check
def attributes_are_set_listed_and_removed():
    name = put("attr")
    fails(errno.ENODATA, os.getxattr, name, "user.none")
    for value in (b"", b"x", pattern(5000), pattern(65536)):
        os.setxattr(name, "user.a", value)
        assert os.getxattr(name, "user.a") == value, len(value)
    os.setxattr(name, "user.b", b"b", os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, name, "user.b", b"b", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, name, "user.c", b"c", os.XATTR_REPLACE)
    os.setxattr(name, "trusted.t", b"t")
    assert sorted(os.listxattr(name)) == ["trusted.t", "user.a", "user.b"]
    assert as_user(1000, f"print(sorted(os.listxattr({name!r})))") == "['user.a', 'user.b']"
    os.removexattr(name, "user.a")
    fails(errno.ENODATA, os.removexattr, name, "user.a")
    assert sorted(os.listxattr(name)) == ["trusted.t", "user.b"]
    os.mkdir(path("attr-dir"))
    os.setxattr(path("attr-dir"), "user.d", b"dir")
    assert os.getxattr(path("attr-dir"), "user.d") == b"dir"
    with open(name) as file:
        os.unlink(name)
        assert os.getxattr(file.fileno(), "user.b") == b"b"
        os.setxattr(file.fileno(), "user.e", b"e")
        assert os.getxattr(file.fileno(), "user.e") == b"e"


@check
def a_write_takes_the_capabilities_of_a_program():
    name = put("program", mode=0o755)
    os.setxattr(name, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    assert len(os.getxattr(name, "security.capability")) == 20
    with open(name, "r+b", buffering=0) as file:
        file.write(b"changed")
    fails(errno.ENODATA, os.getxattr, name, "security.capability")


def locker(folder, name, kind, start, length):
    """A process that holds a lock until it is told to end."""
    code = f"""
import fcntl, sys
file = open({os.path.join(folder, name)!r}, "r+b")
fcntl.lockf(file, {kind} | fcntl.LOCK_NB, {length}, {start})
print("locked", flush=True); sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    return process


def lock_of(file, kind, start, length):
    """F_GETLK: type, start, length, and whether it is anybody's."""
    asked = struct.pack("hhqqi4x", kind, 0, start, length, 0)
    kind, _, start, length, process = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return kind, start, length, process != 0


@check
def two_mounts_exclude_each_other_by_locks():
    put("locked", bytes(100))
    os.makedirs("/tmp/second", exist_ok=True)
    mount("/tmp/second")
    try:
        holder = locker("/tmp/second/basics", "locked", fcntl.LOCK_EX, 10, 20)
        with open(path("locked"), "r+b") as file:
            fails(errno.EAGAIN, fcntl.lockf, file, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 15)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
            assert lock_of(file, fcntl.F_WRLCK, 0, 0)[:3] == (fcntl.F_WRLCK, 10, 20), lock_of(file, fcntl.F_WRLCK, 0, 0)
            assert lock_of(file, fcntl.F_WRLCK, 30, 0)[0] == fcntl.F_UNLCK
            # Two readers of one mount are not in each other's way; a writer is told of the reader.
            reader = locker(os.path.dirname(path("locked")), "locked", fcntl.LOCK_SH, 50, 10)
            assert lock_of(file, fcntl.F_RDLCK, 50, 10)[0] == fcntl.F_UNLCK, lock_of(file, fcntl.F_RDLCK, 50, 10)
            assert lock_of(file, fcntl.F_WRLCK, 50, 10)[:3] == (fcntl.F_RDLCK, 50, 10), lock_of(file, fcntl.F_WRLCK, 50, 10)
            reader.kill()
            reader.wait()
            # Who is killed has nothing any more.
            holder.kill()
            holder.wait()
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 100, 0)
        # The whole file, by flock(2), from both sides.
        with open(path("locked")) as one, open("/tmp/second/basics/locked") as two:
            fcntl.flock(one, fcntl.LOCK_EX)
            done = subprocess.run(["flock", "-n", "/tmp/second/basics/locked", "true"])
            assert done.returncode == 1, done
            fcntl.flock(one, fcntl.LOCK_UN)
            assert subprocess.run(["flock", "-n", "/tmp/second/basics/locked", "true"]).returncode == 0
            del two
    finally:
        unmount("/tmp/second")


@check
def a_mount_that_goes_takes_its_locks():
    put("lost", bytes(10))
    os.makedirs("/tmp/second", exist_ok=True)
    mount("/tmp/second")
    holder = locker("/tmp/second/basics", "lost", fcntl.LOCK_EX, 0, 0)
    with open(path("lost"), "r+b") as file:
        fails(errno.EAGAIN, fcntl.lockf, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.stdin.close()
        holder.wait()
        unmount("/tmp/second")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@check
def two_mounts_see_each_other():
    if CACHE != "none":
        return "skipped: with a cache they need not"
    os.makedirs("/tmp/second", exist_ok=True)
    mount("/tmp/second")
    try:
        put("shared", b"one")
        other = "/tmp/second/basics/shared"
        assert open(other, "rb").read() == b"one"
        with open(other, "r+b") as file:
            file.write(b"two and more")
        assert get("shared") == b"two and more" and os.stat(path("shared")).st_size == 12
        os.unlink(other)
        fails(errno.ENOENT, open, path("shared"))
    finally:
        unmount("/tmp/second")


@check
def all_access_modes_and_sizes_mount():
    os.makedirs("/tmp/second", exist_ok=True)
    put("seen", pattern(20_000), 0o644)
    for options in ({"access": "user"}, {"access": "any"}, {"access": "0"}, {"msize": "4096"}, {"msize": "1048576"}, {"posixacl": ""}, {"directio": ""}, {"noxattr": ""}):
        mount("/tmp/second", **options)
        try:
            assert open("/tmp/second/basics/seen", "rb").read() == pattern(20_000), options
            with open("/tmp/second/basics/made", "wb") as file:
                file.write(pattern(10_000))
            assert open("/tmp/second/basics/made", "rb").read() == pattern(10_000), options
            os.unlink("/tmp/second/basics/made")
        finally:
            unmount("/tmp/second")
    for version in ("9p2000.u", "9p2000"):
        mount("/tmp/second", version=version, access=None)
        try:
            assert open("/tmp/second/basics/seen", "rb").read() == pattern(20_000), version
            assert "seen" in os.listdir("/tmp/second/basics"), version
            with open("/tmp/second/basics/made", "wb") as file:
                file.write(pattern(10_000))
            assert open("/tmp/second/basics/made", "rb").read() == pattern(10_000), version
            if version == "9p2000.u":
                with open("/tmp/second/basics/over", "wb") as file:
                    file.write(b"over")
                os.replace("/tmp/second/basics/over", "/tmp/second/basics/made")
                assert open("/tmp/second/basics/made", "rb").read() == b"over", version
            os.unlink("/tmp/second/basics/made")
        finally:
            unmount("/tmp/second")


@check
def access_lists_are_kept_for_the_client():
    os.makedirs("/tmp/second", exist_ok=True)
    mount("/tmp/second", posixacl="")
    try:
        name = "/tmp/second/basics/listed"
        with open(name, "w") as file:
            file.write("x")
        os.chmod(name, 0o600)
        read = f"try: print(open({name!r}).read())\nexcept PermissionError: print('refused')"
        assert as_user(1000, read) == "refused"
        subprocess.run(["setfacl", "-m", "u:1000:r", name], check=True)
        assert "user:ann:r--" in subprocess.run(["getfacl", "-c", name], capture_output=True, text=True).stdout
        assert as_user(1000, read) == "x"
        subprocess.run(["setfacl", "-b", name], check=True)
        assert as_user(1000, read) == "refused"
    finally:
        unmount("/tmp/second")


@check
def who_is_killed_while_reading_leaves_the_mount_alive():
    os.makedirs("/tmp/ctl", exist_ok=True)
    if not settings["FROM"].startswith("/"):
        # By TCP nobody sees the server itself.
        given = ",".join(f"{key}={value}" if value else key for key, value in {**OPTIONS, "aname": "ctl"}.items() if value is not None)
        done = subprocess.run(["mount", "-i", "-t", "9p", "-o", given, settings["FROM"], "/tmp/ctl"], capture_output=True, text=True)
        assert done.returncode != 0 and "permission denied" in done.stderr.lower(), done
        return
    mount("/tmp/ctl", aname="ctl", cache="none")
    try:
        assert open("/tmp/ctl/version").read().startswith("ring9 ")
        for _ in range(3):
            reader = subprocess.Popen(["dd", "if=/tmp/ctl/log", "bs=65536", "of=/dev/null"], stderr=subprocess.DEVNULL)
            time.sleep(1)
            reader.send_signal(signal.SIGKILL)
            assert reader.wait(10) == -signal.SIGKILL
            assert open("/tmp/ctl/version").read().startswith("ring9 ")
    finally:
        unmount("/tmp/ctl")


def main():
    failed = 0
    wanted = sys.argv[1:]
    for function in CHECKS:
        if wanted and function.__name__ not in wanted:
            continue
        subprocess.run(["rm", "-rf", TOP], check=True)
        os.mkdir(TOP)
        os.chmod(TOP, 0o1777)
        try:
            note = function()
            print(f"ok   {function.__name__}{f' ({note})' if note else ''}", flush=True)
        except BaseException:
            failed += 1
            print(f"FAIL {function.__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
    subprocess.run(["rm", "-rf", TOP], check=True)
    print(f"{len(CHECKS if not wanted else wanted) - failed} passed, {failed} failed")
    return min(failed, 99)


sys.exit(main())
