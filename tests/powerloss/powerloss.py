#!/usr/bin/python3
"""Cut the power at many places: what fsync answered for is there (V4). As root.

    tests/powerloss/powerloss.py [--cuts 200] [--seed 1] [--seconds 8]

A disk that logs every write and flush (blocklog.c) carries an ext4 on which stompfs is
mounted while two writers change files and note, at each fsync that was answered, how far the
log was. Then the power is cut at random places of the log: all that was written before the
last flush is on the disk, of the rest a random part, in any order, writes torn at 512 or 4096
bytes. Each such disk is mounted (ext4 replays its log), stompfs is started on it as after a
restart of the machine, and everything acknowledged by then must be there: content, name,
version, and who made it. The same seed makes the same cuts of the same log; the log itself
depends on the timing of the run.
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "mount")]

from stomplib.workspace import Workspace, find_build  # noqa: E402
from stomplib.writer import AGENT, PYTHON, Writer  # noqa: E402

DISK_BYTES = 64 << 20
SECTOR, PAGE = 512, 4096
RECORD = struct.Struct("<QII")
POLICY = "c* durability=close\n"
# What is written is cut here; reads by the kernel itself have tests of their own.
OPTIONS = ["settle=1ms", "wait=1s"]
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def run(*argv):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    assert done.returncode == 0, f"{argv} → {done.returncode}: {done.stderr}"
    return done.stdout.strip()


def mount_image(image, point):
    """Through a loop device of our own; it goes with the mount."""
    loop = run("losetup", "--find", "--show", image)
    try:
        run("mount", "-t", "ext4", loop, point)
    finally:
        run("losetup", "--detach", loop)  # now, or once it is unmounted


class Disk:
    def __init__(self, folder):
        self.image, self.log = folder / "image", folder / "log"
        self.fuse, self.point = folder / "fuse", folder / "ext4"
        with open(self.image, "wb") as f:
            f.truncate(DISK_BYTES)
        run("mkfs.ext4", "-q", "-J", "size=4", "-E", "lazy_itable_init=0", self.image)
        self.base = folder / "base"
        shutil.copyfile(self.image, self.base)
        self.fuse.mkdir()
        self.point.mkdir()
        argv = [find_build() / "tests" / "powerloss" / "blocklog"]
        argv += [self.image, self.log, self.fuse]
        self.process = subprocess.Popen([str(a) for a in argv])
        deadline = time.monotonic() + 10
        while not (self.fuse / "disk").exists():
            assert time.monotonic() < deadline, "the disk does not come up"
            time.sleep(0.01)
        mount_image(self.fuse / "disk", self.point)

    def position(self):
        return int((self.fuse / "position").read_text())

    def close(self):
        run("umount", self.point)
        run("umount", self.fuse)
        self.process.wait(timeout=10)

    def records(self):
        data, at, records = self.log.read_bytes(), 0, []
        while at < len(data):
            offset, size, kind = RECORD.unpack_from(data, at)
            at += RECORD.size
            records.append((kind, offset, data[at : at + size]))
            at += size
        return records


class Acknowledged:
    """What the writers asked for and what was answered, in order, of all paths."""

    def __init__(self, disk):
        self.disk, self.lock = disk, threading.Lock()
        self.asked = []  # [path, content or None, writer, begun at, durable from]

    def ask(self, path, content, writer):
        row = [path, content, writer, self.disk.position(), None]
        with self.lock:
            self.asked.append(row)
        return row

    def answered(self, row):
        row[4] = self.disk.position()


class Work(threading.Thread):
    """One writer, changing files until it is told to stop."""

    def __init__(self, workspace, name, seed, told, stop, sync_names=False):
        """sync_names: a new file's folder is synced too, as POSIX has it."""
        super().__init__(name=name)
        self.sync_names = sync_names
        self.log = open(workspace.scratch / f"writer-{name}.err", "ab")
        launcher = [str(workspace.stomp), "run", name, "--", PYTHON, str(AGENT)]
        self.writer = Writer(name, launcher, workspace.path, log=self.log)
        self.random, self.told, self.stop = random.Random(f"{seed}-{name}"), told, stop
        self.n, self.problem = 0, None

    def data(self):
        self.n += 1
        filler = b"%08d\n" % self.random.randrange(10**8)
        lines = self.random.choices((1, 40, 900, 40000), (20, 20, 19, 1))[0]
        return b"%s %d\n" % (self.name.encode(), self.n) + filler * lines

    def write(self, path, flags, data, fsync=True):
        fd = self.writer.open(path, flags)
        try:
            self.writer.write(fd, data)
            if fsync:
                self.writer.fsync(fd)
        finally:
            self.writer.close(fd)

    def sync_folder(self):
        fd = self.writer.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self.writer.fsync(fd)
        self.writer.close(fd)

    def create(self):
        path, data = f"n{self.n}{self.name}", self.data()
        row = self.told.ask(path, data, self.name)
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
        if self.sync_names:
            self.sync_folder()
        self.told.answered(row)

    def close_alone(self):
        """durability=close: nobody calls fsync."""
        path, data = f"c{self.n}{self.name}", self.data()
        row = self.told.ask(path, data, self.name)
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data, fsync=False)
        self.told.answered(row)

    def know(self, path):
        try:
            self.writer.readfile(path)
        except FileNotFoundError:
            pass
        time.sleep(0.003)

    def save(self):
        """By rename, onto a name that both writers use."""
        path, data = f"s{self.random.randrange(4)}", self.data()
        temporary = f"t{self.name}{self.n}"
        self.know(path)
        self.write(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
        row = self.told.ask(path, data, self.name)
        self.writer.rename(temporary, path)
        self.sync_folder()
        self.told.answered(row)

    def rewrite(self):
        """In place, one sector long, on a name that both writers use."""
        path = f"i{self.random.randrange(3)}"
        data = (b"%s %d " % (self.name.encode(), self.n)).ljust(SECTOR - 1, b".") + b"\n"
        self.n += 1
        self.know(path)
        row = self.told.ask(path, data, self.name)
        self.write(path, os.O_WRONLY | os.O_CREAT, data)
        if self.sync_names:
            self.sync_folder()
        self.told.answered(row)

    def remove(self):
        path, data = f"r{self.n}{self.name}", self.data()
        self.write(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, data)
        row = self.told.ask(path, None, self.name)
        self.writer.unlink(path)
        self.sync_folder()
        self.told.answered(row)

    def run(self):
        steps = (self.create, self.close_alone, self.save, self.rewrite, self.remove)
        try:
            while not self.stop.is_set():
                try:
                    self.random.choices(steps, (2, 1, 4, 4, 1))[0]()
                except (BlockingIOError, OSError) as error:
                    if error.errno not in (11, 116):  # held, or stale: asked, not answered
                        raise
        except BaseException as error:  # for the main thread
            self.problem = error
        self.writer.stop()


def work(folder, disk, given, sync_names=False, **popen):
    path = disk.point / "w"
    path.mkdir(exist_ok=True)
    (path / ".stomp-policy").write_text(given.policy)
    os.sync()
    workspace = Workspace(path, folder, OPTIONS, deadline_s=3600)
    workspace.mount(**popen)
    told, stop = Acknowledged(disk), threading.Event()
    writers = [Work(workspace, name, given.seed, told, stop, sync_names) for name in ("alice", "bob")]
    for w in writers:
        w.start()
    time.sleep(given.seconds)
    stop.set()
    for w in writers:
        w.join()
    problems = [f"{w.name}: {w.problem}" for w in writers if w.problem]
    end = disk.position()
    workspace.umount()
    workspace.close()
    assert not problems, "\n".join(problems)
    return told, end


# ---------------------------------------------------------------- the cuts


def pieces(rng, at, data):
    """A write as the disk may tear it."""
    unit = rng.choice((SECTOR, PAGE))
    return [(at + i, data[i : i + unit]) for i in range(0, len(data), unit)]


def cut_image(rng, records, place, durable, done, target):
    """The disk when the power goes after `place` records; durable is a bytearray of all
    that the first `done` records made so. Returns done."""
    flush = done
    for i in range(done, place):
        if records[i][0] == 1:
            flush = i + 1
    for kind, at, data in records[done:flush]:
        if kind == 0:
            durable[at : at + len(data)] = data
    image = bytearray(durable)
    how = rng.random()
    loose = []
    for kind, at, data in records[flush:place]:
        parts = pieces(rng, at, data)
        if how < 0.5:  # reordered, torn, and some lost
            loose += [p for p in parts if rng.random() < 0.5]
        else:  # in order up to the cut, the last of it torn
            loose += parts
    if how < 0.5:
        rng.shuffle(loose)
    elif loose:
        del loose[rng.randrange(len(loose)) :]
    for at, data in loose:
        image[at : at + len(data)] = data
    target.write_bytes(image)
    return flush


class Check:
    def __init__(self, folder, told):
        self.told, self.point, self.folder = told, folder / "after", folder
        self.point.mkdir()

    def cut(self, place, image):
        """Sentences about what is missing on this disk."""
        mount_image(image, self.point)
        try:
            return self.look(place)
        finally:
            run("umount", self.point)

    def look(self, place):
        """The same of what lies there."""
        workspace = Workspace(self.point / "w", self.folder, OPTIONS, deadline_s=120)
        try:
            workspace.mount()
            found = self.problems(workspace, place)
            workspace.umount()
        except AssertionError as error:
            found = [f"stompfs does not come up: {error}"]
        finally:
            workspace.destroy()
            os.close(workspace._backing_fd)
        return found

    def problems(self, workspace, place):
        by_path, found = {}, []
        for path, content, writer, begun, durable in self.told.asked:
            if begun <= place:
                by_path.setdefault(path, []).append((content, writer, durable))
        for path, rows in by_path.items():
            held = [i for i, r in enumerate(rows) if r[2] is not None and r[2] <= place]
            if held:
                found += self.path_problems(workspace, path, rows, held)
        return found

    def path_problems(self, workspace, path, rows, held):
        try:
            now = (workspace / path).read_bytes()
        except FileNotFoundError:
            now = None
        allowed = [r[0] for r in rows[held[-1] :]]
        found = []
        if now not in allowed:
            found.append(f"{path} is {now and now[:24]}, not {allowed[0] and allowed[0][:24]}")
        try:
            history = [v for v in workspace.log(path) if v["path"] == path]
        except FileNotFoundError:
            return found + [f"{path}: no history"]
        made = {}
        for v in history:
            content = workspace.version(path, v["number"]) if v["content"] else None
            made.setdefault(content, set()).add(v["writer"])
        for i in held:
            content, writer, _ = rows[i]
            if writer not in made.get(content, ()):
                found.append(f"{path}: no version by {writer} with {content and content[:24]}")
        return found


def let_go_of_others():
    """Our copies of the workspaces of others would keep their daemons beyond their umount."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        rows = [line.split() for line in mounts]
    for row in reversed(rows):
        if row[2] == "fuse.stompfs":
            point = row[1].encode("utf-8", "surrogateescape").decode("unicode_escape")
            subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def restart_machine(folder):
    """Nothing may be told from the boot before."""
    boot = folder / "boot_id"
    boot.write_text("00000000-0000-4000-8000-000000000000\n")
    run("mount", "--bind", boot, BOOT_ID)


def inside(given):
    let_go_of_others()
    folder = Path(tempfile.mkdtemp(prefix="stomp-powerloss."))
    disk = Disk(folder)
    try:
        told, end = work(folder, disk, given)
    finally:
        disk.close()
    records, rng = disk.records(), random.Random(given.seed)
    restart_machine(folder)
    first = next((r[3] for r in told.asked), 0)
    places = sorted(rng.randrange(first, end + 1) for _ in range(given.cuts))
    durable, done, total, check = bytearray(disk.base.read_bytes()), 0, 0, Check(folder, told)
    image = folder / "cut"
    for place in places:
        done = cut_image(rng, records, place, durable, done, image)
        found = check.cut(place, image)
        total += len(found)
        for problem in found:
            print(f"cut at {place} of {end}: {problem}", flush=True)
    held = sum(r[4] is not None for r in told.asked)
    flushes = sum(r[0] for r in records)
    print(f"{len(places)} cuts of {len(records)} records ({flushes} flushes), seed {given.seed}:"
          f" {held} acknowledged changes, {total} problems")
    if total:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def run_inside(script, given):
    """In a mount namespace of its own: nothing of it is seen outside, or left."""
    argv = ["sh", HERE.parent / "mount/stomplib/elsewhere.sh", "", sys.executable, script, "--inside"]
    argv += ["--cuts", given.cuts, "--seed", given.seed, "--seconds", given.seconds]
    argv += ["--policy", given.policy]
    return subprocess.run([str(a) for a in argv]).returncode


def arguments(about):
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--policy", default=POLICY, help="instead of: %(default)r")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    given = arguments(__doc__)
    if given.inside:
        return inside(given)
    return run_inside(__file__, given)


if __name__ == "__main__":
    sys.exit(main())
