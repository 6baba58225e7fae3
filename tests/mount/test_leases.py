"""Leases through the kernel: who may change a file, who waits, how it ends (L1-L4, L9, L10).

What becomes of the old holder after a take-over is test_fencing.py's subject.
"""

import contextlib
import errno
import os
import time

import pytest

from stomplib.calls import FALLOC_KEEP_SIZE, RENAME_EXCHANGE
from stomplib.transports import over_both

RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
CREAT, TRUNC, APPEND, NONBLOCK = os.O_CREAT, os.O_TRUNC, os.O_APPEND, os.O_NONBLOCK

# What a wait that ends early must stay below, on a machine that is busy as well.
SOON_S = 4
LONG = ("ttl=30s", "wait=20s", "settle=1ms")
SHORT = ("ttl=30s", "wait=150ms", "settle=1ms")


@pytest.fixture
def pair(workspace, writer):
    """Two writers who both know f."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", b"0123456789")
    know(workspace, "f", alice, bob)
    return alice, bob


def know(workspace, name, *writers):
    for w in writers:
        w.readfile(name)
    time.sleep(0.01)


def hold(w, name="f"):
    """Take the lease and keep it: a descriptor that has written."""
    fd = w.open(name, WRONLY | CREAT)
    w.write(fd, b"x")
    return fd


def wait_until(true, what, limit=SOON_S):
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def waiting(workspace, name="f"):
    return [w for row in workspace.leases(name) for w in row["waiting"]]


def wait_for_waiters(workspace, n, name="f"):
    wait_until(lambda: len(waiting(workspace, name)) == n, f"{n} waiters of {name}")


@contextlib.contextmanager
def soon(limit=SOON_S):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit, "it waited out its time"


def as_writer(workspace, w, *args):
    code, out, err = w.spawn(str(workspace.stomp), *args)
    return code, out.decode(), err.decode()


# ---------------------------------------------------------------- L1: taking it


def through(flags, what=None, *args):
    def way(w):
        fd = w.open("f", flags)
        if what:
            getattr(w, what)(fd, *args)
        return fd

    return way


def copy_into(w):
    source = w.open("mine", RDONLY)
    fd = w.open("f", RDWR)
    w.copy_range(source, fd, 4, 0, 0)
    return fd


TAKING = {
    "open O_WRONLY": through(WRONLY),
    "open O_TRUNC": through(RDWR | TRUNC),
    "open O_APPEND": through(WRONLY | APPEND),
    "first write": through(RDWR, "write", b"x"),
    "first write in the middle": through(RDWR, "pwrite", b"x", 5),
    "first ftruncate": through(RDWR, "ftruncate", 3),
    "first fallocate": through(RDWR, "fallocate", FALLOC_KEEP_SIZE, 0, 4096),
    "first copy": copy_into,
}


@pytest.mark.mount_options(*SHORT)
@pytest.mark.parametrize("way", TAKING.values(), ids=TAKING)
def test_the_first_change_takes_the_lease(workspace, pair, way):  # L1
    alice, bob = pair
    alice.writefile("mine", b"mine")
    way(alice)
    (row,) = workspace.leases("f")
    assert (row["writer"], row["handles"], row["explicit"]) == ("alice", 1, False)
    assert 0 < row["expires_ms"] <= 30_000
    assert bob.errno("open", "f", WRONLY | NONBLOCK) == "EAGAIN"


@pytest.mark.mount_options(*SHORT)
def test_reading_takes_none(workspace, pair):  # L1
    alice, bob = pair
    fds = [alice.open("f", RDONLY), alice.open("f", RDWR)]
    for fd in fds:
        assert alice.read(fd) == b"0123456789"
    assert not workspace.leases("f")
    hold(bob)
    assert alice.readfile("f") == b"x123456789"


BEING_KEPT_OUT = {
    "O_WRONLY": lambda w: w.open("f", WRONLY),
    "O_TRUNC": lambda w: w.open("f", RDWR | TRUNC),
    "O_APPEND": lambda w: w.open("f", WRONLY | APPEND),
    "unlink": lambda w: w.unlink("f"),
    "rename away": lambda w: w.rename("f", "g"),
    "rename onto": lambda w: w.rename("mine", "f"),
    "exchange": lambda w: w.rename("f", "mine", RENAME_EXCHANGE),
}


@pytest.mark.mount_options(*SHORT)
@pytest.mark.parametrize("way", BEING_KEPT_OUT.values(), ids=BEING_KEPT_OUT)
def test_another_waits_and_then_fails_with_eagain(workspace, pair, way):  # L1, L3
    alice, bob = pair
    bob.writefile("mine", b"mine")
    fd = hold(alice)
    before = time.monotonic()
    with pytest.raises(OSError) as refused:
        way(bob)
    took = time.monotonic() - before
    assert refused.value.errno == errno.EAGAIN
    assert 0.15 <= took < SOON_S
    assert (workspace / "f").read_bytes() == b"x123456789"
    assert (workspace / "mine").read_bytes() == b"mine"
    (refusal,) = workspace.refusals(bob)
    assert (refusal["reason"], refusal["holder"]) == ("held", "alice")
    assert "alice" in refusal["text"] and "EAGAIN" in refusal["text"]
    alice.close(fd)


@pytest.mark.mount_options(*LONG)
def test_what_waits_not_is_refused_at_once(workspace, pair):  # L3, S13
    """Open, rename and unlink wait; no change of the content does."""
    alice, bob = pair
    theirs = bob.open("f", RDWR)
    fd = hold(alice)
    with soon():
        assert bob.errno("truncate", "f", 3) == "EAGAIN"
        assert bob.errno("write", theirs, b"y") == "ESTALE"
        assert bob.errno("ftruncate", theirs, 3) == "ESTALE"
        assert bob.errno("fallocate", theirs, 0, 0, 10) == "ESTALE"
    assert [r["reason"] for r in workspace.refusals(bob)] == ["held"] * 4
    assert (workspace / "f").read_bytes() == b"x123456789"
    alice.close(fd)


@pytest.mark.mount_options(*SHORT)
def test_a_write_that_has_no_lease_never_answers_eagain(workspace, pair):  # S13
    alice, bob = pair
    hold(alice)
    theirs = bob.open("f", RDWR)
    assert bob.errno("write", theirs, b"y") == "ESTALE"
    assert bob.errno("ftruncate", theirs, 0) == "ESTALE"
    assert bob.errno("fallocate", theirs, 0, 0, 10) == "ESTALE"
    assert bob.read(theirs) == b"x123456789"
    assert bob.errno("close", theirs) is None


@pytest.mark.mount_options(*SHORT)
def test_who_only_reads_through_a_writable_handle_sees_every_change(workspace, pair):  # L1, L5
    """Opened for both, never written: no lease of its own, so nothing to be fenced."""
    alice, bob = pair
    theirs = bob.open("f", RDWR)
    inode = os.stat(workspace / "f").st_ino
    alice.close(hold(alice))
    assert bob.pread(theirs, 10, 0) == b"x123456789"
    assert bob.fstat(theirs)["ino"] == os.stat(workspace / "f").st_ino == inode
    know(workspace, "f", bob)
    bob.pwrite(theirs, b"y", 1)
    assert (workspace / "f").read_bytes() == b"xy23456789"


@pytest.mark.mount_options(*SHORT)
def test_processes_of_one_writer_share_it(workspace, pair):  # L1, W1, W2
    alice, bob = pair
    hold(alice)
    assert alice.sh("echo more >> f && (setsid sh -c 'echo yet more >> f')")[0] == 0
    alice.writefile("f", b"all anew")
    assert not workspace.refusals()
    assert len(workspace.leases("f")) == 1


# ---------------------------------------------------------------- L2: how long


@pytest.mark.mount_options("ttl=600ms", "wait=0s", "settle=1ms")
def test_it_lapses_while_the_handle_stays_open(workspace, pair):  # L2
    alice, bob = pair
    fd = hold(alice)
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"
    time.sleep(0.65)
    assert workspace.leases("f")[0]["expires_ms"] < 0
    theirs = bob.open("f", WRONLY)
    assert [r["writer"] for r in workspace.leases("f")] == ["bob"]
    bob.close(theirs)
    alice.close(fd)


@pytest.mark.mount_options("ttl=800ms", "wait=0s", "settle=1ms")
def test_writes_renew_it(workspace, pair):  # L2
    alice, bob = pair
    fd = hold(alice)
    epoch = workspace.leases("f")[0]["epoch"]
    for _ in range(6):
        time.sleep(0.2)
        alice.write(fd, b"y")
    row = workspace.leases("f")[0]
    assert row["epoch"] == epoch and row["expires_ms"] > 200
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"


@pytest.mark.mount_options("ttl=800ms", "wait=0s", "settle=1ms")
def test_reads_do_not_renew_it(workspace, pair):  # L2
    alice, bob = pair
    fd = alice.open("f", RDWR)
    alice.write(fd, b"x")
    for _ in range(6):
        time.sleep(0.16)
        alice.pread(fd, 4, 0)
    bob.close(bob.open("f", WRONLY))


@pytest.mark.mount_options(*LONG)
def test_it_ends_with_the_last_writable_handle(workspace, pair):  # L2
    alice, bob = pair
    fds = [hold(alice), alice.open("f", RDWR), alice.open("f", RDONLY)]
    fds.append(alice.dup(fds[0]))
    waits = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1)
    alice.close(fds[0])
    alice.close(fds[1])
    assert alice.stat("f")["size"] == 10 and not waits.done(), "the duplicate is open"
    with soon():
        alice.close(fds[3])
        bob.close(waits.result())


@pytest.mark.mount_options("ttl=30s", "wait=20s", "linger=700ms", "settle=1ms")
def test_linger_keeps_it_a_while_after_the_last_close(workspace, pair):  # L2
    alice, bob = pair
    fd = hold(alice)
    before = time.monotonic()
    alice.close(fd)
    assert bob.errno("open", "f", WRONLY | NONBLOCK) == "EAGAIN"
    bob.close(bob.open("f", WRONLY))
    assert 0.7 <= time.monotonic() - before < SOON_S


@over_both
@pytest.mark.mount_options(*LONG)
def test_it_ends_when_its_holder_is_killed(workspace, pair):  # L2
    alice, bob = pair
    hold(alice)
    waits = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1)
    with soon():
        alice.kill()
        bob.close(waits.result())
    assert not workspace.refusals()


@pytest.mark.mount_options(*SHORT)
def test_it_lives_while_a_child_has_the_descriptor(workspace, pair):  # L2
    """The process that opened it is gone, but not everybody of its writer that has it."""
    alice, bob = pair
    script = (
        "import os, time\n"
        "fd = os.open('f', os.O_WRONLY)\n"
        "os.write(fd, b'y')\n"
        "if os.fork(): os._exit(0)\n"
        "for i in range(3): os.close(i)\n"
        "for i in range(2000):\n"
        "    if os.path.exists('stop'): break\n"
        "    time.sleep(0.01)\n"
        "os.write(fd, b'z')\n"
    )
    assert alice.spawn("/usr/bin/python3", "-c", script)[0] == 0
    assert workspace.leases("f")[0]["writer"] == "alice"
    assert bob.errno("open", "f", WRONLY | NONBLOCK) == "EAGAIN"
    alice.writefile("stop", b"")
    wait_until(lambda: (workspace / "f").read_bytes() == b"yz23456789", "its own write")


# ---------------------------------------------------------------- L3: waiting


@over_both
@pytest.mark.mount_options(*LONG)
def test_nonblock_fails_at_once(workspace, pair):  # L3
    alice, bob = pair
    hold(alice)
    with soon():
        assert bob.errno("open", "f", WRONLY | NONBLOCK) == "EAGAIN"
        assert bob.errno("open", "f", WRONLY | CREAT | TRUNC | NONBLOCK) == "EAGAIN"


@pytest.mark.mount_options(*LONG)
@pytest.mark.parametrize("what", ["open", "rename", "unlink"])
def test_a_wait_ends_with_the_lease(workspace, pair, what):  # L3
    alice, bob = pair
    bob.writefile("mine", b"mine")
    fd = hold(alice)
    args = {
        "open": {"path": "f", "flags": WRONLY, "mode": 0},
        "rename": {"source": "f", "target": "elsewhere"},
        "unlink": {"path": "f"},
    }[what]
    know(workspace, "f", bob)
    waits = bob.start(what, **args)
    wait_for_waiters(workspace, 1)
    assert not waits.done()
    with soon():
        alice.close(fd)
        # What alice wrote while he waited is a version he has not read: only the
        # open, which overwrites nothing yet, goes ahead.
        assert waits.errno() == (None if what == "open" else "ESTALE")


@over_both
@pytest.mark.mount_options(*LONG)
def test_waiters_are_served_in_order_of_arrival(workspace, pair, writer):  # L3
    alice, _ = pair
    fd = hold(alice)
    queue = [writer(name) for name in ("b1", "b2", "b3", "b4")]
    calls = []
    for n, w in enumerate(queue):
        calls.append(w.start("open", path="f", flags=WRONLY | APPEND, mode=0))
        wait_for_waiters(workspace, n + 1)
    assert waiting(workspace) == [w.name for w in queue]
    alice.close(fd)
    for n, (w, call) in enumerate(zip(queue, calls)):
        theirs = call.result(SOON_S)
        assert not any(later.done() for later in calls[n + 1 :])
        # Whoever comes now does not overtake those who wait.
        assert alice.errno("open", "f", WRONLY | NONBLOCK) == "EAGAIN"
        w.close(theirs)
    assert not workspace.leases("f")


@pytest.mark.mount_options(*LONG)
def test_who_waits_for_an_explicit_lease_is_served_in_order_too(workspace, pair, writer):  # L3, L9
    """Its release lets all of them look again at once: the order is the queue's."""
    alice, _ = pair
    queue = [writer(name) for name in ("b1", "b2", "b3", "b4", "b5", "b6")]
    for _round in range(5):
        workspace.ctl("lease acquire ttl=60s f", alice)
        calls = []
        for n, w in enumerate(queue):
            calls.append(w.start("open", path="f", flags=WRONLY | APPEND, mode=0))
            wait_until(lambda n=n: workspace.json("status")["waiting"] > n, "one more waits")
        workspace.ctl("lease release f", alice)
        for n, (w, call) in enumerate(zip(queue, calls)):
            theirs = call.result(SOON_S)
            assert not any(later.done() for later in calls[n + 1 :])
            w.close(theirs)


