"""Versions through the kernel: what is recorded, when, and what becomes of it (V1-V8)."""

import os
import subprocess
import time

import pytest

from stomplib.calls import needs_root
from stomplib.transports import over_both

pytestmark = pytest.mark.mount_options("settle=100ms", "wait=300ms")

WRONLY, RDWR, CREAT, TRUNC = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC


def log(workspace, name, at_least=0):
    """The versions that a path's history tells of. close() returns before the daemon has
    heard of the release: those expected at least are waited for, for a while."""
    deadline = time.monotonic() + 5
    while True:
        try:
            rows = workspace.log(name)
        except FileNotFoundError:  # nothing of that name has a version yet
            rows = []
        if len(rows) >= at_least or time.monotonic() > deadline:
            return rows
        time.sleep(0.02)


def story(workspace, name, at_least=0):
    """(number, kind, writer) of a path's own versions, oldest first."""
    rows = log(workspace, name, at_least)
    return [(v["number"], v["kind"], v["writer"]) for v in rows if v["path"] == name]


def contents(workspace, name):
    workspace.settle()  # the release of the last handle is on its way
    rows = [v for v in log(workspace, name) if v["path"] == name and v["content"]]
    return [workspace.version(name, v["number"]) for v in rows]


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


@pytest.fixture
def alice(workspace, writer):
    return writer("alice")


# ---------------------------------------------------------------- V1: one per session


def test_a_session_of_many_writes_is_one_version(workspace, alice):  # V1
    fd = alice.open("f", WRONLY | CREAT)
    for i in range(5):
        alice.write(fd, b"%d\n" % i)
    assert story(workspace, "f") == []
    alice.close(fd)
    assert story(workspace, "f", 1) == [(1, "write", "alice")]
    assert contents(workspace, "f") == [b"0\n1\n2\n3\n4\n"]


@over_both
def test_it_ends_when_the_last_writable_handle_goes(workspace, alice):  # V1
    first = alice.open("f", WRONLY | CREAT)
    second = alice.open("f", RDWR)
    reading = alice.open("f")
    alice.write(first, b"one\n")
    alice.close(first)
    third = alice.dup(second)
    alice.pwrite(second, b"two\n", 4)
    alice.close(second)
    assert story(workspace, "f") == []
    alice.close(third)
    assert story(workspace, "f", 1) == [(1, "write", "alice")]
    assert contents(workspace, "f") == [b"one\ntwo\n"]
    alice.close(reading)
    assert len(story(workspace, "f")) == 1


@over_both
def test_a_flush_is_no_end(workspace, alice):  # V1
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"one\n")
    for _ in range(3):
        alice.close(alice.dup(fd))  # flushes
    alice.fsync(fd)
    assert story(workspace, "f") == []
    alice.write(fd, b"two\n")
    alice.close(fd)
    assert story(workspace, "f", 1) == [(1, "write", "alice")]


def test_no_change_no_version(workspace, alice):  # V1
    alice.writefile("f", b"same\n")
    alice.writefile("f", b"same\n")
    fd = alice.open("f", RDWR)
    alice.pwrite(fd, b"same", 0)
    alice.close(fd)
    alice.append("f", b"")
    alice.close(alice.open("f", WRONLY))
    alice.chmod("f", 0o644)
    alice.utime("f", (1, 1))
    assert story(workspace, "f", 1) == [(1, "write", "alice")]


def test_an_empty_new_file_is_a_version(workspace, alice):  # V1
    alice.close(alice.open("f", WRONLY | CREAT))
    assert story(workspace, "f", 1) == [(1, "write", "alice")]
    assert contents(workspace, "f") == [b""]


def test_a_mode_change_is_a_version(workspace, alice):  # V1, V3
    alice.writefile("f", b"x\n")
    alice.chmod("f", 0o755)
    assert story(workspace, "f", 2)[1:] == [(2, "mode", "alice")]
    newest = workspace.log("f")[-1]
    assert newest["mode"] == "0755"
    assert contents(workspace, "f") == [b"x\n", b"x\n"]


