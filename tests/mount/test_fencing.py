"""What becomes of the old holder: take-overs, epochs, clocks, restarts (L4-L8, L10).

f holds OLD, by alice. She writes ALICES over it and keeps her descriptors; once her lease
has lapsed bob takes the file over. Everything runs on kernels that can map direct-io
files, and as on those that cannot (-o no_dio_mmap).
"""

import errno
import os
import shutil
import signal
import subprocess
import time

import pytest

from stomplib.calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE
from stomplib.processes import stop_process
from stomplib.transports import over_both

TTL_S = 0.4
pytestmark = pytest.mark.mount_options("ttl=400ms", "wait=0s", "settle=1ms")

WRONLY, RDWR, APPEND = os.O_WRONLY, os.O_RDWR, os.O_APPEND
PAGE = 4096
SIZE = 3 * PAGE
OLD = b"o" * SIZE
ALICES = b"alice's" + OLD[7:]
BOBS = b"bob's" + ALICES[5:]
LATE = b"too late"


@pytest.fixture(params=["dio_mmap", "no_dio_mmap"])
def both(request, unmounted):
    """The workspace, mounted either way."""
    if request.param == "no_dio_mmap":
        unmounted.options.append(request.param)
    unmounted.mount()
    return unmounted


@pytest.fixture
def pair(unmounted, writer):
    if not unmounted.daemon:
        unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", OLD)
    know(bob)
    return alice, bob


def know(w, name="f"):
    w.call("peek", path=name)
    time.sleep(0.01)


def hold(w, flags=RDWR, name="f"):
    """A descriptor that has written, and so holds the lease."""
    know(w, name)
    fd = w.open(name, flags)
    w.pwrite(fd, b"alice's", 0)
    return fd


def lapse():
    time.sleep(TTL_S * 1.3)


def take_over(bob, name="f"):
    """bob, who knows the file as it is, takes its lease and writes; his descriptor."""
    know(bob, name)
    fd = bob.open(name, WRONLY)
    bob.pwrite(fd, b"bob's", 0)
    return fd


def fenced(workspace, bob, data=BOBS, name="f"):
    """Nothing but bob's is in the file, whoever looks and wherever."""
    assert (workspace / name).read_bytes() == data
    assert bob.readfile(name) == data
    assert workspace.backing(name).read_bytes() == data
    assert workspace.log(name)[-1]["writer"] == "bob"
    assert workspace.version(name, workspace.log(name)[-1]["number"]) == data


# ---------------------------------------------------------------- L5: descriptors


def copy_into(w, fd):
    w.copy_range(w.open("mine"), fd, len(LATE), 0, 0)


