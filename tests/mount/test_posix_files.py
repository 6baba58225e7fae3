"""Opening, reading and writing one file: the mount does what the bare folder does."""

import errno
import mmap
import os
import stat

import pytest

from stomplib.calls import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    FALLOC_ZERO_RANGE,
    aligned,
    errno_of,
    fallocate,
    in_child,
    link_descriptor,
)

RDONLY, WRONLY, RDWR, CREAT = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT


def test_what_was_written_is_read(tree):
    f = tree / "f"
    data = os.urandom(300_001)
    f.write_bytes(data)
    assert f.read_bytes() == data
    assert f.stat().st_size == len(data)
    assert f.stat().st_nlink == 1


def test_write_only_cannot_read_and_read_only_cannot_write(tree):
    f = tree / "f"
    f.write_bytes(b"abc")
    fd = os.open(f, WRONLY)
    assert errno_of(os.read, fd, 1) == "EBADF"
    os.close(fd)
    fd = os.open(f, RDONLY)
    assert errno_of(os.write, fd, b"x") == "EBADF"
    assert errno_of(os.ftruncate, fd, 0) == "EINVAL"
    os.close(fd)
    assert f.read_bytes() == b"abc"


def test_open_of_nothing_and_of_a_folder(tree):
    assert errno_of(os.open, tree / "no", RDONLY) == "ENOENT"
    assert errno_of(os.open, tree / "no" / "f", RDWR | CREAT) == "ENOENT"
    (tree / "d").mkdir()
    assert errno_of(os.open, tree / "d", WRONLY) == "EISDIR"
    assert errno_of(os.open, tree / "d", RDWR | CREAT, 0o644) == "EISDIR"
    (tree / "f").write_bytes(b"")
    assert errno_of(os.open, tree / "f" / "x", RDONLY) == "ENOTDIR"
    assert errno_of(os.open, tree / "f", RDONLY | os.O_DIRECTORY) == "ENOTDIR"


def test_exclusive_create(tree):
    f = tree / "f"
    os.close(os.open(f, WRONLY | CREAT | os.O_EXCL, 0o600))
    assert errno_of(os.open, f, WRONLY | CREAT | os.O_EXCL, 0o600) == "EEXIST"
    os.symlink("nowhere", tree / "l")
    assert errno_of(os.open, tree / "l", WRONLY | CREAT | os.O_EXCL) == "EEXIST"
    assert not (tree / "nowhere").exists()


def test_create_through_a_dangling_link_makes_its_target(tree):
    os.symlink("target", tree / "l")
    (tree / "l").write_bytes(b"x")
    assert (tree / "target").read_bytes() == b"x"


def test_truncating_open_empties(tree):
    f = tree / "f"
    f.write_bytes(b"long text")
    fd = os.open(f, WRONLY | os.O_TRUNC)
    os.write(fd, b"ab")
    os.close(fd)
    assert f.read_bytes() == b"ab"
    os.close(os.open(f, RDWR | os.O_TRUNC))
    assert f.read_bytes() == b""


def test_open_without_truncation_overwrites_in_place(tree):
    f = tree / "f"
    f.write_bytes(b"0123456789")
    fd = os.open(f, WRONLY | CREAT)
    os.write(fd, b"abc")
    os.close(fd)
    assert f.read_bytes() == b"abc3456789"


def test_append_goes_to_the_end_whatever_the_offset(tree):
    f = tree / "f"
    f.write_bytes(b"one\n")
    first = os.open(f, WRONLY | os.O_APPEND)
    second = os.open(f, RDWR | os.O_APPEND)
    os.write(first, b"two\n")
    os.lseek(second, 0, os.SEEK_SET)
    os.write(second, b"three\n")
    assert os.lseek(second, 0, os.SEEK_CUR) == len(b"one\ntwo\nthree\n")
    os.write(first, b"four\n")
    assert os.pread(second, 100, 0) == b"one\ntwo\nthree\nfour\n"
    os.close(first)
    os.close(second)
    assert f.read_bytes() == b"one\ntwo\nthree\nfour\n"


