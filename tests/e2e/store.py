#!/usr/bin/env python3
"""ring9 --store: what a restart keeps, what a start refuses and with which words and exit code, and the commands that look at a store.

Usage: store.py BIN-FOLDER [FOLDER]        FOLDER: where stores are made; otherwise a temporary folder
"""
import hashlib
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from p9 import P9, stats, text
from server import Server

SMALL = ["--memory", "32MiB", "--store-size", "512MiB"]
PAGE = 4096
passed = failed = 0


def check(name: str, ok: bool, detail: object = "") -> None:
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}{f': {detail}' if detail and not ok else ''}", flush=True)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def files(folder: str) -> dict[str, tuple[int, str]]:
    """All files of a store, with what tells that they were changed."""
    found = {}
    for entry in os.scandir(folder):
        with open(entry.path, "rb") as file:
            found[entry.name] = (entry.stat().st_mtime_ns, hashlib.sha1(file.read()).hexdigest())
    return found


def batches(store: str) -> list[tuple[str, int, int]]:
    """Segment, offset and length of each batch that has a head, in order."""
    found = []
    for name in sorted(name for name in os.listdir(store) if name.startswith("seg-")):
        with open(os.path.join(store, name), "rb") as file:
            data = file.read()
        at = 0
        while data[at : at + 8] == b"r9batch\0":
            records, pages = struct.unpack_from("<II", data, at + 80)
            size = (128 + records + PAGE - 1) // PAGE * PAGE + pages * PAGE
            found.append((name, at, size))
            at += size
    return found


def patch(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: str, offset: int) -> None:
    with open(path, "rb") as file:
        file.seek(offset)
        byte = file.read(1)[0]
    patch(path, offset, bytes([byte ^ 0x10]))


def facts(address: str) -> dict[bytes, tuple]:
    """Everything about each file that a restart must keep: all attributes but access time and blocks, target, extended attributes, bytes."""
    p9, found = P9(address), {}

    def whole(fid: int) -> bytes:
        data = b""
        while part := p9.read(fid, len(data), 500_000):
            data += part
        return data

    def xattr(names: tuple[bytes, ...], name: bytes) -> bytes:
        p9.walk(0, 8, *names)
        p9.call(30, struct.pack("<II", 8, 9) + text(name))
        value = whole(9)
        p9.clunk(9)
        p9.clunk(8)
        return value

    def see(names: tuple[bytes, ...]) -> None:
        p9.walk(0, 7, *names)
        body = p9.call(24, struct.pack("<IQ", 7, 0x3FFF))[1]
        qid, mode, uid, gid, nlink, rdev, size = body[8:21], *struct.unpack_from("<IIIQQQ", body, 21)
        times = body[73 + 16 : 73 + 64]  # of change of content, of anything, of creation
        attributes = {name: xattr(names, name) for name in xattr(names, b"").split(b"\0") if name}
        kind, below, data = mode & 0o170000, [], b""
        if kind == 0o120000:
            data = p9.call(22, struct.pack("<I", 7))[1][2:]
        elif kind == 0o100000:
            p9.open(7)
            data = whole(7)
        elif kind == 0o040000:
            p9.open(7)
            offset = 0
            while part := p9.call(40, struct.pack("<IQI", 7, offset, 60_000))[1][4:]:
                at = 0
                while at < len(part):
                    offset, _, length = struct.unpack_from("<QBH", part, at + 13)
                    below.append(part[at + 24 : at + 24 + length])
                    at += 24 + length
        p9.clunk(7)
        found[b"/".join(names)] = (qid, oct(mode), uid, gid, nlink, rdev, size, times, attributes, data)
        # A Twalk has 16 names at most.
        for name in below:
            if name not in (b".", b"..") and len(names) < 16:
                see((*names, name))

    see(())
    return found