WAYS = {
    "write": lambda w, fd: w.write(fd, LATE),
    "pwrite": lambda w, fd: w.pwrite(fd, LATE, 2 * PAGE),
    "pwrite past the end": lambda w, fd: w.pwrite(fd, LATE, 5 * PAGE),
    "ftruncate(0)": lambda w, fd: w.ftruncate(fd, 0),
    "ftruncate(less)": lambda w, fd: w.ftruncate(fd, 5),
    "ftruncate(as long)": lambda w, fd: w.ftruncate(fd, SIZE),
    "ftruncate(more)": lambda w, fd: w.ftruncate(fd, 9 * PAGE),
    "fallocate": lambda w, fd: w.fallocate(fd, 0, 0, 9 * PAGE),
    "punch a hole": lambda w, fd: w.fallocate(
        fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, PAGE
    ),
    "zero a range": lambda w, fd: w.fallocate(fd, FALLOC_ZERO_RANGE, 0, PAGE),
    "copy into": copy_into,
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def errno_through(way, w, fd):
    try:
        way(w, fd)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def test_every_way_through_a_fenced_handle_is_estale(both, pair, way):  # L5, S13
    alice, bob = pair
    alice.writefile("mine", LATE)
    fd = hold(alice)
    lapse()
    theirs = take_over(bob)
    assert errno_through(way, alice, fd) == "ESTALE", "while bob holds it"
    assert both.why(alice)[0]["reason"] == "fenced"
    assert "bob" in both.why(alice)[0]["text"]
    bob.close(theirs)
    assert errno_through(way, alice, fd) == "ESTALE", "when bob is done"
    fenced(both, bob)
    lapse()
    know(alice)
    alice.append("f", b"anew")
    assert errno_through(way, alice, fd) == "ESTALE", "for ever, also beside a new handle"
    assert (both / "f").read_bytes() == BOBS + b"anew"


def test_before_the_takers_own_write_as_well(both, pair, way):  # L5
    """The take-over is bob's open; he has not written yet."""
    alice, bob = pair
    alice.writefile("mine", LATE)
    fd = hold(alice)
    lapse()
    theirs = bob.open("f", WRONLY)
    assert errno_through(way, alice, fd) == "ESTALE"
    assert (both / "f").read_bytes() == ALICES
    bob.close(theirs)


def test_reads_through_a_fenced_handle_still_work(both, pair):  # L5
    alice, bob = pair
    fd = hold(alice)
    lapse()
    bob.close(take_over(bob))
    assert alice.errno("write", fd, LATE) == "ESTALE"
    # Where it may carry a mapping it is left with the file as it was for that.
    assert alice.pread(fd, SIZE, 0) in (ALICES, BOBS)
    assert alice.fstat(fd)["size"] == SIZE
    assert alice.errno("fsync", fd) is None
    assert alice.errno("close", fd) is None


@over_both
def test_the_old_holders_work_is_an_incomplete_version_before_the_takers(both, pair):  # L5, V1
    alice, bob = pair
    fd = hold(alice)
    lapse()
    theirs = bob.open("f", WRONLY)
    rows = both.log("f")
    assert [(r["writer"], r["flags"]) for r in rows[-1:]] == [("alice", ["incomplete"])]
    assert both.version("f", rows[-1]["number"]) == ALICES
    know(bob)
    bob.pwrite(theirs, b"bob's", 0)
    bob.close(theirs)
    alice.close(fd)
    rows = both.log("f")
    assert [(r["writer"], r["flags"]) for r in rows] == [
        ("alice", []),
        ("alice", ["incomplete"]),
        ("bob", []),
    ]
    assert rows[0]["epoch"] < rows[1]["epoch"] < rows[2]["epoch"]
    assert rows[2]["base"] == rows[1]["number"]
    assert "taken over by bob" in both.text("log")


def test_duplicated_and_inherited_descriptors_are_fenced_too(both, pair):  # L5, L10
    alice, bob = pair
    fd = hold(alice)
    copy, child, orphan = alice.dup(fd), alice.fork(), alice.fork(detach=True)
    lapse()
    bob.close(take_over(bob))
    assert alice.errno("write", copy, LATE) == "ESTALE"
    for process in child, orphan:
        for number in fd, copy:
            with pytest.raises(OSError) as refused:
                alice.child(process, "write", fd=number, data=LATE)
            assert refused.value.errno == errno.ESTALE
    fenced(both, bob)


HANDED_OVER = """
exec 9<>f
printf "alice's" >&9
until test -e go; do sleep 0.02; done
exec {stomp} run bob -- sh -c '/bin/echo late >&9'
"""


def test_a_descriptor_handed_to_another_writer_is_fenced_too(both, pair):  # L5, W3
    """What counts is who opened it: the taker himself cannot write through it."""
    alice, bob = pair
    know(alice)
    script = HANDED_OVER.format(stomp=both.stomp)
    call = alice.start("spawn", argv=["sh", "-c", script], limit=30)
    deadline = time.monotonic() + 10
    while (both / "f").read_bytes() != ALICES:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lapse()
    bob.close(take_over(bob))
    bob.writefile("go", b"")
    code, _, said = call.result()
    assert code != 0 and "tale" in said, said
    fenced(both, bob)


def test_an_old_descriptor_opened_anew_is_a_new_handle(both, pair):  # L5, L10
    alice, bob = pair
    fd = hold(alice, WRONLY)
    lapse()
    theirs = take_over(bob)
    assert alice.errno("reopen", fd, WRONLY) == "EAGAIN"
    bob.close(theirs)
    new = alice.reopen(fd, WRONLY | APPEND)
    alice.write(new, b"anew")
    alice.close(new)
    assert alice.errno("write", fd, LATE) == "ESTALE"
    assert (both / "f").read_bytes() == BOBS + b"anew"


def test_only_the_old_holders_handles_are_fenced(both, pair, writer):  # L5
    """Opened for both and never written: no lease, so no take-over concerns it."""
    alice, bob = pair
    carol = writer("carol")
    idle = carol.open("f", RDWR)
    fd = hold(alice)
    lapse()
    bob.close(take_over(bob))
    assert alice.errno("write", fd, LATE) == "ESTALE"
    know(carol)
    carol.pwrite(idle, b"carol's", PAGE)
    assert (both / "f").read_bytes() == BOBS[:PAGE] + b"carol's" + BOBS[PAGE + 7 :]


TAKERS = {
    "rename": lambda bob: bob.save_by_rename("f", BOBS),
    "unlink and create": lambda bob: (bob.unlink("f"), bob.writefile("f", BOBS)),
    "O_TRUNC": lambda bob: bob.writefile("f", BOBS),
    "exchange": lambda bob: (bob.writefile("t", BOBS), bob.rename("t", "f", 2)),
}


@pytest.mark.parametrize("taker", TAKERS.values(), ids=TAKERS)
def test_a_take_over_by_any_way_in_fences(both, pair, taker):  # L5, L6, S10
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"mapped in time")
    lapse()
    know(bob)
    taker(bob)
    assert alice.errno("write", fd, LATE) == "ESTALE"
    assert alice.errno("ftruncate", fd, 0) == "ESTALE"
    alice.errno("store", m, 0, LATE)
    alice.errno("msync", m)
    fenced(both, bob)
    incomplete = [r for r in both.log("f") if "incomplete" in r["flags"]]
    assert [r["writer"] for r in incomplete] == ["alice"]
    data = both.version("f", incomplete[0]["number"])
    assert data == ALICES[:PAGE] + b"mapped in time" + ALICES[PAGE + 14 :]
    alice.munmap(m)
    alice.close(fd)
    fenced(both, bob)


