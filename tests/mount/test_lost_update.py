"""Real agents' saves crossed with what another did meanwhile (S4, S6, S7, S11).

Version 1 of each file is read by bob's agent. After `settle` alice does something to it;
then bob's agent saves as FIELD.md section 2 has seen it (stomplib/saves.py), either

  edit    search and replace in what it re-reads now, or
  whole   the text it composed from version 1, written over the whole file.

Verdicts in the tables:

  lands    the file is what the agent wrote, with nothing of alice's undone
  covers   the file is what the agent wrote, over a line of alice's that its process has
           read and that is not what it was before either: S4 lets that pass
  refused  the agent was told, and nothing has happened
  unheard  refused where the bytes had decided, at the last call: this agent swallows what
           that says; nothing has happened, and its bytes are kept
  -        the agent finds nothing to edit, or no file, and writes nothing

A refusal where `lands` belongs is a false one, a landing where `refused` belongs a missed
stomp: each test prints how many of both there are, and wants none.
"""

import errno
import os
from dataclasses import dataclass

import pytest

# Long enough that a re-read and the attempt after it fit in, however busy the machine is.
pytestmark = pytest.mark.mount_options("settle=400ms", "wait=300ms")

ONE_WRITE = 128 << 10  # as much as comes in one request on every kernel
LONG_AGO_NS = 1_000_000_000 * 10**9


@dataclass
class Text:
    """A content in the versions of the story; what `edit` looks for, and puts there."""

    first: bytes  # version 1
    another: bytes  # alice's: not where bob's change is
    same: bytes  # alice's: where bob's change is
    find: bytes
    put: bytes
    instead: bytes = None  # bob's whole text, where that is no edit of version 1

    @property
    def composed(self):
        if self.instead is not None:
            return self.instead
        return self.first.replace(self.find, self.put, 1)


def lines(n, end=b"\n", last_end=None, width=0):
    """n lines; alice's change is in the first and bob's in the last one."""
    rows = [(b"line %d of some text" % i).ljust(width, b".") for i in range(1, n + 1)]
    last_end = end if last_end is None else last_end
    rows[-1] = b"the last alpha beta line"

    def text(*changes):
        changed = list(rows)
        for number, row in changes:
            changed[number] = row
        return end.join(changed) + last_end

    return Text(
        first=text(),
        another=text((0, b"alice's line")) if n > 1 else end.join((*rows, b"alice's")) + last_end,
        same=text((-1, b"the last ALICE beta line")),
        find=b"beta",
        put=b"BOB",
    )