@over_both
def test_truncate_and_fallocate_are_changes(workspace, alice):  # V1
    alice.writefile("f", b"0123456789")
    alice.truncate("f", 4)
    fd = alice.open("f", RDWR)
    alice.fallocate(fd, 0, 0, 8)
    alice.close(fd)
    assert contents(workspace, "f") == [b"0123456789", b"0123", b"0123\0\0\0\0"]


@over_both
def test_a_mapping_is_part_of_its_session(workspace, alice):  # V1
    alice.writefile("f", b"a" * 4096)
    fd = alice.open("f", RDWR)
    mapped = alice.mmap(fd, 4096)
    alice.close(fd)
    alice.store(mapped, 0, b"mapped")
    alice.msync(mapped)
    alice.munmap(mapped)
    until(lambda: len(story(workspace, "f")) == 2)
    assert story(workspace, "f")[1] == (2, "write", "alice")
    assert workspace.version("f", 2) == b"mapped" + b"a" * 4090


@pytest.mark.mount_options("checkpoint=300ms")
def test_a_long_session_has_checkpoints(workspace, alice):  # V1
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"one\n")
    until(lambda: len(story(workspace, "f")) == 1)
    time.sleep(0.5)
    assert len(story(workspace, "f")) == 1, "nothing was written since"
    alice.write(fd, b"two\n")
    until(lambda: len(story(workspace, "f")) == 2)
    alice.write(fd, b"three\n")
    alice.close(fd)
    assert contents(workspace, "f") == [b"one\n", b"one\ntwo\n", b"one\ntwo\nthree\n"]
    assert {v["epoch"] for v in workspace.log("f")} == {workspace.log("f")[0]["epoch"]}


def test_a_version_says_who_and_how(workspace, alice):  # W4
    alice.writefile("f", b"x\n")
    (row,) = log(workspace, "f", 1)
    assert row["writer"] == "alice" and row["rule"] == "run" and row["pid"] == alice.pid
    assert "agent.py" in row["command"]
    assert row["size"] == 2 and row["epoch"] > 0 and row["mode"] == "0644"


# ---------------------------------------------------------------- V2, V3


def test_what_was_there_comes_first(unmounted, writer):  # V2
    for name in ("write", "rename", "unlink", "mode", "append"):
        (unmounted / name).write_bytes(b"before\n")
    unmounted.mount()
    alice = writer("alice")
    alice.writefile("write", b"new\n")
    alice.save_by_rename("rename", b"new\n")
    alice.unlink("unlink")
    alice.chmod("mode", 0o600)
    alice.append("append", b"new\n")
    for name in ("write", "rename", "unlink", "mode", "append"):
        first = story(unmounted, name)[0]
        assert first == (1, "initial", None), name
        assert unmounted.version(name, 1) == b"before\n", name
        assert len(story(unmounted, name, 2)) == 2, name


def test_reading_records_nothing(unmounted, writer):  # V1, V2
    (unmounted / "f").write_bytes(b"before\n")
    unmounted.mount()
    writer("alice").readfile("f")
    time.sleep(0.1)
    assert log(unmounted, "f") == []


def test_names_are_recorded_too(workspace, alice):  # V3
    alice.mkdir("d")
    alice.symlink("target", "d/s")
    alice.writefile("d/f", b"x\n")
    alice.link("d/f", "d/l")
    alice.rename("d/f", "d/g")
    alice.unlink("d/l")
    alice.unlink("d/g")
    alice.unlink("d/s")
    alice.rmdir("d")
    rows = [(v["path"], v["kind"]) for v in workspace.log() if v["writer"] == "alice"]
    for row in (
        ("d", "mkdir"), ("d/s", "symlink"), ("d/f", "write"), ("d/l", "link"),
        ("d/g", "move"), ("d/l", "delete"), ("d/g", "delete"), ("d/s", "delete"), ("d", "rmdir"),
    ):  # fmt: skip
        assert row in rows, (row, rows)


