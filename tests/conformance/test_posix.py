"""POSIX to the letter: every case is run on the folder below and on the mount over another
one beside it, as root with several users, and what the two answer must be the same.

posixcalls/matrix.py    every call on every kind of place, every rename and link
posixcalls/stories.py   what takes several calls: mappings, locks, ETXTBSY, suid, O_TMPFILE
posixcalls/chance.py    random changes of a few names, in files guarded and not
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mount"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from posixcalls import chance, matrix, stories  # noqa: E402
from posixcalls.side import differences, run_side  # noqa: E402
from stomplib.workspace import Workspace  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")

STEPS = int(os.environ.get("STOMP_CHANCE_STEPS", 1200))

# What may differ, and why. By what a case is called, and where it differs.
ALLOWED = [
    # S12: from content to content of a path the mtime grows, whatever was arranged.
    lambda case, where, a, b: case.startswith("rename") and where.endswith("/mtime"),
    # The kernel does not offer a whiteout to file systems in user space.
    lambda case, where, a, b: case.startswith("rename WHITEOUT"),
    # Direct i/o of any alignment is taken.
    lambda case, where, a, b: case.startswith("open W|DIRECT") and "EBADF" != a,
    # chown(-1, -1) changes nothing, so the kernel does not ask.
    lambda case, where, a, b: case.startswith("chown to itself | setuid"),
    # suid goes before a file is cut, also where that cannot be done after all.
    lambda case, where, a, b: case.startswith("truncate too long | setuid"),
    # The kernel answers itself what lies behind the end of a file, and keeps no atime.
    lambda case, where, a, b: where.endswith("/atime") and "TRUNC" in case,
    lambda case, where, a, b: "| empty file |" in case and (a == [] or reads(case)),
    # What goes through a pipe is no request to the file system: its times stand still.
    lambda case, where, a, b: "| pipe |" in case and case.startswith("open RW"),
]


def reads(case):
    return case.startswith(("read", "open R |", "open R|CREAT", "open R|NOFOLLOW"))


def allowed(case, where, a, b):
    return any(rule(case, where, a, b) for rule in ALLOWED)


@pytest.fixture
def sides(tmp_path):
    """Two empty folders: one native, one mounted."""
    native, path = tmp_path / "n", tmp_path / "w"
    native.mkdir()
    path.mkdir()
    mounted = Workspace(path, tmp_path, ["suid", "dev", "writer=suite"])
    mounted.mount()
    yield native, path
    mounted.close(False)


def compare(sides, work):
    native, mounted = (run_side(side, work) for side in sides)
    assert len(native) > 10
    found = differences(native, mounted, allowed)
    assert not found, f"{len(found)} differ:\n" + "\n".join(found[:40])


def test_calls_on_every_kind_of_place(sides):
    compare(sides, lambda: matrix.run(matrix.one_path_cases()))


def test_renames_and_links_of_every_pair(sides):
    compare(sides, lambda: matrix.run(matrix.two_path_cases()))


def test_stories(sides):
    compare(sides, stories.run)


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("folder", ["src", ".git"])
def test_random_changes_of_names(sides, folder, seed):
    def work():
        os.mkdir(folder)
        os.chdir(folder)
        return chance.run(seed, STEPS)

    compare(sides, work)


def test_a_difference_is_found(tmp_path):
    """The comparison itself: another umask is another mode."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    def work(mask):
        os.umask(mask)
        return chance.run(1, 60)

    found = differences(
        run_side(tmp_path / "a", lambda: work(0)),
        run_side(tmp_path / "b", lambda: work(0o077)),
        allowed,
    )
    assert any("natively" in line and "mode" in line for line in found)
