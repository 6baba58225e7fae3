"""The calls, each with one path or two; what they return is shown by side.outcome()."""

import ctypes
import os
import stat

from .side import OLD, OWNER, GROUP, outcome, shown

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def opening(flags, mode=0o640):
    """Open, read, write, look. Nothing of these tests is to wait for a pipe's other end."""

    def call(path):
        fd = os.open(path, flags | os.O_NONBLOCK, mode)
        try:
            return [
                outcome(os.read, fd, 4),
                outcome(os.write, fd, b"XY"),
                outcome(os.lseek, fd, 0, os.SEEK_CUR),
                outcome(os.ftruncate, fd, 3),
                outcome(lambda: f"{os.fstat(fd).st_mode:o}"),
            ]
        finally:
            os.close(fd)

    return call


def reading(path):
    """Without writing: atime."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def statfs(path):
    found = os.statvfs(path)
    return [found.f_bsize, found.f_frsize, found.f_blocks, found.f_namemax]


def utimens(atime, mtime, follow=True):
    class Timespec(ctypes.Structure):
        _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]

    times = (Timespec * 2)(atime, mtime)

    def call(path):
        flags = 0 if follow else 0x100
        check(LIBC.utimensat(AT_FDCWD, path, times, flags))

    return call


def listing(path):
    with os.scandir(path) as entries:
        return sorted((e.name, e.is_dir(), e.is_symlink()) for e in entries)


def entering(path):
    here = os.open(".", os.O_PATH)
    try:
        os.chdir(path)
        os.fchdir(here)
    finally:
        os.close(here)


def executing(path):
    pid = os.fork()
    if pid == 0:
        try:
            os.execve(path, ["name"], {})
        except OSError as error:
            os._exit(error.errno)
        finally:
            os._exit(255)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status and os.strerror(status)


def at_descriptor(call, flags=os.O_RDONLY):
    def through(path):
        fd = os.open(path, flags | os.O_NONBLOCK)
        try:
            return call(fd)
        finally:
            os.close(fd)

    return through


def renaming(flags):
    def call(source, target):
        check(LIBC.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))

    return call


def linking(flags):
    def call(source, target):
        check(LIBC.linkat(AT_FDCWD, source, AT_FDCWD, target, flags))

    return call


R, W, RW, CREAT = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT
NOFOLLOW = os.O_NOFOLLOW

ONE_PATH = {
    "read": reading,
    "open R": opening(R),
    "open W": opening(W),
    "open RW": opening(RW),
    "open RW|APPEND": opening(RW | os.O_APPEND),
    "open R|TRUNC": opening(R | os.O_TRUNC),
    "open RW|TRUNC": opening(RW | os.O_TRUNC),
    "open RW|CREAT": opening(RW | CREAT),
    "open R|CREAT mode 0": opening(R | CREAT, 0),
    "open RW|CREAT 7777": opening(RW | CREAT, 0o7777),
    "open RW|CREAT|EXCL": opening(RW | CREAT | os.O_EXCL),
    "open RW|CREAT|TRUNC": opening(RW | CREAT | os.O_TRUNC),
    "open R|DIRECTORY": opening(R | os.O_DIRECTORY),
    "open RW|DIRECTORY": opening(RW | os.O_DIRECTORY),
    "open R|CREAT|DIRECTORY": opening(R | CREAT | os.O_DIRECTORY),
    "open R|NOFOLLOW": opening(R | NOFOLLOW),
    "open RW|CREAT|NOFOLLOW": opening(RW | CREAT | NOFOLLOW),
    "open PATH": opening(os.O_PATH),
    "open PATH|NOFOLLOW": opening(os.O_PATH | NOFOLLOW),
    "open R|NOATIME": opening(R | os.O_NOATIME),
    "open RW|TMPFILE": opening(RW | os.O_TMPFILE),
    "open R|TMPFILE": opening(R | os.O_TMPFILE),
    "open W|DIRECT": opening(W | os.O_DIRECT),
    "stat": lambda p: shown(os.stat(p)),
    "lstat": lambda p: shown(os.lstat(p)),
    "readlink": os.readlink,
    "statfs": statfs,
    "list": listing,
    "chdir": entering,
    "access F": lambda p: os.access(p, os.F_OK),
    "access R": lambda p: os.access(p, os.R_OK),
    "access W": lambda p: os.access(p, os.W_OK),
    "access X": lambda p: os.access(p, os.X_OK),
    "execve": executing,
    "mkdir": lambda p: os.mkdir(p, 0o7755),
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "symlink": lambda p: os.symlink(b"target", p),
    "mkfifo": lambda p: os.mkfifo(p, 0o640),
    "mknod file": lambda p: os.mknod(p, stat.S_IFREG | 0o640),
    "mknod socket": lambda p: os.mknod(p, stat.S_IFSOCK | 0o640),
    "mknod device": lambda p: os.mknod(p, stat.S_IFCHR | 0o640, os.makedev(1, 3)),
    "mknod folder": lambda p: os.mknod(p, stat.S_IFDIR | 0o640),
    "chmod 600": lambda p: os.chmod(p, 0o600),
    "chmod 7777": lambda p: os.chmod(p, 0o7777),
    "fchmod": at_descriptor(lambda fd: os.fchmod(fd, 0o604)),
    "fchmod PATH": at_descriptor(lambda fd: os.fchmod(fd, 0o604), os.O_PATH),
    "chown to itself": lambda p: os.chown(p, -1, -1),
    "chown uid": lambda p: os.chown(p, 21002, -1),
    "chown own uid": lambda p: os.chown(p, OWNER, -1),
    "chown group": lambda p: os.chown(p, -1, GROUP),
    "chown other group": lambda p: os.chown(p, -1, 22009),
    "lchown": lambda p: os.chown(p, OWNER, GROUP, follow_symlinks=False),
    "truncate 3": lambda p: os.truncate(p, 3),
    "truncate 0": lambda p: os.truncate(p, 0),
    "truncate longer": lambda p: os.truncate(p, 5000),
    "truncate -1": lambda p: os.truncate(p, -1),
    "truncate too long": lambda p: os.truncate(p, 1 << 62),
    "ftruncate R": at_descriptor(lambda fd: os.ftruncate(fd, 1)),
    "utimes now": lambda p: os.utime(p),
    "utimes given": lambda p: os.utime(p, (OLD + 5, OLD + 5)),
    "utimens OMIT": utimens((0, UTIME_OMIT), (0, UTIME_OMIT)),
    "utimens atime": utimens((OLD + 9, 5), (0, UTIME_OMIT)),
    "utimens mtime NOW": utimens((0, UTIME_OMIT), (0, UTIME_NOW)),
    "utimens bad": utimens((0, 1 << 30), (0, 0)),
    "lutimes": utimens((OLD + 9, 5), (OLD + 9, 6), follow=False),
    "setxattr": lambda p: os.setxattr(p, "user.a", b"value"),
    "setxattr CREATE": lambda p: os.setxattr(p, "user.a", b"v", os.XATTR_CREATE),
    "setxattr REPLACE": lambda p: os.setxattr(p, "user.a", b"v", os.XATTR_REPLACE),
    "setxattr trusted": lambda p: os.setxattr(p, "trusted.a", b"v"),
    "setxattr security": lambda p: os.setxattr(p, "security.a", b"v"),
    "setxattr no class": lambda p: os.setxattr(p, "a", b"v"),
    "setxattr long name": lambda p: os.setxattr(p, "user." + "a" * 251, b"v"),
    "setxattr too big": lambda p: os.setxattr(p, "user.a", b"v" * 65537),
    "getxattr": lambda p: os.getxattr(p, "user.no"),
    "listxattr": lambda p: os.listxattr(p),
    "removexattr": lambda p: os.removexattr(p, "user.no"),
    "lsetxattr": lambda p: os.setxattr(p, "user.a", b"v", follow_symlinks=False),
    "ltrusted": lambda p: os.setxattr(p, "trusted.a", b"v", follow_symlinks=False),
}

TWO_PATHS = {
    "rename": renaming(0),
    "rename NOREPLACE": renaming(NOREPLACE),
    "rename EXCHANGE": renaming(EXCHANGE),
    "rename both flags": renaming(NOREPLACE | EXCHANGE),
    "rename WHITEOUT": renaming(WHITEOUT),
    "rename bad flag": renaming(64),
    "link": linking(0),
    "link FOLLOW": linking(AT_SYMLINK_FOLLOW),
    "link bad flag": linking(64),
}