@over_both
@pytest.mark.mount_options(*LONG)
def test_an_open_that_waits_does_not_stop_the_holder(workspace, pair):  # L2, L3
    alice, bob = pair
    fd = hold(alice)
    bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1)
    with soon():
        alice.write(fd, b"y")
        assert "f" in os.listdir(workspace.path)
    assert (workspace / "f").read_bytes() == b"xy23456789"
    bob.kill()


@pytest.mark.mount_options("ttl=30s", "wait=1s", "settle=1ms")
@pytest.mark.parametrize("what", ["rename", "unlink"])
def test_a_rename_that_waits_stops_the_holder_no_longer_than_wait(
    workspace, pair, what
):  # L2, L3
    """The kernel locks the file that a rename or an unlink is about to take away: the
    holder's own write goes through, at the latest when that wait is over."""
    alice, bob = pair
    bob.writefile("mine", b"mine")
    fd = hold(alice)
    args = {
        "rename": {"source": "mine", "target": "f"},
        "unlink": {"path": "f"},
    }[what]
    call = bob.start(what, **args)
    wait_for_waiters(workspace, 1)
    with soon(1 + SOON_S):
        alice.write(fd, b"y")
        assert call.errno() == "EAGAIN"
    assert (workspace / "f").read_bytes() == b"xy23456789"