def test_appends_of_four_processes_lose_nothing(tree):
    f = tree / "f"
    f.write_bytes(b"")
    children = []
    for n in range(4):
        pid = os.fork()
        if pid == 0:
            fd = os.open(f, WRONLY | os.O_APPEND)
            for i in range(100):
                os.write(fd, f"{n} {i}\n".encode())
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    lines = f.read_text().splitlines()
    assert sorted(lines) == sorted(f"{n} {i}" for n in range(4) for i in range(100))


def test_read_at_and_beyond_the_end(tree):
    f = tree / "f"
    f.write_bytes(b"abc")
    fd = os.open(f, RDWR)
    assert os.pread(fd, 10, 2) == b"c"
    assert os.pread(fd, 10, 3) == b""
    assert os.pread(fd, 10, 1 << 40) == b""
    os.pwrite(fd, b"z", 10)
    assert os.pread(fd, 20, 0) == b"abc" + bytes(7) + b"z"
    os.close(fd)


def test_vectored_io(tree):
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    assert os.pwritev(fd, [b"ab", b"", b"cde"], 1) == 5
    one, two = bytearray(2), bytearray(9)
    assert os.preadv(fd, [one, two], 0) == 6
    assert bytes(one) + bytes(two[:4]) == b"\0abcde"
    os.close(fd)


def test_direct_io(tree, tmp_path):
    probe = tmp_path / "probe"
    try:
        os.close(os.open(probe, RDWR | CREAT | os.O_DIRECT, 0o644))
    except OSError as error:
        assert error.errno == errno.EINVAL
        pytest.skip("the file system here has no O_DIRECT")
    fd = os.open(tree / "f", RDWR | CREAT | os.O_DIRECT, 0o644)
    data = aligned(65536, b"direct!\n")
    assert os.pwritev(fd, [data], 0) == 65536
    back = aligned(65536)
    assert os.preadv(fd, [back], 0) == 65536
    assert back[:] == data[:]
    os.close(fd)
    assert (tree / "f").read_bytes() == data[:]


def test_direct_and_cached_io_see_each_other(tree):
    cached = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.pwrite(cached, b"a" * 8192, 0)
    assert os.pread(cached, 4, 0) == b"aaaa"
    direct = os.open(tree / "f", RDWR | os.O_DIRECT)
    os.pwritev(direct, [aligned(4096, b"b")], 0)
    assert os.pread(cached, 8192, 0) == b"b" * 4096 + b"a" * 4096
    os.close(direct)
    os.close(cached)


def test_tmpfile_gets_a_name(tree):
    fd = os.open(tree, RDWR | os.O_TMPFILE, 0o640)
    os.write(fd, b"made in the dark")
    assert os.listdir(tree) == []
    link_descriptor(fd, tree / "named")
    assert (tree / "named").read_bytes() == b"made in the dark"
    st = os.fstat(fd)
    assert st.st_ino == (tree / "named").stat().st_ino
    assert (st.st_nlink, stat.S_IMODE(st.st_mode)) == (1, 0o640)
    assert errno_of(link_descriptor, fd, tree / "named") == "EEXIST"
    os.close(fd)
    assert (tree / "named").read_bytes() == b"made in the dark"


def test_exclusive_tmpfile_never_gets_a_name(tree):
    fd = os.open(tree, RDWR | os.O_TMPFILE | os.O_EXCL, 0o600)
    os.write(fd, b"x")
    assert errno_of(link_descriptor, fd, tree / "named") == "ENOENT"
    assert os.pread(fd, 1, 0) == b"x"
    os.close(fd)
    assert os.listdir(tree) == []


def test_unlinked_but_open(tree):
    f = tree / "f"
    f.write_bytes(b"before")
    fd = os.open(f, RDWR)
    os.unlink(f)
    assert errno_of(os.stat, f) == "ENOENT"
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 10, 0) == b"before"
    os.pwrite(fd, b"AFTER!!", 0)
    os.ftruncate(fd, 5)
    os.fchmod(fd, 0o600)
    st = os.fstat(fd)
    assert (st.st_size, stat.S_IMODE(st.st_mode)) == (5, 0o600)
    f.write_bytes(b"somebody new")
    assert os.pread(fd, 10, 0) == b"AFTER"
    os.close(fd)
    assert f.read_bytes() == b"somebody new"


