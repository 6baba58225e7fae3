"""What the daemon changes by itself is exact in stat(2), at once and for everybody.

Observers with warm caches, one of them in another mount namespace, look before and after a
merge, a rollback, a restore, an undo. The kernel keeps attributes and names for an hour
here, so what it was not told stays wrong. And it is told late: what the daemon sends it is
held up (tests/faults/failing.c), so that a call that answers before the kernel knows shows.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stomplib.calls import elsewhere

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from rig import Control  # noqa: E402

TEN = b"".join(b"line %d\n" % i for i in range(10))
LATE_US = 150000

pytestmark = pytest.mark.mount_options("settle=1ms", "wait=2s")


class Observer:
    """Somebody who knows the files: by name and by an open descriptor."""

    def __init__(self, who, names):
        self.who, self.names = who, names
        self.fds = {n: who.open(n) for n in names}

    def warm(self):
        for name, fd in self.fds.items():
            self.who.stat(name)
            self.who.fstat(fd)

    def check(self, workspace, name):
        """Exactly as in the backing."""
        there = os.stat(workspace.backing(name))
        seen = self.who.stat(name)
        for field in ("size", "nlink", "mtime_ns", "mode", "uid", "gid", "ino"):
            assert seen[field] == getattr(there, f"st_{field}"), (self.who.name, name, field)
        return seen


@pytest.fixture
def told_late(unmounted, tmp_path):
    library = unmounted.build / "tests" / "faults" / "failing.so"
    if not library.exists():
        pytest.skip("tests/faults is not built")
    unmounted.control = Control(tmp_path / "control")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAULTS_CONTROL": str(tmp_path / "control"),
        "FAULTS_WORKSPACE": os.path.realpath(unmounted.path),
    }
    unmounted.mount(env=environment)
    yield unmounted
    unmounted.control.delay_notes(0)


@pytest.fixture
def observers(told_late, writer):
    """of(names): one here, one in a mount namespace of its own."""
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no mount namespaces here")

    def of(*names):
        told_late.settle()
        both = [
            Observer(writer("near"), names),
            Observer(writer("far", argv=elsewhere(told_late.path)), names),
        ]
        for o in both:
            o.warm()
        told_late.control.delay_notes(LATE_US)
        return both

    return of


def test_after_a_merge(told_late, writer, observers):  # M, S12
    (told_late / ".stomp-policy").write_text("f strategy=merge\n")
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    bob.call("peek", path="f")
    told_late.settle()
    alice.writefile("f", TEN.replace(b"line 1\n", b"line 1, longer by alice\n"))
    both = observers("f")
    before = both[0].check(told_late, "f")
    bob.writefile("f", TEN.replace(b"line 8\n", b"line 8, by bob\n"))
    merged = len(TEN) + len(b", longer by alice") + len(b", by bob")
    for o in both:
        seen = o.check(told_late, "f")
        assert seen["size"] == merged and seen["mtime_ns"] > before["mtime_ns"]


def test_after_a_rollback(told_late, writer, observers):  # V8, S12
    alice = writer("alice")
    alice.writefile("f", TEN)
    alice.writefile("f", b"short\n")
    both = observers("f")
    before = both[0].check(told_late, "f")
    told_late.run(told_late.stomp, "rollback", "f@1")
    for o in both:
        seen = o.check(told_late, "f")
        assert seen["size"] == len(TEN) and seen["mtime_ns"] > before["mtime_ns"]


def test_after_a_restore(told_late, writer, observers):  # V8: what was not there, is
    alice = writer("alice")
    alice.writefile("f", TEN, mode=0o600)
    alice.unlink("f")
    both = observers()
    for o in both:
        assert o.who.errno("stat", "f") == "ENOENT"
        assert o.who.errno("stat", "f") == "ENOENT"
    told_late.run(told_late.stomp, "restore", "f")
    for o in both:
        seen = o.check(told_late, "f")
        assert seen["size"] == len(TEN) and seen["nlink"] == 1
        assert seen["mode"] & 0o777 == 0o600


def test_after_an_undo(told_late, writer, observers):  # V8: changed, made, removed
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("changed", TEN)
    alice.writefile("removed", TEN)
    for name in ("changed", "removed"):
        bob.call("peek", path=name)
    told_late.settle()
    bob.writefile("changed", TEN + b"more\n")
    bob.writefile("made", b"new\n")
    bob.unlink("removed")
    both = observers("changed", "made")
    for o in both:
        assert o.who.errno("stat", "removed") == "ENOENT"
    told_late.run(told_late.stomp, "undo", "bob")
    for o in both:
        assert o.check(told_late, "changed")["size"] == len(TEN)
        assert o.check(told_late, "removed")["size"] == len(TEN)
        assert o.who.errno("stat", "made") == "ENOENT"
        assert o.who.fstat(o.fds["made"])["nlink"] == 0


def test_the_other_name_when_one_goes(told_late, writer, observers):
    alice = writer("alice")
    alice.writefile("f", TEN)
    alice.link("f", "g")
    both = observers("f", "g")
    assert [o.check(told_late, "f")["nlink"] for o in both] == [2, 2]
    alice.unlink("g")
    for o in both:
        assert o.check(told_late, "f")["nlink"] == 1
        assert o.who.fstat(o.fds["g"])["nlink"] == 1


def test_after_a_time_was_raised(told_late, writer, observers):  # S12
    """The one change here that nobody but the daemon makes: as it sees the close."""
    alice = writer("alice")
    alice.writefile("f", TEN)
    future = os.stat(told_late.backing("f")).st_mtime_ns + 3600 * 10**9
    alice.utime("f", ns=[future, future])
    both = observers("f")
    fd = alice.open("f", os.O_WRONLY | os.O_APPEND)
    alice.write(fd, b"more\n")
    for o in both:
        assert o.check(told_late, "f")["mtime_ns"] < future
    alice.close(fd)
    for o in both:
        seen = o.check(told_late, "f")
        assert seen["mtime_ns"] > future and seen["size"] == len(TEN) + 5
    assert told_late.control.notified > 0