@pytest.mark.mount_options("ttl=400ms", "wait=900ms", "settle=1ms")
@pytest.mark.parametrize("what", ["open", "rename", "unlink"])
def test_a_holder_that_renews_is_waited_for_no_longer_than_wait(workspace, pair, what):  # L3
    """Each lapse that does not come wakes the waiter: his time must not start over."""
    alice, bob = pair
    bob.writefile("mine", b"mine")
    workspace.ctl("lease acquire ttl=400ms f", alice)
    args = {
        "open": {"path": "f", "flags": WRONLY, "mode": 0},
        "rename": {"source": "mine", "target": "f"},
        "unlink": {"path": "f"},
    }[what]
    began = time.monotonic()
    waits = bob.start(what, **args)
    while not waits.done() and time.monotonic() - began < SOON_S:
        time.sleep(0.05)
        workspace.ctl("lease renew ttl=400ms f", alice)
    took = time.monotonic() - began
    if not waits.done():
        bob.kill()
    assert 0.9 <= took < 2.5
    assert waits.errno() == "EAGAIN"


EINTR_SCRIPT = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.3)
began = time.monotonic()
assert {call} < 0
print(os.strerror(ctypes.get_errno()), time.monotonic() - began < 10)
"""


@pytest.mark.mount_options(*LONG)
@pytest.mark.parametrize(
    "call",
    [
        "libc.open(b'f', os.O_WRONLY)",
        "libc.rename(b'mine', b'f')",
        "libc.unlink(b'f')",
    ],
)
def test_a_signal_ends_the_wait_with_eintr(workspace, pair, call):  # L3, S13
    alice, bob = pair
    bob.writefile("mine", b"mine")
    fd = hold(alice)
    code, out, err = bob.spawn("/usr/bin/python3", "-c", EINTR_SCRIPT.format(call=call))
    assert (code, out) == (0, b"Interrupted system call True\n"), err
    assert not workspace.refusals(), "it was no refusal"
    assert not waiting(workspace)
    alice.close(fd)


@over_both
@pytest.mark.mount_options(*LONG)
def test_a_waiter_that_is_killed_makes_way(workspace, pair, writer):  # L3
    alice, bob = pair
    carol = writer("carol")
    fd = hold(alice)
    bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1)
    waits = carol.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 2)
    with soon():
        bob.kill()
        wait_for_waiters(workspace, 1)
        alice.close(fd)
        carol.close(waits.result())


@over_both
@pytest.mark.mount_options(*LONG)
def test_two_that_wait_for_each_other_are_told_at_once(workspace, pair):  # L3
    alice, bob = pair
    bob.writefile("g", b"g")
    know(workspace, "g", alice)
    mine, theirs = hold(alice, "f"), hold(bob, "g")
    waits = alice.start("open", path="g", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1, "g")
    with soon():
        assert bob.errno("open", "f", WRONLY) == "EAGAIN", "the later one"
    assert not waits.done(), "the earlier one goes on waiting"
    (refusal,) = workspace.refusals(bob)
    assert refusal["reason"] == "deadlock" and "alice" in refusal["text"]
    with soon():
        bob.close(theirs)
        alice.close(waits.result())
    alice.close(mine)


@pytest.mark.mount_options(*LONG)
def test_three_in_a_ring_are_told_at_once(workspace, pair, writer):  # L3
    alice, bob = pair
    carol = writer("carol")
    for w, name in (bob, "g"), (carol, "h"):
        w.writefile(name, b"1")
    hold(alice, "f"), hold(bob, "g"), hold(carol, "h")
    alice.start("open", path="g", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1, "g")
    bob.start("open", path="h", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1, "h")
    with soon():
        assert carol.errno("open", "f", WRONLY) == "EAGAIN"
    alice.kill(), bob.kill()  # as they wait


@pytest.mark.mount_options(*LONG)
def test_a_ring_that_closes_when_the_lease_goes_on_to_a_waiter(workspace, pair, writer):  # L3
    """carol waits for alice; the lease then goes to bob, who asks for carol's file."""
    alice, bob = pair
    carol = writer("carol")
    carol.writefile("h", b"1")
    fd = hold(alice, "f")
    hold(carol, "h")
    first = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 1)
    second = carol.start("open", path="f", flags=WRONLY, mode=0)
    wait_for_waiters(workspace, 2)
    alice.close(fd)
    first.result()
    with soon():
        assert bob.errno("open", "h", WRONLY | NONBLOCK) == "EAGAIN"
    call = bob.start("open", path="h", flags=WRONLY, mode=0)
    try:
        with soon():
            assert call.errno(SOON_S) == "EAGAIN"
        assert not second.done()
    finally:
        carol.kill()