def test_replaced_but_open(tree):
    (tree / "f").write_bytes(b"old")
    (tree / "g").write_bytes(b"new")
    fd = os.open(tree / "f", RDONLY)
    os.rename(tree / "g", tree / "f")
    assert os.pread(fd, 10, 0) == b"old"
    assert os.fstat(fd).st_nlink == 0
    assert (tree / "f").read_bytes() == b"new"
    os.close(fd)


def test_truncate_both_ways(tree):
    f = tree / "f"
    f.write_bytes(b"0123456789")
    os.truncate(f, 4)
    assert f.read_bytes() == b"0123"
    os.truncate(f, 8)
    assert f.read_bytes() == b"0123\0\0\0\0"
    fd = os.open(f, RDWR)
    os.ftruncate(fd, 2)
    assert os.fstat(fd).st_size == 2
    os.ftruncate(fd, 5000)
    assert os.pread(fd, 5000, 0) == b"01" + bytes(4998)
    assert errno_of(os.ftruncate, fd, -1) == "EINVAL"
    os.close(fd)
    assert errno_of(os.truncate, tree, 0) == "EISDIR"
    assert errno_of(os.truncate, tree / "no", 0) == "ENOENT"


def test_a_partial_page_is_zero_after_shrinking_and_growing(tree):
    f = tree / "f"
    f.write_bytes(b"x" * 6000)
    fd = os.open(f, RDWR)
    assert os.pread(fd, 1, 5999) == b"x"
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 6000)
    assert os.pread(fd, 6000, 0) == b"x" * 100 + bytes(5900)
    os.close(fd)


def test_fallocate_grows_and_keeps(tree):
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.write(fd, b"abc")
    fallocate(fd, 0, 0, 100_000)
    assert os.fstat(fd).st_size == 100_000
    assert os.fstat(fd).st_blocks * 512 >= 100_000
    fallocate(fd, FALLOC_KEEP_SIZE, 0, 1_000_000)
    assert os.fstat(fd).st_size == 100_000
    assert os.pread(fd, 4, 0) == b"abc\0"
    assert errno_of(fallocate, fd, 0, 0, 0) == "EINVAL"
    os.close(fd)


@pytest.mark.parametrize("mode", [FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE])
def test_zeroed_ranges(tree, tmp_path, mode):
    probe = os.open(tmp_path / "probe", RDWR | CREAT, 0o644)
    os.write(probe, b"p" * 65536)
    unsupported = errno_of(fallocate, probe, mode, 8192, 8192)
    os.close(probe)
    if unsupported:
        pytest.skip(f"the file system here answers {unsupported}")
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.write(fd, b"x" * 65536)
    assert os.pread(fd, 1, 8192) == b"x"
    fallocate(fd, mode, 8192, 8192)
    assert os.pread(fd, 65536, 0) == b"x" * 8192 + bytes(8192) + b"x" * (65536 - 16384)
    os.close(fd)
    assert (tree / "f").stat().st_size == 65536


def test_holes_are_found(tree, tmp_path):
    def layout(path):
        fd = os.open(path, RDWR | CREAT, 0o644)
        os.pwrite(fd, b"d" * 65536, 1 << 20)
        os.ftruncate(fd, 4 << 20)
        os.fsync(fd)
        found = (
            os.lseek(fd, 0, os.SEEK_HOLE),
            os.lseek(fd, 0, os.SEEK_DATA),
            os.lseek(fd, 1 << 20, os.SEEK_HOLE),
            errno_of(os.lseek, fd, 2 << 20, os.SEEK_DATA),
            errno_of(os.lseek, fd, 5 << 20, os.SEEK_HOLE),
        )
        os.close(fd)
        return found

    bare = layout(tmp_path / "bare")
    assert layout(tree / "f") == bare
    assert bare[4] == "ENXIO"


def test_four_gigabytes_sparse(tree):
    f = tree / "f"
    size = (4 << 30) + 12345
    fd = os.open(f, RDWR | CREAT, 0o644)
    os.ftruncate(fd, size)
    os.pwrite(fd, b"end", size - 3)
    os.pwrite(fd, b"mid", (4 << 30) - 1)
    assert os.pread(fd, 3, size - 3) == b"end"
    assert os.pread(fd, 5, (4 << 30) - 2) == b"\0mid\0"
    os.close(fd)
    st = f.stat()
    assert st.st_size == size
    assert st.st_blocks * 512 < 1 << 20
    fd = os.open(f, RDWR)
    assert os.pread(fd, 3, 3 << 30) == bytes(3)
    os.ftruncate(fd, 1 << 32)
    os.close(fd)
    assert f.stat().st_size == 1 << 32
    os.unlink(f)


