"""Every call on every place by every user, and every pair of places."""

import os
import stat

from . import calls, places
from .side import acting_as, glance, names_below, outcome, snapshot

# Who tries: everybody but root where modes and owners decide, else the owner.
JUDGED = (
    "setuid|open to all|closed to all|read-only|somebody's|executable|unsearchable"
    "|unwritable|sticky|setgid folder"
).split("|")


def users_at(place):
    if any(word in place for word in JUDGED):
        return ("owner", "member", "stranger")
    return ("owner",)


def one_path_cases():
    """A place, and what is done there."""
    for place, make in places.PLACES.items():
        yield (lambda make=make: (make(),)), {
            f"{name} | {place} | {user}": (user, call)
            for user in users_at(place)
            for name, call in calls.ONE_PATH.items()
        }


SOURCES = {
    "file": lambda: places.make_file(b"a"),
    "empty folder": lambda: places.make_folder(b"a"),
    "full folder": lambda: places.make_folder(b"a", full=True),
    "link": lambda: places.make_link(b"nowhere", b"a"),
    "link to file": lambda: (places.make_file(b"z"), places.make_link(b"z", b"a"))[1],
    "pipe": lambda: places.make_node(stat.S_IFIFO, b"a"),
    "socket": lambda: places.make_socket(b"a"),
    "missing": lambda: b"a",
    "long": lambda: places.LONG_NAME,
    "dot": lambda: b".",
    "unlinked twin": lambda: (places.make_file(b"a"), os.link(b"a", b"twin"), b"a")[2],
}

TARGETS = {
    "missing": lambda: b"b",
    "file": lambda: places.make_file(b"b"),
    "setuid file": lambda: places.make_file(b"b", mode=0o6755),
    "empty folder": lambda: places.make_folder(b"b"),
    "full folder": lambda: places.make_folder(b"b", full=True),
    "link": lambda: places.make_link(b"nowhere", b"b"),
    "pipe": lambda: places.make_node(stat.S_IFIFO, b"b"),
    "socket": lambda: places.make_socket(b"b"),
    "itself": lambda: b"a",
    "twin": lambda: b"twin",
    "below itself": lambda: b"a/x",
    "below a file": lambda: (places.make_file(b"b"), b"b/x")[1],
    "missing/": lambda: b"b/",
    "file/": lambda: (places.make_file(b"b"), b"b/")[1],
    "folder/": lambda: (places.make_folder(b"b"), b"b/")[1],
    "below nothing": lambda: b"no/x",
    "parent": lambda: b"..",
    "dot": lambda: b".",
    "long": lambda: places.LONG_NAME,
    "loop/x": lambda: (places.make_link(b"b", b"b"), b"b/x")[1],
    "unwritable/x": places.in_folder(0o550, b"d/no"),
    "unwritable/file": places.in_folder(0o550, b"d/f"),
    "unsearchable/x": places.in_folder(0o600, b"d/no"),
    "sticky/another's": places.in_folder(0o1777, b"d/f", uid=4242, file_uid=4243),
    "sticky/own": places.in_folder(0o1777, b"d/f", uid=4242),
}


def two_path_cases():
    for source, make_source in SOURCES.items():
        for target, make_target in TARGETS.items():
            yield (lambda s=make_source, t=make_target: (s(), t())), {
                f"{name} | {source} -> {target} | {user}": (user, call)
                for user in ("root", "owner", "stranger")
                for name, call in calls.TWO_PATHS.items()
            }


class Stand:
    """Where cases are run: a place is made again only when a call has changed it."""

    def __init__(self):
        self.made = 0
        self.pristine = None

    def make(self, make):
        if self.made:
            os.chdir("..")
        self.made += 1
        places.fresh(self.made)
        self.arguments = make()
        self.names = names_below()
        places.make_old()
        self.pristine = glance(self.names)

    def run(self, make, user, name, call):
        """What the call answered, and what is there if it changed anything."""
        if self.pristine is None:
            self.make(make)
        with acting_as(user):
            result = outcome(call, *self.arguments)
        if "attr" not in name and glance(self.names) == self.pristine:
            return result, None
        self.pristine = None
        return result, snapshot()


def run(places_and_cases):
    """In one side's process: {case: outcome}."""
    found = {}
    stand = Stand()
    for make, cases in places_and_cases:
        stand.pristine = None
        for name, (user, call) in cases.items():
            found[name] = stand.run(make, user, name, call)
    return found
