#!/usr/bin/python3
"""Four clients of kill.py load a server of this guest, whose store is on the disk that is logged. Each acknowledged change is marked on the same disk.

Usage: powercut.py SOCKET SEED CHANGES MARKS        CHANGES of each client; MARKS: the byte of /dev/vdb where the marks begin

A mark is a sector of its client behind the file system: the sum of what was acknowledged to it. It is written with O_DIRECT and without a flush: nothing has to keep it.
It is in the log of the disk behind everything that had ended before it was written.
"""

import mmap
import os
import struct
import sys
import threading
import zlib

import kill

SOCKET, SEED, CHANGES, MARKS = sys.argv[1], *map(int, sys.argv[2:])
SECTOR = 512


class Client(kill.Client):
    def __init__(self, number):
        super().__init__(number, SEED)
        self.device = os.open("/dev/vdb", os.O_WRONLY | os.O_DIRECT)
        # Its memory is aligned, as O_DIRECT wants it.
        self.sector = mmap.mmap(-1, mmap.PAGESIZE)
        self.offset = MARKS + number * SECTOR

    def heard(self):
        mark = struct.pack("<8sQ", b"r9marked", self.changes)
        self.sector[: len(mark) + 4] = mark + struct.pack("<I", zlib.crc32(mark))
        os.pwrite(self.device, memoryview(self.sector)[:SECTOR], self.offset)

    def work(self):
        try:
            self.connect(f"unix:{SOCKET}")
            self.heard()
            while self.changes < CHANGES:
                self.exchange(self.burst())
        except BaseException as error:
            self.error = error


clients = [Client(number) for number in range(kill.CLIENTS)]
threads = [threading.Thread(target=client.work) for client in clients]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for client in clients:
    print(f"{client.name.decode()}: {client.changes} changes of {client.requests} requests" + (f": FAILED: {client.error!r}" if client.error else ""), flush=True)
sys.exit(any(client.error for client in clients))