# ---------------------------------------------------------------- L6: mappings


def test_stores_before_the_take_over_are_in_the_incomplete_version(both, pair):  # L5, L6
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"mapped")
    lapse()
    bob.append("f", b"bob's")
    rows = both.log("f")
    assert [(r["writer"], r["flags"]) for r in rows[-2:]] == [
        ("alice", ["incomplete"]),
        ("bob", []),
    ]
    stored = ALICES[:PAGE] + b"mapped" + ALICES[PAGE + 6 :]
    assert both.version("f", rows[-2]["number"]) == stored
    assert (both / "f").read_bytes() == stored + b"bob's"


def test_who_has_read_what_a_mapping_stored_knows_it(both, pair):  # S1, L6
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"mapped")
    lapse()
    bob.close(take_over(bob))
    stored = BOBS[:PAGE] + b"mapped" + BOBS[PAGE + 6 :]
    fenced(both, bob, stored)


def test_stores_after_the_take_over_reach_nobody(both, pair, writer):  # L6
    alice, bob = pair
    carol = writer("carol")
    fd = hold(alice)
    maps = [alice.mmap(fd, SIZE), alice.mmap(alice.dup(fd), SIZE)]
    child = alice.fork()
    lapse()
    theirs = take_over(bob)
    reader = carol.open("f")
    view = carol.mmap(reader, SIZE, write=False)

    def nobody_sees_it():
        assert carol.load(view, 0, SIZE) == BOBS
        assert carol.pread(reader, SIZE, 0) == BOBS
        assert carol.readfile("f") == BOBS
        assert both.backing("f").read_bytes() == BOBS

    for m in maps:
        alice.errno("store", m, 0, LATE)
        alice.errno("store", m, 2 * PAGE, LATE)
        nobody_sees_it()
        alice.errno("msync", m)
        nobody_sees_it()
    for what, args in (
        ("store", {"map_id": maps[0], "offset": PAGE, "data": LATE}),
        ("msync", {"map_id": maps[0]}),
    ):
        try:
            alice.child(child, what, **args)
        except OSError:
            pass
        nobody_sees_it()
    bob.pwrite(theirs, b"bob's", 0)
    alice.errno("fsync", fd)
    for m in maps:
        alice.munmap(m)
    alice.kill()
    nobody_sees_it()
    bob.close(theirs)
    fenced(both, bob)


