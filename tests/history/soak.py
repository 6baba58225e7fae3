#!/usr/bin/python3
"""Everything at once for a long while: scripts/soak calls this.

    scripts/soak [--hours N | --minutes N] [--seed 1] [--round-seconds 45]

Rounds on one workspace, which keeps its history: the registers of checker.py under faults
(paused and killed clients, a paused daemon, broken leases, stale writers), and beside them
git, tar, rsync and sqlite, each checking what it made. Every sixth round is a storm: the
daemon is killed as well, the tools may fail, and the workspace is unmounted and mounted
after it. After a round the histories of the registers are judged, the epochs too, and
`stomp fsck` (and `stomp gc`, where there is one) must find nothing. Memory and descriptors
of the daemon, once it is idle, are printed; from one storm to the next they must stay.
Exits 1 and keeps the folder when something is wrong.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from checker import Run  # noqa: E402
from stomplib.writer import clean_environment  # noqa: E402

STORM_EVERY = 6
FUSE_MAGIC = "65735546"
MAX_KIB_A_ROUND, MAX_FDS_A_ROUND = 4096, 50

# What each does in a folder of its own; the tree to compare with lies outside the mount.
TOOLS = {
    "git": """
        set -e; rm -rf repo; git init -q repo; cd repo; git config gc.auto 0
        for i in 1 2 3 4 5; do
            for f in a b c; do echo "$f $i $$" >>$f.txt; done
            git add -A; git -c user.name=s -c user.email=s@x commit -qm "$i"
        done
        git checkout -q HEAD~2; git checkout -q -; git fsck --strict >&2
        test "$(git status --porcelain | wc -l)" = 0
        test "$(git rev-list --count HEAD)" = 5
    """,
    "tar": """
        set -e; rm -rf unpacked; mkdir unpacked; tar -xf ../../tree.tar -C unpacked
        diff -r unpacked/tree ../../tree
    """,
    "rsync": "set -e; rsync -a --delete ../../tree/ mirror/; diff -r mirror ../../tree",
    "sqlite": """
        set -e
        sqlite3 -cmd '.timeout 20000' s.db 'CREATE TABLE IF NOT EXISTS t(x)' >&2
        before=$(sqlite3 -cmd '.timeout 20000' s.db 'SELECT count(*) FROM t')
        for i in 1 2 3 4 5 6 7 8 9 10; do
            sqlite3 -cmd '.timeout 20000' s.db "INSERT INTO t VALUES($i)" >&2
        done
        test "$(sqlite3 s.db 'SELECT count(*) FROM t')" = $((before + 10))
        test "$(sqlite3 s.db 'PRAGMA integrity_check')" = ok
    """,
}


def make_tree(folder):
    tree = folder / "tree"
    for i in range(10):
        (tree / f"d{i}").mkdir(parents=True)
        for j in range(20):
            (tree / f"d{i}" / f"f{j}").write_text(f"{i} {j}\n" * (i * j + 1))
    subprocess.run(["tar", "-cf", folder / "tree.tar", "-C", folder, "tree"], check=True)


class Tool(threading.Thread):
    """A tool in a folder of its own, over and over, until it is told to stop."""

    def __init__(self, name, workspace, may_fail):
        super().__init__(daemon=True)
        self.name, self.workspace, self.may_fail = name, workspace, may_fail
        self.enough, self.runs, self.problems = threading.Event(), 0, []

    def run(self):
        ws = self.workspace
        # Where a dead mount was taken away and the next is not there yet, the path leads to
        # the backing: what is done there is rightly called external.
        script = f"""cd '{ws.path}/t-{self.name}' || exit
            test "$(stat -fc %t .)" = {FUSE_MAGIC} || exit
            ulimit -f 16384
            {TOOLS[self.name]}"""
        argv = [ws.stomp, "run", self.name, "--", "sh", "-c", script]
        said = ws.scratch / f"tool-{self.name}.err"
        while not self.enough.is_set():
            # Into a file, which is limited: git complains without end of a folder that
            # answers ENOTCONN, and does nothing else any more.
            with open(said, "wb") as err:
                done = subprocess.run(
                    [str(a) for a in argv],
                    env=clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=err,
                    stderr=err,
                )
            if done.returncode and not self.may_fail:
                told = said.read_text(errors="replace")[-500:]
                self.problems.append(f"{self.name}: {done.returncode}: {told}")
            self.runs += 1
            self.enough.wait(0.1)


def descriptors(pid):
    """Of open files. Those that stand for an inode which the kernel knows (O_PATH) come and
    go as the kernel likes, and are bounded by themselves."""
    count = 0
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8") as info:
                flags = next(line for line in info if line.startswith("flags:"))
        except (FileNotFoundError, StopIteration):
            continue  # closed meanwhile
        count += not int(flags.split()[1], 8) & os.O_PATH
    return count


class Soak(Run):
    def __init__(self, folder, seed, seconds):
        super().__init__(folder, seed, seconds=seconds)
        make_tree(Path(folder))
        for name in TOOLS:
            (self.workspace.path / f"t-{name}").mkdir()
        self.runs = dict.fromkeys(TOOLS, 0)
        self.samples = []  # (resident KiB, descriptors) of this life of the daemon
        self.slopes = []

    def round(self, seconds, storm):
        self.operations.clear()
        for name in self.names:
            self.notes_of(name).unlink(missing_ok=True)
        tools = [Tool(name, self.workspace, storm) for name in TOOLS]
        for tool in tools:
            tool.start()
        try:
            self.disturb(seconds, kills=storm)
        finally:
            for tool in tools:
                tool.enough.set()
            for tool in tools:
                tool.join()
        for tool in tools:
            self.runs[tool.name] += tool.runs
            self.problems += tool.problems
        self.judge()
        self.keep_house()

    def keep_house(self):
        ws = self.workspace
        offered = subprocess.run([ws.stomp, "--help"], capture_output=True, text=True).stdout
        for command in ("gc", "fsck"):
            if f"\n  {command} " not in offered:
                continue
            done = subprocess.run(
                [ws.stomp, command, ws.path], capture_output=True, text=True, timeout=600
            )
            if done.returncode:
                told = (done.stdout + done.stderr)[-800:]
                self.problems.append(f"stomp {command}: {done.returncode}: {told}")

    def sample(self):
        self.workspace.ctl("checkpoint")
        pid = self.workspace.daemon_pid
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            rss = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        self.samples.append((rss, descriptors(pid)))
        return self.samples[-1]

    def life_ends(self):
        """Between storms one daemon has served several rounds: it must not have grown."""
        first, last = self.samples[:1], self.samples[-1:]
        if len(self.samples) > 2:
            rounds = len(self.samples) - 2  # the first fills what is kept for use
            first = self.samples[1:2]
            kib = (last[0][0] - first[0][0]) / rounds
            fds = (last[0][1] - first[0][1]) / rounds
            self.slopes.append((round(kib), round(fds, 1)))
            if kib > MAX_KIB_A_ROUND or fds > MAX_FDS_A_ROUND:
                self.problems.append(f"the daemon grows: {self.samples}")
        self.samples = []

    def remount(self):
        self.workspace.umount()
        self.workspace.mount()


def run(soak, args, seconds):
    end = time.monotonic() + seconds
    number = 0
    soak.workspace.mount()
    while time.monotonic() < end and not soak.problems:
        number += 1
        storm = number % STORM_EVERY == 0
        if storm:
            soak.life_ends()
        soak.round(args.round_seconds, storm)
        kib, fds = soak.sample()
        if storm:
            soak.samples = []
            soak.remount()
        kind = "storm" if storm else "calm"
        print(f"round {number} ({kind}): {kib} KiB, {fds} descriptors, {soak.summary()}",
              flush=True)
    soak.life_ends()
    soak.workspace.umount()
    print(f"{number} rounds, tools {soak.runs}, growth a round (KiB, descriptors) {soak.slopes}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=0)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round-seconds", type=float, default=45)
    args = parser.parse_args()
    seconds = (args.hours * 60 + args.minutes) * 60 or 600
    folder = Path(tempfile.mkdtemp(prefix="stomp-soak."))
    soak = Soak(folder, args.seed, seconds)
    try:
        run(soak, args, seconds)
    finally:
        soak.workspace.close(True)
    if soak.problems:
        print(f"{len(soak.problems)} problems; the folder is kept: {folder}")
        print("\n".join(soak.problems[:20]))
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
