"""Cost follows the change (V6): captures take what changed, and versions read back exact."""

import ctypes
import errno
import mmap
import os
import random
import re
import time

import pytest

pytestmark = pytest.mark.mount_options("settle=1ms", "wait=300ms")

libc = ctypes.CDLL(None, use_errno=True)

KIB, MIB = 1024, 1024 * 1024


def metric(workspace, name):
    text = workspace.text("metrics")
    return int(re.search(rf"^stompfs_{name}(?:_total)? (\d+)$", text, re.M).group(1))


def quiet(workspace):
    """Wait until every release was heard of and its version is written."""
    deadline = time.monotonic() + 20
    while metric(workspace, "leases") or metric(workspace, "journal_queued"):
        assert time.monotonic() < deadline, workspace.text("metrics")
        time.sleep(0.002)


class Counted:
    """How much the captures between enter and exit took."""

    def __init__(self, workspace):
        self.workspace = workspace

    def _now(self):
        quiet(self.workspace)
        names = ("captures_partial", "captures_whole", "captured_bytes", "stored_bytes")
        return [metric(self.workspace, name) for name in names]

    def __enter__(self):
        self.before = self._now()
        return self

    def __exit__(self, *error):
        self.partial, self.whole, self.bytes, self.stored = (
            b - a for a, b in zip(self.before, self._now())
        )


def write_at(path, at, data, flags=os.O_WRONLY):
    fd = os.open(path, flags)
    try:
        assert os.pwrite(fd, data, at) == len(data)
    finally:
        os.close(fd)


def append(path, data):
    with open(path, "ab", buffering=0) as f:
        f.write(data)


def newest(workspace, name):
    rows = [v for v in workspace.log(name) if v["path"] == name]
    return max(v["number"] for v in rows)


def check_newest(workspace, name, want):
    quiet(workspace)
    assert workspace.version(name, newest(workspace, name)) == want


def made(workspace, name, data):
    path = workspace.path / name
    path.write_bytes(data)
    quiet(workspace)
    return path


# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize("size", [10 * KIB, 64 * KIB + 1, 3 * MIB + 123])
def test_a_small_write_takes_and_stores_what_it_wrote(workspace, size):  # V6
    data = bytearray(random.Random(size).randbytes(size))
    path = made(workspace, "f", data)
    with Counted(workspace) as cost:
        write_at(path, 4096, b"n" * 300)
    data[4096:4396] = b"n" * 300
    assert (cost.partial, cost.whole, cost.bytes) == (1, 0, 300)
    assert cost.stored <= 300
    check_newest(workspace, "f", data)


@pytest.mark.parametrize("size", [0, 300, 70 * KIB])
def test_an_append_takes_and_stores_what_it_appended(workspace, size):  # V6
    rng = random.Random(size)
    data = rng.randbytes(size)
    path = made(workspace, "log", data)
    with Counted(workspace) as cost:
        for _ in range(60):
            line = rng.randbytes(100)
            append(path, line)
            data += line
            quiet(workspace)
    assert cost.bytes <= 60 * 100 + 600 and cost.stored <= 60 * 100 + 600
    assert cost.partial >= 55
    check_newest(workspace, "log", data)


def test_an_unchanged_rewrite_in_place_stores_nothing(workspace):  # V1, V6
    data = random.Random(1).randbytes(200 * KIB)
    path = made(workspace, "f", data)
    number = newest(workspace, "f")
    with Counted(workspace) as cost:
        write_at(path, 70000, data[70000:75000])
    assert cost.stored == 0 and cost.whole == 0
    assert newest(workspace, "f") == number


def test_the_state_before_the_mount_is_what_the_first_edit_builds_on(unmounted):  # V2, V6
    data = bytearray(random.Random(2).randbytes(300 * KIB))
    (unmounted.path / "f").write_bytes(data)
    unmounted.mount()
    with Counted(unmounted) as cost:
        write_at(unmounted.path / "f", 100000, b"x" * 64)
    assert (cost.partial, cost.whole) == (1, 1)
    assert unmounted.version("f", 1) == data
    data[100000:100064] = b"x" * 64
    check_newest(unmounted, "f", data)


@pytest.mark.parametrize("how", ["write", "append", "cut"])
def test_after_a_restart_as_well(workspace, how):  # V6
    data = bytearray(random.Random(5).randbytes(500 * KIB))
    path = made(workspace, "f", data)
    workspace.remount()
    path.read_bytes()  # nothing is remembered as read (S3)
    workspace.settle(20)
    with Counted(workspace) as cost:
        if how == "write":
            write_at(path, 9000, b"w" * 50)
            data[9000:9050] = b"w" * 50
        elif how == "append":
            append(path, b"more")
            data += b"more"
        else:
            os.truncate(path, 400 * KIB)
            del data[400 * KIB :]
    assert (cost.partial, cost.whole) == (1, 0) and cost.bytes <= 50
    check_newest(workspace, "f", data)