@pytest.mark.mount_options(*LONG)
def test_waiting_costs_no_thread(workspace, pair):  # L3
    alice, bob = pair
    fd = hold(alice)
    assert bob.sh("cat f > /dev/null")[0] == 0
    script = (
        "import os\n"
        "for i in range(60):\n"
        "    if os.fork() == 0:\n"
        "        os.close(os.open('f', os.O_WRONLY | os.O_APPEND))\n"
        "        os._exit(0)\n"
        "for i in range(60):\n"
        "    assert os.wait()[1] == 0\n"
    )
    tasks = f"/proc/{workspace.daemon.pid}/task"
    before = len(os.listdir(tasks))
    waits = bob.start("spawn", argv=["/usr/bin/python3", "-c", script], limit=30)
    wait_until(lambda: workspace.json("status")["waiting"] == 60, "60 waiters", 15)
    # libfuse starts up to ten workers of its own as requests come in a burst.
    assert len(os.listdir(tasks)) < before + 25
    slowest = 0
    for _ in range(20):
        began = time.monotonic()
        os.stat(workspace / "f")
        os.listdir(workspace.path)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1, "the mount answers meanwhile"
    alice.close(fd)
    assert waits.result(30)[0] == 0


# ---------------------------------------------------------------- L4: a lapse nobody noticed