def copies(ring9: str, r9: str, folder: str, store: str, looked) -> None:
    """ring9 store copy: the copy is a store of its own with the same tree; whatever fails leaves no store, and what was there before."""
    unix, copy = ["--listen", f"unix:{folder}/sock"], os.path.join(folder, "copy")
    large = os.path.join(folder, "large")
    with open(large, "wb") as file:
        file.write(os.urandom(3_000_000))
    server = Server(ring9, *SMALL, "--store", store, *unix)
    subprocess.run([r9, "--addr", server.address, "put", large, "/large"], check=True)
    was = facts(server.address)
    looked("a store that is served is not copied", 75, ["another process serves this store"], ring9, "store", "copy", store, copy, same=None)
    server.end()
    source_was = files(store)

    def not_copied(name: str, code: int, words: list[str], dest: str = copy, source: str = store, **options) -> None:
        before = files(dest) if os.path.isdir(dest) else os.path.exists(dest)
        looked(name, code, words, ring9, "store", "copy", source, dest, same=None, **options)
        check("and nothing is left where it was to be", before == (files(dest) if os.path.isdir(dest) else os.path.exists(dest)), dest)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    # Python ignores SIGXFSZ, and so does its child: the write gets EFBIG.
    not_copied("a copy that cannot be written", 74, ["File too large", "what was made of the copy is removed"], preexec_fn=limited, restore_signals=False)
    not_copied("a copy into the store", 73, ["in the directory that is to be copied", "missing or empty"], os.path.join(store, "copy"))
    not_copied("a copy below a folder that is missing", 73, ["No such file", "make the directory above it first"], os.path.join(folder, "no", "where"))
    damaged = os.path.join(folder, "damaged")
    shutil.copytree(store, damaged)
    name, offset, _ = batches(damaged)[3]
    flip(os.path.join(damaged, name), offset + 140)
    not_copied("a copy of a damaged store", 65, ["damaged", name, f"byte {offset}"], source=damaged)
    disk = os.path.join(folder, "little")
    os.mkdir(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True).returncode == 0:
        try:
            not_copied("a copy to a full disk", 73, ["No space left", "what was made of the copy is removed"], os.path.join(disk, "copy"))
            not_copied("a copy to a full disk, into a directory that is there", 73, ["No space left", "is removed"], disk)
        finally:
            subprocess.run(["umount", disk], check=True)

    # Killed at any time.
    start, found = time.monotonic(), []
    subprocess.run([ring9, "store", "copy", store, copy], stdout=subprocess.DEVNULL, check=True)
    took = time.monotonic() - start
    whole = subprocess.run([ring9, "store", "check", copy], capture_output=True, text=True).stdout
    shutil.rmtree(copy)
    for part in range(4):
        with subprocess.Popen([ring9, "store", "copy", store, copy], stdout=subprocess.DEVNULL) as process:
            time.sleep(took * part / 3)
            process.kill()
        done = subprocess.run([ring9, "store", "check", copy], capture_output=True, text=True)
        said = {0: [whole], 65: ["there is no store", "a copy of a store that has not ended"], 73: ["No such file"]}
        is_so = any(words in done.stdout + done.stderr for words in said.get(done.returncode, []))
        found.append((done.returncode, is_so, done.stderr))
        shutil.rmtree(copy, ignore_errors=True)
    check("a copy that is killed is whole, or is said to be none", all(is_so for _, is_so, _ in found), found)
    check("nothing so far has changed the source", files(store) == source_was)

    looked("store copy makes a copy", 0, ["inodes", "segments of", "a store of its own, with the same tree"], ring9, "store", "copy", store, copy)
    not_copied("a copy to where one is", 73, ["not an empty directory", "name a directory that is missing or empty"])
    ids = [subprocess.run([ring9, "store", "show", at], capture_output=True, text=True).stdout.splitlines()[0] for at in (store, copy)]
    check("the copy has a number of its own", all(line.startswith("store  ") for line in ids) and ids[0] != ids[1], ids)
    used = sum(size for _, _, size in batches(copy))
    data = sum(fact[6] for fact in was.values() if int(fact[1], 8) & 0o170000 == 0o100000)
    check("the copy is as long as its files", used < data * 1.02 + 640 * len(was) + 16 * PAGE, f"{used} {data} {len(was)}")
    on_disk = sum(os.stat(os.path.join(copy, name)).st_blocks * 512 for name in os.listdir(copy))
    check("and takes no more room on the disk", on_disk < used + 32 * PAGE, f"{on_disk} {used}")

    # What a copy that was killed leaves behind.
    os.rename(os.path.join(copy, "superblock"), os.path.join(copy, "superblock-new"))
    for command in ([*SMALL, *unix, "--store", copy], ["store", "check", copy], ["store", "show", copy], ["check", *SMALL, "--store", copy]):
        looked(f"{command[0]} {command[1]} says that a copy has not ended", 65, ["a copy of a store that has not ended", "copy again"], ring9, *command, same=copy)
    os.rename(os.path.join(copy, "superblock-new"), os.path.join(copy, "superblock"))

    small = os.path.join(folder, "small")
    looked("a copy may have smaller segments", 0, ["16 MiB each"], ring9, "store", "copy", copy, small, "--store-size", "256MiB", same=copy)
    for at, size in ((copy, "512MiB"), (small, "256MiB")):
        server = Server(ring9, "--memory", "32MiB", "--store", at, "--store-size", size, *unix)
        has = facts(server.address) if server.address else {}
        wrong = [(name, was.get(name), has.get(name)) for name in {*was, *has} if was.get(name) != has.get(name)]
        check("a copy is served, and keeps all that a restart keeps", not wrong, str(wrong[:3])[:2000])
        code, err = server.end()
        check("and ends well", code == 0 and "nothing is lost" in err, f"{code} {err}")
    for at in (copy, small, damaged, disk):
        shutil.rmtree(at)


