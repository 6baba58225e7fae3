"""Pauses beyond every TTL, and wall clocks that are set: L5, L7, L8, S12 hold."""

import os
import signal
import time
from datetime import datetime

import pytest

from stomplib.processes import stop_process

pytestmark = pytest.mark.mount_options("settle=50ms", "wait=2s", "ttl=300ms")

WRONLY, CREAT, TRUNC = os.O_WRONLY, os.O_CREAT, os.O_TRUNC
DAY_NS = 86_400_000_000_000


@pytest.fixture
def daemon_paused(workspace):
    """Stops the daemon; it goes on at the end whatever happens."""
    pid = workspace.daemon.pid
    yield lambda: stop_process(pid), lambda: os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGCONT)


def test_a_paused_daemon_lets_no_fenced_write_through(workspace, writer, daemon_paused):
    # L5, L7: both asked while it stood still, beyond the lease
    pause, go_on = daemon_paused
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"alice ")
    pause()
    time.sleep(0.5)  # the lease lapses meanwhile: that is what is tested
    late = alice.start("write", fd=fd, data=b"late")
    takes = bob.start("open", path="f", flags=WRONLY | os.O_APPEND, mode=0o644)
    go_on()
    refused = late.errno()
    taken = takes.errno()
    content = (workspace / "f").read_bytes()
    if refused is None:  # first, and renewed in place (L4): bob waited for it
        assert content == b"alice late" and taken in (None, "EAGAIN")
    else:
        assert refused == "ESTALE" and content == b"alice " and taken is None
    if taken is None:  # whoever was first: from now on alice is fenced
        assert alice.errno("write", fd, b"never") == "ESTALE"
        assert b"never" not in (workspace / "f").read_bytes()


def test_a_holder_that_slept_is_fenced(workspace, writer):  # L5, L8
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"half")
    alice.pause()
    try:
        time.sleep(0.4)
        bob.append("f", b" and bob's")
    finally:
        alice.resume()
    assert alice.errno("write", fd, b"late") == "ESTALE"
    assert (workspace / "f").read_bytes() == b"half and bob's"
    rows = workspace.log("f")
    assert [(v["writer"], "incomplete" in v["flags"]) for v in rows][:2] == [
        ("alice", True), ("bob", False),
    ]


def test_a_lease_does_not_lapse_while_its_holder_writes_after_a_pause(
    workspace, writer, daemon_paused
):  # L4
    pause, go_on = daemon_paused
    alice = writer("alice")
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"one ")
    pause()
    time.sleep(0.5)
    call = alice.start("write", fd=fd, data=b"two")
    go_on()
    assert call.result() == 3
    alice.close(fd)
    assert (workspace / "f").read_bytes() == b"one two"


@pytest.fixture
def set_clock(unmounted, tmp_path):
    """The workspace with a wall clock of its own: set_clock(nanoseconds off)."""
    library = unmounted.build / "tests" / "faults" / "wallclock.so"
    offset = tmp_path / "offset"
    offset.write_text("0")
    environment = {**os.environ, "LD_PRELOAD": str(library), "WALLCLOCK": str(offset)}
    unmounted.mount(env=environment)

    def step(ns):
        fresh = tmp_path / "offset.new"
        fresh.write_text(str(ns))
        os.replace(fresh, offset)

    return step


@pytest.mark.parametrize("step", [-400 * DAY_NS, 400 * DAY_NS])
def test_a_step_of_the_wall_clock_changes_no_lease(unmounted, writer, set_clock, step):  # L8
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"held")
    set_clock(step)
    flags = WRONLY | os.O_APPEND | os.O_NONBLOCK
    assert bob.errno("open", "f", flags) == "EAGAIN"  # still held
    alice.write(fd, b" on")
    time.sleep(0.4)
    bob.append("f", b", bob")  # and lapsed by the clock that counts
    assert alice.errno("write", fd, b"!") == "ESTALE"
    assert (unmounted / "f").read_bytes() == b"held on, bob"


def test_versions_keep_their_order_over_a_clock_set_back(unmounted, set_clock):  # S12, L8
    mtimes, epochs = [], []
    for i, off in enumerate((0, -400 * DAY_NS, 400 * DAY_NS, 0)):
        set_clock(off)
        unmounted.run_as("alice", "sh", "-c", f"echo {i} > f")
        unmounted.ctl("checkpoint")
        mtimes.append(os.stat(unmounted / "f").st_mtime_ns)
        epochs.append(unmounted.log("f")[-1]["epoch"])
    assert mtimes == sorted(set(mtimes)) and epochs == sorted(set(epochs))
    rows = unmounted.log("f")
    assert [v["number"] for v in rows] == [1, 2, 3, 4]
    assert [v["seq"] for v in rows] == sorted(v["seq"] for v in rows)
    years = {datetime.fromisoformat(v["time"]).year for v in rows}
    assert len(years) > 1, "the clock was never set: the test tests nothing"


def test_a_reader_stays_known_over_a_clock_set_back(unmounted, writer, set_clock):  # S2
    alice, bob = writer("alice"), writer("bob")
    bob.writefile("f", b"one\n")
    alice.readfile("f")
    set_clock(-400 * DAY_NS)
    unmounted.settle()
    alice.writefile("f", b"two\n")
    alice_knows = (unmounted / "f").read_bytes()
    assert alice_knows == b"two\n"
    set_clock(400 * DAY_NS)
    assert bob.errno("writefile", "f", b"blind\n") == "ESTALE"
