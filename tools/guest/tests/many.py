#!/usr/bin/python3
"""Much at once on /mnt: a directory of 100,000 entries, many writers that append, many users, many mounts. A line for each check, as in basics.py."""

import os
import subprocess
import sys
import traceback

TOP = "/mnt/many"
settings = dict(line.split("=", 1) for line in open("/given/settings").read().replace("'", "").splitlines())
ENTRIES = 100_000
WRITERS, LINES = 32, 100
USERS = 20
MOUNTS = 8


def all_end_well(children):
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert codes == [0] * len(codes), codes


def forked(count, body):
    """So many processes, each with its number."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                body(number)
                os._exit(0)
            except BaseException:
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
                os._exit(1)
        children.append(child)
    all_end_well(children)


def a_directory_of_100000_entries_is_made_listed_and_removed():
    big = f"{TOP}/big"
    os.mkdir(big)
    for number in range(ENTRIES):
        os.close(os.open(f"{big}/{number:06}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    names = sorted(entry.name for entry in os.scandir(big))
    assert names == [f"{number:06}" for number in range(ENTRIES)], len(names)
    subprocess.run(["rm", "-rf", big], check=True)
    assert not os.path.exists(big)


def many_writers_append_whole_lines():
    name = f"{TOP}/appended"
    open(name, "w").close()

    def write(number):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        for line in range(LINES):
            text = f"{number:02} {line:03} {'x' * (number * 7)}\n".encode()
            assert os.write(file, text) == len(text)

    forked(WRITERS, write)
    lines = open(name).read().splitlines()
    assert sorted(lines) == sorted(f"{number:02} {line:03} {'x' * (number * 7)}" for number in range(WRITERS) for line in range(LINES)), len(lines)


def many_users_have_files_of_their_own():
    def use(number):
        uid = 2000 + number
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        mine = f"{TOP}/of-{uid}"
        os.mkdir(mine, 0o700)
        for file in range(10):
            with open(f"{mine}/{file}", "w") as out:
                out.write(f"{uid} {file}")
        found = os.stat(f"{mine}/0")
        assert (found.st_uid, found.st_gid) == (uid, uid)
        try:
            os.rmdir(TOP)
        except OSError:
            pass
        else:
            raise AssertionError("removed what is another's")

    forked(USERS, use)
    for number in range(USERS):
        uid = 2000 + number
        assert open(f"{TOP}/of-{uid}/9").read() == f"{uid} 9"


def many_mounts_write_one_file_each_its_part():
    name = "many/parts"
    open(f"/mnt/{name}", "w").close()
    folders = [f"/tmp/mount-{number}" for number in range(MOUNTS)]
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-i", "-t", "9p", "-o", settings["MOUNT"], settings["FROM"], folder], check=True)
    size = 100_000

    def write(number):
        with open(f"{folders[number]}/{name}", "r+b", buffering=0) as file:
            for at in range(0, size, 10_000):
                file.seek((at * MOUNTS) + number * 10_000)
                assert file.write(bytes([number]) * 10_000) == 10_000

    forked(MOUNTS, write)
    for folder in folders:
        subprocess.run(["umount", folder], check=True)
    data = open(f"/mnt/{name}", "rb").read()
    assert len(data) == size * MOUNTS, len(data)
    for at in range(0, len(data), 10_000):
        assert data[at : at + 10_000] == bytes([at // 10_000 % MOUNTS]) * 10_000, at


failed = 0
CHECKS = [
    a_directory_of_100000_entries_is_made_listed_and_removed,
    many_writers_append_whole_lines,
    many_users_have_files_of_their_own,
    many_mounts_write_one_file_each_its_part,
]
os.mkdir(TOP)
os.chmod(TOP, 0o1777)
for check in CHECKS:
    try:
        check()
        print(f"ok   {check.__name__}", flush=True)
    except BaseException:
        failed += 1
        print(f"FAIL {check.__name__}", flush=True)
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
subprocess.run(["rm", "-rf", TOP], check=True)
print(f"{len(CHECKS) - failed} passed, {failed} failed")
sys.exit(failed)