def test_copy_file_range(tree):
    data = os.urandom(200_000)
    (tree / "a").write_bytes(data)
    source = os.open(tree / "a", RDONLY)
    target = os.open(tree / "b", RDWR | CREAT, 0o644)
    done = 0
    while done < len(data):
        step = os.copy_file_range(source, target, len(data) - done)
        assert step > 0
        done += step
    assert os.copy_file_range(source, target, 10) == 0
    assert os.pread(target, len(data), 0) == data
    assert os.copy_file_range(source, target, 1000, 50_000, 7) == 1000
    assert os.pread(target, 1007, 0) == data[:7] + data[50_000:51_000]
    read_only = os.open(tree / "b", RDONLY)
    assert errno_of(os.copy_file_range, source, read_only, 10, 0, 0) == "EBADF"
    for fd in (source, target, read_only):
        os.close(fd)
    assert (tree / "b").read_bytes()[1007:] == data[1007:]


def test_sendfile_reads_and_writes(tree):
    (tree / "a").write_bytes(b"s" * 70_000)
    source = os.open(tree / "a", RDONLY)
    target = os.open(tree / "b", WRONLY | CREAT, 0o644)
    sent = 0
    while sent < 70_000:
        sent += os.sendfile(target, source, sent, 70_000 - sent)
    os.close(source)
    os.close(target)
    assert (tree / "b").read_bytes() == b"s" * 70_000


def test_sync_calls(tree):
    fd = os.open(tree / "f", RDWR | CREAT | os.O_DSYNC, 0o644)
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 2, 0) == b"x"
    os.close(fd)
    folder = os.open(tree, RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)


def test_path_only_descriptors(tree):
    f = tree / "f"
    f.write_bytes(b"text")
    fd = os.open(f, os.O_PATH)
    assert os.fstat(fd).st_size == 4
    assert errno_of(os.read, fd, 1) == "EBADF"
    again = os.open(f"/proc/self/fd/{fd}", RDWR)
    assert os.read(again, 10) == b"text"
    os.pwrite(again, b"T", 0)
    os.close(again)
    os.close(fd)
    assert f.read_bytes() == b"Text"


def test_descriptor_reopened_through_proc_after_unlink(tree):
    f = tree / "f"
    f.write_bytes(b"text")
    fd = os.open(f, RDONLY)
    os.unlink(f)
    again = os.open(f"/proc/self/fd/{fd}", RDWR)
    os.pwrite(again, b"T", 0)
    assert os.pread(fd, 10, 0) == b"Text"
    os.close(again)
    os.close(fd)


def test_duplicates_share_the_offset(tree):
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.write(fd, b"0123456789")
    second = os.dup(fd)
    os.lseek(fd, 4, os.SEEK_SET)
    assert os.read(second, 3) == b"456"
    assert os.read(fd, 3) == b"789"
    os.close(fd)
    os.pwrite(second, b"x", 0)
    os.close(second)
    assert (tree / "f").read_bytes() == b"x123456789"


def test_inherited_descriptor_writes_in_a_child(tree):
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.write(fd, b"parent ")
    os.set_inheritable(fd, True)
    assert in_child(tree, lambda: os.write(fd, b"child")) == 5
    os.write(fd, b" parent")
    os.close(fd)
    assert (tree / "f").read_bytes() == b"parent child parent"


def test_a_hole_that_was_stored_into_by_a_mapping_is_none(tree):
    fd = os.open(tree / "f", RDWR | CREAT, 0o644)
    os.ftruncate(fd, 1 << 20)
    with mmap.mmap(fd, 1 << 20) as view:
        view[65536:65540] = b"data"
        assert os.lseek(fd, 0, os.SEEK_DATA) <= 65536
        assert os.lseek(fd, 65536, os.SEEK_HOLE) > 65536 + 3
    os.close(fd)
