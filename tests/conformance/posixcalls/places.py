"""What a path can lead to: each place is made anew in an empty folder for each case."""

import os
import socket
import stat

from .side import GROUP, OLD, OWNER, names_below

LONG_NAME = b"n" * 256
FILE = b"content of the file\n"


def _own(path, mode, uid=OWNER, gid=GROUP):
    os.chown(path, uid, gid, follow_symlinks=False)
    if mode is not None:
        os.chmod(path, mode)


def make_file(path=b"f", mode=0o640, uid=OWNER, content=FILE):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, content)
    os.close(fd)
    _own(path, mode, uid)
    return path


def make_folder(path=b"d", mode=0o750, uid=OWNER, full=False):
    os.mkdir(path)
    if full:
        make_file(os.path.join(path, b"inside"))
    _own(path, mode, uid)
    return path


def make_link(target, path=b"l"):
    os.symlink(target, path)
    _own(path, None)
    return path


def make_node(kind, path, device=0):
    os.mknod(path, kind | 0o640, device)
    _own(path, None)
    return path


def make_socket(path=b"s"):
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.fsdecode(path))
    s.close()
    _own(path, 0o640)
    return path


def beside(*makers):
    """Make all of them; the path is the last one's."""

    def make():
        path = None
        for maker in makers:
            path = maker()
        return path

    return make


def at(path, *makers):
    """Make them, and use another path."""

    def make():
        for maker in makers:
            maker()
        return path

    return make


def in_folder(mode, path, uid=OWNER, file_uid=OWNER):
    def make():
        os.mkdir(b"d")
        make_file(b"d/f", uid=file_uid)
        make_folder(b"d/sub", uid=file_uid)
        _own(b"d", mode, uid)
        return path

    return make


PLACES = {
    "missing": at(b"no"),
    "file": make_file,
    "empty file": lambda: make_file(content=b""),
    "executable": lambda: make_file(mode=0o755, content=b"#!/bin/true\n"),
    "setuid": lambda: make_file(mode=0o6775, content=b"#!/bin/true\n"),
    "open to all": lambda: make_file(mode=0o666),
    "closed to all": lambda: make_file(mode=0o000),
    "read-only": lambda: make_file(mode=0o444),
    "somebody's": lambda: make_file(mode=0o600, uid=4242),
    "file/": at(b"f/", make_file),
    "missing/": at(b"no/"),
    "file/below": at(b"f/x", make_file),
    "missing/below": at(b"no/x"),
    "folder": make_folder,
    "folder/": at(b"d/", make_folder),
    "folder/.": at(b"d/.", make_folder),
    "folder/..": at(b"d/..", make_folder),
    "full folder": lambda: make_folder(full=True),
    "link to file": beside(make_file, lambda: make_link(b"f")),
    "link to file/": at(b"l/", make_file, lambda: make_link(b"f")),
    "link to folder": beside(make_folder, lambda: make_link(b"d")),
    "link to folder/": at(b"l/", make_folder, lambda: make_link(b"d")),
    "dangling link": lambda: make_link(b"no"),
    "dangling link/": at(b"l/", lambda: make_link(b"no")),
    "link to itself": lambda: make_link(b"l"),
    "below a loop": at(b"l/x", lambda: make_link(b"l")),
    "pipe": lambda: make_node(stat.S_IFIFO, b"p"),
    "socket": make_socket,
    "long name": at(LONG_NAME),
    "long name below a file": at(b"f/" + LONG_NAME, make_file),
    "name of 255": lambda: make_file(b"n" * 255),
    "long path": at(b"x/" * 2048 + b"x"),
    "empty path": at(b""),
    "dot": at(b"."),
    "unsearchable/file": in_folder(0o600, b"d/f"),
    "unsearchable/missing": in_folder(0o600, b"d/no"),
    "unwritable/file": in_folder(0o550, b"d/f"),
    "unwritable/missing": in_folder(0o550, b"d/no"),
    "unwritable/folder": in_folder(0o550, b"d/sub"),
    "sticky/own": in_folder(0o1777, b"d/f", uid=4242),
    "sticky/own folder": in_folder(0o1777, b"d/sub", uid=4242),
    "sticky/another's": in_folder(0o1777, b"d/f", uid=4242, file_uid=4243),
    "own sticky/another's": in_folder(0o1777, b"d/f", file_uid=4243),
    "setgid folder/missing": in_folder(0o2777, b"d/no", uid=4242),
}


def make_old():
    """What was just made was touched long ago."""
    for path in reversed(names_below()):
        os.utime(path, (OLD, OLD), follow_symlinks=False)


def fresh(number):
    """Stand in a new empty folder, which belongs to the owner."""
    name = b"c%d" % number
    os.mkdir(name)
    _own(name, 0o775)
    os.chdir(name)