@pytest.mark.mount_options("ttl=300ms", "wait=0s", "settle=1ms")
def test_a_lapsed_lease_is_renewed_in_place(workspace, pair):  # L4
    alice, bob = pair
    fd = hold(alice)
    epoch = workspace.leases("f")[0]["epoch"]
    time.sleep(0.4)
    assert workspace.leases("f")[0]["expires_ms"] < 0
    alice.write(fd, b"y")
    row = workspace.leases("f")[0]
    assert (row["writer"], row["epoch"]) == ("alice", epoch) and row["expires_ms"] > 0
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"
    alice.close(fd)
    rows = workspace.log("f")
    assert (rows[-1]["epoch"], rows[-1]["flags"]) == (epoch, [])


# ---------------------------------------------------------------- L9: asking ahead


@pytest.mark.mount_options(*SHORT)
@pytest.mark.parametrize("held", ["d/f", "d", "d/", "*.txt", "d/*", "d/**"])
def test_what_is_asked_for_ahead_keeps_others_out(workspace, writer, held):  # L9
    alice, bob = writer("alice"), writer("bob")
    bob.mkdir("d")
    names = {"*.txt": ["a.txt", "d/b.txt"], "d/f": ["d/f"]}.get(held, ["d/f", "d/new"])
    for name in ("d/f", "a.txt", "d/b.txt", "free"):
        bob.writefile(name, b"1")
    code, out, err = as_writer(
        workspace, alice, "lease", "acquire", held, "--ttl", "5m", "--reason", "big one"
    )
    assert (code, err) == (0, "")
    (row,) = workspace.leases()
    assert row["explicit"] and (row["writer"], row["reason"]) == ("alice", "big one")
    assert 290_000 < row["expires_ms"] <= 300_000
    for name in names:
        assert bob.errno("writefile", name, b"2") == "EAGAIN", name
        assert bob.errno("append", name, b"2") == "EAGAIN", name
        if name != "d/new":
            assert bob.errno("unlink", name) == "EAGAIN", name
            assert bob.errno("rename", name, "x") == "EAGAIN", name
        assert bob.errno("rename", "free", name) == "EAGAIN", name
        assert bob.readfile("free") == b"1"
    bob.writefile("free", b"2")
    know(workspace, "free", alice)
    assert as_writer(workspace, alice, "lease", "release", held)[0] == 0
    for name in names:
        bob.writefile(name, b"3")


