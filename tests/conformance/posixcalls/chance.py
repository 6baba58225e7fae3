"""Random changes of a few names, one seed at a time: what each answers, and the tree."""

import os
import random
import stat

from . import calls
from .side import content_of, outcome, snapshot

NAMES = [f + n for f in (b"", b"d/", b"e/") for n in (b"a", b"b", b"c")] + [b"d", b"e"]
LOOKS_EVERY = 25


def write(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW, 0o644)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def save(path, data):
    """By a temporary name and a rename."""
    write(b"temporary", data)
    try:
        os.rename(b"temporary", path)
    except OSError:
        os.unlink(b"temporary")
        raise


def rename(flags, a, b):
    """Not a file with a folder, whose histories do not change places: RELIABILITY.md."""
    if flags == calls.EXCHANGE and os.path.isdir(a) != os.path.isdir(b):
        return None
    return calls.renaming(flags)(a, b)


def read(path):
    return os.readlink(path) if stat.S_ISLNK(os.lstat(path).st_mode) else content_of(path)


CHANGES = [
    lambda r, a, b: write(a, b"%d" % r.randrange(10**6)),
    lambda r, a, b: save(a, b"%d" % r.randrange(10**6)),
    lambda r, a, b: rename(r.choice((0, 0, 0, 1, 2, 2)), a, b),
    lambda r, a, b: rename(r.choice((0, 0, 0, 1, 2, 2)), a, b),
    lambda r, a, b: calls.linking(0)(a, b),
    lambda r, a, b: os.unlink(a),
    lambda r, a, b: os.mkdir(a, 0o755),
    lambda r, a, b: os.rmdir(a),
    lambda r, a, b: os.symlink(b, a),
    lambda r, a, b: os.mkfifo(a, 0o600),
    lambda r, a, b: os.mknod(a, stat.S_IFREG | 0o600),
    lambda r, a, b: os.chmod(a, r.randrange(0o1000) | 0o700),
    lambda r, a, b: os.chown(a, r.choice((0, 21001)), -1, follow_symlinks=False),
    lambda r, a, b: os.truncate(a, r.randrange(9)),
    lambda r, a, b: read(a),
    lambda r, a, b: f"{os.lstat(a).st_mode:o} {os.lstat(a).st_nlink}",
    lambda r, a, b: sorted(os.listdir(os.path.dirname(a) or b".")),
]


def without_times(tree):
    for entry in tree.values():
        entry[0].pop("mtime"), entry[0].pop("atime")
    return tree


def run(seed, steps):
    """{step: what it answered}; now and then the whole tree."""
    r = random.Random(seed)
    found = {}
    os.mkdir(b"d")
    os.mkdir(b"e")
    for number in range(steps):
        which, a, b = r.randrange(len(CHANGES)), r.choice(NAMES), r.choice(NAMES)
        own = random.Random(r.random())
        step = f"seed {seed} step {number}: {which} {a} {b}"
        found[step] = outcome(CHANGES[which], own, a, b)
        if number % LOOKS_EVERY == 0 or number == steps - 1:
            found[step + " tree"] = without_times(snapshot())
    return found
