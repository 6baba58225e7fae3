"""The workloads, in groups. A group leaves nothing behind.

Each group is a function of (visit, sizes) that yields (row, value). A visit is one stay at
one system: it runs the C client, which times system calls without an interpreter's cost,
or a program, and makes the system idle before anything is timed.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass

TIME, BANDWIDTH = "time", "bandwidth"

# What /proc/sys/vm/drop_caches takes: names and inodes alone, so that the contents stay in
# memory; everything, so that the disk is read.
NAMES, EVERYTHING = "2", "3"

# row: (unit, what stompfs is to reach, what its pass files are to reach)
ROWS = {
    "sequential read 1 MiB": (BANDWIDTH, 0.95, None),
    "random read 4 KiB": (BANDWIDTH, 0.90, None),
    "mapped read": (BANDWIDTH, 0.95, None),
    "sequential write 1 MiB": (BANDWIDTH, 0.65, 0.90),
    "sequential write 4 KiB": (BANDWIDTH, 0.25, 0.95),
    "create+write+close 4 KiB": (TIME, 4.5, None),
    "open+read+close, first": (TIME, 2.5, None),
    "open+read+close, names forgotten": (TIME, None, None),
    "open+read+close, again": (TIME, 6, None),
    "stat, warm": (TIME, 1.1, None),
    "missing name, warm": (TIME, 1.1, None),
    "find + ls -l, first": (TIME, 3.5, None),
    "find + ls -l, names forgotten": (TIME, None, None),
    "find + ls -l, again": (TIME, 1.1, None),
    "append 64 B": (TIME, 5, None),
    "append 64 B, to one file": (TIME, None, None),
    "overwrite 4 KiB": (TIME, 2.5, None),
    "rename": (TIME, 2.6, None),
    "unlink": (TIME, 2.0, None),
    "build of a C program": (TIME, 1.05, None),
    "git status, warm": (TIME, 1.2, None),
    "grep -r, warm": (TIME, 1.5, None),
    "git clone": (TIME, None, None),
    "untar": (TIME, None, None),
    "npm install": (TIME, None, None),
    "4 KiB into a large file": (TIME, None, None),
    "4 KiB into a large file, first after a mount": (TIME, None, None),
    "appends of 100 B to one file": (TIME, None, None),
}
# At most half of what passthrough_hp adds to the bare directory.
HALF_OF_PEER = ("git clone", "untar", "npm install")


@dataclass
class Sizes:
    files: int = 3000
    tree: int = 5000
    appends: int = 1000
    file_mib: int = 256
    large_mib: int = 1024
    log_appends: int = 10000
    sources: int = 24
    others: int = 400
    packages: int = 20

    @staticmethod
    def quick():
        return Sizes(files=1000, tree=2000, appends=300, file_mib=64, large_mib=64,
                     log_appends=2000, sources=12, others=200, packages=10)

    @staticmethod
    def tiny():
        return Sizes(files=20, tree=50, appends=20, file_mib=1, large_mib=1,
                     log_appends=20, sources=1, others=4, packages=1)


class Visit:
    def __init__(self, system, client, fixtures):
        self.system = system
        self.client = client
        self.fixtures = fixtures
        self.at = system.work

    def folder(self, name):
        path = self.system.work / name
        path.mkdir()
        return path

    def steps(self, at, *steps, synced=True):
        """(row, value) of each step that has a row. Steps: (row or None, text)."""
        names = [row for row, _ in steps if row]
        text = ",".join(f"{words}:as={names.index(row)}" if row else words
                        for row, words in steps)
        self.settle(synced)
        out = subprocess.run([self.client, at, text], stdout=subprocess.PIPE, text=True,
                             check=False)
        if out.returncode != 0:
            raise RuntimeError(f"{self.system.name}: {text}: the client failed")
        for line in out.stdout.splitlines():
            number, seconds, ops, moved = line.split()
            row = names[int(number)]
            if ROWS[row][0] == BANDWIDTH:
                yield row, int(moved) / float(seconds)
            else:
                yield row, float(seconds) / int(ops)

    def settle(self, synced=True):
        """Nothing is going on behind, and nothing waits to be written to the disk."""
        self.system.idle()
        if synced:
            os.sync()

    def cold(self, what):
        """Caches are dropped while nothing is mounted, so that no daemon pins them."""
        self.settle()
        self.system.down()
        if os.getuid() == 0:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
                f.write(what)
        self.system.up()

    def program(self, row, args, **kw):
        self.settle()
        begin = time.perf_counter()
        done = subprocess.run(list(map(str, args)), stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False, **kw)
        took = time.perf_counter() - begin
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            raise RuntimeError(f"{self.system.name}: {row}: {args[0]}: {words}")
        return row, took

    def clean(self, at):
        self.system.idle()
        shutil.rmtree(at)
        self.system.idle()


def files(visit, sizes):
    n = f"n={sizes.files}"
    fresh = visit.folder("fresh")  # files that are in memory alone: no disk is measured
    yield from visit.steps(fresh, (None, f"create:{n}"))
    at = visit.folder("files")
    yield from visit.steps(at, ("create+write+close 4 KiB", f"create:{n}"), synced=False)
    for row, step in (("overwrite 4 KiB", "overwrite"), ("rename", "rename"),
                      ("unlink", "unlink")):
        yield from visit.steps(fresh, (row, f"{step}:{n}"), synced=False)
    visit.cold(NAMES)
    yield from visit.steps(at, ("open+read+close, names forgotten", f"read:{n}"))
    visit.cold(EVERYTHING)
    yield from visit.steps(at, ("open+read+close, first", f"read:{n}"))
    yield from visit.steps(at, (None, f"read:{n}"),
                           ("open+read+close, again", f"read:{n}:loops=3"))
    yield from visit.steps(at, (None, f"stat:{n}"), ("stat, warm", f"stat:{n}:loops=20"))
    yield from visit.steps(at, (None, f"missing:{n}"),
                           ("missing name, warm", f"missing:{n}:loops=20"))
    yield from visit.steps(at, ("append 64 B", f"append:{n}:size=64:block={sizes.files}"))
    yield from visit.steps(at, ("append 64 B, to one file",
                                f"append:n={sizes.appends}:size=64:block=1"))
    visit.clean(fresh)
    visit.clean(at)


def data(visit, sizes):
    at = visit.folder("data")
    size = f"size={sizes.file_mib << 20}"
    yield from visit.steps(at, ("sequential write 4 KiB", f"seqwrite:{size}:block=4096"))
    os.unlink(at / "big")
    yield from visit.steps(at, ("sequential write 1 MiB", f"seqwrite:{size}:block=1048576"))
    yield from visit.steps(at, (None, f"seqread:{size}:block=1048576"),
                           ("sequential read 1 MiB", f"seqread:{size}:block=1048576:loops=3"))
    yield from visit.steps(at, ("random read 4 KiB", f"randread:{size}:n={4 * sizes.files}"))
    yield from visit.steps(at, (None, f"mapread:{size}"),
                           ("mapped read", f"mapread:{size}:loops=3"))
    visit.clean(at)


def walk(visit, sizes):
    at = visit.folder("tree")
    for _ in visit.steps(at, (None, f"tree:n={sizes.tree}:size=16")):
        pass
    command = ["sh", "-c", "find . -type f -size +9 && ls -lR ."]
    visit.cold(NAMES)
    yield visit.program("find + ls -l, names forgotten", command, cwd=at)
    visit.cold(EVERYTHING)
    yield visit.program("find + ls -l, first", command, cwd=at)
    yield visit.program("find + ls -l, again", command, cwd=at)
    visit.clean(at)


def programs(visit, sizes):
    at = visit.folder("programs")
    made = visit.fixtures
    clone = at / "clone"
    yield visit.program("git clone",
                        ["git", "clone", "-q", "--no-hardlinks", made.source, clone])
    status = ["sh", "-c", "for i in 1 2 3 4 5; do git status || exit 1; done"]
    grep = ["sh", "-c", "for i in 1 2 3 4 5; do grep -r f1_39 . || exit 1; done"]
    if sizes.sources < 2:
        grep = ["sh", "-c", "for i in 1 2 3 4 5; do grep -r f0_39 . || exit 1; done"]
    visit.program("git status, warm", status, cwd=clone)
    yield visit.program("git status, warm", status, cwd=clone)
    visit.program("grep -r, warm", grep, cwd=clone)
    yield visit.program("grep -r, warm", grep, cwd=clone)
    yield visit.program("build of a C program", ["make", "-sj2"], cwd=clone)
    tar = visit.folder("untar")
    yield visit.program("untar", ["tar", "xf", made.tar, "-C", tar])
    visit.clean(tar)
    project = visit.folder("npm")
    (project / "package.json").write_text(made.project)
    yield visit.program(
        "npm install",
        ["npm", "install", "--offline", "--no-audit", "--no-fund", "--silent",
         f"--cache={made.npm_cache}"], cwd=project)
    visit.clean(project)
    visit.clean(at)


def large(visit, sizes):
    """What a small change of a large file costs: time here, bytes in stored()."""
    at = visit.folder("large")
    for _ in visit.steps(at, (None, f"seqwrite:size={sizes.large_mib << 20}:block=1048576")):
        pass
    poke = f"poke:size={sizes.large_mib << 20}"
    for _ in visit.steps(at, (None, poke)):
        pass
    yield from visit.steps(at, ("4 KiB into a large file", poke))
    yield from stored(visit, "4 KiB into a large file, first after a mount", at, poke)
    visit.clean(at)
    at = visit.folder("log")
    yield from stored(visit, "appends of 100 B to one file", at,
                      f"append:n={sizes.log_appends}:size=100:block=1")
    visit.clean(at)


def stored(visit, row, at, step):
    """The step's time, and for a system with a journal (row, bytes stored) as well.

    It is mounted anew before and after, since only then the folder's size is exact.
    """
    counts = hasattr(visit.system, "journal_bytes")
    if counts:
        visit.system.down()
        before = visit.system.journal_bytes()
        visit.system.up()
    yield from visit.steps(at, (row, step))
    if counts:
        visit.system.idle()
        visit.system.down()
        yield f"{row}: stored", visit.system.journal_bytes() - before
        visit.system.up()


GROUPS = {"files": files, "data": data, "walk": walk, "programs": programs, "large": large}
# What --only takes beside the groups' own names: a word of a row runs its group.
ROWS_OF = {
    "files": ("create+write+close 4 KiB", "open+read+close, first",
              "open+read+close, names forgotten",
              "open+read+close, again", "stat, warm", "missing name, warm", "append 64 B",
              "append 64 B, to one file", "overwrite 4 KiB", "rename", "unlink"),
    "data": ("sequential read 1 MiB", "random read 4 KiB", "mapped read",
             "sequential write 1 MiB", "sequential write 4 KiB"),
    "walk": ("find + ls -l, first", "find + ls -l, names forgotten",
             "find + ls -l, again"),
    "programs": ("build of a C program", "git status, warm", "grep -r, warm", "git clone",
                 "untar", "npm install"),
    "large": ("4 KiB into a large file",
              "4 KiB into a large file, first after a mount",
              "appends of 100 B to one file"),
}
