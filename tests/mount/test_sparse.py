"""Holes are copied as holes, out of the history and back (V6, V8). Whoever wrote one of
these out would not be done in time; how long it takes is not asserted otherwise."""

import os
import subprocess

import pytest

pytestmark = pytest.mark.mount_options("settle=100ms")

SPARSE = 1 << 40
LITTLE = 1 << 20
DATA = b"data\n" * 800
RDWR, WRONLY = os.O_RDWR, os.O_WRONLY
LIMIT_S = 15  # of a command: what goes wrong is not to fill the disk


def taken(path):
    return os.stat(path).st_blocks * 512


def data_at(path, offset, size=len(DATA)):
    with open(path, "rb") as f:
        return os.pread(f.fileno(), size, offset)


def is_first(path):
    """Version 1: a page of data in the middle of a terabyte."""
    assert os.stat(path).st_size == SPARSE
    assert taken(path) < LITTLE
    assert data_at(path, SPARSE // 2 - 10, len(DATA) + 20) == bytes(10) + DATA + bytes(10)
    assert data_at(path, 0, 10) == bytes(10) == data_at(path, SPARSE - 10)
    return True


@pytest.fixture
def sparse(workspace):
    """s: version 1 is a page in a terabyte, version 2 has one at each end besides."""
    try:
        with open(workspace / "s", "wb") as f:
            f.truncate(SPARSE)
            os.pwrite(f.fileno(), DATA, SPARSE // 2)
    except OSError as error:
        pytest.skip(f"the backing has no such files: {error}")
    workspace.ctl("checkpoint")
    fd = os.open(workspace / "s", RDWR)
    os.pwrite(fd, b"x" * 10, 0)
    os.pwrite(fd, b"y", SPARSE - 1)
    os.close(fd)
    workspace.ctl("checkpoint")
    assert [v["number"] for v in workspace.log("s")] == [1, 2]
    return workspace


def stomp(sparse, *argv, **kwargs):
    return sparse.run_as("alice", sparse.stomp, *argv, timeout=LIMIT_S, **kwargs)


def test_rollback_leaves_the_holes(sparse):  # V6, V8
    stomp(sparse, "rollback", "s@1")
    assert is_first(sparse / "s")
    sparse.ctl("checkpoint")
    assert sparse.log("s")[-1]["number"] == 3
    assert sparse.json("status")["stored_bytes"] < LITTLE
    stomp(sparse, "rollback", "s@2")
    assert data_at(sparse / "s", 0, 11) == b"x" * 10 + b"\0"
    assert data_at(sparse / "s", SPARSE - 2) == b"\0y"


def test_undo_leaves_the_holes(sparse):  # V6
    sparse.run_as("carol", "sh", "-c", "echo carol >> s")
    sparse.ctl("checkpoint")
    stomp(sparse, "undo", "carol")
    assert data_at(sparse / "s", 0, 11) == b"x" * 10 + b"\0"
    assert os.stat(sparse / "s").st_size == SPARSE and taken(sparse / "s") < LITTLE


def test_restore_leaves_the_holes(sparse, tmp_path):  # V6
    epoch = sparse.log("s")[0]["epoch"]
    stomp(sparse, "restore", "s", "--at", str(epoch), "--to", tmp_path / "then")
    assert is_first(tmp_path / "then" / "s")
    os.unlink(sparse / "s")
    stomp(sparse, "restore", "s")
    assert data_at(sparse / "s", 0, 11) == b"x" * 10 + b"\0"
    assert taken(sparse / "s") < LITTLE
    stomp(sparse, "restore", "s", "--at", str(epoch))
    assert is_first(sparse / "s")


def test_what_is_the_same_is_found_to_be_without_reading_holes(sparse):  # V6
    was = os.stat(sparse / "s")
    now = sparse.log("s")[1]["epoch"]
    stomp(sparse, "restore", "s", "--at", str(now))
    assert os.stat(sparse / "s").st_mtime_ns == was.st_mtime_ns
    assert len(sparse.log("s")) == 2


@pytest.mark.parametrize("source", ["history/s/1", "at/{}/s"])
def test_cp_finds_the_holes_of_what_was(sparse, tmp_path, source):  # V6
    epoch = sparse.log("s")[0]["epoch"]
    name = sparse / ".stomp" / source.format(epoch)
    sparse.run("cp", name, tmp_path / "copy", timeout=LIMIT_S)
    assert is_first(tmp_path / "copy")


def test_what_is_live_in_at_has_its_holes_of_then(sparse):
    now = sparse.log("s")[1]["epoch"]
    fd = os.open(sparse / f".stomp/at/{now}/s", os.O_RDONLY)
    assert os.lseek(fd, 1 << 20, os.SEEK_DATA) == SPARSE // 2
    other = os.open(sparse / "s", WRONLY)
    os.pwrite(other, DATA, SPARSE // 4)
    os.close(other)
    sparse.ctl("checkpoint")
    assert os.lseek(fd, 1 << 20, os.SEEK_DATA) == SPARSE // 2
    assert os.pread(fd, 10, SPARSE // 4) == bytes(10)
    os.close(fd)
    fd = os.open(sparse / f".stomp/at/{now}/s", os.O_RDONLY)
    assert os.lseek(fd, 1 << 20, os.SEEK_DATA) == SPARSE // 2
    os.close(fd)
    other = os.open(sparse / "s", WRONLY)
    os.ftruncate(other, 10)
    os.close(other)
    sparse.ctl("checkpoint")
    fd = os.open(sparse / f".stomp/at/{now}/s", os.O_RDONLY)
    assert os.pread(fd, len(DATA), SPARSE // 2) == DATA
    os.close(fd)


def test_cat_into_a_file_leaves_the_holes_behind_its_end(sparse, tmp_path):  # V6
    script = f"echo head; {sparse.stomp} cat s@1; echo tail"
    with open(tmp_path / "out", "wb") as out:
        subprocess.run(script, shell=True, cwd=sparse.path, stdout=out, check=True,
                       timeout=LIMIT_S)
    assert os.stat(tmp_path / "out").st_size == SPARSE + 10
    assert taken(tmp_path / "out") < LITTLE
    assert data_at(tmp_path / "out", 0, 6) == b"head\n\0"
    assert data_at(tmp_path / "out", 5 + SPARSE // 2) == DATA
    assert data_at(tmp_path / "out", SPARSE, 20) == bytes(5) + b"tail\n"


@pytest.mark.parametrize("flags", [0, os.O_APPEND])
def test_a_hole_clears_what_was_there(workspace, tmp_path, flags):
    """Of a file that is written over, and at the end of one that is appended to."""
    with open(workspace / "f", "wb") as f:
        f.truncate(8 << 20)
        os.pwrite(f.fileno(), DATA, 4 << 20)
    workspace.ctl("checkpoint")
    was = b"old\n" * (1 << 20)
    (tmp_path / "out").write_bytes(was)
    fd = os.open(tmp_path / "out", RDWR | flags)
    subprocess.run([workspace.stomp, "cat", "f@1"], cwd=workspace.path, stdout=fd, check=True)
    os.close(fd)
    version = (workspace / "f").read_bytes()
    assert (tmp_path / "out").read_bytes() == (was + version if flags else version)
