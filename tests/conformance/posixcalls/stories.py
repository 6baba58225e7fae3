"""What takes several calls: each story is a function that tells what it saw.

They run in an empty folder, as root, one after the other on each side.
"""

import ctypes
import fcntl
import mmap
import os
import stat
import struct

from . import calls, places
from .side import OWNER, acting_as, content_of, outcome, shown

KEEP, PUNCH, ZERO = 1, 2, 16
LIBC = calls.LIBC


def fallocate(fd, mode, offset, size):
    calls.check(LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


def opened(path, flags, mode=0o640):
    return os.open(path, flags | os.O_CLOEXEC, mode)


def descriptors_keep_what_they_may():
    """What a descriptor may do was decided when it was opened."""
    places.make_file(b"f", mode=0o600)
    with acting_as("owner"):
        fd = opened(b"f", os.O_RDWR)
    os.chmod(b"f", 0)
    os.chown(b"f", 0, 0)
    with acting_as("stranger"):
        seen = [outcome(os.pread, fd, 3, 0), outcome(os.pwrite, fd, b"ab", 1)]
        seen += [outcome(os.ftruncate, fd, 4), outcome(os.fchmod, fd, 0o644)]
        seen += [outcome(opened, b"f", os.O_RDONLY)]
    os.close(fd)
    return seen + [content_of(b"f")]


def a_mode_that_forbids_its_maker():
    with acting_as("owner"):
        fd = opened(b"f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0)
        seen = [outcome(os.write, fd, b"x"), outcome(os.pread, fd, 5, 0)]
        os.close(fd)
        seen.append(outcome(opened, b"f", os.O_RDONLY))
    return seen


def unnamed_files():
    fd = opened(b".", os.O_TMPFILE | os.O_RDWR, 0o604)
    seen = [os.fstat(fd).st_nlink, os.write(fd, b"unnamed"), os.listdir(b".")]
    path = f"/proc/self/fd/{fd}".encode()
    seen.append(outcome(calls.linking(calls.AT_SYMLINK_FOLLOW), path, b"named"))
    seen.append(outcome(calls.linking(calls.AT_SYMLINK_FOLLOW), path, b"named"))
    seen += [os.fstat(fd).st_nlink, content_of(b"named")]
    os.close(fd)
    fd = opened(b".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    path = f"/proc/self/fd/{fd}".encode()
    seen.append(outcome(calls.linking(calls.AT_SYMLINK_FOLLOW), path, b"never"))
    os.close(fd)
    return seen + [sorted(os.listdir(b"."))]


def a_running_program_is_busy():
    """ETXTBSY, both ways."""
    with open("/bin/sleep", "rb") as f:
        places.make_file(b"p", mode=0o755, content=f.read())
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(b"p", [b"p", b"60"])
        finally:
            os._exit(1)
    while os.readlink(f"/proc/{pid}/exe") != os.path.realpath("p"):
        pass  # until it has become the program
    seen = [outcome(opened, b"p", os.O_WRONLY), outcome(os.truncate, b"p", 1)]
    seen += [outcome(opened, b"p", os.O_RDONLY | os.O_TRUNC)]
    seen += [outcome(os.rename, b"p", b"q"), outcome(os.unlink, b"q")]
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with open("/bin/true", "rb") as f:
        places.make_file(b"p", mode=0o755, content=f.read())
    fd = opened(b"p", os.O_WRONLY)
    seen.append(calls.executing(b"p"))
    os.close(fd)
    return seen + [calls.executing(b"p")]


def appending():
    fd = opened(b"f", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    seen = [os.write(fd, b"one"), os.lseek(fd, 0, 0), os.write(fd, b"two")]
    seen += [os.lseek(fd, 0, 1), os.pwrite(fd, b"X", 0), os.ftruncate(fd, 2)]
    seen += [os.write(fd, b"end"), content_of(b"f")]
    os.close(fd)
    return seen


def seeking():
    fd = opened(b"f", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"x" * 4096, 65536)
    os.ftruncate(fd, 262144)
    os.fsync(fd)
    seen = [outcome(os.lseek, fd, at, how) for how in (os.SEEK_DATA, os.SEEK_HOLE)
            for at in (0, 65536, 69632, 262143, 262144, -1)]
    seen += [outcome(os.lseek, fd, -1, 0)]
    seen += [outcome(os.lseek, fd, -5, 2), outcome(os.lseek, fd, 0, 99)]
    os.close(fd)
    return seen


def allocating():
    fd = opened(b"f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"0123456789" * 1000)
    seen = []
    for mode, offset, size in (
        (0, 5000, 10000), (KEEP, 20000, 5000), (PUNCH | KEEP, 4096, 4096), (PUNCH, 0, 1),
        (ZERO, 100, 50), (ZERO | KEEP, 15000, 9000), (0, -1, 5), (0, 5, 0), (0, 0, -3),
        (0, 1 << 62, 1 << 62), (KEEP | PUNCH, 14000, 90000), (1 << 20, 0, 1),
    ):
        seen.append((outcome(fallocate, fd, mode, offset, size), os.fstat(fd).st_size))
    seen.append(content_of(b"f"))
    os.close(fd)
    fd = opened(b"f", os.O_RDONLY)
    seen.append(outcome(fallocate, fd, 0, 0, 5))
    os.close(fd)
    os.mkfifo(b"p")
    fd = opened(b"p", os.O_RDWR)
    seen.append(outcome(fallocate, fd, 0, 0, 5))
    os.close(fd)
    return seen


def copying():
    places.make_file(b"a", content=bytes(range(256)) * 40)
    a, b = opened(b"a", os.O_RDWR), opened(b"b", os.O_RDWR | os.O_CREAT)
    readable, appends = opened(b"b", os.O_RDONLY), opened(b"b", os.O_WRONLY | os.O_APPEND)
    folder = opened(b".", os.O_RDONLY)
    cases = [
        (a, b, 100, 0, 0), (a, b, 5000, 10000, 50), (a, b, 5000, 20000, 50),
        (a, a, 100, 0, 200), (a, a, 300, 0, 200), (a, readable, 5, 0, 0),
        (a, appends, 5, 0, 0), (a, folder, 5, 0, 0), (folder, b, 5, 0, 0),
        (b, a, 0, 0, 0), (appends, a, 5, 0, 0),
    ]
    seen = [outcome(os.copy_file_range, *case) for case in cases]
    for fd in (a, b, readable, appends, folder):
        os.close(fd)
    return seen + [content_of(b"a"), content_of(b"b")]


def mapping():
    places.make_file(b"f", content=b"m" * 5000)
    seen = []
    read, write = mmap.PROT_READ, mmap.PROT_WRITE
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND):
        fd = opened(b"f", flags)
        for how in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            for prot in (read, read | write):
                answer = outcome(mmap.mmap, fd, 5000, how, prot)
                seen.append(answer if isinstance(answer, str) else "mapped")
                if answer.__class__ is mmap.mmap and prot & write:
                    answer[0:3] = b"abc" if how == mmap.MAP_SHARED else b"xyz"
                    answer.flush()
        os.close(fd)
    folder = opened(b".", os.O_RDONLY)
    seen.append(outcome(mmap.mmap, folder, 10, mmap.MAP_SHARED, read))
    os.close(folder)
    return seen + [content_of(b"f")]


def a_mapping_behind_a_shorter_file():
    """The page of the new end is zero behind it, and what was cut does not come back."""
    fd = opened(b"f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"w" * 8192)
    m = mmap.mmap(fd, 8192)
    os.ftruncate(fd, 100)
    seen = [bytes(m[90:110])]
    os.ftruncate(fd, 8192)
    seen += [bytes(m[90:110]), bytes(m[4096:4100])]
    m.close()
    os.close(fd)
    return seen


def locks():
    fd, other = opened(b"f", os.O_RDWR | os.O_CREAT), opened(b"f", os.O_RDWR)
    reader = opened(b"f", os.O_RDONLY)
    seen = [outcome(fcntl.flock, fd, fcntl.LOCK_EX)]
    seen += [outcome(fcntl.flock, other, how | fcntl.LOCK_NB) for how in (1, 2)]
    seen += [outcome(fcntl.flock, fd, fcntl.LOCK_UN), outcome(fcntl.flock, reader, 2)]

    def region(kind, command, whom, start, size):
        packed = struct.pack("hhqqi4x", kind, 0, start, size, 0)
        answer = outcome(fcntl.fcntl, whom, command, packed)
        return answer if isinstance(answer, str) else struct.unpack("hhqqi4x", answer)[:4]

    OFD_GET, OFD_SET = 36, 37
    read, write, un = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
    for case in (
        (write, OFD_SET, fd, 0, 10), (write, OFD_SET, other, 5, 1),
        (read, OFD_SET, other, 10, 5), (write, OFD_GET, other, 0, 0),
        (write, OFD_SET, reader, 90, 1), (read, OFD_SET, reader, 90, 1),
        (un, OFD_SET, fd, 2, 3), (write, OFD_SET, other, 2, 3),
        (write, fcntl.F_SETLK, fd, -1, 5), (99, fcntl.F_SETLK, fd, 0, 5),
        (write, fcntl.F_SETLK, reader, 0, 5), (write, fcntl.F_SETLK, fd, 200, 0),
    ):
        seen.append(region(*case))
    for f in (fd, other, reader):
        os.close(f)
    return seen


def reading_a_changing_folder():
    """What is there all the time is listed once, whatever comes and goes meanwhile."""
    for n in range(300):
        os.close(opened(b"stay%03d" % n, os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(b".") as entries:
        for n, entry in enumerate(entries):
            if entry.name.startswith(b"stay"):
                seen.append(entry.name)
            os.close(opened(b"new%03d" % n, os.O_CREAT | os.O_WRONLY))
            if n > 600:
                break
            if n % 3 == 0:
                os.unlink(b"new%03d" % n)
    return sorted(seen)


def removed_but_open():
    os.mkdir(b"d")
    places.make_file(b"d/f")
    fd, folder = opened(b"d/f", os.O_RDWR), opened(b"d", os.O_RDONLY)
    os.unlink(b"d/f")
    os.rmdir(b"d")
    seen = [os.pread(fd, 7, 0), os.pwrite(fd, b"NEW", 0), os.pread(fd, 7, 0)]
    seen += [os.fstat(fd).st_nlink, os.fstat(folder).st_nlink]
    seen += [outcome(os.listdir, folder), outcome(os.fchmod, fd, 0o600)]
    seen += [outcome(os.open, b"x", os.O_CREAT, 0o600, dir_fd=folder)]
    seen += [outcome(os.mkdir, b"x", dir_fd=folder), outcome(os.stat, b".", dir_fd=folder)
             .__class__ is os.stat_result]
    os.close(fd)
    os.close(folder)
    return seen


def many_links():
    places.make_file(b"f")
    for n in range(5):
        os.link(b"f", b"l%d" % n)
    os.truncate(b"l3", 4)
    os.chmod(b"l1", 0o611)
    os.unlink(b"f")
    os.rename(b"l4", b"l0")  # the same file: nothing
    return [shown(os.stat(b"l%d" % n)) for n in range(5)] + [content_of(b"l2")]


def clearing_of_suid():
    """By each way in which somebody else can change the content, or its owner the owner."""
    seen = []
    changes = {
        "write": lambda fd: os.write(fd, b"x"), "truncate": lambda fd: os.ftruncate(fd, 2),
        "fallocate": lambda fd: fallocate(fd, 0, 0, 100),
        "punch": lambda fd: fallocate(fd, KEEP | PUNCH, 0, 4),
        "nothing": lambda fd: os.write(fd, b""),
        "chown": lambda fd: os.fchown(fd, -1, 22002),
    }
    for mode in (0o6777, 0o2767, 0o4666, 0o7777):
        for name, change in changes.items():
            for user in ("root", "member", "stranger", "owner"):
                path = f"{name}-{mode:o}-{user}".encode()
                places.make_file(path, mode=mode)
                with acting_as(user):
                    fd = opened(path, os.O_RDWR)
                    answer = outcome(change, fd)
                    os.close(fd)
                seen.append((path, answer, f"{os.stat(path).st_mode:o}"))
    return seen


def odd_descriptors():
    places.make_file(b"f")
    fd = opened(b"f", os.O_RDWR)
    seen = [outcome(os.pread, fd, 5, -1), outcome(os.pwrite, fd, b"", -1)]
    seen += [outcome(os.readv, fd, []), outcome(os.posix_fadvise, fd, 0, 0, 99)]
    seen += [outcome(os.pread, fd, 5, 1 << 62), outcome(os.pwrite, fd, b"x", (1 << 63) - 1)]
    seen += [outcome(os.fsync, fd), outcome(os.fdatasync, fd)]
    seen += [outcome(fcntl.ioctl, fd, 0x12345678), outcome(os.listdir, fd)]
    os.close(fd)
    folder = opened(b".", os.O_RDONLY)
    seen += [outcome(os.read, folder, 5), outcome(os.fsync, folder)]
    seen += [outcome(os.ftruncate, folder, 0), outcome(os.lseek, folder, -1, 0)]
    os.close(folder)
    return seen


def statx_and_links_of_folders():
    os.makedirs(b"a/b")
    os.mkdir(b"a/c")
    os.symlink(b"b", b"a/l")
    seen = [os.stat(b"a").st_nlink]
    os.rename(b"a/c", b"a/b/c")
    seen += [os.stat(b"a").st_nlink, os.stat(b"a/b").st_nlink]
    seen += [os.stat(b"a/b/..").st_ino == os.stat(b"a").st_ino]
    os.rename(b"a/b", b"b")
    seen += [os.stat(b"b/..").st_ino == os.stat(b".").st_ino, os.listdir(b"b")]
    seen += [outcome(os.rename, b"b", b"b/c/d"), outcome(os.rename, b"b/c", b"b")]
    seen += [outcome(os.stat, b"a/l")]
    return seen


def extended_attributes():
    places.make_file(b"f")
    seen = []
    for name, value, flags in (
        ("user.a", b"1", 0), ("user.a", b"2", os.XATTR_CREATE), ("user.b", b"", 0),
        ("user.c", b"3", os.XATTR_REPLACE), ("user.a", b"z" * 2000, os.XATTR_REPLACE),
        ("user.", b"x", 0), ("trusted.t", b"t", 0), ("user.a", b"2", 3),
    ):
        seen.append(outcome(os.setxattr, b"f", name, value, flags))
    seen += [sorted(os.listxattr(b"f")), os.getxattr(b"f", "user.a"),
             LIBC.getxattr(b"f", b"user.a", None, 0), LIBC.listxattr(b"f", None, 0)]
    short = ctypes.create_string_buffer(3)
    seen += [LIBC.getxattr(b"f", b"user.a", short, 3), ctypes.get_errno()]
    seen += [LIBC.listxattr(b"f", short, 3), ctypes.get_errno()]
    with acting_as("owner"):
        seen += [sorted(os.listxattr(b"f")), outcome(os.getxattr, b"f", "trusted.t")]
    seen += [outcome(os.removexattr, b"f", "user.b") for again in range(2)]
    return seen


def blocks_and_sizes():
    fd = opened(b"f", os.O_RDWR | os.O_CREAT)
    seen = []
    for step in (
        lambda: os.write(fd, b"x" * 10000), lambda: os.ftruncate(fd, 1 << 30),
        lambda: os.pwrite(fd, b"y", (1 << 30) - 1),
        lambda: fallocate(fd, KEEP | PUNCH, 0, 8192), lambda: os.ftruncate(fd, 0),
    ):
        outcome(step)
        os.fsync(fd)
        st = os.fstat(fd)
        seen.append((st.st_size, st.st_blocks, st.st_blksize))
    os.close(fd)
    return seen


def times_of_folders():
    os.mkdir(b"d")
    os.mkdir(b"e")
    places.make_file(b"d/f")
    seen = []
    for step in (
        lambda: os.rename(b"d/f", b"e/f"), lambda: os.link(b"e/f", b"d/l"),
        lambda: os.unlink(b"d/l"), lambda: os.mkdir(b"e/s"), lambda: os.rmdir(b"e/s"),
        lambda: os.chmod(b"e/f", 0o600), lambda: os.truncate(b"e/f", 1),
        lambda: os.symlink(b"x", b"d/y"), lambda: os.rename(b"d/y", b"d/z"),
        lambda: os.mkfifo(b"d/p"), lambda: os.rename(b"d/p", b"e/f"),
    ):
        places.make_old()
        step()
        seen.append((shown(os.stat(b"d"))["mtime"], shown(os.stat(b"e"))["mtime"]))
    return seen


def a_file_of_many_modes_keeps_the_time_it_is_given():  # S12 is about contents
    places.make_file(b"f")
    for mode in (0o600, 0o640, 0o755):
        os.chmod(b"f", mode)
    os.utime(b"f", ns=(5, 10**18 + 7))
    return os.stat(b"f").st_mtime_ns, os.stat(b"f").st_atime_ns


def setgid_folders():
    os.mkdir(b"d")
    os.chown(b"d", OWNER, 22002)
    os.chmod(b"d", 0o2777)
    with acting_as("stranger"):
        os.mkdir(b"d/sub")
        os.close(opened(b"d/f", os.O_CREAT | os.O_WRONLY, 0o2775))
        os.close(opened(b"d/g", os.O_CREAT | os.O_WRONLY, 0o2770))
        os.symlink(b"x", b"d/l")
        os.mkfifo(b"d/p")
        fd = opened(b"d", os.O_TMPFILE | os.O_RDWR, 0o2775)
        unnamed = shown(os.fstat(fd))
        os.close(fd)
        denied = outcome(os.chmod, b"d/f", 0o2775), f"{os.stat(b'd/f').st_mode:o}"
    names = sorted(os.listdir(b"d"))
    return [shown(os.lstat(b"d/" + n)) for n in names] + [unnamed, denied]


STORIES = {
    name: story
    for name, story in list(globals().items())
    if callable(story) and getattr(story, "__module__", "") == __name__
    and name not in ("fallocate", "opened")
}


def run():
    found = {}
    for name, story in STORIES.items():
        os.mkdir(name)
        os.chmod(name, 0o777)
        os.chdir(name)
        found[name] = outcome(story)
        os.chdir("..")
    return found
