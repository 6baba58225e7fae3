"""The rules of SEMANTICS.md in small: what a workspace is after each change, and why.

Changes come one after the other and every handle is closed at once, so leases never
bind. Lines of content are unique in the world and never empty; where that does not make
the lost-update verdict (S4) plain, it is None here and the change is not tried.
"""

import errno
from dataclasses import dataclass, field

SAME, KEPT, REVERTED, OVERLAPPING = "same", "kept", "reverted", "overlapping"
APPEND, BLIND, TRUNCATING, WHOLE = "append", "blind", "truncating", "whole"


class Uncertain(Exception):
    """The rules leave the outcome to a line-by-line comparison that is not done here."""


def verdict(base, current, new):
    """S4, from contents as bytes; base None: unknown."""
    if new == current:
        return SAME
    c, n = current.splitlines(), new.splitlines()
    carried = [line for line in n if line in set(c)] == c
    if base is None:
        return KEPT if carried else OVERLAPPING
    if new == base:
        return REVERTED
    b = base.splitlines()
    if carried and n[: len(c)] == c and (set(b) <= set(c) or not set(b) & set(c)):
        if c or not b:
            return KEPT
    apart = not (set(b) & set(c) or set(b) & set(n) or set(c) & set(n))
    if apart and (b or n):
        return OVERLAPPING
    back = set(n) - set(c)
    if any(old and set(old) <= back and not set(now) & set(n) for old, now in hunks(b, c)):
        return REVERTED
    return None


def hunks(b, c):
    """Where two texts of unique lines differ: pairs of what was and what is."""
    common = [line for line in b if line in set(c)]
    if common != [line for line in c if line in set(b)]:
        return []  # something moved: not plain
    found, was, now = [], [], []
    rest = list(c)
    for line in [*b, None]:
        if line is not None and line not in common:
            was.append(line)
            continue
        while rest and rest[0] != line:
            now.append(rest.pop(0))
        rest[:1] = []
        if was or now:
            found.append((was, now))
        was, now = [], []
    return found


@dataclass
class Version:
    kind: str
    writer: str | None
    base: int
    content: bytes | None  # None: a delete


@dataclass(eq=False)
class Story:
    """A file with what is known of it; all its names share one (L10)."""

    content: bytes
    mode: int = 0o644
    names: set = field(default_factory=set)
    seq: int = 0  # of the version that made the content
    author: str | None = None
    known: dict = field(default_factory=dict)  # writer's mind: newest seq it knows (S1)
    young: set = field(default_factory=set)  # who has read it within settle


