#!/usr/bin/python3
"""Kill the daemon at random moments while writers work; nothing acknowledged is lost (V4).

    tests/crash/crash.py [--kills 200] [--seed 1] [--workers 4] [--files 12] [-o OPTIONS]

Each round starts writers (worker.py), kills the daemon with SIGKILL after a random while,
mounts again with `stomp mount`, and holds what the writers were told against the
histories (notes.py). The build is $STOMPFS_BUILD, else build/. Exits 1 and keeps the
folder when something was lost; the same seed chooses the same operations and pauses.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount")]

from notes import History, read_notes  # noqa: E402
from stomplib.workspace import Workspace, given_options  # noqa: E402
from stomplib.writer import clean_environment  # noqa: E402

BEFORE = b"from before\n"


class Crashable(Workspace):
    """Mounted by `stomp mount`, as a person does it after a crash."""

    def mount(self, options=None):
        if options is not None:
            self.options = list(options)
        argv = [str(self.stomp), "mount", str(self.path)]
        options = given_options() + self.options
        if options:
            argv += ["-o", ",".join(options)]
        began = time.monotonic()
        with open(self.log_path, "ab") as log:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        took = time.monotonic() - began
        assert done.returncode == 0, f"`stomp mount` → {done.returncode}\n{self.tail()}"
        self.daemon_pid = self.json("status")["pid"]
        return took

    def kill(self):
        """SIGKILL; the dead mount stays for `stomp mount` to find."""
        os.kill(self.daemon_pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{self.daemon_pid}/exe"):
            assert time.monotonic() < deadline, "the daemon does not die"
            time.sleep(0.002)

    def umount(self):
        """Somebody else's mount namespace may keep a copy, and so the daemon, for a while."""
        done = subprocess.run(
            [str(self.stomp), "umount", str(self.path)], capture_output=True, text=True, timeout=60
        )
        kept = "has it in its mount namespace" in done.stderr
        assert done.returncode == 0 or kept, done.stderr
        deadline = time.monotonic() + 120
        while os.path.exists(f"/proc/{self.daemon_pid}/exe"):
            assert time.monotonic() < deadline, done.stderr or "the daemon does not end"
            time.sleep(0.05)


class Run:
    def __init__(self, folder, seed=1, workers=4, files=12, build=None, options=()):
        self.random = random.Random(seed)
        self.seed, self.n_workers = seed, workers
        self.names = [f"f{i:03}" for i in range(files)]
        path = Path(folder) / "w"
        path.mkdir()
        for name in self.names[::2]:
            (path / name).write_bytes(BEFORE)
        options = ["settle=20ms", "wait=100ms", *options]
        self.workspace = Crashable(path, folder, options, build)
        self.problems, self.mounts, self.acknowledged = [], [], 0
        self.highest_epoch, self.contents = 0, {}

    def work(self, number):
        """Writers at work until the daemon is killed under them; their notes."""
        ws = self.workspace
        writers, notes = [], {}
        for i in range(self.n_workers):
            name = f"w{i}"
            seed = self.seed * 100_000 + number
            notes[name] = ws.scratch / f"notes-{number}-{name}"
            argv = [ws.stomp, "run", name, "--", "/usr/bin/python3", HERE / "worker.py"]
            argv += [ws.path, name, str(seed), "30", str(len(self.names)), notes[name], "20"]
            said = open(ws.scratch / f"writer-{name}.err", "ab")
            writers.append(
                subprocess.Popen(
                    argv,
                    cwd=ws.scratch,
                    env=clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stderr=said,
                )
            )
            said.close()
        deadline = time.monotonic() + 20
        while not all(p.exists() and p.stat().st_size for p in notes.values()):
            assert time.monotonic() < deadline, "the writers do not begin"
            time.sleep(0.005)
        time.sleep(self.random.uniform(0, 0.4))
        ws.kill()
        for w in writers:
            w.wait(timeout=60)
        return {name: read_notes(path) for name, path in notes.items()}

    def check(self, number, notes):
        ws = self.workspace
        history = History(ws, self.names, BEFORE, self.read_again(number))
        problems = history.problems()
        for writer, changes in notes.items():
            problems += history.missing(writer, changes)
            self.acknowledged += sum(c.get("done", "") is None for c in changes)
        health = ws.json("status")["health"]
        if health != "ok":
            problems.append(f"health: {health}")
        epochs = [v["epoch"] for rows in history.versions.values() for v in rows]
        if max(epochs) < self.highest_epoch:
            problems.append(f"epochs went back from {self.highest_epoch} to {max(epochs)}")
        self.highest_epoch = max(epochs)
        self.contents = history.content
        for name in {n for p in problems for n in self.names if n in p}:
            print(f"round {number}, {name}:", history.story(name, notes), sep="\n")
        self.problems += [f"round {number}: {p}" for p in problems]

    def read_again(self, number):
        """Contents known from earlier rounds; forgotten at times, so that every version
        that was ever told is read again after later kills."""
        if number % 20 == 0:
            self.contents = {}
        return self.contents

    def kills(self, count):
        self.workspace.mount()
        try:
            for number in range(1, count + 1):
                notes = self.work(number)
                self.mounts.append(self.workspace.mount())
                self.check(number, notes)
                if self.problems:
                    break
        finally:
            self.workspace.umount()
            self.workspace.close()

    def summary(self):
        return (
            f"{len(self.mounts)} kills, {self.acknowledged} acknowledged changes, "
            f"{len(self.problems)} problems; mounted again in "
            f"{statistics.median(self.mounts) * 1000:.0f} ms "
            f"(at most {max(self.mounts) * 1000:.0f} ms)"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("-o", dest="options", action="append", default=[])
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stomp-crash."))
    run = Run(folder, given.seed, given.workers, given.files, options=given.options)
    run.kills(given.kills)
    print(run.summary())
    if run.problems:
        print(*run.problems, f"kept: {folder}", sep="\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