def test_a_mapping_outlives_its_descriptor_but_not_the_lease(both, pair):  # L6
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.close(fd)
    alice.store(m, PAGE, b"mapped")
    lapse()
    know(bob)
    bob.append("f", b"bob's")
    stored = ALICES[:PAGE] + b"mapped" + ALICES[PAGE + 6 :] + b"bob's"
    alice.errno("store", m, 0, LATE)
    alice.errno("msync", m)
    fenced(both, bob, stored)


def test_the_takers_own_mapping_works(both, pair):  # L6
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"mapped")
    lapse()
    know(bob)
    bob.close(bob.open("f", WRONLY))
    theirs = bob.open("f", RDWR)
    bob.pwrite(theirs, b"bob's", 0)
    mine = bob.mmap(theirs, SIZE)
    bob.store(mine, 2 * PAGE, b"bob's")
    alice.errno("store", m, 2 * PAGE, LATE)
    alice.errno("msync", m)
    bob.msync(mine)
    assert bob.load(mine, 2 * PAGE, 5) == b"bob's"
    bob.munmap(mine)
    bob.close(theirs)
    assert (both / "f").read_bytes()[2 * PAGE :][:8] == b"bob's" + b"ooo"
    assert (both / "f").read_bytes()[PAGE:][:6] == b"mapped"


def test_a_private_mapping_is_nobodys_business(both, pair):  # L6
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE, shared=False)
    alice.store(m, 0, LATE)
    lapse()
    bob.close(take_over(bob))
    alice.store(m, 0, LATE)
    assert alice.load(m, 0, 8) == LATE
    fenced(both, bob)


# ---------------------------------------------------------------- L7: pauses

STOPPED_SCRIPT = """
import os, sys
fd = os.open("f", os.O_WRONLY)
n = 0
try:
    while True:
        n += os.pwrite(fd, b"alice %d " % n, 4096)
except OSError as error:
    print(os.strerror(error.errno), flush=True)
"""


def left_on_the_old_inode(workspace, pair, writer):
    """bob's descriptor from before a take-over that left the old inode to alice's mappings;
    what the path leads to is in the page cache, on the inode that it has now."""
    alice, bob = pair
    carol = writer("carol")
    alices = hold(alice)
    fd = bob.open("f", RDWR)
    lapse()
    before = os.stat(workspace / "f").st_ino
    carol.close(take_over(carol))
    alice.close(alices)
    know(bob)
    assert (workspace / "f").read_bytes() == workspace.backing("f").read_bytes()
    assert os.stat(workspace / "f").st_ino == before  # the backing's
    return bob, fd


OLD_INODE_CHANGES = {
    "write": lambda w, fd: w.pwrite(fd, b"bob, over there", 0),
    "longer": lambda w, fd: w.pwrite(fd, b"beyond the end", SIZE),
    "shorter": lambda w, fd: w.ftruncate(fd, 5),
    "hole": lambda w, fd: w.call(
        "fallocate", fd=fd, mode=FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset=0, size=PAGE
    ),
}


@pytest.mark.parametrize("change", OLD_INODE_CHANGES)
def test_what_comes_through_an_old_inode_is_seen(workspace, pair, writer, change):
    # L5: nobody reads what has been overwritten
    bob, fd = left_on_the_old_inode(workspace, pair, writer)
    for _ in range(2):  # the first may be told to open the file again
        try:
            OLD_INODE_CHANGES[change](bob, fd)
        except OSError as error:
            assert error.errno == errno.ESTALE
    now = workspace.backing("f").read_bytes()
    assert os.stat(workspace / "f").st_size == len(now)
    assert (workspace / "f").read_bytes() == now
    bob.close(fd)
    assert (workspace / "f").read_bytes() == workspace.backing("f").read_bytes()


def test_a_holder_stopped_beyond_its_ttl(workspace, pair):  # L7, L5
    alice, bob = pair
    know(alice)
    call = alice.start("spawn", argv=["/usr/bin/python3", "-c", STOPPED_SCRIPT], limit=30)
    deadline = time.monotonic() + 10
    while (workspace / "f").read_bytes()[PAGE:][:5] != b"alice":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (child,) = children_of(alice.pid)
    stop_process(child)
    lapse()
    theirs = take_over(bob)
    taken = (workspace / "f").read_bytes()
    os.kill(child, signal.SIGCONT)
    code, out, _ = call.result()
    assert (code, out) == (0, "Stale file handle\n")
    assert (workspace / "f").read_bytes() == taken
    bob.close(theirs)
    fenced(workspace, bob, taken)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(p) for p in f.read().split()]


