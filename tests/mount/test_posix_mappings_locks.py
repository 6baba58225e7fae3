"""Memory mappings, and locks between processes."""

import fcntl
import mmap
import os
import struct

import pytest

from stomplib.calls import errno_of, in_child, wait_child

PAGE = mmap.PAGESIZE


def mapping(fd, size, shared=True, write=True, offset=0):
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    prot = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    return mmap.mmap(fd, size, flags, prot, offset=offset)


# ---------------------------------------------------------------- mappings


def test_read_only_mappings_show_the_file(tree):
    data = os.urandom(3 * PAGE + 100)
    (tree / "f").write_bytes(data)
    fd = os.open(tree / "f", os.O_RDONLY)
    for shared in (True, False):
        with mapping(fd, len(data), shared, write=False) as view:
            assert view[:] == data
    with mapping(fd, PAGE, write=False, offset=PAGE) as view:
        assert view[:] == data[PAGE : 2 * PAGE]
    os.close(fd)


def test_private_mapping_keeps_its_changes(tree):
    (tree / "f").write_bytes(b"a" * PAGE)
    fd = os.open(tree / "f", os.O_RDONLY)
    with mapping(fd, PAGE, shared=False) as view:
        view[:4] = b"mine"
        assert view[:5] == b"minea"
    os.close(fd)
    assert (tree / "f").read_bytes() == b"a" * PAGE


def test_shared_mapping_reaches_the_file(tree):
    (tree / "f").write_bytes(b"a" * 2 * PAGE)
    fd = os.open(tree / "f", os.O_RDWR)
    with mapping(fd, 2 * PAGE) as view:
        view[PAGE - 2 : PAGE + 2] = b"BBBB"
        view.flush()
        assert os.pread(fd, 6, PAGE - 3) == b"aBBBBa"
        assert in_child(tree, lambda: open("f", "rb").read()[PAGE - 3 : PAGE + 3]) == b"aBBBBa"
    os.close(fd)
    assert (tree / "f").read_bytes() == b"a" * (PAGE - 2) + b"BBBB" + b"a" * (PAGE - 2)


def test_shared_mapping_without_msync_is_stored_after_unmapping(tree):
    (tree / "f").write_bytes(b"a" * PAGE)
    fd = os.open(tree / "f", os.O_RDWR)
    view = mapping(fd, PAGE)
    os.close(fd)
    view[:5] = b"later"
    view.close()
    assert (tree / "f").read_bytes()[:6] == b"latera"


def test_write_shows_in_a_mapping(tree):
    (tree / "f").write_bytes(b"a" * PAGE)
    fd = os.open(tree / "f", os.O_RDWR)
    with mapping(fd, PAGE) as view:
        assert view[0:1] == b"a"
        os.pwrite(fd, b"written", 10)
        assert view[9:18] == b"awrittena"
    os.close(fd)


def test_two_mappings_of_two_processes_share_pages(tree):
    (tree / "f").write_bytes(bytes(PAGE))
    fd = os.open(tree / "f", os.O_RDWR)

    def store():
        inner = os.open("f", os.O_RDWR)
        with mapping(inner, PAGE) as view:
            view[:4] = b"seen"
        os.close(inner)

    with mapping(fd, PAGE) as view:
        assert view[:4] == bytes(4)
        in_child(tree, store)
        assert view[:4] == b"seen"
    os.close(fd)


def test_mapping_a_write_only_descriptor_fails(tree):
    (tree / "f").write_bytes(b"x" * PAGE)
    fd = os.open(tree / "f", os.O_WRONLY)
    assert errno_of(mapping, fd, PAGE) == "EACCES"
    os.close(fd)
    fd = os.open(tree / "f", os.O_RDONLY)
    assert errno_of(mapping, fd, PAGE) == "EACCES"
    os.close(fd)


def test_mapping_outlives_unlink(tree):
    (tree / "f").write_bytes(b"x" * PAGE)
    fd = os.open(tree / "f", os.O_RDWR)
    view = mapping(fd, PAGE)
    os.unlink(tree / "f")
    view[:1] = b"y"
    view.flush()
    assert os.pread(fd, 2, 0) == b"yx"
    view.close()
    os.close(fd)


# ---------------------------------------------------------------- locks


def try_flock(kind):
    def attempt():
        fd = os.open("f", os.O_RDWR)
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
        os.close(fd)

    return attempt


