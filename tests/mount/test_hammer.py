"""Many writers hammer a hundred files; then the journal explains every byte.

The workers and what is checked of them: tests/crash/worker.py, tests/crash/notes.py.
STOMP_HAMMER_SECONDS: how long (3; the full measure is 10).
"""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

CRASH = Path(__file__).resolve().parents[1] / "crash"
sys.path.insert(0, str(CRASH))

from notes import History, read_notes  # noqa: E402
from stomplib.transports import over_ring  # noqa: E402
from stomplib.writer import clean_environment  # noqa: E402

SECONDS = float(os.environ.get("STOMP_HAMMER_SECONDS", 3))
FILES = int(os.environ.get("STOMP_HAMMER_FILES", 100))
BEFORE = b"from before\n"
NAMES = [f"f{i:03}" for i in range(FILES)]

pytestmark = [
    pytest.mark.mount_options("settle=50ms", "wait=200ms"),
    pytest.mark.timeout(60 + 6 * SECONDS),
]


class Watch(threading.Thread):
    """The most threads and descriptors that the daemon ever had."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.threads, self.descriptors = pid, 0, 0
        self.end = threading.Event()

    def run(self):
        while not self.end.wait(0.1):
            try:
                self.threads = max(self.threads, len(os.listdir(f"/proc/{self.pid}/task")))
                self.descriptors = max(
                    self.descriptors, len(os.listdir(f"/proc/{self.pid}/fd"))
                )
            except FileNotFoundError:
                return

    def stop(self):
        self.end.set()
        self.join()


def hammer(workspace, n_writers, seconds):
    """The notes of each worker, by its writer's name."""
    workers = []
    for i in range(n_writers):
        name = f"w{i}"
        argv = [workspace.stomp, "run", name, "--", "/usr/bin/python3", CRASH / "worker.py"]
        notes = workspace.scratch / f"notes-{name}"
        argv += [workspace.path, name, "1", str(seconds), str(FILES), notes]
        said = open(workspace.scratch / f"writer-{name}.err", "wb")
        workers.append(
            subprocess.Popen(
                argv, env=clean_environment(), stdin=subprocess.DEVNULL, stderr=said
            )
        )
        said.close()
    for w in workers:
        assert w.wait(timeout=30 + 3 * seconds) == 0
    return {f"w{i}": read_notes(workspace.scratch / f"notes-w{i}") for i in range(n_writers)}


@pytest.mark.parametrize("n_writers", [2, 16])
def test_every_byte_is_explained(unmounted, n_writers):  # L1, V1, V2, S7, S10
    explain(unmounted, n_writers, SECONDS)


@over_ring
def test_every_byte_that_came_over_io_uring_is_explained(unmounted):  # L1, V1, V2, S7, S10
    explain(unmounted, 6, SECONDS / 2)


def explain(unmounted, n_writers, seconds):
    for name in NAMES[::2]:
        (unmounted / name).write_bytes(BEFORE)
    unmounted.mount()
    watch = Watch(unmounted.daemon.pid)
    watch.start()
    notes = hammer(unmounted, n_writers, seconds)
    unmounted.ctl("checkpoint")
    watch.stop()

    history = History(unmounted, NAMES, BEFORE)
    problems = history.problems()
    for writer, changes in notes.items():
        problems += history.missing(writer, changes)
    for name in {n for p in problems for n in NAMES if n in p}:
        print(name, history.story(name, notes), sep="\n")
    assert not problems, f"{len(problems)}:\n" + "\n".join(problems[:40])

    done = Counter(c.get("done") for changes in notes.values() for c in changes)
    assert done[None] > 10 * seconds, f"hardly anything was done: {done}"
    assert set(done) <= {None, 11, 116, 2, 17, 121}, done
    left = [n for n in os.listdir(unmounted.path) if n not in NAMES]
    assert not left, "temporaries are left"
    assert watch.threads <= 32, f"{watch.threads} threads"
    assert watch.descriptors <= 700, f"{watch.descriptors} descriptors"
    print(n_writers, done, watch.threads, watch.descriptors)
