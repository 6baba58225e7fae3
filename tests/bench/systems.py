"""What is measured side by side: each system is a folder to work in, and how it gets there.

A system keeps its files across down() and up(). idle() returns once nothing that earlier
work left behind is still going on in its daemon.
"""

import json
import os
import re
import select
import shutil
import subprocess
import time

READY_TIMEOUT_S = 30
EXIT_TIMEOUT_S = 60
IDLE_TIMEOUT_S = 120


def run(args, **kw):
    done = subprocess.run(list(map(str, args)), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False, **kw)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{args[0]} ended with {done.returncode}: {words}")


def unmount(path):
    if os.getuid() == 0:
        run(["umount", path])
    else:
        run(["fusermount3", "-u", path])


def wait_until(condition, timeout_s, what):
    """For what tells nobody when it is ready."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout_s} s")
        time.sleep(0.01)


class Native:
    name = "native"
    about = "the bare directory"
    has_daemon = False

    def __init__(self, base):
        self.path = base / self.name.replace(":", "-")
        self.path.mkdir()
        self.work = self.path

    def up(self):
        pass

    def down(self):
        pass

    def idle(self):
        pass

    def daemon_pids(self):
        return []

    def is_mounted(self):
        return os.path.ismount(self.path)


class Stompfs(Native):
    name = "stompfs"
    about = "stompfs, mounted over itself, journal on, default policy"
    has_daemon = True
    options = ()
    folder = "guarded"
    policy = None

    def __init__(self, base, build):
        super().__init__(base)
        self.program = build / "fs" / "stompfs"
        self.pid = None
        self.bare = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        if self.policy:
            (self.path / ".stomp-policy").write_text(self.policy)
        self.work = self.path / self.folder
        self.work.mkdir()

    def up(self):
        options = ["-o", ",".join(self.options)] if self.options else []
        run([self.program, self.path] + options)
        self.pid = json.loads(self.read("status.json"))["pid"]

    def down(self):
        if self.pid is None:
            return
        gone, self.pid = os.pidfd_open(self.pid), None
        try:
            unmount(self.path)
            if not select.select([gone], [], [], EXIT_TIMEOUT_S)[0]:
                raise RuntimeError("stompfs does not end after umount: does another mount "
                                   "namespace hold the mount?")
        finally:
            os.close(gone)

    def read(self, name):
        return (self.path / ".stomp" / name).read_text()

    def metrics(self):
        found = re.findall(r"^stompfs_(\w+) ([0-9.]+)$", self.read("metrics"), re.M)
        return {name: float(value) for name, value in found}

    def idle(self):
        """Every finished session has its version, nothing is queued."""
        fd = os.open(self.path / ".stomp" / "ctl", os.O_RDWR)
        try:
            os.write(fd, b"checkpoint\n")
        finally:
            os.close(fd)

        def quiet():
            m = self.metrics()
            return not (m["journal_queued"] or m["journal_queued_bytes"])

        wait_until(quiet, IDLE_TIMEOUT_S, "the journal does not become idle")

    def journal_bytes(self):
        """What the journal's folder takes on the disk. While not mounted."""
        folder = f"/proc/self/fd/{self.bare}/.stomp"
        return sum(os.lstat(os.path.join(at, name)).st_blocks * 512
                   for at, _, names in os.walk(folder) for name in names)

    def daemon_pids(self):
        return [self.pid]


class StompfsPass(Stompfs):
    name = "stompfs:pass"
    about = "stompfs, files whose policy is mode=pass"
    folder = "pass"
    policy = "/pass/** mode=pass\n"


class StompfsUring(Stompfs):
    name = "stompfs:uring"
    about = "stompfs -o uring"
    options = ("uring",)

    @classmethod
    def accepted(cls, base, build):
        """Does this build take the option, and this machine grant it?"""
        scratch = base / "try-uring"
        scratch.mkdir()
        trial = cls(scratch, build)
        try:
            trial.up()
        except RuntimeError:
            return False  # a build without it
        else:
            transport = json.loads(trial.read("status.json"))["transport"]
            trial.down()
            return transport.startswith("io_uring")
        finally:
            os.close(trial.bare)
            shutil.rmtree(scratch)


class Peer(Native):
    """A daemon that stays in the foreground and mounts a folder somewhere else."""

    has_daemon = True

    def __init__(self, base):
        super().__init__(base)
        self.backing = base / f"{self.name}-backing"
        self.backing.mkdir()
        self.process = None

    def command(self):
        raise NotImplementedError

    def up(self):
        self.process = subprocess.Popen(list(map(str, self.command())),
                                        stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_until(lambda: self.is_mounted() or self.process.poll() is not None,
                   READY_TIMEOUT_S, f"{self.name} does not mount")
        if not self.is_mounted():
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}")

    def down(self):
        unmount(self.path)
        self.process.wait(EXIT_TIMEOUT_S)

    def daemon_pids(self):
        return [self.process.pid]


class PassthroughHp(Peer):
    name = "passthrough_hp"

    def __init__(self, base, program, about):
        super().__init__(base)
        self.program = program
        self.about = about

    def command(self):
        return [self.program, "--foreground", self.backing, self.path]


class PassthroughHpUring(PassthroughHp):
    name = "passthrough_hp:uring"

    def command(self):
        return [self.program, "--foreground", "-o", "io_uring", self.backing, self.path]


class Bindfs(Peer):
    name = "bindfs"
    about = "bindfs of the distribution"

    def command(self):
        return ["bindfs", "-f", self.backing, self.path]


class FuseOverlayfs(Peer):
    name = "fuse-overlayfs"
    about = "fuse-overlayfs of the distribution, files in the upper folder"

    def __init__(self, base):
        super().__init__(base)
        self.folders = {k: self.backing / k for k in ("lower", "upper", "work")}
        for folder in self.folders.values():
            folder.mkdir()

    def command(self):
        layers = ",".join(f"{k}dir={v}" for k, v in self.folders.items())
        return ["fuse-overlayfs", "-f", "-o", layers, self.path]