def test_flock_between_processes(tree):
    (tree / "f").write_bytes(b"")
    fd = os.open(tree / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert in_child(tree, try_flock(fcntl.LOCK_EX)) == "EAGAIN"
    assert in_child(tree, try_flock(fcntl.LOCK_SH)) == "EAGAIN"
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert in_child(tree, try_flock(fcntl.LOCK_SH)) is None
    assert in_child(tree, try_flock(fcntl.LOCK_EX)) == "EAGAIN"
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert in_child(tree, try_flock(fcntl.LOCK_EX)) is None
    os.close(fd)


def try_record(kind, start, size):
    def attempt():
        fd = os.open("f", os.O_RDWR)
        fcntl.lockf(fd, kind | fcntl.LOCK_NB, size, start)
        os.close(fd)

    return attempt


def test_record_locks_between_processes(tree):
    (tree / "f").write_bytes(bytes(100))
    fd = os.open(tree / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    assert in_child(tree, try_record(fcntl.LOCK_EX, 25, 1)) in ("EAGAIN", "EACCES")
    assert in_child(tree, try_record(fcntl.LOCK_SH, 0, 21)) in ("EAGAIN", "EACCES")
    assert in_child(tree, try_record(fcntl.LOCK_EX, 0, 20)) is None
    assert in_child(tree, try_record(fcntl.LOCK_EX, 30, 0)) is None
    fcntl.lockf(fd, fcntl.LOCK_UN, 10, 20)
    assert in_child(tree, try_record(fcntl.LOCK_EX, 0, 0)) is None
    os.close(fd)


def test_record_lock_tells_who_holds_it(tree):
    (tree / "f").write_bytes(bytes(100))
    fd = os.open(tree / "f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)

    def ask():
        inner = os.open("f", os.O_RDWR)
        question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(inner, fcntl.F_GETLK, question)
        return struct.unpack("hhqqi4x", answer)

    kind, _, start, size, pid = in_child(tree, ask)
    assert (kind, start, size, pid) == (fcntl.F_WRLCK, 20, 10, os.getpid())
    os.close(fd)


def test_locks_end_with_close_and_with_the_process(tree):
    (tree / "f").write_bytes(b"")
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(tree / "f", os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    assert in_child(tree, try_record(fcntl.LOCK_EX, 0, 0)) in ("EAGAIN", "EACCES")
    assert in_child(tree, try_flock(fcntl.LOCK_EX)) == "EAGAIN"
    os.write(done[1], b"x")
    assert wait_child(pid) == 0
    assert in_child(tree, try_record(fcntl.LOCK_EX, 0, 0)) is None
    assert in_child(tree, try_flock(fcntl.LOCK_EX)) is None
    for fd in ready + done:
        os.close(fd)


def test_waiting_lock_is_granted_at_release(tree):
    (tree / "f").write_bytes(b"")
    fd = os.open(tree / "f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        inner = os.open(tree / "f", os.O_RDWR)
        fcntl.flock(inner, fcntl.LOCK_EX)
        os._exit(7)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert wait_child(pid) == 7
    os.close(fd)


def test_a_store_through_an_append_descriptor_has_its_place(workspace, writer):  # L6
    """O_APPEND moves writes to the end, never what was stored through a mapping."""
    alice = writer("alice")
    alice.writefile("f", b"." * 5000)
    fd = alice.open("f", os.O_RDWR | os.O_APPEND)
    m = alice.mmap(fd, 5000)
    alice.store(m, 10, b"stored")
    alice.msync(m)
    alice.write(fd, b"end")
    alice.munmap(m)
    alice.close(fd)
    want = b"." * 10 + b"stored" + b"." * 4984 + b"end"
    assert workspace.backing("f").read_bytes() == want
    assert workspace.version("f", workspace.log("f")[-1]["number"]) == want


def test_flock_counts_between_descriptors_of_every_kind(tree):
    """A large file that is being read, then opened to be mapped writable: one file."""
    (tree / "f").write_bytes(b"x" * 100000)
    reader = os.open(tree / "f", os.O_RDONLY)
    os.pread(reader, 10, 0)
    fcntl.flock(reader, fcntl.LOCK_SH)
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_APPEND):

        def attempt(kind, flags=flags):
            fd = os.open("f", flags)
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            os.close(fd)

        assert in_child(tree, lambda: attempt(fcntl.LOCK_EX)) == "EAGAIN", flags
        assert in_child(tree, lambda: attempt(fcntl.LOCK_SH)) is None, flags
    os.close(reader)


def test_forty_waiters_for_one_lock_disturb_nobody(tree):
    """They sleep in the kernel: the mount answers, and each of them can be killed."""
    (tree / "f").write_bytes(b"")
    holder = os.open(tree / "f", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    ready, told = os.pipe()
    waiters = []
    for _ in range(40):
        pid = os.fork()
        if pid == 0:
            try:
                fd = os.open(tree / "f", os.O_RDWR)
                os.write(told, b".")
                fcntl.flock(fd, fcntl.LOCK_EX)
            finally:
                os._exit(0)
        waiters.append(pid)
    try:
        told_so = 0
        while told_so < len(waiters):
            told_so += len(os.read(ready, 100))
        for i in range(20):
            (tree / f"other{i}").write_bytes(b"answered")
            assert (tree / f"other{i}").read_bytes() == b"answered"
        for pid in waiters[:20]:
            os.kill(pid, 9)
            assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
        fcntl.flock(holder, fcntl.LOCK_UN)
        for pid in waiters[20:]:
            assert os.waitpid(pid, 0)[1] == 0
        waiters = []
    finally:
        os.close(holder)
        for fd in (ready, told):
            os.close(fd)
        for pid in waiters[20:]:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