@pytest.mark.mount_options(*LONG)
def test_a_release_lets_the_waiting_go_on(workspace, pair):  # L9, L3
    alice, bob = pair
    workspace.ctl("lease acquire f", alice)
    waits = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_until(lambda: workspace.json("status")["waiting"] == 1, "bob waits")
    with soon():
        workspace.ctl("lease release f", alice)
        bob.close(waits.result())


@pytest.mark.mount_options("ttl=30s", "wait=100ms", "settle=1ms")
def test_it_is_renewed_and_lapses(workspace, pair):  # L9, L2
    alice, bob = pair
    workspace.ctl("lease acquire ttl=500ms reason=why f", alice)
    first = workspace.leases("f")[0]
    workspace.ctl("lease renew ttl=900ms f", alice)
    renewed = workspace.leases("f")[0]
    assert renewed["expires_ms"] > 500 and renewed["reason"] == "why"
    assert renewed["writer"] == first["writer"] == "alice"
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"
    time.sleep(0.95)
    bob.close(bob.open("f", WRONLY))
    # A lease asked for ahead that lapsed keeps nobody out; whoever has none, renews none.
    code, _, err = as_writer(workspace, bob, "lease", "renew", "f")
    assert code == 1 and err


@pytest.mark.mount_options(*SHORT)
def test_all_or_none(workspace, pair):  # L9
    alice, bob = pair
    alice.writefile("g", b"1")
    fd = hold(alice, "f")
    for asked in (["g", "f"], ["*"], ["f"]):
        code, _, err = as_writer(workspace, bob, "lease", "acquire", *asked)
        assert code == 1 and "alice" in err
        assert not [r for r in workspace.leases() if r["writer"] == "bob"]
    alice.close(fd)
    assert as_writer(workspace, bob, "lease", "acquire", "g", "f")[0] == 0
    assert alice.errno("open", "f", WRONLY) == "EAGAIN"
    code, _, err = as_writer(workspace, alice, "lease", "acquire", "f")
    assert code == 1 and "bob" in err
    code, _, err = as_writer(workspace, alice, "lease", "acquire", "*")
    assert code == 1 and "bob" in err, "a pattern that covers what is held"