def binary(size):
    """Blocks of 4 KiB; alice's change is in the first and bob's in the last one."""
    first = bytearray((i * 7 + i // 251) % 256 for i in range(size))
    first[-24:] = b"the last \0alpha beta\0 xx"
    first, another, same = bytes(first), bytearray(first), bytearray(first)
    another[100:105] = b"alice"
    same[-14:-9] = b"ALICE"
    return Text(first, bytes(another), bytes(same), b"beta", b"BOB!")


TEN = lines(10)
EMPTY = Text(b"", b"alice's line\n", b"alice's line\n", b"beta", b"", instead=b"bob's line\n")
EMPTIED = Text(TEN.first, b"", b"", b"beta", b"BOB")
EMPTYING = Text(TEN.first, TEN.another, TEN.same, b"not there", b"", instead=b"")


# ---------------------------------------------------------------- what alice does


def another_line(alice, name, text):
    alice.writefile(name, text.another)


def same_line(alice, name, text):
    alice.writefile(name, text.same)


def touched(alice, name, text):
    alice.utime(name)


def same_mtime(alice, name, text):
    before = alice.stat(name)["mtime_ns"]
    alice.writefile(name, text.another)
    alice.utime(name, [before, before])


def older_mtime(alice, name, text):
    alice.writefile(name, text.another)
    alice.utime(name, [LONG_AGO_NS, LONG_AGO_NS])


def deleted(alice, name, text):
    alice.unlink(name)


def renamed(alice, name, text):
    alice.rename(name, name + ".elsewhere")


def same_bytes(alice, name, text):
    alice.save_by_rename(name, text.first)


def nothing(alice, name, text):
    pass


CHANGES = {
    "nothing": nothing,
    "another": another_line,
    "same": same_line,
    "touched": touched,
    "same-mtime": same_mtime,
    "older-mtime": older_mtime,
    "deleted": deleted,
    "renamed": renamed,
    "same-bytes": same_bytes,
}


# ---------------------------------------------------------------- the story of a cell


def identity(workspace, name):
    try:
        st = os.stat(workspace / name)
    except FileNotFoundError:
        return None
    return st.st_mode, st.st_ino, st.st_mtime_ns, (workspace / name).read_bytes()


def kept_bytes(workspace, refusal):
    return (workspace / f".stomp/conflicts/{refusal['id']}/theirs").read_bytes()


@dataclass
class Cell:
    agent: str
    way: str
    change: str
    text: Text
    expected: str
    name: str = ""
    before: tuple = None
    verdict: str = ""

    def __str__(self):
        return f"{self.agent} {self.way} {self.change}: {self.verdict}, not {self.expected}"


class Story:
    """Many cells in one workspace, each with a file of its own."""

    def __init__(self, workspace, writer, cells):
        self.workspace, self.cells = workspace, cells
        self.alice, self.bob = writer("alice"), writer("bob")
        self.sources = workspace.scratch / "composed"
        self.sources.mkdir()
        for n, cell in enumerate(cells):
            cell.name = f"f{n}"
            (self.sources / cell.name).write_bytes(cell.text.composed)
            self.alice.writefile(cell.name, cell.text.first)

    def run(self):
        for cell in self.cells:
            self.bob.call("peek", path=cell.name)
        self.workspace.settle()
        for cell in self.cells:
            CHANGES[cell.change](self.alice, cell.name, cell.text)
            cell.before = identity(self.workspace, cell.name)
        names = set(os.listdir(self.workspace.path))
        for cell in self.cells:
            cell.verdict = self.save(cell)
        left = set(os.listdir(self.workspace.path)) - names - {c.name for c in self.cells}
        assert not left, f"temporaries left: {left}"

    def save(self, cell):
        refused_before = len(self.workspace.refusals(self.bob))
        args = {"agent": cell.agent, "path": cell.name}
        try:
            if cell.way == "edit":
                args.update(find=cell.text.find, put=cell.text.put)
                swallowed = self.bob.call("save_edit", **args)
            else:
                swallowed = self.bob.call("save_whole", source=self.sources / cell.name, **args)
        except FileNotFoundError:
            assert cell.before is None
            return "-"
        except OSError as error:
            assert os.strerror(error.errno) == "Stale file handle", f"{cell}: {error}"
            return self.refused(cell, refused_before)
        if swallowed is None:
            assert identity(self.workspace, cell.name) == cell.before
            return "-"
        return self.landed(cell, swallowed, refused_before)

    def refused(self, cell, refused_before):
        """Told; nothing has happened; the bytes are kept, where any had arrived."""
        assert identity(self.workspace, cell.name) == cell.before, f"{cell}: it is not as it was"
        refusal, *more = self.workspace.refusals(self.bob)[refused_before:]
        assert refusal["path"] == cell.name and refusal["errno"] == "ESTALE"
        if refusal["asked"] != "open":
            kept, composed = kept_bytes(self.workspace, refusal), cell.text.composed
            if len(composed) > ONE_WRITE:
                # Refused at the first piece that decided it; the agent heard that when
                # it went on after a short write.
                kept, composed = kept[:ONE_WRITE], composed[:ONE_WRITE]
            else:
                assert not more
            assert kept == composed, f"{cell}: what it wrote is lost"
        return "refused"

    def landed(self, cell, swallowed, refused_before):
        after = identity(self.workspace, cell.name)
        silent = self.workspace.refusals(self.bob)[refused_before:]
        if silent or swallowed:
            assert swallowed and after == cell.before, f"{cell}: {silent} {swallowed}"
            assert kept_bytes(self.workspace, silent[0]) == cell.text.composed
            return "unheard"
        current = cell.before[3] if cell.before else b""
        wanted = cell.text.composed
        if cell.way == "edit":
            wanted = current.replace(cell.text.find, cell.text.put, 1)
        assert after[3] == wanted, f"{cell}: it is not what the agent wrote"
        rows = [r for r in self.workspace.log(cell.name) if r["path"] == cell.name]
        assert rows[-1]["writer"] == "bob"
        assert [r["number"] for r in rows] == list(range(1, len(rows) + 1))
        if not cell.before:
            assert ("delete", "alice") in [(r["kind"], r["writer"]) for r in rows]
        if cell.before:
            alices = [r["number"] for r in rows if r["writer"] == "alice" and r["content"]]
            assert self.workspace.version(cell.name, alices[-1]) == current, "hers is there"
        changed = {"another": cell.text.another, "same": cell.text.same}.get(cell.change)
        return "covers" if changed and cell.way == "whole" else "lands"

    def judge(self):
        """The table as it came out, and what is wrong in it."""
        wrong = [c for c in self.cells if c.verdict != c.expected]
        false_refusals = [c for c in wrong if c.verdict == "refused"]
        stomps = [c for c in wrong if c.expected == "refused"]
        print(table(self.cells))
        print(
            f"{len(self.cells)} cells: {len(false_refusals)} false refusals, "
            f"{len(stomps)} missed stomps, {len(wrong) - len(false_refusals) - len(stomps)} other"
        )
        assert not wrong, "\n".join(str(c) for c in wrong)


def table(cells):
    changes = list(dict.fromkeys(c.change for c in cells))
    found = {(c.agent, c.way, c.change): c.verdict for c in cells}
    rows = [["agent", "way"] + changes]
    for agent, way in dict.fromkeys((c.agent, c.way) for c in cells):
        rows.append([agent, way] + [found.get((agent, way, c), "") for c in changes])
    return "\n".join("".join(f"{word:13}" for word in row).rstrip() for row in rows)


def parse(text):
    """{(row, way): {column: verdict}} of a table as below."""
    head, *rows = [line.split() for line in text.strip().splitlines()]
    return {(r[0], r[1]): dict(zip(head[2:], r[2:])) for r in rows}


# ---------------------------------------------------------------- every agent, ten lines


# What decides: whole files by mcp and pi come without a re-read, all others with one.
BY_AGENT = parse("""
agent     way    nothing  another  same     touched  same-mtime  older-mtime  deleted  renamed  same-bytes
claude    edit   lands    lands    lands    lands    lands       lands        -        -        lands
claude    whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
qwen      edit   lands    lands    lands    lands    lands       lands        -        -        lands
qwen      whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
mcp       edit   lands    lands    lands    lands    lands       lands        -        -        lands
mcp       whole  lands    refused  refused  lands    refused     refused      lands    lands    lands
codex     edit   lands    lands    lands    lands    lands       lands        -        -        lands
codex     whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
gemini    edit   lands    lands    lands    lands    lands       lands        -        -        lands
gemini    whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
pi        edit   lands    lands    lands    lands    lands       lands        -        -        lands
pi        whole  lands    refused  refused  lands    refused     refused      lands    lands    lands
opencode  edit   lands    lands    lands    lands    lands       lands        -        -        lands
opencode  whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
cline     edit   lands    lands    lands    lands    lands       lands        -        -        lands
cline     whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
biome     edit   lands    lands    lands    lands    lands       lands        -        -        lands
biome     whole  lands    refused  covers   lands    refused     refused      -        -        lands
vim       edit   lands    lands    lands    lands    lands       lands        -        -        lands
vim       whole  lands    refused  covers   lands    refused     refused      lands    lands    lands
""")


@pytest.mark.parametrize("agent", dict.fromkeys(a for a, _ in BY_AGENT))
def test_what_an_agent_saves_over_anothers_change(workspace, writer, agent):  # S4, S6, S7, S10
    cells = [
        Cell(agent, way, change, TEN, expected)
        for (who, way), row in BY_AGENT.items()
        if who == agent
        for change, expected in row.items()
    ]
    story = Story(workspace, writer, cells)
    story.run()
    story.judge()


# ---------------------------------------------------------------- every kind of content


# One agent for each way in: rename, O_TRUNC having re-read, O_TRUNC blind, no O_TRUNC.
BY_CONTENT = parse("""
agent     way    another  same     touched  same-bytes
claude    edit   lands    lands    lands    lands
claude    whole  refused  covers   lands    lands
gemini    edit   lands    lands    lands    lands
gemini    whole  refused  covers   lands    lands
pi        edit   lands    lands    lands    lands
pi        whole  refused  refused  lands    lands
opencode  edit   lands    lands    lands    lands
opencode  whole  refused  covers   lands    lands
""")

CONTENTS = {
    "one line": lines(1),
    "one line without a newline": lines(1, last_end=b""),
    "1,000 lines": lines(1000),
    "400 KB": lines(9000, width=44),
    "CRLF": lines(10, end=b"\r\n"),
    "no final newline": lines(10, last_end=b""),
    "blank lines": lines(10, end=b"\n\n\n"),
    "no text in UTF-8": lines(10, end=b"\xff\xfe\n"),
    "binary, 20 KB": binary(20 << 10),
    "binary, 400 KB": binary(400 << 10),
}


def by_content(text, rows):
    return [
        Cell(agent, way, change, text, expected)
        for (agent, way), row in rows.items()
        for change, expected in row.items()
    ]


# One line, less than version 1 and without alice's second one: that may still follow.
UNHEARD = {
    (content, "opencode", "whole", "another"): "unheard"
    for content in ("one line", "one line without a newline")
}


@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_saved_of_every_kind_of_content(workspace, writer, content):  # S4, S7
    cells = by_content(CONTENTS[content], BY_CONTENT)
    for c in cells:
        c.expected = UNHEARD.get((content, c.agent, c.way, c.change), c.expected)
    story = Story(workspace, writer, cells)
    story.run()
    story.judge()


# Nothing to be found in an empty file, so edits are `-`.
OF_NOTHING = {
    # alice and bob both fill it
    "empty": (
        EMPTY,
        """
agent     way    another  same     touched  same-bytes
claude    edit   -        -        -        -
claude    whole  covers   covers   lands    lands
gemini    whole  covers   covers   lands    lands
pi        whole  refused  refused  lands    lands
mcp       whole  refused  refused  lands    lands
opencode  whole  covers   covers   lands    lands
""",
    ),
    # alice has emptied it, bob brings the old text back
    "emptied": (
        EMPTIED,
        """
agent     way    another  same     touched  same-bytes
claude    edit   -        -        lands    lands
claude    whole  refused  refused  lands    lands
gemini    whole  refused  refused  lands    lands
pi        whole  refused  refused  lands    lands
mcp       whole  refused  refused  lands    lands
opencode  whole  refused  refused  lands    lands
""",
    ),
    # bob empties what alice has changed
    "emptying": (
        EMPTYING,
        """
agent     way    another  same     touched  same-bytes
claude    whole  covers   covers   lands    lands
mcp       whole  refused  refused  lands    lands
""",
    ),
}


@pytest.mark.parametrize("story", OF_NOTHING)
def test_what_is_saved_where_something_is_empty(workspace, writer, story):  # S4, S7
    text, rows = OF_NOTHING[story]
    cells = by_content(text, parse(rows))
    story = Story(workspace, writer, cells)
    story.run()
    story.judge()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.mount_options("settle=4s")
def test_what_is_saved_of_20_megabytes(workspace, writer):  # S4, S7
    text = lines(450_000, width=46)
    rows = parse("""
agent     way    another
claude    edit   lands
claude    whole  refused
gemini    edit   lands
gemini    whole  refused
opencode  whole  refused
""")
    story = Story(workspace, writer, by_content(text, rows))
    story.run()
    story.judge()


# ---------------------------------------------------------------- S7: nothing has happened


RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
TRUNC = os.O_TRUNC


@pytest.fixture
def stale(workspace, writer):
    """bob knows version 1 of f, alice has made version 2; (alice, bob, f as it is)."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN.first)
    alice.chmod("f", 0o640)
    bob.readfile("f")
    workspace.settle()
    alice.writefile("f", TEN.another)
    return alice, bob, identity(workspace, "f")


def refused_handle(bob):
    """A handle opened with O_TRUNC, within settle of a re-read, whose write was refused."""
    bob.readfile("f")
    fd = bob.open("f", RDWR | TRUNC)
    assert bob.errno("write", fd, TEN.composed) == "ESTALE"
    return fd


def stays_open(bob, fd):
    assert bob.fstat(fd)["size"] == len(TEN.another), "it shows the file again"
    assert bob.pread(fd, 1 << 16, 0) == TEN.another


def written_again(bob, fd):
    for way in (
        ("write", fd, TEN.composed),
        ("pwrite", fd, b"x", 5),
        ("ftruncate", fd, 0),
        ("ftruncate", fd, 9),
        ("fallocate", fd, 0, 0, 1 << 16),
    ):
        assert bob.errno(*way) == "ESTALE", way


def mapped(bob, fd):
    m = bob.mmap(fd, len(TEN.another))
    bob.errno("store", m, 0, b"stored by bob")
    bob.errno("msync", m)
    bob.munmap(m)


def mapped_and_killed(bob, fd):
    m = bob.mmap(fd, len(TEN.another))
    bob.errno("store", m, 0, b"stored by bob")
    bob.kill()


def inherited(bob, fd):
    child = bob.fork(detach=True)
    bob.close(fd)
    for what, args in (("write", {"data": b"x"}), ("ftruncate", {"size": 0})):
        with pytest.raises(OSError) as refused:
            bob.child(child, what, fd=fd, **args)
        assert refused.value.errno == errno.ESTALE


def copied_into(bob, fd):
    bob.writefile("mine", b"mine")
    source = bob.open("mine")
    assert bob.errno("copy_range", source, fd, 4, 0, 0) == "ESTALE"


def closed(bob, fd):
    bob.errno("close", fd)


def killed(bob, fd):
    bob.kill()


AFTERWARDS = (
    stays_open,
    written_again,
    mapped,
    mapped_and_killed,
    inherited,
    copied_into,
    closed,
    killed,
)


@pytest.mark.parametrize("afterwards", AFTERWARDS, ids=lambda f: f.__name__)
def test_after_a_refusal_nothing_has_happened(workspace, stale, afterwards):  # S7, L5
    alice, bob, before = stale
    theirs = alice.open("f", RDONLY)
    fd = refused_handle(bob)
    assert identity(workspace, "f") == before
    afterwards(bob, fd)
    assert identity(workspace, "f") == before
    assert alice.pread(theirs, 1 << 16, 0) == TEN.another
    assert workspace.backing("f").read_bytes() == TEN.another
    (refusal,) = [r for r in workspace.refusals("bob") if r["reason"] == "stale"]
    assert kept_bytes(workspace, refusal) == TEN.composed
    alice.append("f", b"more\n")  # and the file is free
    assert workspace.log("f")[-1]["writer"] == "alice"


# The old first line: alice's may still follow, so it decides nothing before close.
UNDECIDED = b"line 1 of some text\n"


def pending_handle(bob):
    bob.readfile("f")
    fd = bob.open("f", RDWR | TRUNC)
    bob.write(fd, UNDECIDED)
    return fd


def test_while_a_verdict_is_pending_others_see_the_old_file(workspace, stale):  # S7
    alice, bob, before = stale
    theirs = alice.open("f", RDONLY)
    bobs_other = bob.open("f", RDONLY)
    fd = pending_handle(bob)
    for _ in range(20):
        assert bob.fstat(fd)["size"] == len(UNDECIDED)
        assert alice.pread(theirs, 1 << 16, 0) == TEN.another
        assert bob.fstat(fd)["size"] == len(UNDECIDED)
        assert alice.stat("f")["size"] == len(TEN.another)
        assert alice.fstat(theirs)["size"] == len(TEN.another)
        assert identity(workspace, "f") == before
    assert bob.pread(fd, 1 << 16, 0) == UNDECIDED
    assert bob.pread(bobs_other, 1 << 16, 0) == TEN.another
    assert not workspace.refusals()
    assert bob.errno("close", fd) == "ESTALE"
    assert identity(workspace, "f") == before
    (refusal,) = workspace.refusals(bob)
    assert kept_bytes(workspace, refusal) == UNDECIDED


def test_a_mapping_of_a_pending_change_leaves_no_trace(workspace, stale):  # S7, L6
    """Its pages are the kernel's and everybody's; no byte of them reaches the file."""
    alice, bob, before = stale
    theirs = alice.open("f", RDONLY)
    seen = alice.mmap(theirs, len(TEN.another), write=False)
    bob.readfile("f")
    fd = bob.open("f", RDWR | TRUNC)
    bob.ftruncate(fd, len(TEN.another))
    m = bob.mmap(fd, len(TEN.another))
    bob.errno("store", m, 0, TEN.composed.ljust(len(TEN.another), b"."))
    assert workspace.backing("f").read_bytes() == TEN.another
    told = [bob.errno("msync", m)]
    assert workspace.backing("f").read_bytes() == TEN.another
    bob.munmap(m)
    told.append(bob.errno("close", fd))
    assert "ESTALE" in told
    assert identity(workspace, "f") == before
    assert workspace.backing("f").read_bytes() == TEN.another
    assert alice.pread(theirs, 1 << 16, 0) == TEN.another
    assert alice.load(seen, 0, 12) == TEN.another[:12]


def test_killed_while_a_verdict_is_pending(workspace, stale):  # S7, S11
    alice, bob, before = stale
    pending_handle(bob)
    bob.kill()
    assert identity(workspace, "f") == before
    alice.append("f", b"more\n")
    assert (workspace / "f").read_bytes() == TEN.another + b"more\n"
    (refusal,) = workspace.refusals("bob")
    assert kept_bytes(workspace, refusal) == UNDECIDED


@pytest.mark.mount_options("ttl=300ms")
def test_a_take_over_ends_a_pending_change(workspace, stale):  # S7, L5, S11
    alice, bob, before = stale
    fd = pending_handle(bob)
    workspace.settle()  # longer than the ttl
    alice.append("f", b"more\n")
    assert bob.errno("write", fd, b"late") == "ESTALE"
    assert bob.errno("close", fd) is None
    assert (workspace / "f").read_bytes() == TEN.another + b"more\n"
    assert kept_bytes(workspace, workspace.refusals(bob)[0]) == UNDECIDED


def test_a_change_in_many_writes_is_seen_whole_or_not_at_all(workspace, stale):  # S4, S7
    alice, bob, before = stale
    wanted = bob.readfile("f").replace(b"beta", b"BOB")
    fd = bob.open("f", WRONLY | TRUNC)
    for line in wanted.splitlines(keepends=True):
        assert identity(workspace, "f") == before
        bob.write(fd, line)
    bob.close(fd)
    assert (workspace / "f").read_bytes() == wanted
    assert workspace.log("f")[-1]["writer"] == "bob"
    assert not workspace.refusals()


def test_old_text_in_many_writes_is_refused_at_close_at_the_latest(workspace, stale):  # S7, S11
    alice, bob, before = stale
    bob.readfile("f")
    fd = bob.open("f", WRONLY | TRUNC)
    told = []
    for line in TEN.composed.splitlines(keepends=True):
        told.append(bob.errno("write", fd, line))
    told.append(bob.errno("close", fd))
    assert "ESTALE" in told and set(told) <= {None, "ESTALE"}
    assert identity(workspace, "f") == before
    kept = kept_bytes(workspace, workspace.refusals(bob)[0])
    assert kept and TEN.composed.startswith(kept)


def test_a_flush_before_any_data_is_no_verdict(workspace, stale):  # S7
    """What a shell's dup2 and close do before the program begins to write."""
    alice, bob, before = stale
    wanted = bob.readfile("f").replace(b"beta", b"BOB")
    fd = bob.open("f", WRONLY | TRUNC)
    bob.close(bob.dup(fd))
    assert identity(workspace, "f") == before and not workspace.refusals()
    bob.write(fd, wanted)
    bob.close(bob.dup(fd))
    bob.close(fd)
    assert (workspace / "f").read_bytes() == wanted
    assert not workspace.refusals()