class Reference:
    def __init__(self, before):
        """before: files that lie there, by name, before the mount."""
        self.at = {name: Story(data, names={name}) for name, data in before.items()}
        self.history = {}  # path: [Version]
        self.gone = {}  # path: the story that ended there
        self.refusals = []  # (writer, path, base, current)
        self.contents = {}  # seq: bytes
        self.numbers = {}  # (path, seq): number
        self.linked = set()  # names that have ever been one of several
        self.seq = 0
        # Of a file with several names any one's history may tell of a change.
        self.telling = lambda story, path: path
        for story in self.at.values():
            self.made(story, None, story.content)

    # ---- bookkeeping

    def made(self, story, writer, content):
        self.seq += 1
        story.seq, story.author, story.content = self.seq, writer, content
        self.contents[self.seq] = content
        if writer:
            self.knows(story, writer)

    def knows(self, story, writer):
        story.known[writer] = story.seq
        story.young.discard(writer)

    def head(self, path):
        return len(self.history.get(path, []))

    def append(self, path, kind, writer, base, story):
        rows = self.history.setdefault(path, [])
        rows.append(Version(kind, writer, base, story.content if story else None))
        if story:
            self.numbers[path, story.seq] = len(rows)

    def begin(self, path, story):
        """V2: what was there is recorded before the first change."""
        rows = self.history.get(path, [])
        if story and (not rows or rows[-1].content is None):
            self.append(path, "initial", None, 0, story)

    def base_of(self, path, story, writer):
        known = story.known.get(writer, 0)
        if known >= story.seq:
            return self.head(path)
        return self.numbers.get((path, known), 0)

    # ---- S2-S9

    def judge(self, path, writer, shape, new=None):
        """None: it goes ahead; else the errno; the refusal is recorded."""
        story = self.at.get(path)
        if not story:
            return None
        read_now = writer in story.young
        story.young.discard(writer)  # S1: it belongs to this attempt
        known = story.known.get(writer, 0)
        if story.author in (None, writer) or known >= story.seq or shape == APPEND:
            return None
        if shape == WHOLE or (shape == TRUNCATING and read_now):
            found = verdict(self.contents.get(known), story.content, new)
            if found is None:
                story.young |= {writer} if read_now else set()
                raise Uncertain
            if found in (SAME, KEPT) or (found == OVERLAPPING and read_now):
                return None
        base = self.numbers.get((path, known), 0)
        self.refusals.append((writer, path, base, self.head(path)))
        return errno.ESTALE

    # ---- what writers do; each returns the errno or None

    def read(self, path, writer, settles):
        story = self.at.get(path)
        if not story:
            return errno.ENOENT
        if settles:
            self.knows(story, writer)
        else:
            story.young.add(writer)
        return None

    def settle(self):
        """More than `settle` has passed since all that was read."""
        for story in set(self.at.values()):
            for writer in list(story.young):
                self.knows(story, writer)

    def change(self, path, writer, shape, new):
        """In place, or created."""
        story = self.at.get(path)
        failed = self.judge(path, writer, shape, new)
        if failed:
            return failed
        if not story:
            return self.create(path, writer, new)
        path = self.telling(story, path)
        self.begin(path, story)
        if new == story.content:
            return None  # V1
        base = self.base_of(path, story, writer)
        self.made(story, writer, new)
        self.append(path, "write", writer, base, story)
        return None

    def create(self, path, writer, new):
        if path in self.at:
            return errno.EEXIST
        story = self.at[path] = self.gone.pop(path, None) or Story(new)
        base = self.head(path)
        story.mode, story.names = 0o644, {path}
        self.made(story, writer, new)
        self.append(path, "write", writer, base, story)
        return None

    def unlink(self, path, writer):
        story = self.at.get(path)
        if not story:
            return errno.ENOENT
        failed = self.judge(path, writer, BLIND)
        if failed:
            return failed
        self.begin(path, story)
        story.names.discard(path)
        self.leave(path, writer, Story(b"") if story.names else story)
        return None

    def leave(self, path, writer, story):
        """The story at a path where nothing is from now on; its end is known, too."""
        self.append(path, "delete", writer, self.head(path), None)
        del self.at[path]
        self.gone[path] = story
        self.seq += 1
        self.numbers[path, self.seq] = self.head(path)
        story.known[writer] = self.seq

    def rename(self, source, target, writer):
        """Onto what is there, or to a free name."""
        moved, there = self.at.get(source), self.at.get(target)
        if not moved:
            return errno.ENOENT
        if moved is there:
            return None
        failed = self.judge_both(source, target, writer)
        if failed:
            return failed
        left = Story(b"")
        if there or target in self.history:
            self.arrive(target, writer, moved)
            left.known = dict(moved.known)
        else:
            moved.names = moved.names - {source} | {target}
            self.at[target] = moved
            self.append(target, "move", writer, 0, moved)
        self.leave(source, writer, left)
        return None

    def judge_both(self, source, target, writer):
        """What leaves first: its beginning is recorded even where the other end fails."""
        failed = self.judge(source, writer, BLIND)
        if failed:
            return failed
        self.begin(source, self.at[source])
        failed = self.judge(target, writer, WHOLE, self.at[source].content)
        if not failed:
            self.begin(target, self.at.get(target))
        return failed

    def arrive(self, target, writer, moved):
        """S10: the target's story goes on with what was moved onto it."""
        there = self.at.get(target)
        base = self.base_of(target, there, writer) if there else self.head(target)
        if there and len(there.names) > 1:
            there.names.discard(target)
            story = Story(there.content, seq=there.seq, author=there.author)
            story.known = dict(there.known)
        else:
            story = there or self.gone.pop(target, None) or Story(b"")
        story.names, story.mode = {target}, moved.mode
        self.at[target] = story
        if there and there.content == moved.content:
            self.knows(story, writer)
        else:
            self.made(story, writer, moved.content)
        self.append(target, "replace", writer, base, story)

    def exchange(self, a, b, writer):
        one, two = self.at.get(a), self.at.get(b)
        if not one or not two:
            return errno.ENOENT
        if one is two:
            return None
        if len(one.names | two.names) > 2:
            raise Uncertain
        failed = self.judge_both(a, b, writer)
        if failed:
            return failed
        bases = self.base_of(a, one, writer), self.base_of(b, two, writer)
        contents = one.content, two.content
        one.mode, two.mode = two.mode, one.mode
        ends = (b, two, contents[0], bases[1]), (a, one, contents[1], bases[0])
        for path, story, new, base in ends:
            if story.content == new:
                self.knows(story, writer)
            else:
                self.made(story, writer, new)
            self.append(path, "replace", writer, base, story)
        return None

    def chmod(self, path, writer, mode):
        story = self.at.get(path)
        if not story:
            return errno.ENOENT
        path = self.telling(story, path)
        self.begin(path, story)
        if story.mode != mode:
            story.mode = mode
            self.append(path, "mode", writer, self.head(path), story)
        return None

    def link(self, source, target, writer):
        story = self.at.get(source)
        if not story:
            return errno.ENOENT
        if target in self.at:
            return errno.EEXIST
        self.begin(self.telling(story, source), story)
        base = self.head(target)
        story.names.add(target)
        self.at[target] = story
        self.gone.pop(target, None)
        self.append(target, "link", writer, base, story)
        self.linked |= story.names
        return None

    def remount(self):
        """S3, L8: nothing is remembered as read; whose a content is stays known."""
        for path, story in self.at.items():
            story.known, story.young = {}, set()
            rows = self.history.get(path, [])
            makers = [v.writer for v in rows if v.kind in ("write", "replace", "initial")]
            if makers and path not in self.linked and story.author is not None:
                story.author = makers[-1]
        self.gone = {}