@pytest.mark.mount_options(*SHORT)
def test_a_broken_lease_fences_its_holder_and_says_who(workspace, pair):  # L9, L5
    alice, bob = pair
    fd = hold(alice)
    workspace.ctl("lease acquire ttl=5m f", alice)
    code, _, err = as_writer(workspace, bob, "lease", "break", "f", "--force")
    assert code == 0, err
    assert alice.errno("write", fd, b"late") == "ESTALE"
    (why,) = workspace.why(alice)
    assert why["reason"] == "fenced" and "bob broke your lease" in why["text"]
    assert "broken by bob" in workspace.text("log")
    version = [r for r in workspace.log("f") if "incomplete" in r["flags"]]
    assert [r["writer"] for r in version] == ["alice"]
    assert (workspace / "f").read_bytes() == b"x123456789"
    bob.close(bob.open("f", WRONLY))
    assert alice.errno("write", fd, b"late") == "ESTALE", "for ever"


@pytest.mark.mount_options(*SHORT)
def test_a_broken_lease_asked_for_ahead(workspace, pair):  # L9
    alice, bob = pair
    workspace.ctl("lease acquire ttl=5m *", alice)
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"
    code, _, err = as_writer(workspace, bob, "lease", "break", "f", "--force")
    assert code == 0, err
    bob.close(bob.open("f", WRONLY))
    assert not [r for r in workspace.leases() if r["writer"] == "alice"]


# ---------------------------------------------------------------- L10: ways round