def test_history_follows_a_rename(workspace, alice):  # V3
    alice.writefile("a", b"1\n")
    alice.writefile("a", b"2\n")
    alice.rename("a", "b")
    alice.writefile("b", b"3\n")
    told = [(v["path"], v["number"], v["kind"]) for v in workspace.log("b")]
    assert ("a", 1, "write") in told and ("a", 2, "write") in told
    assert told[-1][0] == "b" and told[-1][2] == "write"
    assert workspace.version("a", 1) == b"1\n"


@over_both
def test_history_follows_saves_by_rename_and_by_backup(workspace, alice):  # V3, S10
    alice.writefile("f", b"1\n")
    alice.save_by_rename("f", b"2\n")
    alice.rename("f", "f~")
    alice.writefile("f", b"3\n")
    alice.unlink("f")
    alice.writefile("f", b"4\n")
    numbers = [n for n, _, _ in story(workspace, "f")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [c for c in contents(workspace, "f")] == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_a_moved_folder_takes_its_files_histories_along(workspace, alice):  # V3
    alice.mkdir("d")
    alice.writefile("d/f", b"1\n")
    alice.rename("d", "e")
    alice.writefile("e/f", b"2\n")
    told = [(v["path"], v["kind"]) for v in workspace.log("e/f")]
    assert ("d/f", "write") in told, told
    assert told[-1] == ("e/f", "write")
    assert workspace.log("e/f")[-1]["number"] > 1


def test_a_removed_file_can_be_had_again(workspace, alice):  # V3
    alice.mkdir("d")
    alice.writefile("d/f", b"precious\n", mode=0o600)
    alice.unlink("d/f")
    alice.rmdir("d")
    workspace.run_as("alice", workspace.stomp, "restore", "d/f")
    assert (workspace / "d/f").read_bytes() == b"precious\n"
    assert os.stat(workspace / "d/f").st_mode & 0o7777 == 0o600
    numbers = [n for n, _, _ in story(workspace, "d/f")]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 3


# ---------------------------------------------------------------- V4, V5, V6: kept well


def test_history_outlives_the_mount(workspace, writer):  # V4
    alice = writer("alice")
    for i in range(3):
        alice.writefile("f", b"%d\n" % i)
    alice.unlink("f")
    rows = workspace.log("f")
    epoch = max(v["epoch"] for v in rows)
    alice.stop()
    workspace.remount()
    assert workspace.log("f") == rows
    assert contents(workspace, "f") == [b"0\n", b"1\n", b"2\n"]
    bob = writer("bob")
    bob.writefile("f", b"new\n")
    newest = workspace.log("f")[-1]
    assert newest["number"] == len(rows) + 1 and newest["epoch"] > epoch


def test_equal_content_is_stored_once(workspace, alice):  # V5
    data = os.urandom(1 << 20)
    before = workspace.json("status")["stored_bytes"]
    for i in range(8):
        alice.writefile(f"f{i}", data)
    workspace.ctl("checkpoint")
    stored = workspace.json("status")["stored_bytes"] - before
    assert stored < 1.5 * len(data), stored
    assert all(workspace.version(f"f{i}", 1) == data for i in range(8))


def test_an_unchanged_rewrite_stores_nothing(workspace, alice):  # V6
    data = os.urandom(1 << 20)
    alice.writefile("f", data)
    workspace.ctl("checkpoint")
    before = workspace.json("status")["stored_bytes"]
    for _ in range(4):
        alice.writefile("f", data)
    workspace.ctl("checkpoint")
    assert workspace.json("status")["stored_bytes"] == before


# ---------------------------------------------------------------- V8: rollback


def test_copying_an_old_version_is_a_rollback_that_can_be_undone(workspace, alice):  # V8
    for i in (1, 2, 3):
        alice.writefile("f", b"%d\n" % i)
    assert alice.sh("cp .stomp/history/f/1 f")[0] == 0
    assert (workspace / "f").read_bytes() == b"1\n"
    assert story(workspace, "f", 4)[-1] == (4, "write", "alice")
    assert alice.sh("cp .stomp/history/f/3 f")[0] == 0
    assert contents(workspace, "f") == [b"1\n", b"2\n", b"3\n", b"1\n", b"3\n"]


def test_rollback_by_copying_obeys_the_lease(workspace, alice, writer):  # V8, L3
    bob = writer("bob")
    alice.writefile("f", b"1\n")
    alice.writefile("f", b"2\n")
    fd = alice.open("f", WRONLY)
    code, _, said = bob.sh("cp .stomp/history/f/1 f")
    assert code != 0 and b"unavailable" in said, said
    alice.close(fd)
    assert (workspace / "f").read_bytes() == b"2\n"


def test_rollback_by_command_is_a_version(workspace, alice):  # V8
    alice.writefile("f", b"1\n")
    alice.writefile("f", b"2\n")
    workspace.run_as("alice", workspace.stomp, "rollback", "f@1")
    assert (workspace / "f").read_bytes() == b"1\n"
    assert len(story(workspace, "f")) == 3
    workspace.run_as("alice", workspace.stomp, "rollback", "f@2")
    assert (workspace / "f").read_bytes() == b"2\n"


# ---------------------------------------------------------------- V7: no room


@pytest.fixture
def small(unmounted):
    """The workspace on a file system of 24 MiB of its own."""
    path = str(unmounted.path)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "small", path]
    subprocess.run(mount, check=True)
    os.close(unmounted._backing_fd)
    unmounted._backing_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    yield unmounted
    if unmounted.daemon:
        unmounted.umount()
    os.close(unmounted._backing_fd)
    unmounted._backing_fd = -1
    # Over a ring the kernel lets go of the backing a moment after the daemon's end.
    until(lambda: subprocess.run(["umount", path], check=False).returncode == 0)