def shown(address: str) -> dict[str, str]:
    """The file `store` of ctl."""
    client = P9(address, b"ctl")
    client.walk(0, 1, b"store")
    client.open(1)
    lines = [line.split() for line in client.read(1, 0, 1 << 16).decode().splitlines()]
    return {name: value for name, value in lines}


def figures(ring9: str, folder: str) -> None:
    """What ctl says of a store adds up with what a client has done, and with the files on disk."""
    unix, store = ["--listen", f"unix:{folder}/sock"], os.path.join(folder, "figures")
    for sync in ("always", "fsync"):
        server = Server(ring9, *SMALL, "--store", store, "--sync", sync, *unix)
        p9, before = P9(server.address), shown(server.address)
        for number in range(20):
            p9.walk(0, 1)
            p9.create(1, b"%s%d" % (sync.encode(), number))
            p9.write(1, 0, b"x" * 10_000)
            p9.call(50, struct.pack("<II", 1, 0))  # Tfsync
            p9.clunk(1)
        after, counters = shown(server.address), stats(server.address)
        grown = {name: int(after[name]) - int(before[name]) for name in after if after[name].isdigit()}
        check(f"--sync {sync}: ctl counts each operation once", grown["operations"] == 40 and grown["position"] == 40, grown)
        check("and bytes, batches and syncs", grown["bytes"] > 200_000 and 20 <= grown["batches"] <= 40 and grown["syncs"] >= grown["batches"], grown)
        check("each batch is in both histograms", after["flushes"] == after["batches"] and int(after["flush_ns_p50"]) <= int(after["flush_ns_max"]) < 60_000_000_000, after)
        check("all is durable", after["position"] == after["position_durable"] and after["not_durable_bytes"] == "0" and after["disk_full"] == "0", after)
        same = all(counters[f"store_{name}"] == int(after[name]) for name in ("batches", "operations", "bytes", "syncs", "checkpoints", "segments_freed"))
        check("stats has the same counters", same, counters)
        segments = [os.stat(os.path.join(store, name)).st_size for name in os.listdir(store) if re.fullmatch("seg-[0-9a-f]{16}", name)]
        on_disk = [len(segments), sum(segments)] == [int(after["segments"]) + int(after["segments_spare"]), int(after["directory_bytes"])]
        check("segments and their bytes are those on disk", on_disk and after["directory_bytes_max"] == str(512 << 20) and after["sync"] == sync, (after, segments))
        code, err = server.end()
        show = subprocess.run([ring9, "store", "show", store], capture_output=True, text=True).stdout.split()
        at = dict(zip(show, show[1:]))
        check("number, epoch and position are those of store show", at["store"] == after["id"] and at["epoch"] == after["epoch"] and f"log position {after['position']}\n" in err, (err, after))
    server = Server(ring9, "--memory", "32MiB", *unix)
    try:
        shown(server.address)
        found = "a file"
    except OSError as error:
        found = error.errno
    check("without a store ctl has no such file and no such counters", found == 2 and not any("store" in name for name in stats(server.address)), found)
    server.end()


