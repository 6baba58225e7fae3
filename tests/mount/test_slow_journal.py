"""The disk of the history is slow, or hangs (V4, V7, D).

An LD_PRELOAD library (tests/faults/failing.c) holds up the calls with which the daemon
writes its history. That nobody waited for the disk is shown by the disk: it has not
answered a single call meanwhile, and nothing was committed.
"""

import os
import re
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from rig import Control  # noqa: E402

LIMIT_S = 30
N = 40

pytestmark = pytest.mark.mount_options("wait=5s", "settle=1ms", "ttl=60s")


def until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT_S} s"
        time.sleep(0.005)


@pytest.fixture
def slow(unmounted, tmp_path):
    library = unmounted.build / "tests" / "faults" / "failing.so"
    if not library.exists():
        pytest.skip("tests/faults is not built")
    unmounted.control = Control(tmp_path / "control")
    unmounted.environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAULTS_CONTROL": str(tmp_path / "control"),
        "FAULTS_WORKSPACE": os.path.realpath(unmounted.path),
    }
    unmounted.mount(env=unmounted.environment)
    yield unmounted
    unmounted.control.go_on()


def figure(workspace, name):
    found = re.search(rf"^stompfs_{name} (\d+)$", workspace.text("metrics"), re.M)
    return int(found.group(1))


def let_hang(workspace, someone):
    """The journal's thread is in a call that does not come back."""
    workspace.settle()
    until(lambda: figure(workspace, "journal_queued") == 0, "the queue is written")
    workspace.control.dawdle("journal", hangs=True)
    someone.writefile("first", b"the one the disk hangs with\n")
    until(lambda: workspace.control.hanging > 0, "the disk hangs")


def prepared(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    for i in range(N):
        alice.writefile(f"a{i}", b"old %d\n" % i)
        bob.writefile(f"b{i}", b"old %d\n" % i)
    return alice, bob


def change_all(alice, bob):
    """Each kind of change, by two writers: nothing of it may touch the disk."""
    for i in range(N):
        alice.writefile(f"a{i}", b"new %d\n" % i)
        bob.append(f"b{i}", b"more %d\n" % i)
        alice.rename(f"a{i}", f"renamed{i}")
        alice.writefile(f"made{i}", b"made %d\n" % i)
        bob.save_by_rename(f"b{i}", b"saved %d\n" % i)
        if i % 2:
            alice.unlink(f"made{i}")


def check_history(workspace):
    for i in range(N):
        log = workspace.log(f"b{i}")
        log = [log[0], log[1], log[-1]]  # without that of the temporary it was saved by
        assert [(v["number"], v["writer"]) for v in log] == [(n, "bob") for n in (1, 2, 3)]
        assert [workspace.version(f"b{i}", v["number"]) for v in log] == [
            b"old %d\n" % i,
            b"old %d\nmore %d\n" % (i, i),
            b"saved %d\n" % i,
        ]
        assert (workspace / f"b{i}").read_bytes() == b"saved %d\n" % i
        moved = workspace.log(f"renamed{i}")[-1]
        assert (moved["writer"], moved["from_path"]) == ("alice", f"a{i}")
        assert workspace.version(f"renamed{i}", moved["number"]) == b"new %d\n" % i
        made = workspace.log(f"made{i}")
        assert workspace.version(f"made{i}", 1) == b"made %d\n" % i
        assert made[0]["writer"] == "alice"
        assert made[-1]["kind"] == ("delete" if i % 2 else "write")


def test_nobody_waits_for_a_disk_that_hangs(slow, writer):  # V4, D
    alice, bob = prepared(slow, writer)
    carol = writer("carol")
    let_hang(slow, alice)
    commits = figure(slow, "journal_commits_total")
    waits = figure(slow, "journal_backpressure_waits_total")
    queued = figure(slow, "journal_queued")
    change_all(alice, bob)
    for i in range(N):  # nor do others, who read and look
        assert carol.readfile(f"b{i}") == b"saved %d\n" % i
        assert carol.stat(f"renamed{i}")["size"] == len(b"new %d\n" % i)
    assert carol.listdir()
    assert slow.control.hanging > 0
    assert figure(slow, "journal_commits_total") == commits
    assert figure(slow, "journal_backpressure_waits_total") == waits
    until(lambda: figure(slow, "journal_queued") >= queued + 5 * N, "the changes are queued")
    for name in ("status", "writers", "leases", "me"):
        assert slow.text(name)
    slow.control.go_on()
    until(lambda: figure(slow, "journal_queued") == 0, "all is written")
    check_history(slow)


def test_killed_while_the_disk_hangs(slow, writer):  # V4
    alice, bob = prepared(slow, writer)
    let_hang(slow, alice)
    change_all(alice, bob)
    assert slow.control.hanging > 0
    slow.kill_daemon()
    slow.control.go_on()
    slow.mount()
    check_history(slow)


def test_a_slow_disk_delays_nobody_and_loses_nothing(slow, writer):  # V4
    alice, bob = prepared(slow, writer)
    slow.settle()
    slow.control.dawdle("journal", delay_us=20000)
    change_all(alice, bob)
    assert slow.control.count > 0
    slow.control.go_on()
    slow.settle()
    until(lambda: figure(slow, "journal_queued") == 0, "all is written")
    check_history(slow)


def test_a_full_queue_is_shown_and_everybody_gets_his_turn(slow, writer):  # V4, D
    """Contents of 200 KiB until the 64 MiB of the queue are taken and the next must wait."""
    alice, bob, carol = prepared(slow, writer) + (writer("carol"),)
    let_hang(slow, alice)
    made = 0
    while not figure(slow, "journal_waiting"):
        assert made < 1000
        hers = alice.start("writefile", path=f"big{made}", data=os.urandom(200 << 10))
        made += 1
        until(lambda: hers.done() or figure(slow, "journal_waiting"), "written, or waiting")
        if hers.done():
            hers.result()
    his = bob.start("writefile", path="small", data=b"his turn comes too\n")
    until(lambda: figure(slow, "journal_waiting") == 2, "bob waits as well")
    assert not hers.done() and not his.done()
    assert 60 << 20 < figure(slow, "journal_queued_bytes") < 72 << 20
    assert figure(slow, "journal_backpressure_waits_total") == 2
    # Who changes nothing is not concerned, and reads what is not in the history yet.
    assert carol.readfile("a1") == b"old 1\n"
    assert carol.readfile("first") == b"the one the disk hangs with\n"
    assert carol.stat(f"big{made - 2}")["size"] == 200 << 10
    for name in ("status", "writers", "leases"):
        assert slow.text(name)
    assert slow.control.hanging > 0
    slow.control.go_on()
    hers.result(), his.result()
    until(lambda: figure(slow, "journal_queued") == 0, "all is written")
    assert figure(slow, "journal_waiting") == 0
    assert [v["writer"] for v in slow.log("small")] == ["bob"]
    for i in range(made):
        newest = slow.log(f"big{i}")[-1]
        assert (newest["writer"], newest["size"]) == ("alice", 200 << 10)
    assert slow.version(f"big{made - 1}", 1) == (slow / f"big{made - 1}").read_bytes()
