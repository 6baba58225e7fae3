"""One side of a comparison: a folder in which calls are made, and what became of it.

Everything here runs in a process of its own that stands in the folder (run_side), as
root, and becomes other users for single calls. Outcomes are plain values, so that those of
two sides can be compared; what belongs to the place and not to POSIX (device numbers, inode
numbers, the moment) is left out.
"""

import errno
import os
import pickle
import stat
import sys
import traceback
from contextlib import contextmanager

OLD = 1_000_000_000  # 2001: whatever is touched afterwards shows
GROUP = 22001

# name: uid, gid, supplementary groups
USERS = {
    "root": (0, 0, []),
    "owner": (21001, GROUP, [GROUP]),
    "member": (21002, 22002, [GROUP]),
    "stranger": (21003, 22003, [22003]),
}
OWNER = USERS["owner"][0]


@contextmanager
def acting_as(user):
    uid, gid, groups = USERS[user]
    if uid == 0:
        yield
        return
    os.setgroups(groups)
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups([])


def outcome(function, *args, **kwargs):
    """What it returns, or the name of its errno."""
    try:
        return function(*args, **kwargs)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
    except ValueError as error:  # Python's own refusal
        return f"ValueError: {error}"


def moved(ns):
    return "old" if ns == OLD * 10**9 else "moved"


def shown(st):
    """A stat without what belongs to the place."""
    kind = stat.S_IFMT(st.st_mode)
    return {
        "mode": f"{st.st_mode:o}",
        "owner": (st.st_uid, st.st_gid),
        "links": st.st_nlink,
        # A folder's size is the backing's affair, and the same there.
        "size": st.st_size if kind != stat.S_IFDIR else None,
        "device": st.st_rdev,
        # Of links the kernel knows the target, and does not ask for it again.
        "atime": None if kind == stat.S_IFLNK else moved(st.st_atime_ns),
        "mtime": moved(st.st_mtime_ns),
    }


def content_of(path):
    """Without touching atime, which the caller may have looked at already."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME)
    try:
        data = os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    return data if len(data) < 200 else (len(data), hash_of(data))


def hash_of(data):
    import hashlib

    return hashlib.sha1(data).hexdigest()


def glance(paths):
    """What is cheap to see of names that are known: has a call changed anything?"""
    return [outcome(lambda p=path: shown(os.lstat(p))) for path in paths]


def names_below(folder=b"."):
    found = [folder]
    for path, folders, files in os.walk(folder):
        found += [os.path.join(path, name) for name in folders + files]
    return found


def snapshot():
    """Everything below: attributes, content, targets, extended attributes."""
    found = {}
    for path in names_below():
        st = os.lstat(path)
        entry = [shown(st), attributes_of(path)]
        if stat.S_ISREG(st.st_mode):
            entry.append(content_of(path))
        elif stat.S_ISLNK(st.st_mode):
            entry.append(os.readlink(path))
        found[path] = entry
    return found


def attributes_of(path):
    names = outcome(os.listxattr, path, follow_symlinks=False)
    if isinstance(names, str):
        return names
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in sorted(names)}


def run_side(folder, work):
    """work() in a child that stands in folder; what it returned."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reader)
            os.chdir(folder)
            os.umask(0)
            with os.fdopen(writer, "wb") as out:
                pickle.dump(work(), out)
            status = 0
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the side's process failed: its words are above"
    return pickle.loads(data)


def unlike(native, mounted, where=""):
    """Where two outcomes differ: (place, native, mounted), leaf by leaf."""
    if isinstance(native, dict) and isinstance(mounted, dict):
        for key in sorted(native.keys() | mounted.keys(), key=str):
            here = f"{where}/{os.fsdecode(key)}"
            yield from unlike(native.get(key), mounted.get(key), here)
    elif (
        isinstance(native, (list, tuple))
        and isinstance(mounted, (list, tuple))
        and len(native) == len(mounted)
    ):
        for number, pair in enumerate(zip(native, mounted)):
            yield from unlike(*pair, f"{where}[{number}]")
    elif native != mounted:
        yield where, native, mounted


def differences(native, mounted, allowed):
    """One line per difference that no rule of allowed explains."""
    assert native.keys() == mounted.keys()
    return [
        f"{case}: at {where or 'the result'}: natively {a}, here {b}"
        for case in native
        for where, a, b in unlike(native[case], mounted[case])
        if not allowed(case, where, a, b)
    ]