@pytest.fixture(params=["implicit", "explicit"])
def held(request, workspace, pair):
    """alice holds f, by writing it or asked for ahead; f has a second name, g."""
    alice, bob = pair
    bob.mkdir("d")
    bob.link("f", "d/g")
    if request.param == "implicit":
        hold(alice)
    else:
        workspace.ctl("lease acquire ttl=5m f", alice)
    return alice, bob


def refused(w, what, *args):
    return w.errno(what, *args) in ("EAGAIN", "ESTALE")


@pytest.mark.mount_options(*SHORT)
def test_hard_links_share_one_lease(workspace, held):  # L10
    alice, bob = held
    before = (workspace / "f").read_bytes()
    assert bob.errno("open", "d/g", WRONLY) == "EAGAIN"
    assert bob.errno("open", "d/g", RDWR | TRUNC) == "EAGAIN"
    assert bob.errno("truncate", "d/g", 1) == "EAGAIN"
    bob.link("f", "another")
    assert bob.errno("append", "another", b"y") == "EAGAIN"
    alice.append("d/g", b"alice's")
    assert (workspace / "f").read_bytes() == before + b"alice's"


@pytest.mark.mount_options(*SHORT)
def test_proc_self_fd_is_no_way_round(workspace, held):  # L10
    alice, bob = held
    fd = bob.open("f", RDONLY)
    assert bob.errno("reopen", fd, WRONLY) == "EAGAIN"
    other = bob.reopen(fd, RDWR)
    assert bob.errno("write", other, b"y") == "ESTALE"


@pytest.mark.mount_options(*SHORT)
def test_a_path_descriptor_is_no_way_round(workspace, held):  # L10
    alice, bob = held
    fd = bob.open("f", os.O_PATH)
    assert bob.errno("reopen", fd, WRONLY) == "EAGAIN"
    assert bob.errno("truncate", f"/proc/self/fd/{fd}", 0) == "EAGAIN"


@pytest.mark.mount_options(*SHORT)
def test_a_rename_is_no_way_round(workspace, held):  # L10
    alice, bob = held
    assert bob.errno("rename", "f", "aside") == "EAGAIN"
    assert bob.errno("rename", "f", "d/g2") == "EAGAIN"
    bob.writefile("mine", b"mine")
    assert bob.errno("rename", "mine", "f") == "EAGAIN"
    assert bob.errno("rename", "mine", "f", RENAME_EXCHANGE) == "EAGAIN"


@pytest.mark.mount_options(*SHORT)
@pytest.mark.parametrize("asked", ["implicit", "explicit"])
def test_a_renamed_folder_is_no_way_round(workspace, writer, asked):  # L10
    """alice holds d/f; bob moves the folder aside and asks for the file there."""
    alice, bob = writer("alice"), writer("bob")
    alice.mkdir("d")
    alice.writefile("d/f", b"0123456789")
    know(workspace, "d/f", bob)
    if asked == "implicit":
        hold(alice, "d/f")
    else:
        workspace.ctl("lease acquire ttl=5m d/f", alice)
    if bob.errno("rename", "d", "e") is None:
        assert bob.errno("open", "e/f", WRONLY) == "EAGAIN"
        assert bob.errno("unlink", "e/f") == "EAGAIN"


@pytest.mark.mount_options(*SHORT)
def test_a_symbolic_link_is_no_way_round(workspace, held):  # L10
    alice, bob = held
    bob.symlink("f", "s")
    assert bob.errno("open", "s", WRONLY) == "EAGAIN"
    assert bob.sh("echo y > s")[0] != 0


@pytest.mark.mount_options(*SHORT)
def test_an_unlinked_name_leaves_the_lease_on_the_others(workspace, pair):  # L10, L1
    alice, bob = pair
    bob.link("f", "g")
    fd = hold(alice)
    assert bob.errno("unlink", "g") == "EAGAIN"
    alice.unlink("f")
    alice.write(fd, b"y")
    assert bob.errno("open", "g", WRONLY) == "EAGAIN"
    assert (workspace / "g").read_bytes() == b"xy23456789"
    alice.close(fd)
    with soon():
        bob.close(bob.open("g", WRONLY))