def main() -> int:
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        os.chmod(folder, 0o755)
        ring9, r9 = (shutil.copy(os.path.join(sys.argv[1], name), folder) for name in ("ring9", "r9"))
        store, unix = os.path.join(folder, "store"), ["--listen", f"unix:{folder}/sock"]
        serve = [ring9, *SMALL, "--store", store, *unix]

        def looked(name: str, code: int, words: list[str], *command: str, same: str | None = store, **options) -> None:
            """A command ends with this code and says these words, on one line if they are an error; the store is as it was."""
            before = files(same) if same and os.path.isdir(same) else None
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
            said = done.stdout + done.stderr
            one_line = code in (0, 2) or sum("error: " in line for line in done.stderr.splitlines()) == 1 or "MISS --store" in done.stdout
            after = files(same) if same and os.path.isdir(same) else None
            check(name, done.returncode == code and all(word in said for word in words) and one_line and before == after, f"{done.returncode} {said} {'' if before == after else 'and the store was changed'}")

        def refused(name: str, code: int, words: list[str], *flags: str, at: str = store, **options) -> None:
            """A start is refused, and check says so in the same words."""
            flags = flags or SMALL
            looked(f"{name} is refused", code, words, ring9, *unix, "--store", at, *flags, same=at, **options)
            looked("and check says so", code, words, ring9, "check", "--store", at, *flags, same=at, **options)

        # What restarts keep.
        looked("check says that a store is to be made", 0, ["ok   --store", "is to be made", "can serve here"], ring9, "check", *SMALL, "--store", store)
        check("and does not make it", not os.path.exists(store))
        server = Server(*serve)
        odd = os.path.join(folder, "odd")
        subprocess.run([sys.executable, os.path.join(HERE, "odd_tree.py"), odd], check=True)
        at = [r9, "--addr", server.address]
        subprocess.run([*at, "put", "-r", odd, "/odd"], check=True)
        p9 = P9(server.address)
        p9.walk(0, 1)
        for kind, name, mode in ((18, b"fifo", 0o010640), (18, b"device", 0o020600), (18, b"socket", 0o140755)):
            p9.call(kind, struct.pack("<I", 1) + text(name) + struct.pack("<IIII", mode, 7 if mode >> 12 == 2 else 0, 9 if mode >> 12 == 2 else 0, 0))
        p9.create(1, b"file")
        p9.write(1, 0, b"some bytes" * 5_000)
        p9.call(70, struct.pack("<II", 0, 1) + text(b"second name"))
        for name, value in ((b"user.color", b"blue"), (b"user.big", b"x" * 10_000)):
            p9.walk(0, 2, b"file")
            p9.call(32, struct.pack("<I", 2) + text(name) + struct.pack("<QI", len(value), 0))
            p9.write(2, 0, value)
            p9.clunk(2)
        # Owner, mode, and times of 1970 and of 2100.
        p9.call(26, struct.pack("<IIIIIQQQQQ", 1, 0x1 | 0x2 | 0x4 | 0x10 | 0x20 | 0x80 | 0x100, 0o4711, 1234, 567, 0, 1, 2, 4_102_444_800, 999_999_999))
        before = facts(server.address)
        check("the tree has files of all kinds", len(before) > 50, len(before))
        code, err = server.end()
        check("a new store is said to be one", "store: made just now" in err.replace(store, "store"), err)
        check("SIGTERM ends it, and nothing is lost", code == 0 and "nothing is lost" in err and "in memory only" not in err, f"{code} {err}")
        position = err.rsplit("log position ", 1)[-1].strip()
        looked("store check finds it good", 0, [f"changes up to {position}", "good: every checksum"], ring9, "store", "check", store)
        looked("store show has epoch, segments and positions", 0, ["epoch       1", "generation 2, counts", f"change {position}", "log begins  seg-0000000000000000 at byte 0, change 1"], ring9, "store", "show", store)
        looked("check with the flags of a server says what it holds", 0, [f"ok   --store", f"log position {position}", "can serve here"], ring9, "check", *SMALL, "--store", store)
        for by in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
            server = Server(*serve)
            after = facts(server.address)
            wrong = [(name, before.get(name), after.get(name)) for name in {*before, *after} if before.get(name) != after.get(name)]
            check("a restart keeps types, modes, owners, times, links, extended attributes, qids and bytes", not wrong, str(wrong[:3])[:2000])
            code, err = server.end(by)
            check("and says what was found", re.search(r"store: \d+ files, \d+ bytes; log position \d+, \d+ batches of \d+ bytes, [0-9.]+ s\n", err) is not None, err)
        server = Server(*serve)
        p9 = P9(server.address)
        p9.walk(0, 1)
        _, body = p9.call(14, struct.pack("<I", 1) + text(b"newer") + struct.pack("<III", 0o102, 0o600, 0))
        check("a file that is made after a restart has a number of its own", body[5:13] not in {fact[0][5:13] for fact in before.values()})
        # What is not kept: a file without a name that is open.
        p9.write(1, 0, b"x" * 100)
        p9.call(76, struct.pack("<I", 0) + text(b"newer") + struct.pack("<I", 0))
        check("a removed file that is open is there", p9.read(1, 0, 100) == b"x" * 100)

        # In use.
        refused_in_use = ["another process serves this store", "end that process"]
        other = ["--listen", f"unix:{folder}/other"]
        looked("a store that is served is refused", 75, refused_in_use, ring9, *SMALL, *other, "--store", store, same=None)
        for command in (["check", *SMALL, "--store", store], ["store", "check", store], ["store", "show", store]):
            looked(f"{' '.join(command[:2])} says so", 75, refused_in_use, ring9, *command, same=None)
        server.end(signal.SIGKILL)
        good = os.path.join(folder, "good")
        shutil.copytree(store, good)

        def again() -> None:
            shutil.rmtree(store)
            shutil.copytree(good, store)

        # What is no store, and what cannot be one.
        letters = os.path.join(folder, "letters")
        os.mkdir(letters)
        with open(os.path.join(letters, "letter"), "w") as file:
            file.write("dear")
        refused("a directory with other files", 65, ["not empty, and no store", "name an empty directory"], at=letters)
        looked("store check says so", 65, ["no store"], ring9, "store", "check", letters)
        refused("a file", 73, ["Not a directory", "name a directory"], at=os.path.join(letters, "letter"))
        refused("a path without a folder", 73, ["No such file", "make the directory above it first"], at=os.path.join(folder, "no", "where"))
        empty = os.path.join(folder, "empty")
        os.mkdir(empty)
        for command in ("check", "show"):
            looked(f"store {command} of an empty directory", 65, ["there is no store"], ring9, "store", command, empty)
            looked(f"store {command} of nothing", 73, ["No such file"], ring9, "store", command, os.path.join(folder, "nothing"))
        if os.geteuid() == 0:
            user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            for name, path in (("a directory of another user", empty), ("a store of another user", store)):
                looked(f"{name} is refused", 73, ["Permission denied", "must belong to the user"], *user, ring9, *SMALL, *unix, "--store", path, same=path)
                looked("and check says so", 73, ["Permission denied"], *user, ring9, "check", *SMALL, "--store", path, same=path)

        # Flags.
        refused("a --store-size below that of the store's segments", 1, ["has segments of 32 MiB", "needs a --store-size of 384 MiB"], "--memory", "32MiB", "--store-size", "256MiB")
        looked("--sync without --store is a usage error", 2, ["--store"], ring9, "--sync", "fsync", *unix)
        looked("--store-size without --store is a usage error", 2, ["--store"], ring9, "--store-size", "1GiB", *unix)
        looked("a store has a smallest size", 2, ["192MiB or more"], ring9, "--store", store, "--store-size", "1MiB", *unix)

        figures(ring9, folder)

        # Copies.
        again()
        copies(ring9, r9, folder, store, looked)

        # Damage.
        again()
        all_batches = batches(store)
        check("the log has batches", len(all_batches) > 20, len(all_batches))
        name, offset, _ = all_batches[len(all_batches) // 2]
        damaged = ["damaged", name, f"byte {offset}", "checksum", "a later batch is in"]
        flip(os.path.join(store, name), offset + 140)
        refused("a flipped byte in the log", 65, damaged)
        looked("store check says so", 65, damaged, ring9, "store", "check", store)
        looked("store show says so, and shows what is in front of it", 65, [*damaged, "epoch"], ring9, "store", "show", store)
        again()
        flip(os.path.join(store, name), offset + 60)
        refused("a flipped byte in the head of a batch", 65, damaged)
        again()
        os.unlink(os.path.join(store, "seg-0000000000000000"))
        refused("a segment that is missing", 65, ["seg-0000000000000000 is missing"])
        again()
        patch(os.path.join(store, "superblock"), 0, b"\xee" * 2 * PAGE)
        refused("a damaged superblock", 65, ["superblock", "magic number"])
        again()
        with open(os.path.join(store, "superblock"), "rb") as file:
            superblock = bytearray(file.read())
        struct.pack_into("<II", superblock, PAGE + 8, 2, 0)
        struct.pack_into("<I", superblock, PAGE + 12, crc32c(superblock[PAGE : 2 * PAGE]))
        patch(os.path.join(store, "superblock"), 0, superblock)
        refused("a store of a newer format", 65, ["format version 2", "use the version of ring9 that has written it"])
        again()
        # One copy of the superblock is enough: the older one is of the start before.
        newest = max((0, PAGE), key=lambda at: struct.unpack_from("<Q", superblock, at + 32)[0] if superblock[at : at + 4] == b"r9st" else 0)
        flip(os.path.join(store, "superblock"), PAGE - newest + 40)
        server = Server(*serve)
        check("one good copy of the superblock is enough", server.address != "" and len(facts(server.address)) == len(before), server.address)
        server.end()

        # The end of the log.
        again()
        name, offset, size = batches(store)[-1]
        flip(os.path.join(store, name), offset + size - 1 if size > PAGE else offset + 130)
        cut = [name, f"byte {offset}", "checksum"]
        looked("store check says what the next start cuts off", 0, [*cut, "cut off", "good"], ring9, "store", "check", store)
        looked("store show, too", 0, [*cut[:2], "the next start cuts it off"], ring9, "store", "show", store)
        looked("and check", 0, [*cut, "cut off", "can serve here"], ring9, "check", *SMALL, "--store", store)
        server = Server(*serve)
        kept = facts(server.address)
        subprocess.run([r9, "--addr", server.address, "mkdir", "/behind"], check=True)
        code, err = server.end()
        check("a start cuts a torn tail off, and says so", code == 0 and all(word in err for word in [*cut, "cut off", "warn"]), f"{code} {err}")
        check("and keeps what was before it", len(kept) >= len(before) - 1, len(kept))
        server = Server(*serve)
        code, err = server.end()
        check("and says it once", code == 0 and "cut off" not in err, f"{code} {err}")

        # Less than what is stored.
        again()
        server = Server(*serve)
        large = os.path.join(folder, "large")
        with open(large, "wb") as file:
            file.write(os.urandom(3_000_000))
        for number in range(4):
            subprocess.run([r9, "--addr", server.address, "put", large, f"/large{number}"], check=True)
        server.end()
        shutil.rmtree(good)
        shutil.copytree(store, good)
        refused("a --memory smaller than what is stored", 1, ["not enough memory", "more --memory"], "--memory", "8MiB", "--store-size", "512MiB")
        looked("fewer inodes than are stored are said by check", 0, ["inodes are stored, --max-inodes is 10"], ring9, "check", *SMALL, "--store", store, "--max-inodes", "10")
        server = Server(*serve, "--max-inodes", "10")
        p9 = P9(server.address)
        p9.walk(0, 1)
        try:
            p9.create(1, b"one more")
            made = "made"
        except OSError as error:
            made = error.errno
        p9 = P9(server.address)
        p9.walk(0, 1, b"large0")
        p9.remove(1)
        p9.walk(0, 1, b"large1")
        p9.open(1)
        served = len(p9.read(1, 0, 1000))
        code, err = server.end()
        check("with fewer inodes than are stored nothing is made, the rest is served", code == 0 and (made, served) == (28, 1000) and "nothing is made until there are fewer" in err, f"{code} {made} {err}")

        # A start with the log on a full disk, and a disk that fails. Only root can make such a disk.
        again()
        disk = os.path.join(folder, "disk")
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk], capture_output=True).returncode == 0:
            try:
                at_disk = os.path.join(disk, "store")
                os.mkdir(at_disk)
                looked("a full disk is refused at the start", 73, ["No space left", "make room"], ring9, *SMALL, *unix, "--store", at_disk, same=at_disk)
                subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
                server = Server(ring9, *SMALL, *unix, "--store", at_disk)
                subprocess.run([r9, "--addr", server.address, "put", "/etc/passwd", "/passwd"], check=True)
                server.end(signal.SIGKILL)
                server = Server(ring9, *SMALL, *unix, "--store", at_disk)
                got = subprocess.run([r9, "--addr", server.address, "cat", "/passwd"], capture_output=True).stdout
                code, err = server.end()
                check("tmpfs works", got == open("/etc/passwd", "rb").read() and code == 0, err)
            finally:
                subprocess.run(["umount", disk], check=True)
        else:
            print("     no mount of a tmpfs here: not shown what a full disk does")
        server = Server(*serve)
        p9 = P9(server.address)
        p9.walk(0, 1)
        p9.create(1, b"before")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, 1))
        try:
            P9(server.address).walk(0, 1)
            p9.write(1, 0, b"never on disk")
            answer = "an answer"
        except (EOFError, ConnectionError):
            answer = None
        code, err = server.ended()
        said = [line for line in err.splitlines() if "the log cannot be written" in line]
        check("a log that cannot be written ends the server at once, with 74, a line, and no reply", (code, answer, len(said)) == (74, None, 1), f"{code} {answer} {err}")
        server = Server(*serve)
        p9 = P9(server.address)
        p9.walk(0, 1, b"before")
        p9.open(1)
        check("the next start has what was acknowledged, and nothing else", p9.read(1, 0, 100) == b"")
        code, err = server.end()
        check("and ends well", code == 0, err)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
