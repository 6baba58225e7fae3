#!/usr/bin/python3
"""Nonsense through the kernel: no name, flag, xattr, ctl line, policy file or path below
.stomp may crash or block the daemon.

    tests/fuzz/fuzz_mount.py [--seed 1] [--seconds 60] [--workers 3]

Workers make random calls on a mount of their own, each under an alarm; the daemon is asked
between for its status. Exits 1 and keeps the folder when it died, complained or did not
answer. The same seed draws the same calls in each worker. The build is $STOMPFS_BUILD,
else build/.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "mount"))

from stomplib.calls import fallocate, renameat2  # noqa: E402
from stomplib.workspace import Workspace  # noqa: E402

CALL_LIMIT_S = 15
WORDS = (
    "lease acquire renew release break checkpoint ping resolve fsck scrub rate=0 rate=9 ours "
    "theirs merged file ttl=1s ttl=0 ttl=99999999999h reason=x \\040 \\000 \\777 \\ .. / ** * [a "
    "a b d/e ./a /a -1 0 1 18446744073709551616 99999999999999999999999"
).split()
POLICY = (
    "* *.c /d/** [a-z [! ! \\ # %agent %viewer mode=guard mode=pass mode=frozen mode=append "
    "mode=track mode=? merge=union merge=json merge=driver:x strategy=merge ttl=1s ttl= "
    "ttl=99999999999999h settle=0s wait=0s errno=EBUSY errno=? durability=close == a=b=c"
).split()
STOMP = (
    "README status status.json me why writers leases log log.json policy metrics ctl fsck "
    "history conflicts history/a history/a/1 history/a/log history/d/e/2 conflicts/1/theirs "
    "conflicts/0 conflicts/-1 conflicts/99999999999999999999 at at/0 at/-1m at/10:00 at/x "
    "at/99999999999999999999 at/-1s/a at/-1s/d since since/0 since/last since/-1"
).split()


class Fuzz:
    def __init__(self, root, seed):
        self.random = random.Random(seed)
        self.root = os.fsencode(root)
        self.fds = []

    def bytes(self, most):
        return self.random.randbytes(self.random.choice([0, 1, 7, most // 4, most]))

    def name(self):
        kind = self.random.random()
        if kind < 0.7:
            return self.random.choice([b"a", b"b", b"c", b"d/e", b"d/f", b"d", b"l", b"g"])
        if kind < 0.8:
            return b".stomp/" + self.random.choice(STOMP).encode()
        if kind < 0.9:
            return bytes(self.random.choices(range(1, 256), k=self.random.choice([1, 9, 255])))
        return self.random.choice([b"x" * 256, b".", b"..", b".stomp", b"d/../a", b"\xff\xfe"])

    def path(self):
        return self.root + b"/" + self.name().replace(b"\0", b"?")

    def fd(self):
        return self.random.choice(self.fds) if self.fds else -1

    # ---- calls

    def do_open(self):
        flags = self.random.getrandbits(23) & ~os.O_DIRECTORY if self.random.random() < 0.3 else (
            self.random.choice([0, 1, 2]) | self.random.choice([0, os.O_CREAT, os.O_TRUNC])
        )
        fd = os.open(self.path(), flags | os.O_NONBLOCK, self.random.getrandbits(12))
        self.fds.append(fd)
        if len(self.fds) > 24:
            os.close(self.fds.pop(self.random.randrange(24)))

    def do_close(self):
        if self.fds:
            os.close(self.fds.pop(self.random.randrange(len(self.fds))))

    def do_write(self):
        os.pwrite(self.fd(), self.bytes(9000), self.random.choice([0, 1, 4095, 1 << 20]))

    def do_append(self):
        os.write(self.fd(), self.bytes(300))

    def do_read(self):
        os.pread(self.fd(), self.random.choice([0, 1, 70000]), self.random.choice([0, 5, 1 << 40]))

    def do_seek(self):
        whence = self.random.choice([os.SEEK_SET, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE])
        os.lseek(self.fd(), self.random.randrange(1 << 21), whence)

    def do_truncate(self):
        size = self.random.choice([0, 1, 4096, 1 << 21])
        if self.random.random() < 0.5:
            os.ftruncate(self.fd(), size)
        else:
            os.truncate(self.path(), size)

    def do_fallocate(self):
        fallocate(self.fd(), self.random.getrandbits(7), self.random.randrange(9999), 4096)

    def do_copy(self):
        os.copy_file_range(self.fd(), self.fd(), self.random.randrange(1 << 16))

    def do_sync(self):
        os.fsync(self.fd())

    def do_rename(self):
        renameat2(self.path(), self.path(), self.random.choice([0, 0, 1, 2, 3, 4, 8]))

    def do_link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    def do_symlink(self):
        os.symlink(self.name().replace(b"\0", b"?"), self.path())

    def do_unlink(self):
        os.unlink(self.path())

    def do_mkdir(self):
        os.mkdir(self.path(), self.random.getrandbits(12) | 0o700)

    def do_rmdir(self):
        os.rmdir(self.path())

    def do_mknod(self):
        os.mkfifo(self.path(), self.random.getrandbits(9))

    def do_chmod(self):
        os.chmod(self.path(), self.random.getrandbits(12))

    def do_utime(self):
        os.utime(self.path(), ns=(self.random.getrandbits(62), self.random.getrandbits(62)))

    def do_stat(self):
        os.lstat(self.path())
        os.statvfs(self.path())

    def do_list(self):
        os.listdir(self.path())

    def do_readlink(self):
        os.readlink(self.path())

    def do_xattr(self):
        space = self.random.choice(
            [b"user.", b"user.stomp.", b"trusted.", b"system.posix_acl_access", b"", b"security."]
        )
        name = space + bytes(self.random.choices(range(1, 256), k=self.random.choice([0, 3, 250])))
        act = self.random.randrange(4)
        if act == 0:
            os.setxattr(self.path(), name, self.bytes(4000), self.random.choice([0, 1, 2]))
        elif act == 1:
            os.getxattr(self.path(), name)
        elif act == 2:
            os.listxattr(self.path())
        else:
            os.removexattr(self.path(), name)

    def do_ctl(self):
        if self.random.random() < 0.3:
            line = self.bytes(5000)
        else:
            words = self.random.choices(WORDS, k=self.random.randrange(1, 9))
            line = " ".join(words).encode("latin-1")
        fd = os.open(self.root + b"/.stomp/ctl", os.O_RDWR)
        try:
            os.write(fd, line)
        finally:
            os.read(fd, 1 << 16)
            os.close(fd)

    def do_stomp(self):
        path = self.root + b"/.stomp/" + self.random.choice(STOMP).encode()
        if self.random.random() < 0.2:
            path += self.random.choice([b"/", b"/..", b"/1", b"/log", b"/" + b"9" * 40, b"/\xff"])
        if os.path.isdir(path):
            os.listdir(path)
            return
        with open(path, "rb", buffering=0) as f:
            f.read(self.random.choice([1, 100, 1 << 20]))

    def do_policy(self):
        if self.random.random() < 0.7:
            lines = [
                " ".join(self.random.choices(POLICY, k=self.random.randrange(1, 5)))
                for _ in range(self.random.randrange(20))
            ]
            text = "\n".join(lines).encode()
        else:
            text = self.bytes(60000)
        with open(self.root + b"/.stomp-policy", "wb") as f:
            f.write(text)

    def step(self):
        calls = [c for c in dir(self) if c.startswith("do_")]
        call = self.random.choice(calls + ["do_open", "do_write", "do_ctl", "do_stomp"] * 3)
        signal.alarm(CALL_LIMIT_S)
        try:
            getattr(self, call)()
        except (OSError, ValueError):
            pass
        finally:
            signal.alarm(0)
        return call


def work(root, seed, until):
    """In a child: 0, or killed by SIGALRM when a call blocks."""
    os.chdir("/")
    fuzz = Fuzz(root, seed)
    while time.monotonic() < until:
        fuzz.step()


def run(folder, seed, seconds, workers, build=None):
    """Problems found, and the number of the daemon's answers in between."""
    path = Path(folder) / "w"
    path.mkdir()
    (path / "d").mkdir()
    for name in ("a", "b", "d/e"):
        (path / name).write_text("a line\n")
    ws = Workspace(path, folder, ["settle=0s", "wait=50ms"], build, deadline_s=seconds + 60)
    ws.mount()
    problems, answers, pids = [], 0, []
    until = time.monotonic() + seconds
    try:
        for i in range(workers):
            pid = os.fork()
            if pid == 0:
                try:
                    work(path, seed * 1000 + i, until)
                finally:
                    os._exit(0)
            pids.append(pid)
        while time.monotonic() < until and ws.daemon.poll() is None:
            began = time.monotonic()
            try:
                ws.json("status")
                answers += 1
            except OSError as error:
                problems.append(f"status: {error}")
                break
            if time.monotonic() - began > CALL_LIMIT_S:
                problems.append("the status took too long")
            time.sleep(0.05)
        for pid in pids:
            status = os.waitpid(pid, 0)[1]
            if os.WIFSIGNALED(status):
                problems.append(f"a call of a worker blocked (signal {os.WTERMSIG(status)})")
        if ws.daemon.poll() is not None:
            problems.append(f"the daemon ended with {ws.daemon.poll()}")
        else:
            health = ws.json("status")["health"]
            if health != "ok":
                problems.append(f"health: {health}")
            try:
                ws.umount()
            except AssertionError as error:
                return [f"umount: {error}"], answers
            fsck = subprocess.run(
                [ws.stomp, "fsck", "--scrub", path], capture_output=True, text=True, check=False
            )
            if fsck.returncode:
                problems.append(f"fsck: {fsck.stdout}{fsck.stderr}")
        ws.check_log()
    finally:
        tail = ws.tail()
        ws.destroy()
    return [*problems, *([tail] if problems else [])], answers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stomp-fuzz."))
    problems, answers = run(folder, given.seed, given.seconds, given.workers)
    if problems:
        print(*problems, f"seed {given.seed}, kept: {folder}", sep="\n")
        return 1
    print(f"seed {given.seed}, {given.seconds} s: {answers} answers, no problems")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
