"""A writer that hammers: random changes of random files, and a note of each outcome.

    worker.py FOLDER NAME SEED SECONDS FILES NOTES [SETTLE_MS]

Every change carries a token that exists once in the world. NOTES, a file outside the
mount, gets one JSON line when a change begins and one when it was answered:

    {"n": 7, "op": "trunc", "path": "f03", "token": "alice.1.7", "at": 1790000012.5}
    {"n": 7, "done": null, "until": 1790000012.6}

done is null for a change that was acknowledged, else the errno it ended with.

It ends after SECONDS, or when the mount is gone. Standard library only.
"""

import errno
import json
import os
import random
import subprocess
import sys
import time

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)


class Worker:
    def __init__(self, folder, name, seed, seconds, files, notes, settle_ms=50):
        self.name, self.seed = name, seed
        self.end = time.monotonic() + float(seconds)
        self.random = random.Random(f"{seed}-{name}")
        self.files = [f"f{i:03}" for i in range(int(files))]
        self.settle = float(settle_ms) / 1000
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.n = 0
        os.chdir(folder)

    def note(self, row):
        os.write(self.notes, json.dumps(row).encode() + b"\n")

    def content(self, token):
        filler = b"%06d\n" % self.random.randrange(10**6)
        # the last: too large for memory and for the queue, captured as a file
        lines = self.random.choices((1, 10, 1000, 40000), (8, 8, 8, 1))[0]
        return token + b"\n" + filler * lines

    def write(self, path, flags, data):
        fd = os.open(path, flags, 0o644)
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        os.close(fd)

    # ---- one change each

    def trunc(self, path, token):
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.content(token))

    def append(self, path, token):
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, token + b"\n")

    def rename(self, path, token):
        temporary = f"{path}.tmp.{self.name}.{self.n}"
        self.write(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.content(token))
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise

    def recreate(self, path, token):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.content(token))

    def sed(self, path, token):
        script = f"1i {token.decode()}"
        done = subprocess.run(["sed", "-i", script, path], capture_output=True)
        if done.returncode:
            os.stat(".stomp/README")  # ENOTCONN where that is the reason
            raise OSError(errno.EREMOTEIO, done.stderr.decode())

    # ---- the loop

    def read(self, path):
        try:
            with open(path, "rb") as f:
                f.read()
        except FileNotFoundError:
            pass

    def step(self):
        path = self.random.choice(self.files)
        if self.random.random() < 0.5:
            self.read(path)
            time.sleep(self.settle * 1.3)
        op = self.random.choices(
            ("trunc", "append", "rename", "recreate", "sed"), (4, 4, 4, 2, 1)
        )[0]
        self.n += 1
        token = f"{self.name}.{self.seed}.{self.n}".encode()
        row = {"n": self.n, "op": op, "path": path, "token": token.decode()}
        self.note({**row, "at": time.time()})
        failed = None
        try:
            getattr(self, op)(path, token)
        except OSError as error:
            failed = error.errno
        self.note({"n": self.n, "done": failed, "until": time.time()})
        if failed in GONE:
            raise OSError(failed, "the mount is gone")

    def run(self):
        while time.monotonic() < self.end:
            try:
                self.step()
            except OSError as error:
                if error.errno in GONE:
                    return
                raise


if __name__ == "__main__":
    Worker(*sys.argv[1:]).run()
