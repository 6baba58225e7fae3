"""System calls that Python does not wrap, and a child that makes them as somebody else."""

import ctypes
import errno
import mmap
import os
import pickle
import signal
import time
from pathlib import Path

import pytest

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")


def _check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(source, target, flags):
    args = (AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    _check(LIBC.renameat2(*args))


def link_descriptor(fd, target):
    """Give a name to an O_TMPFILE file, the way open(2) describes."""
    source = os.fsencode(f"/proc/self/fd/{fd}")
    args = (AT_FDCWD, source, AT_FDCWD, os.fsencode(target), AT_SYMLINK_FOLLOW)
    _check(LIBC.linkat(*args))


def fallocate(fd, mode, offset, size):
    _check(LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


class Dirent(ctypes.Structure):
    _fields_ = [
        ("d_ino", ctypes.c_ulong),
        ("d_off", ctypes.c_long),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    ]


LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.POINTER(Dirent)
LIBC.telldir.restype = ctypes.c_long


class Dir:
    """opendir(3) and what goes with it."""

    def __init__(self, path):
        self.handle = ctypes.c_void_p(LIBC.opendir(os.fsencode(path)))
        assert self.handle.value, os.strerror(ctypes.get_errno())

    def read(self, limit=-1):
        """Names from the present position, at most limit of them."""
        names = []
        while limit < 0 or len(names) < limit:
            entry = LIBC.readdir(self.handle)
            if not entry:
                break
            names.append(entry.contents.d_name)
        return names

    def tell(self):
        return LIBC.telldir(self.handle)

    def seek(self, position):
        LIBC.seekdir(self.handle, ctypes.c_long(position))

    def rewind(self):
        LIBC.rewinddir(self.handle)

    def close(self):
        LIBC.closedir(self.handle)


def aligned(size, fill=None):
    """A buffer that O_DIRECT accepts."""
    buffer = mmap.mmap(-1, size)
    if fill is not None:
        buffer.write((fill * (size // len(fill) + 1))[:size])
    return buffer


def errno_of(function, *args, **kwargs):
    """Name of the errno that a call fails with, or None."""
    try:
        function(*args, **kwargs)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def in_child(folder, function, uid=None, gid=None, groups=(), timeout=20):
    """Run function() in a forked child whose folder is `folder`, as another user where
    uid is given; its result, or its OSError as the errno's name."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.chdir(folder)
            if uid is not None:
                os.setgroups(list(groups))
                os.setgid(uid if gid is None else gid)
                os.setuid(uid)
            try:
                result = function()
            except OSError as error:
                result = errno.errorcode[error.errno]
            except BaseException as error:  # shown by the parent
                result = RuntimeError(repr(error))
            os.write(writer, pickle.dumps(result))
        finally:
            os._exit(0)
    os.close(writer)
    return _reap(pid, reader, timeout)


def _reap(pid, reader, timeout):
    with os.fdopen(reader, "rb") as answer:
        deadline = time.monotonic() + timeout
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"child took longer than {timeout} s")
            time.sleep(0.002)
        data = answer.read()
    assert data, "child died"
    result = pickle.loads(data)
    if isinstance(result, RuntimeError):
        raise result
    return result


def wait_child(pid, timeout=20):
    """Exit status of a forked child, which must end in time."""
    deadline = time.monotonic() + timeout
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"child took longer than {timeout} s")
        time.sleep(0.002)


def elsewhere(path, *argv):
    """argv for a command in a mount namespace of its own that has the mount at path."""
    script = Path(__file__).with_name("elsewhere.sh")
    return ("sh", str(script), os.path.realpath(path), *argv)