@needs_root
def test_no_room_for_a_version_refuses_the_change(small, writer):  # V7
    (small / "ballast").write_bytes(b"")
    small.mount()
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", b"alice's\n")
    bob.writefile("g", b"bob's\n")
    small.ctl("checkpoint")
    fill(small.backing("ballast"))
    seen = []
    for i in range(40):  # what is buffered or allocated ahead may still fit
        data = os.urandom(200_000)
        seen.append(alice.errno("writefile", "f", data))
        if seen[-1]:
            break
    assert seen[-1] == "ENOSPC", seen
    assert (small / "g").read_bytes() == b"bob's\n"
    before = (small / "f").read_bytes()
    numbers = [n for n, _, _ in story(small, "f")]
    assert numbers == list(range(1, len(numbers) + 1))

    os.truncate(small.backing("ballast"), 0)
    until(lambda: alice.errno("writefile", "f", b"again\n") is None)
    assert (small / "f").read_bytes() == b"again\n"
    small.ctl("checkpoint")
    assert before in contents(small, "f") or before == b""
    assert story(small, "f")[-1][1:] == ("write", "alice")
    assert bob.errno("writefile", "g", b"bob's again\n") is None
    assert contents(small, "g")[-1] == b"bob's again\n"
    assert small.json("status")["health"] == "ok"
    alice.stop()
    bob.stop()


def fill(path):
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 1 << 16, 1 << 12):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                pass


def test_putting_back_what_one_knows_is_gone_is_a_decision(workspace, writer):  # S5
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", b"one\n")
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", b"two\n")
    alice.readfile("f")
    workspace.settle()
    alice.writefile("f", b"one\n")
    rows = sorted(workspace.log("f"), key=lambda r: r["number"])
    assert ["decision" in r["flags"] for r in rows] == [False, False, True]
    alice.writefile("f", b"three\n")
    rows = sorted(workspace.log("f"), key=lambda r: r["number"])
    assert "decision" not in rows[-1]["flags"]


