"""kill -9 of the daemon: nothing that was acknowledged is lost (V4, L8).

The long measure is tests/crash/crash.py --kills 200; here a few rounds of it, and each
kind of change killed right after its answer.
"""

import os
import statistics
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount")]

from crash import Crashable, Run  # noqa: E402

pytestmark = pytest.mark.timeout(120)

KILLS = int(os.environ.get("STOMP_CRASH_KILLS", 15))
SEED = int(os.environ.get("STOMP_CRASH_SEED", 1))


def test_random_kills_lose_nothing(tmp_path):  # V4, L8
    run = Run(tmp_path, seed=SEED)
    run.kills(KILLS)
    print(run.summary())
    assert not run.problems, "\n".join(run.problems)
    assert run.acknowledged > 10 * KILLS, run.summary()
    assert statistics.median(run.mounts) < 1, run.summary()


# A change of each kind as sh makes it; the path whose history tells it; as which kind.
CHANGES = [
    ("write", "echo new > old", "old", "write"),
    ("create", "echo new > fresh", "fresh", "write"),
    ("append", "echo new >> old", "old", "write"),
    ("replace", "echo new > t; mv -f t old", "old", "replace"),
    ("move", "mv old moved", "moved", "move"),
    ("unlink", "rm old", "old", "delete"),
    ("recreate", "rm old; echo new > old", "old", "write"),
    ("mode", "chmod 700 old", "old", "mode"),
    ("link", "ln old linked", "linked", "link"),
    ("symlink", "ln -s old soft", "soft", "symlink"),
    ("mkdir", "mkdir folder", "folder", "mkdir"),
    ("rmdir", "rmdir empty", "empty", "rmdir"),
]


@pytest.fixture
def crashable(tmp_path):
    path = tmp_path / "w"
    (path / "empty").mkdir(parents=True)
    (path / "old").write_bytes(b"from before\n")
    made = Crashable(path, tmp_path)
    made.mount()
    yield made
    made.umount()
    made.close()


def history(workspace, path):
    try:
        return workspace.log(path)
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("name, script, path, kind", CHANGES, ids=[c[0] for c in CHANGES])
def test_a_change_and_its_author_outlive_a_kill(crashable, name, script, path, kind):
    # V3, V4: acknowledged, then killed before anything else can have happened
    kill = f"{script} && kill -9 {crashable.daemon_pid}"
    crashable.run("sh", "-c", f"exec {crashable.stomp} run alice -- sh -c '{kill}'", check=False)
    crashable.mount()
    rows = [v for v in history(crashable, path) if v["path"] == path]
    assert rows, "no version of it"
    assert (rows[-1]["kind"], rows[-1]["writer"]) == (kind, "alice"), rows
    assert [v["number"] for v in rows] == list(range(1, len(rows) + 1))
    now = crashable / path
    if rows[-1]["content"] and kind != "symlink":
        assert crashable.version(path, rows[-1]["number"]) == now.read_bytes()
    if path == "old":
        assert crashable.version("old", 1) == b"from before\n"


def test_epochs_and_numbers_go_on(crashable):  # L8, V4
    highest = 0
    for number in range(2, 6):
        crashable.run_as("alice", "sh", "-c", "date +%N > old")
        crashable.kill()
        crashable.mount()
        row = crashable.log("old")[-1]
        assert row["number"] == number and row["epoch"] > highest
        highest = row["epoch"]


WRITE_AND_KILL = """
import os
fd = os.open("old", os.O_WRONLY | os.O_TRUNC)
os.write(fd, b"half ")
{flush}
os.kill({pid}, 9)
"""


@pytest.mark.parametrize("flush", ["", 'os.close(os.dup(fd)); os.write(fd, b"done")'])
def test_a_half_done_write_is_kept_as_incomplete(crashable, flush):  # V4, L5
    script = WRITE_AND_KILL.format(flush=flush, pid=crashable.daemon_pid)
    crashable.run_as("alice", "/usr/bin/python3", "-c", script, check=False)
    crashable.mount()
    row = crashable.log("old")[-1]
    assert row["writer"] == "alice" and "incomplete" in row["flags"], row
    assert (crashable / "old").read_bytes() == b"half " + (b"done" if flush else b"")
    assert crashable.version("old", row["number"]) == (crashable / "old").read_bytes()


def test_a_second_kill_during_recovery_loses_nothing(crashable):  # V4
    crashable.run_as("alice", "sh", "-c", "echo new > old; echo more > other")
    crashable.kill()
    crashable.mount()
    crashable.kill()
    crashable.mount()
    for name, text in (("old", b"new\n"), ("other", b"more\n")):
        row = crashable.log(name)[-1]
        assert row["writer"] == "alice"
        assert crashable.version(name, row["number"]) == text
