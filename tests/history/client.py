"""A client of the registers: reads, and writes through handles that it keeps for a while.

    client.py FOLDER NAME SEED NOTES SETTLE_S TTL_S

NOTES gets a JSON line when an operation begins and one when it was answered (see
history.py). It goes on until it is killed; a mount that is gone is waited for. Standard
library only.
"""

import errno
import json
import os
import random
import sys
import time

REFUSED = (errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.EINTR)
SIZE = 64


class Client:
    def __init__(self, folder, name, seed, notes, settle_s, ttl_s):
        self.folder, self.name = folder, name
        self.settle, self.ttl = float(settle_s), float(ttl_s)
        self.random = random.Random(f"{seed}-{name}-{os.getpid()}")
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.n = 0
        # Not by its process id: in an hour those come again.
        self.tag = f"{name}.{time.monotonic_ns():x}"
        self.backing_dev = os.stat(os.path.join(folder, "..")).st_dev

    def note(self, row):
        os.write(self.notes, json.dumps(row).encode() + b"\n")

    def begin(self, kind, path, **more):
        self.n += 1
        number = f"{self.tag}.{self.n}"
        self.note({"id": number, "client": self.name, "kind": kind, "path": path,
                   "from": time.monotonic_ns(), **more})
        return number

    def end(self, number, outcome, **more):
        self.note({"id": number, "to": time.monotonic_ns(), "outcome": outcome, **more})

    def open(self, path, flags):
        """Where a dead mount was taken away and the next is not there yet, the path leads
        to the backing: nothing is promised there."""
        fd = os.open(os.path.join(self.folder, path), flags)
        if os.fstat(fd).st_dev == self.backing_dev:
            os.close(fd)
            raise OSError(errno.ENOTCONN, "nothing is mounted")
        return fd

    def read(self, path):
        number = self.begin("read", path)
        try:
            fd = self.open(path, os.O_RDONLY)
            try:
                data = os.read(fd, 2 * SIZE)
            finally:
                os.close(fd)
        except OSError as error:
            self.end(number, "unknown", errno=error.errno)
            return False
        self.end(number, "ok", value=data.decode().strip())
        return True

    def write(self, fd, path, handle):
        """One whole content: accepted or refused when fsync has returned (S7)."""
        number = self.begin("write", path, handle=handle)
        self.note({"id": number, "value": number})
        written = False
        try:
            os.pwrite(fd, number.ljust(SIZE - 1).encode() + b"\n", 0)
            written = True  # who is fenced before the fsync may still have written
            os.fsync(fd)
        except OSError as error:
            refused = error.errno in REFUSED and not written
            self.end(number, "refused" if refused else "unknown", errno=error.errno)
            return False
        self.end(number, "ok")
        return True

    def session(self, path):
        if not self.read(path):
            time.sleep(0.05)  # the mount is being replaced
            return
        time.sleep(self.settle * 1.5)
        try:
            fd = self.open(path, self.random.choice((os.O_RDWR, os.O_WRONLY)))
        except OSError:
            return
        self.n += 1
        handle = f"{self.tag}.{self.n}"
        for _ in range(self.random.randint(1, 5)):
            if not self.write(fd, path, handle) and self.random.random() < 0.5:
                break
            long = self.random.random() < 0.1
            time.sleep(self.random.random() * (2 * self.ttl if long else 0.1))
        try:
            os.close(fd)
        except OSError:
            pass

    def go(self):
        paths = sorted(n for n in os.listdir(self.folder) if n.startswith("r"))
        while True:
            path = self.random.choice(paths)
            if self.random.random() < 0.5:
                self.read(path)
                time.sleep(self.random.random() * 0.02)
            else:
                self.session(path)


if __name__ == "__main__":
    Client(*sys.argv[1:]).go()