def test_a_folder_renamed_to_where_there_was_history_counts_on(workspace, writer):  # V1, V3
    """Numbers of a path are never given twice, also when a folder brings a file there."""
    alice = writer("alice")
    for folder, count in (("a", 2), ("b", 5)):
        alice.mkdir(folder)
        for i in range(count):
            alice.writefile(f"{folder}/x", b"%s %d" % (folder.encode(), i))
    alice.unlink("b/x")
    alice.rmdir("b")
    alice.rename("a", "b")
    alice.writefile("b/x", b"after")
    alice.writefile("b/x", b"and once more")
    numbers = [v["number"] for v in workspace.log("b/x") if v["path"] == "b/x"]
    assert numbers == sorted(set(numbers)), workspace.log("b/x")
    assert workspace.version("b/x", numbers[-1]) == b"and once more"
    assert workspace.version("b/x", numbers[-2]) == b"after"
    assert "has a version" not in workspace.daemon_log()


def test_a_folder_made_anew_begins_anew(workspace, writer):  # V1
    """The backing may give it the old one's inode number: that is no history."""
    alice = writer("alice")
    for i in range(3):
        old, new = f"old{i}", f"new{i}"
        alice.mkdir(old)
        alice.writefile(f"{old}/in", b"one")
        alice.writefile(f"{old}/in", b"two")
        alice.unlink(f"{old}/in")
        alice.rmdir(old)
        alice.mkdir(new)
        alice.writefile(f"{new}/in", b"another file")
        (only,) = workspace.log(f"{new}/in")
        assert (only["number"], only["base"]) == (1, 0), only


# ---------------------------------------------------------------- holes

SPARSE = 8 << 40


@pytest.fixture
def sparse(workspace):
    """A file of eight terabytes with a page of data: who reads its holes is not done in time."""
    try:
        with open(workspace / "s", "wb") as f:
            f.truncate(SPARSE)
            os.pwrite(f.fileno(), b"data\n" * 800, SPARSE // 2)
    except OSError as error:
        pytest.skip(f"the backing has no such files: {error}")
    return workspace


def test_a_hole_of_terabytes_costs_nothing(sparse):  # V6
    fd = os.open(sparse / "s", os.O_WRONLY)
    os.pwrite(fd, b"x", 0)
    os.pwrite(fd, b"y", SPARSE - 1)
    os.close(fd)
    os.truncate(sparse / "s", SPARSE // 4)
    os.truncate(sparse / "s", SPARSE)
    sparse.ctl("checkpoint")
    sizes = [v["size"] for v in sparse.log("s")]
    assert sizes[0] == SPARSE and sizes[-1] == SPARSE
    assert sparse.json("status")["stored_bytes"] < 1 << 20
    with open(sparse / ".stomp/history/s/1", "rb") as old:
        assert os.pread(old.fileno(), 10, SPARSE // 2) == b"data\ndata\n"
        assert os.pread(old.fileno(), 2, 0) == bytes(2)


def test_a_stale_change_of_a_hole_of_terabytes_is_judged(sparse, writer):  # S4, V6
    alice, bob = writer("alice"), writer("bob")
    fd = bob.open("s", os.O_RDWR)
    assert bob.pread(fd, 5, SPARSE // 2) == b"data\n"
    bob.close(fd)
    sparse.settle()
    fd = alice.open("s", os.O_WRONLY | os.O_APPEND)
    alice.write(fd, b"alice's\n")
    alice.close(fd)
    fd = bob.open("new", os.O_WRONLY | os.O_CREAT)
    bob.ftruncate(fd, SPARSE)
    bob.close(fd)
    assert bob.errno("rename", "new", "s") == "ESTALE"
    assert sparse.refusals("bob")[-1]["errno"] == "ESTALE"
    assert os.stat(sparse / "s").st_size == SPARSE + len(b"alice's\n")