def test_many_writes_of_one_session_take_their_blocks(workspace):  # V6
    rng = random.Random(3)
    data = bytearray(rng.randbytes(16 * MIB))
    path = made(workspace, "f", data)
    with Counted(workspace) as cost:
        fd = os.open(path, os.O_WRONLY)
        for _ in range(400):
            at = rng.randrange(len(data) // 4096) * 4096
            block = rng.randbytes(4096)
            os.pwrite(fd, block, at)
            data[at : at + 4096] = block
        os.close(fd)
    assert (cost.partial, cost.whole) == (1, 0)
    assert cost.bytes <= 400 * 4096
    check_newest(workspace, "f", data)


def test_a_change_that_nobody_told_of_is_taken_as_well(workspace):  # V6
    data = bytearray(random.Random(4).randbytes(100 * KIB))
    path = made(workspace, "f", data)
    backing = workspace.backing("f")
    was = os.stat(backing)
    write_at(backing, 50000, b"behind")
    os.utime(backing, ns=(was.st_atime_ns, was.st_mtime_ns))
    data[50000:50006] = b"behind"
    with Counted(workspace) as cost:
        write_at(path, 10, b"before")
    data[10:16] = b"before"
    assert (cost.partial, cost.whole) == (0, 1)
    check_newest(workspace, "f", data)


# ---------------------------------------------------------------- against a reference


PUNCH, ZERO = 0x02 | 0x01, 0x10 | 0x01  # both with KEEP_SIZE


def fallocate(fd, mode, at, length):
    if libc.fallocate(fd, mode, ctypes.c_int64(at), ctypes.c_int64(length)) < 0:
        if mode == ZERO and ctypes.get_errno() == errno.EOPNOTSUPP:
            os.pwrite(fd, bytes(length), at)  # a kernel that does not pass it on
            return
        raise OSError(ctypes.get_errno(), "fallocate")


def step(rng, fd, data):
    """One change of an open file, and of what it should be."""
    size = len(data)
    kind = rng.choice(["write"] * 4 + ["append"] * 3 + ["cut", "grow", "punch", "zero", "map"])
    at = rng.randrange(size + 1)
    n = rng.choice([1, 63, 100, 4096, 5000, 20000])
    if kind == "write":
        block = rng.randbytes(n)
        os.pwrite(fd, block, at)
        data[at : at + n] = block
    elif kind == "append":
        block = rng.randbytes(n)
        os.pwrite(fd, block, size)
        data += block
    elif kind == "cut":
        to = rng.choice([at, max(0, size - n), 0, size // 2])
        os.ftruncate(fd, to)
        del data[to:]
    elif kind == "grow":
        os.ftruncate(fd, size + n)
        data += bytes(n)
    elif kind in ("punch", "zero") and size:
        end = min(size, at + n)
        if end > at:
            fallocate(fd, PUNCH if kind == "punch" else ZERO, at, end - at)
            data[at:end] = bytes(end - at)
    elif kind == "map" and size:
        end = min(size, at + n)
        with mmap.mmap(fd, size) as m:
            block = rng.randbytes(end - at)
            m[at:end] = block
            m.flush()
        data[at:end] = block


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(6))
def test_random_changes_read_back_exact(workspace, seed):  # V6
    rng = random.Random(seed)
    size = rng.choice([0, 200, 30 * KIB, 64 * KIB, 200 * KIB, 600 * KIB])
    data = bytearray(rng.randbytes(size))
    made(workspace, "f", data)
    path = workspace.path / "f"
    states = {newest(workspace, "f"): bytes(data)}
    for _ in range(25):
        before = bytes(data)
        fd = os.open(path, os.O_RDWR)
        try:
            for _ in range(rng.choice([1, 1, 2, 5])):
                step(rng, fd, data)
        finally:
            os.close(fd)
        quiet(workspace)
        number = newest(workspace, "f")
        if data != before:
            assert number not in states
        states[number] = bytes(data)
        assert path.read_bytes() == data
        if rng.random() < 0.1:
            workspace.remount()
            path.read_bytes()  # nothing is remembered as read (S3)
            workspace.settle(20)
    assert metric(workspace, "captures_partial") + len(states) > 0
    for number, want in states.items():
        assert workspace.version("f", number) == want, number


def test_versions_read_back_after_a_thousand_appends(workspace):  # V6
    data, states = b"", {}
    path = workspace.path / "log"
    path.write_bytes(b"")
    quiet(workspace)
    for i in range(1000):
        append(path, b"%06d " % i + b"x" * 40 + b"\n")
    quiet(workspace)
    rows = [v for v in workspace.log("log") if v["path"] == "log"]
    whole = path.read_bytes()
    assert len(whole) == 48 * 1000
    for v in rows[::50]:
        assert workspace.version("log", v["number"]) == whole[: v["size"]]