def stop_daemon(workspace):
    stop_process(workspace.daemon.pid)


def continue_daemon(workspace):
    os.kill(workspace.daemon.pid, signal.SIGCONT)


def test_a_daemon_stopped_while_a_fenced_write_is_queued(workspace, pair):  # L7
    alice, bob = pair
    fd = hold(alice)
    lapse()
    theirs = take_over(bob)
    stop_daemon(workspace)
    try:
        late = alice.start("pwrite", fd=fd, data=LATE, offset=0)
        lapse()  # now bob's own lease has lapsed as well
        assert not late.done()
    finally:
        continue_daemon(workspace)
    assert late.errno() == "ESTALE"
    bob.close(theirs)
    fenced(workspace, bob)


@pytest.mark.parametrize("turn", range(4))
def test_a_daemon_stopped_while_write_and_take_over_are_queued(workspace, pair, turn):  # L7
    """Either comes first; never does the write go through after the take-over."""
    alice, bob = pair
    fd = hold(alice)
    stop_daemon(workspace)
    try:
        calls = [
            lambda: alice.start("pwrite", fd=fd, data=b"second", offset=PAGE),
            lambda: bob.start("open", path="f", flags=WRONLY, mode=0),
        ]
        calls = [call() for call in (calls if turn % 2 else calls[::-1])]
        write, take = calls if turn % 2 else calls[::-1]
        lapse()
    finally:
        continue_daemon(workspace)
    written, taken = write.errno(), take.errno()
    last = workspace.log("f")[-1]
    wrote = ALICES[:PAGE] + b"second" + ALICES[PAGE + 6 :]
    if taken is None:
        assert written in (None, "ESTALE")
        assert (last["writer"], last["flags"]) == ("alice", ["incomplete"])
        data = wrote if written is None else ALICES
        assert workspace.version("f", last["number"]) == data
        assert alice.errno("pwrite", fd, LATE, 0) == "ESTALE"
    else:
        assert (written, taken) == (None, "EAGAIN"), "her write renewed the lease"
        data = wrote
    assert (workspace / "f").read_bytes() == data


@over_both
def test_a_killed_holder_leaves_what_it_wrote(both, pair):  # L2, L5, V4
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"mapped")
    alice.kill()
    know(bob)
    fd = bob.open("f", RDWR)  # at once, without waiting for the ttl
    bob.pwrite(fd, b"bob's", 0)
    bob.close(fd)
    rows = both.log("f")
    assert [r["writer"] for r in rows[-2:]] == ["alice", "bob"]
    stored = ALICES[:PAGE] + b"mapped" + ALICES[PAGE + 6 :]
    assert both.version("f", rows[-2]["number"]) == stored
    fenced(both, bob, b"bob's" + stored[5:])


# ---------------------------------------------------------------- L8: clocks


YEAR = 365 * 86400

# A wall clock that is as many seconds ahead as the file $STEPS says, and nothing else:
# what intercepts waits as well (libfaketime) makes them end early.
STEPPED_CLOCK = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *t)
{
	long r = syscall(SYS_clock_gettime, id, t);
	char text[32] = {0};

	if (r == 0 && id == CLOCK_REALTIME) {
		int fd = open(getenv("STEPS"), O_RDONLY | O_CLOEXEC);

		if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
			abort();
		close(fd);
		t->tv_sec += atol(text);
	}
	return (int)r;
}
"""


@pytest.fixture
def stepped(unmounted, tmp_path):
    """A workspace whose daemon's wall clock can be stepped: stepped(seconds)."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    shim = tmp_path / "clock.so"
    (tmp_path / "clock.c").write_text(STEPPED_CLOCK)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "clock.c"], check=True
    )
    steps, build = tmp_path / "steps", tmp_path / "build"
    steps.write_text("0")
    (build / "fs").mkdir(parents=True)
    (build / "cli").symlink_to(unmounted.build / "cli")
    wrapper = build / "fs" / "stompfs"
    wrapper.write_text(
        f'#!/bin/sh\nSTEPS={steps} LD_PRELOAD={shim} exec {unmounted.stompfs} "$@"\n'
    )
    wrapper.chmod(0o755)
    unmounted.build = build
    unmounted.mount()

    def step(seconds):
        new = tmp_path / "steps.new"
        new.write_text(str(seconds))
        new.replace(steps)

    return step


