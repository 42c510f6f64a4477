#!/usr/bin/python3
"""sqlite and git on /mnt while the server is killed, again and again: after each restart all is sound, and what was acknowledged is there.

Usage: kills.py PORT always|fsync sqlite=KILLS git=KILLS        PORT: where the host is asked for a kill; the mode of the server's store (--sync)

Each cycle works, asks the host for a kill after a few commits, works on until the mount fails, unmounts (lazily: files are open), mounts again when the server is up,
and looks. The count of what was acknowledged is in the memory of this process, which no kill touches. A line for each check, as in basics.py.

What counts as acknowledged:
- always: a commit that has returned. sqlite and git are told not to sync anything, so that no fsync(2) helps the server.
- fsync: a commit with an fsync(2) behind it, as for any file system. sqlite syncs by itself (synchronous=EXTRA: the directory as well, after the journal was
  removed). git does not sync directories or the reference after its rename, whatever core.fsync says; so each commit ends with an fsync(2) of the reference.
"""

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import traceback

TOP = "/mnt"
ROWS = 4
PORT, SYNC = int(sys.argv[1]), sys.argv[2]
KILLS = {name: int(count) for name, count in (word.split("=") for word in sys.argv[3:])}
settings = dict(line.split("=", 1) for line in open("/given/settings").read().replace("'", "").splitlines())
# Nothing of git is configured outside of the repository.
os.environ |= {"HOME": "/tmp", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
os.environ |= {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


class Sqlite:
    """Transactions 1, 2, 3 ... of a table of rows, and their number in another one."""

    burst = 12

    def __init__(self):
        with self.opened() as database:
            database.executescript("CREATE TABLE rows (n, part, data); CREATE INDEX of_rows ON rows (n); CREATE TABLE total (n); INSERT INTO total VALUES (0)")
        database.close()

    def opened(self):
        database = sqlite3.connect(f"{TOP}/db", isolation_level=None)
        database.execute(f"PRAGMA synchronous={'OFF' if SYNC == 'always' else 'EXTRA'}")
        return database

    @staticmethod
    def data(n, part):
        return b"%d %d " % (n, part) * (100 * (n % 7))

    def work(self, done):
        """Transactions behind this one, until the server is gone."""
        database = self.opened()
        while True:
            n = done + 1
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO rows VALUES (?, ?, ?)", [(n, part, self.data(n, part)) for part in range(ROWS)])
            database.execute("UPDATE total SET n = ?", (n,))
            database.execute("COMMIT")
            done = n
            yield done

    def look(self):
        """How many transactions there are. All is sound."""
        database = self.opened()
        assert (found := database.execute("PRAGMA integrity_check").fetchall()) == [("ok",)], found
        [(last,)] = database.execute("SELECT n FROM total").fetchall()
        rows = database.execute("SELECT n, part, data FROM rows ORDER BY n, part").fetchall()
        wanted = [(n, part, self.data(n, part)) for n in range(1, last + 1) for part in range(ROWS)]
        assert rows == wanted, f"{len(rows)} rows of {last} transactions"
        database.close()
        return last


class Git:
    """Commits 1, 2, 3 ... of one branch, each with a file that has changed."""

    top = f"{TOP}/repository"
    burst = 3

    def __init__(self):
        self.git("init", "-q", "-b", "main", self.top, cwd=TOP)

    def git(self, *words, cwd=top):
        configured = ["-c", f"core.fsync={'none' if SYNC == 'always' else 'all'}", "-c", "maintenance.auto=false"]
        done = subprocess.run(["git", *configured, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise OSError(f"git {words[0]}: {done.returncode}: {done.stdout}")
        return done.stdout

    @staticmethod
    def text(n):
        return f"{n}\n" * 500

    def work(self, done):
        while True:
            n = done + 1
            with open(f"{self.top}/file", "w") as out:
                out.write(self.text(n))
            if n == 1:
                self.git("add", "file")
            self.git("commit", "-q", "-a", "-m", f"{n}")
            if SYNC == "fsync":
                reference = os.open(f"{self.top}/.git/refs/heads/main", os.O_RDONLY)
                os.fsync(reference)
                os.close(reference)
            done = n
            yield done

    def look(self):
        # Of a process that a kill has stopped; git(1) says to remove them then.
        for folder, _, names in os.walk(f"{self.top}/.git"):
            for name in names:
                if name.endswith(".lock"):
                    os.remove(os.path.join(folder, name))
        said = [line for line in self.git("fsck", "--full", "--strict").splitlines() if not line.startswith(("dangling ", "notice: "))]
        assert not said, said
        if "main" not in self.git("branch", "-a"):
            return 0
        subjects = self.git("log", "--format=%s").split()
        assert subjects == [f"{n}" for n in range(len(subjects), 0, -1)], subjects
        self.git("reset", "-q", "--hard")
        assert open(f"{self.top}/file").read() == self.text(len(subjects))
        return len(subjects)


def mounted_again():
    subprocess.run(["umount", "-i", "-l", TOP], check=True)
    subprocess.run(["mount", "-i", "-t", "9p", "-o", settings["MOUNT"], settings["FROM"], TOP], check=True)


def killed(kind, kills, host):
    """The lowest and the highest number of what an end has acknowledged or begun, and what is found, must agree each time."""
    program = kind()
    done = found = open_ones = 0
    for cycle in range(1, kills + 1):
        began = done = found
        at = found + random.randrange(1, kind.burst + 1)
        clock = time.monotonic()
        try:
            for done in program.work(done):
                if done == at:
                    # Within the time of two more commits.
                    print((time.monotonic() - clock) / (at - began) * random.uniform(0, 2), file=host, flush=True)
        except (OSError, sqlite3.Error) as error:
            how = str(error).splitlines()[0]
        assert done >= at, how
        assert host.readline() == "up\n"
        # It was the kill that has ended the work.
        assert not mount_works(), how
        mounted_again()
        found = program.look()
        assert done <= found <= done + 1, f"kill {cycle}: {found} are there, {done} were acknowledged"
        open_ones += found - done
        print(f"kill {cycle}: {done - began} acknowledged, then {how!r}", flush=True)
    print(f"{kind.__name__}: {kills} kills, {found} commits, all that were acknowledged are there; {open_ones} that were not as well", flush=True)


def mount_works():
    try:
        os.stat(TOP)
        os.listdir(TOP)
        return True
    except OSError:
        return False


failed = 0
host = socket.create_connection((settings["FROM"], PORT)).makefile("rw")
for kind in (Sqlite, Git):
    kills = KILLS[kind.__name__.lower()]
    what = f"{kind.__name__.lower()}: {kills} kills, sound, nothing that was acknowledged is lost"
    try:
        killed(kind, kills, host)
        print(f"ok   {what}", flush=True)
    except BaseException:
        failed += 1
        print(f"FAIL {what}", flush=True)
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        break
for name in os.listdir(TOP):
    place = os.path.join(TOP, name)
    shutil.rmtree(place) if os.path.isdir(place) else os.remove(place)
sys.exit(failed)
