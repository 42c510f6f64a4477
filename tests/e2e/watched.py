"""A ring9 that is watched: what it holds, what it says, who it is."""
import os
import re
import signal
import socket
import struct
import subprocess
import time

from p9 import P9, stats

MEMORY = "128MiB"
COUNTED = ("reply_bytes", "kept_bytes", "window_bytes", "fid_bytes")  # in ctl/stats: what holders have, beside the memory of files


class Server:
    def __init__(self, program: str, folder: str, slots: int, cpu: int | None):
        self.log, self.slots = os.path.join(folder, "stderr"), slots
        words = ["--memory", MEMORY, "--trust", "all", "--max-connections", str(slots), "--listen", f"unix:{folder}/sock"]
        words += [] if cpu is None else ["--cpu", str(cpu)]
        self.process = subprocess.Popen([program, *words], stdout=subprocess.PIPE, stderr=open(self.log, "wb"), text=True)
        ready = self.process.stdout.readline().split()
        if len(ready) < 3:
            raise SystemExit(f"the server does not start: {open(self.log).read()}")
        self.address = ready[2]

    def status(self, file: str, name: str) -> int:
        return int(re.search(rf"{name}:\s+(\d+)", open(f"/proc/{self.process.pid}/{file}").read())[1]) * 1024

    def held(self) -> dict[str, int]:
        """What it holds now. The slot of who asks is none."""
        now = stats(self.address)
        return {
            "memory": self.status("smaps_rollup", "Anonymous"),
            "files": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "slots": now["accepted"] - now["closed"] - now["refused"] - 1,
            "pins": now["pins"],
            "orphaned": now["arena_orphaned_bytes"],
            "granted": now["arena_granted_bytes"],
            "used": now["arena_used_bytes"],
            "evicted": now["evicted"],
            "refused": now["refused"],
            "counted": sum(now[name] for name in COUNTED),
        }

    def fids(self) -> int:
        """Of all connections but the one that asks. It makes the server write a long text, and so is no question for between the windows."""
        client, table = P9(self.address, b"ctl"), b""
        client.walk(0, 1, b"connections")
        client.open(1)
        while part := client.read(1, len(table), 1 << 19):
            table += part
        return sum(int(line.split()[3]) for line in table.splitlines()[1:]) - 2

    def settled(self, like: dict[str, int], seconds: float = 20) -> dict[str, int]:
        """What it holds when all that hostile clients held has gone, or some time later."""
        until = time.monotonic() + seconds
        while True:
            now = self.held()
            if all(now[what] <= like[what] for what in ("files", "slots", "pins", "orphaned", "granted")) or time.monotonic() > until:
                return now
            time.sleep(0.02)

    def warm(self) -> None:
        """Has the server use all of its buffers and tables once, so that memory which grows later does so for another reason: messages of all types have figures of their own,
        and what 300 clients send while it is stopped comes in one turn of its loop."""
        for kind in range(256):
            client = P9(self.address)
            client.send(kind, bytes(24))
            client.socket.shutdown(socket.SHUT_WR)
            client.socket.recv(1 << 16)
        each = struct.pack("<IBHIQI", 23 + 4000, 118, 1, 1, 0, 4000) + bytes(4000)
        burst = b"".join(each[:5] + struct.pack("<H", tag) + each[7:] for tag in range(16))
        clients = [P9(self.address) for _ in range(300)]
        for client in clients:
            client.walk(0, 1, b"big")
            client.open(1, 1)
        for _ in range(8):
            self.process.send_signal(signal.SIGSTOP)
            for client in clients:
                client.socket.sendall(burst)
            self.process.send_signal(signal.SIGCONT)
            for client in clients:
                for _ in range(16):
                    client.receive()

    def answers_as(self) -> int:
        """The process behind the address, if it answers within 30 s."""
        socket.setdefaulttimeout(30)
        return struct.unpack("iii", P9(self.address).socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def end(self) -> int | None:
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None

    def said(self) -> list[str]:
        return open(self.log, errors="replace").read().splitlines()