def wall_clock_of(workspace, name="f"):
    return time.strptime(workspace.log(name)[-1]["time"][:19], "%Y-%m-%dT%H:%M:%S").tm_year


@pytest.mark.parametrize("by", [YEAR, -YEAR], ids=["a year ahead", "a year back"])
@pytest.mark.mount_options("ttl=1500ms", "wait=0s", "settle=1ms")
def test_a_stepped_clock_changes_nothing(unmounted, stepped, pair, by):  # L8, S12
    alice, bob = pair
    fd = hold(alice)
    year = wall_clock_of(unmounted)
    left_ms = unmounted.leases("f")[0]["expires_ms"]
    stepped(by)
    assert 0 < unmounted.leases("f")[0]["expires_ms"] <= left_ms
    assert bob.errno("open", "f", WRONLY) == "EAGAIN", "it has not lapsed"
    time.sleep(1.7)
    assert unmounted.leases("f")[0]["expires_ms"] < 0, "and it does lapse"
    theirs = take_over(bob)
    assert alice.errno("write", fd, LATE) == "ESTALE"
    stepped(0)
    assert alice.errno("open", "f", WRONLY) == "EAGAIN"
    bob.close(theirs)
    fenced(unmounted, bob)
    stepped(by)
    bob.append("f", b"later")
    assert wall_clock_of(unmounted) == year + (1 if by > 0 else -1), "the clock did step"
    mtimes = [os.stat(unmounted / "f").st_mtime_ns]
    stepped(0)
    bob.append("f", b"later still")
    mtimes.append(os.stat(unmounted / "f").st_mtime_ns)
    assert mtimes[0] < mtimes[1]


# ---------------------------------------------------------------- L8: restarts, epochs


def epochs(workspace, name="f"):
    return [r["epoch"] for r in workspace.log(name)]


def test_epochs_only_grow(workspace, writer):  # L8, L1
    """Across files, unlink and re-create, a remount, and kill -9 of the daemon."""
    seen = []

    def change(name):
        alice, bob = writer("alice", cwd="/"), writer("bob", cwd="/")
        for w in alice, bob:
            w.call("chdir", path=str(workspace.path))
        alice.append(name, b"a")
        bob.append(name, b"b")
        seen.extend(epochs(workspace, name)[-2:])
        fd = bob.open(name, WRONLY | APPEND)
        seen.append(workspace.leases(name)[0]["epoch"])
        bob.close(fd)
        alice.stop(), bob.stop()

    change("f")
    change("g")
    writer("carol", cwd="/").sh(f"cd {workspace.path} && cat f && sleep 0.1 && rm f")
    change("f")
    workspace.remount()
    change("f")
    workspace.kill_daemon()
    workspace.mount()
    change("g")
    change("f")
    assert seen == sorted(set(seen)), seen


@over_both
@pytest.mark.parametrize("end", ["umount", "kill"])
def test_no_old_handle_survives_the_daemon(workspace, pair, end):  # L8
    alice, bob = pair
    fd = hold(alice)
    m = alice.mmap(fd, SIZE)
    alice.store(m, PAGE, b"in time")
    alice.msync(m)
    before = (workspace / "f").read_bytes()
    if end == "kill":
        workspace.kill_daemon()
    else:
        workspace.abort()
        workspace.daemon.wait(10)
        workspace.destroy()
    workspace.mount()
    for way in WAYS.values():
        if way is not copy_into:
            assert errno_through(way, alice, fd) in ("ENOTCONN", "ECONNABORTED", "EIO")
    alice.errno("store", m, 0, LATE)
    alice.errno("msync", m)
    assert (workspace / "f").read_bytes() == before
    assert workspace.backing("f").read_bytes() == before
    assert not workspace.leases()
    assert workspace.log("f")[-1]["writer"] == "alice", "her work has its version (V4)"
    assert workspace.version("f", workspace.log("f")[-1]["number"]) == before
    alice.kill(), bob.kill()
