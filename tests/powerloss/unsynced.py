#!/usr/bin/python3
"""Cut the power where nothing lasts but what was synced (V4). As root.

    tests/powerloss/unsynced.py [--cuts 200] [--seed 1] [--seconds 8]

Of powerloss.py the same writers and the same questions afterwards, but another disk: it is
asked on the level of files. A library in the daemon (unsynced.c) logs at each fsync,
fdatasync and msync what that makes durable; everything else is dropped at the cut. Half of
the cuts are of a file system that keeps a journal, as ext4 does: a sync of anything makes
all names and inodes durable up to then, contents only those that were synced. The other half
are of the letter of POSIX: a name lasts when its folder was synced, and not before. The same
seed makes the same cuts of the same log; the log depends on the timing of the run.
"""

import mmap
import os
import random
import shutil
import stat
import struct
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount")]

from powerloss import (  # noqa: E402
    Check,
    arguments,
    let_go_of_others,
    restart_machine,
    run,
    run_inside,
    work,
)
from stomplib.workspace import find_build  # noqa: E402

RECORD = struct.Struct("<QQII")
NAMES, INODE, SIZE, DATA, SYNC = range(5)
PAGE = 4096


class Memory:
    """A folder of its own file system, and what the library tells of it."""

    def __init__(self, folder):
        self.point, self.log = folder / "disk", folder / "log"
        self.point.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=1g", "none", self.point)
        with open(folder / "position", "w+b") as f:
            f.truncate(PAGE)
            self.map = mmap.mmap(f.fileno(), PAGE)
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(find_build() / "tests" / "powerloss" / "unsynced.so"),
            "UNSYNCED_FOLDER": str(self.point / "w"),
            "UNSYNCED_LOG": str(self.log),
            "UNSYNCED_POSITION": str(folder / "position"),
        }

    def position(self):
        return struct.unpack_from("<Q", self.map)[0]

    def records(self):
        data, at = self.log.read_bytes(), 0
        while at < len(data):
            ino, where, size, kind = RECORD.unpack_from(data, at)
            at += RECORD.size
            yield kind, ino, where, data[at : at + size]
            at += size


class Inode:
    def __init__(self, text):
        words, _, self.target = text.partition(b"\0")
        self.mode, self.uid, self.gid, self.mtime_ns = map(int, words.split())


class Durable:
    """What lasts after some of the records; strict: to the letter of POSIX."""

    def __init__(self, strict):
        self.strict = strict
        self.names_now, self.inodes_now = {}, {}
        self.names, self.inodes, self.contents = {}, {}, {}

    def apply(self, kind, ino, at, data):
        if kind == NAMES:
            rows = (row.split(b" ", 1) for row in data.split(b"\0")[:-1])
            self.names_now[ino] = {name: int(number) for number, name in rows}
        elif kind == INODE:
            self.inodes_now[ino] = Inode(data)
        elif kind == SIZE:
            content = self.contents.setdefault(ino, bytearray())
            del content[at:]
            content.extend(bytes(at - len(content)))
        elif kind == DATA:
            self.contents[ino][at : at + len(data)] = data
        elif not self.strict:
            self.names, self.inodes = dict(self.names_now), dict(self.inodes_now)
        else:
            self.sync_alone(ino)

    def sync_alone(self, ino):
        if ino in self.inodes_now:
            self.inodes[ino] = self.inodes_now[ino]
        if ino in self.names_now:
            self.names[ino] = self.names_now[ino]
            for child in self.names[ino].values():  # where a name leads there is something
                self.inodes.setdefault(child, self.inodes_now[child])

    def lay(self, ino, folder, made=None):
        """The folder of that number, and all below it."""
        made = {} if made is None else made
        for name, child in self.names.get(ino, {}).items():
            path, inode = os.path.join(folder, name), self.inodes[child]
            if child in made:
                os.link(made[child], path, follow_symlinks=False)
                continue
            made[child] = path
            if stat.S_ISLNK(inode.mode):
                os.symlink(inode.target, path)
                continue
            if stat.S_ISDIR(inode.mode):
                os.mkdir(path)
                self.lay(child, path, made)
            else:
                with open(path, "xb") as f:
                    f.write(self.contents.get(child, b""))
            os.chown(path, inode.uid, inode.gid)
            os.chmod(path, stat.S_IMODE(inode.mode))
            os.utime(path, ns=(inode.mtime_ns, inode.mtime_ns))


def cut(state, root, check, place):
    run("mount", "-t", "tmpfs", "-o", "size=1g", "none", check.point)
    try:
        (check.point / "w").mkdir()
        state.lay(root, os.fsencode(check.point / "w"))
        return check.look(place)
    finally:
        run("umount", check.point)


def inside(given):
    let_go_of_others()
    folder = Path(tempfile.mkdtemp(prefix="stomp-unsynced."))
    disk = Memory(folder)
    os.mkdir(disk.point / "w")
    root = os.stat(disk.point / "w").st_ino
    told, end = work(folder, disk, given, sync_names=True, env=disk.environment)
    restart_machine(folder)
    rng = random.Random(given.seed)
    first = next((r[3] for r in told.asked), 0)
    places = sorted(rng.randrange(first, end + 1) for _ in range(given.cuts))
    states = [Durable(strict=False), Durable(strict=True)]
    check, records = Check(folder, told), disk.records()
    synced, total = 0, 0
    for place in places:
        while synced < place:
            record = next(records)
            for state in states:
                state.apply(*record)
            synced += record[0] == SYNC
        state = rng.choice(states)
        found = cut(state, root, check, place)
        total += len(found)
        for problem in found:
            kind = "strict" if state.strict else "journal"
            print(f"cut at {place} of {end} ({kind}): {problem}", flush=True)
    held = sum(r[4] is not None for r in told.asked)
    print(f"{len(places)} cuts of {end} syncs, seed {given.seed}:"
          f" {held} acknowledged changes, {total} problems")
    run("umount", disk.point)
    if total:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def main():
    given = arguments(__doc__)
    return inside(given) if given.inside else run_inside(__file__, given)


if __name__ == "__main__":
    sys.exit(main())
