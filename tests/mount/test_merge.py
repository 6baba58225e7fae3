"""Strategies for a stale change, through the kernel (M, S4, S7, S11).

Each file has BASE from before the mount. bob's agent reads it; after `settle` alice makes
her change in place; then bob saves the text that he composed from BASE, over the whole
file, in one of four ways (stomplib/saves.py). The policy is there before the mount.
"""

import json
import os
import time

import pytest

from stomplib.writer import WRONLY

# Long enough that a re-read and the attempt after it fit in, however busy the machine is.
pytestmark = pytest.mark.mount_options("settle=400ms", "wait=300ms")

# The agents whose habits these are: O_TRUNC in place without and with a re-read, a rename
# onto the file, and no O_TRUNC but an ftruncate at the end.
WAYS = {"truncate": "pi", "reread": "gemini", "rename": "claude", "opencode": "opencode"}

# What these tests have found; the mark goes with it.
UNHEARD = "a conflict in a single write is told at close only, where the agent hears nothing"


def ways(*wrong, because):
    """All ways; of the wrong ones it is known that they fail, and why."""
    mark = pytest.mark.xfail(strict=True, reason=because)
    return [pytest.param(way, marks=mark if way in wrong else ()) for way in WAYS]


TEN = [b"line %d\n" % i for i in range(1, 11)]
BASE = b"".join(TEN)
MARKERS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")


def changed(*changes, of=BASE):
    """of with lines replaced: (3, b"alice") puts `alice` in the place of line 3."""
    text = of
    for number, line in changes:
        text = text.replace(b"line %d\n" % number, line + b"\n")
    assert text != of or not changes
    return text


ALICES = changed((3, b"alice"))
BOBS = changed((8, b"bob"))
BOTH = changed((3, b"alice"), (8, b"bob"))
BOBS_OF_3 = changed((3, b"bob"))


class Story:
    """A workspace with a policy, and the two writers in it."""

    def __init__(self, workspace, writer, policy, files):
        (workspace / ".stomp-policy").write_text(policy)
        for name, content in files.items():
            (workspace / name).write_bytes(content)
        workspace.mount()
        self.workspace = workspace
        self.alice, self.bob = writer("alice"), writer("bob")
        for name in files:
            self.bob.readfile(name)
        workspace.settle()

    def save(self, way, name, data):
        """As bob's agent saves a whole file; errno or None. What it would swallow counts."""
        source = self.workspace.scratch / "composed"
        source.write_bytes(data)
        try:
            args = {"agent": WAYS[way], "path": name, "source": source}
            return self.bob.call("save_whole", **args) and "swallowed" or None
        except OSError as error:
            return {116: "ESTALE", 11: "EAGAIN"}.get(error.errno, str(error))

    def read(self, name):
        """What is there for us, and the same below the mount."""
        content = (self.workspace / name).read_bytes()
        assert self.workspace.backing(name).read_bytes() == content
        return content

    def state(self, name):
        st = os.stat(self.workspace / name)
        return st.st_mode, st.st_ino, st.st_mtime_ns, self.read(name)

    def refusal(self, name):
        (refusal,) = self.workspace.refusals("bob")
        assert refusal["path"] == name and refusal["errno"] == "ESTALE"
        return refusal

    def kept(self, refusal, side):
        return (self.workspace / f".stomp/conflicts/{refusal['id']}/{side}").read_bytes()

    def history(self, name):
        """Its versions, without those of temporaries that were renamed onto it."""
        self.workspace.ctl("checkpoint")
        return [v for v in self.workspace.log(name) if v["path"] == name]

    def events(self, kind):
        self.workspace.ctl("checkpoint")
        rows = self.workspace.json("log")["events"]
        return [e["text"] for e in rows if e["kind"] == kind]

    def check_merged(self, name, merged, alices):
        """Both changes are there, versioned, named; nobody was refused."""
        assert self.read(name) == merged
        assert self.workspace.refusals() == []
        rows = self.history(name)
        assert [r["writer"] for r in rows] == [None, "alice", "bob"], rows
        assert self.workspace.version(name, 2) == alices
        assert self.workspace.version(name, 3) == merged

    def check_refused(self, name, before, bobs, base, alices):
        """Told, nothing has happened, and no side is lost."""
        assert self.state(name) == before
        refusal = self.refusal(name)
        assert self.kept(refusal, "theirs") == bobs
        assert self.kept(refusal, "base") == base
        assert self.kept(refusal, "ours") == alices
        names = [n for n in self.bob.listdir() if n.startswith(name)]
        assert names == [name], f"temporaries left: {names}"
        return refusal


@pytest.fixture
def story(unmounted, writer):
    return lambda policy, **files: Story(
        unmounted, writer, policy, {n.replace("_", "."): c for n, c in files.items()}
    )


def no_markers(*contents):
    for content in contents:
        lines = content.splitlines()
        assert not [line for line in lines if line.startswith(MARKERS)]


# ---------------------------------------------------------------- merge


@pytest.mark.parametrize("way", WAYS)
def test_merge_keeps_two_disjoint_edits(story, way):  # M, V3
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", ALICES)
    mode = s.alice.stat("f")["mode"]
    assert s.save(way, "f", BOBS) is None
    s.check_merged("f", BOTH, ALICES)
    assert s.alice.stat("f")["mode"] == mode
    assert s.bob.readfile("f") == s.alice.readfile("f") == BOTH
    (said,) = s.events("merge")
    assert "bob" in said and "alice" in said and "by merge" in said


@pytest.mark.parametrize("way", ways("opencode", because=UNHEARD))
def test_merge_refuses_a_conflict_and_keeps_all_sides(story, way):  # M, S7, S11
    s = story("f strategy=merge\n", f=BASE)
    both = changed((3, b"alice"), (8, b"alice too"))
    s.alice.writefile("f", both)
    before = s.state("f")
    # Where alice and bob both changed line 8, and bob has the old line 3 back.
    assert s.save(way, "f", BOBS) == "ESTALE"
    refusal = s.check_refused("f", before, BOBS, BASE, both)
    no_markers(s.read("f"), s.kept(refusal, "theirs"), s.kept(refusal, "ours"))
    assert [r["writer"] for r in s.history("f")] == [None, "alice"]
    assert s.events("merge") == []


@pytest.mark.parametrize("way", WAYS)
def test_reject_refuses_what_merge_would_have_taken(story, way):  # M, S4, S6
    s = story("f strategy=reject\n", f=BASE)
    s.alice.writefile("f", ALICES)
    before = s.state("f")
    assert s.save(way, "f", BOBS) == "ESTALE"
    assert s.state("f") == before
    assert s.refusal("f")["kept"] == (way != "truncate")  # there it failed at the open


def test_a_change_by_the_others_side_that_is_the_same_is_one(story):  # M
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", changed((3, b"alice"), (8, b"bob")))
    assert s.save("reread", "f", changed((8, b"bob"))) is None
    assert s.read("f") == BOTH


@pytest.mark.parametrize("way", WAYS)
def test_the_old_text_written_again_does_not_undo_a_merge(story, way):  # M, S1, S4
    """bob's agent does not know that its text was merged: what it has in mind is still
    without alice's line. It saves once more, from memory."""
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save(way, "f", BOBS) is None
    assert s.read("f") == BOTH
    s.workspace.settle()
    assert s.save(way, "f", changed((8, b"bob"), (10, b"bob, too"))) is None
    assert s.read("f") == changed((3, b"alice"), (8, b"bob"), (10, b"bob, too"))


@pytest.mark.parametrize("way", WAYS)
def test_a_merge_that_was_read_is_known(story, way):  # M, S1, S5
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save(way, "f", BOBS) is None
    s.bob.readfile("f")
    s.workspace.settle()
    assert s.save(way, "f", BASE) is None  # its own decision
    assert s.read("f") == BASE


def test_the_other_writer_of_a_merge_is_stale_after_it(story):  # M, S4
    """alice has not seen the merged bytes: her next text must not undo bob's line."""
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save("rename", "f", BOBS) is None
    s.workspace.settle()
    s.alice.writefile("f", changed((1, b"more"), of=ALICES))
    assert s.read("f") == changed((1, b"more"), of=BOTH)


def test_merge_of_a_file_that_comes_in_many_writes(story):  # M, S7
    lines = [b"line %d, and text to make it long enough\n" % i for i in range(12000)]
    base = b"".join(lines)
    lines[10] = b"alice\n"
    alices = b"".join(lines)
    both = alices.replace(lines[11000], b"bob\n")
    s = story("f strategy=merge\n", f=base)
    s.alice.writefile("f", alices)
    before = s.state("f")
    bobs = base.replace(lines[11000], b"bob\n")
    fd = s.bob.open("f", WRONLY | os.O_TRUNC)
    for at in range(0, len(bobs), 100_000):
        s.bob.write(fd, bobs[at : at + 100_000])
        assert s.state("f") == before, "seen before its verdict"
    s.bob.close(fd)
    s.check_merged("f", both, alices)


def test_merge_by_two_bases(story):  # M
    """Three writers; each one's base is its own."""
    s = story("f strategy=merge\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save("truncate", "f", BOBS) is None
    s.workspace.settle()
    # alice knows version 2, which has her line and not bob's
    s.alice.save_by_rename("f", changed((1, b"alice"), of=ALICES))
    assert s.read("f") == changed((1, b"alice"), of=BOTH)
    assert s.workspace.refusals() == []


def test_what_never_lands_by_merge_blind(story):  # S6, M: nothing to merge
    s = story("f strategy=merge\ng strategy=merge\n", f=BASE, g=BASE)
    s.alice.writefile("f", ALICES)
    s.alice.writefile("g", ALICES)
    assert s.bob.errno("unlink", "f") == "ESTALE"
    assert s.bob.errno("truncate", "f", 20) == "ESTALE"
    assert s.bob.errno("rename", "g", "h") == "ESTALE"
    assert s.read("f") == s.read("g") == ALICES


def test_merge_never_merges_binaries(story):  # M
    base = BASE + b"\0" + BASE
    s = story("f strategy=merge\n", f=base)
    s.alice.writefile("f", b"alice " + base)
    before = s.state("f")
    assert s.save("truncate", "f", base + b"bob") == "ESTALE"
    s.check_refused("f", before, base + b"bob", base, b"alice " + base)


# ---------------------------------------------------------------- union


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["NEWS.md", "trace.log"])
def test_union_keeps_both_lines_at_one_place(unmounted, writer, name, way):  # M, P2
    """A change list, where both add at the top; and a log, by the built-in line."""
    head, rest = b"# News\n", b"- old\n"
    s = Story(unmounted, writer, "NEWS.md strategy=union\n", {name: head + rest})
    alices = head + b"- alice's\n" + rest
    s.alice.writefile(name, alices)
    assert s.save(way, name, head + b"- bob's\n" + rest) is None
    s.check_merged(name, head + b"- alice's\n- bob's\n" + rest, alices)


def test_union_of_two_who_add_at_the_end(story):  # M, S9
    s = story("", f_log=b"1\n")
    s.alice.append("f.log", b"alice\n")
    s.bob.append("f.log", b"bob\n")  # a pure append overwrites nothing
    assert s.read("f.log") == b"1\nalice\nbob\n"
    s.workspace.settle()
    s.alice.writefile("f.log", b"1\nalice\nalice, all of it\n")
    assert s.read("f.log") in (
        b"1\nalice\nbob\nalice, all of it\n",
        b"1\nalice\nalice, all of it\nbob\n",
    )
    assert s.workspace.refusals() == []


# ---------------------------------------------------------------- last-writer


@pytest.mark.parametrize("way", WAYS)
def test_last_writer_is_accepted_versioned_and_reported(story, way):  # M, V1
    s = story("f strategy=last-writer\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save(way, "f", BOBS) is None
    assert s.read("f") == BOBS
    assert s.workspace.refusals() == []
    rows = s.history("f")
    assert [r["writer"] for r in rows] == [None, "alice", "bob"], rows
    assert rows[2]["base"] == 1, "on what it was built"
    assert s.workspace.version("f", 2) == ALICES


@pytest.mark.parametrize("way", WAYS)
def test_last_writer_says_whom_it_overwrote(story, way):  # M: reported
    s = story("f strategy=last-writer\n", f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save(way, "f", BOBS) is None
    said = [e["text"] for e in s.workspace.json("log")["events"] if "f" in (e["path"] or "")]
    assert any("alice" in text and "bob" in text for text in said), said


# ---------------------------------------------------------------- json


PACKAGE = {"name": "it", "scripts": {"test": "pytest"}, "deps": {"a": "1", "z": "1"}}


def document(**keys):
    """PACKAGE with keys more; scripts__lint sets the key lint of scripts."""
    made = json.loads(json.dumps(PACKAGE))
    for key, value in keys.items():
        where = made
        *folders, last = key.split("__")
        for folder in folders:
            where = where[folder]
        where[last] = value
    return json.dumps(made, indent=2).encode() + b"\n"


@pytest.mark.parametrize("way", WAYS)
def test_json_merges_by_key(story, way):  # M
    s = story("*.json strategy=json\n", p_json=document())
    # Side by side, in one line of text each: no merge by line takes these.
    alices = document(scripts__test="pytest -q", deps__b="2")
    s.alice.writefile("p.json", alices)
    assert s.save(way, "p.json", document(scripts__lint="ruff", deps__c="3")) is None
    merged = s.read("p.json")
    expected = document(scripts__test="pytest -q", scripts__lint="ruff", deps__b="2", deps__c="3")
    assert json.loads(merged) == json.loads(expected)
    assert merged.startswith(b'{\n  "name": "it",\n  "scripts": {\n    "test": "pytest -q",\n')
    s.check_merged("p.json", merged, alices)


@pytest.mark.parametrize("way", ways("opencode", because=UNHEARD))
def test_json_names_the_key_of_a_conflict(story, way):  # M, S11
    s = story("*.json strategy=json\n", p_json=document())
    alices = document(scripts__test="pytest -q", name="hers")
    s.alice.writefile("p.json", alices)
    before = s.state("p.json")
    # The old name is back: no process that has read hers may do that (S4).
    bobs = document(scripts__test="tox")
    assert s.save(way, "p.json", bobs) == "ESTALE"
    refusal = s.check_refused("p.json", before, bobs, document(), alices)
    assert "$.scripts.test" in refusal["text"]


@pytest.mark.parametrize("bobs", [b'{"name": ', b"no JSON at all\n", b'{"a": 1, "a": 2}\n'])
def test_json_never_lets_invalid_documents_land_by_merge(story, bobs):  # M
    s = story("*.json strategy=json\n", p_json=document())
    alices = document(deps__b="2")
    s.alice.writefile("p.json", alices)
    before = s.state("p.json")
    assert s.save("truncate", "p.json", bobs) == "ESTALE"
    s.check_refused("p.json", before, bobs, document(), alices)


# ---------------------------------------------------------------- driver:NAME


# As git's merge drivers: %O base, %A current and result, %B new.
GIT = 'f strategy=driver:git\n%driver git command="git merge-file -q %A %O %B"\n'
SORTED = (
    "f strategy=driver:sorted\n"
    '%driver sorted command="sort -u %A %B > both && mv both %A"\n'
)


@pytest.mark.parametrize("way", WAYS)
def test_a_driver_merges(story, way):  # M
    s = story(GIT, f=BASE)
    s.alice.writefile("f", ALICES)
    assert s.save(way, "f", BOBS) is None
    s.check_merged("f", BOTH, ALICES)
    (said,) = s.events("merge")
    assert "driver" in said and "alice" in said


def test_a_driver_decides_what_comes_out(story):  # M
    s = story(SORTED, f=b"b\nd\n")
    s.alice.writefile("f", b"a\nd\n")
    assert s.save("truncate", "f", b"b\nc\n") is None
    s.check_merged("f", b"a\nb\nc\nd\n", b"a\nd\n")


@pytest.mark.parametrize("way", ways("opencode", because=UNHEARD))
def test_a_drivers_conflict_is_a_refusal(story, way):  # M, S7, S11
    s = story(GIT, f=BASE)
    alices = changed((3, b"alice"), (8, b"alice too"))
    s.alice.writefile("f", alices)
    before = s.state("f")
    assert s.save(way, "f", BOBS) == "ESTALE"
    refusal = s.check_refused("f", before, BOBS, BASE, alices)
    no_markers(s.read("f"), s.kept(refusal, "theirs"))


BAD_DRIVERS = {
    "exits with 1": "echo it cannot be >&2; exit 1",
    "is not there": "there-is-no-such-command",
    "kills itself": "kill -9 $$",
    "takes too long": "sleep 20",
    "leaves markers": "printf '<<<<<<< a\\\\n=======\\\\n>>>>>>> b\\\\n' > %A",
    "removes the result": "rm %A",
    "makes a link of it": "rm %A; ln -s /etc/passwd %A",
    "is told of an error": "cat %B > %A; exit 3",
}


@pytest.mark.parametrize("command", BAD_DRIVERS.values(), ids=BAD_DRIVERS)
def test_a_bad_driver_is_a_refusal(story, command):  # M, S7
    policy = f'f strategy=driver:bad\n%driver bad command="{command}" timeout=500ms\n'
    s = story(policy, f=BASE)
    s.alice.writefile("f", ALICES)
    before = s.state("f")
    began = time.monotonic()
    assert s.save("truncate", "f", BOBS) == "ESTALE"
    assert time.monotonic() - began < 10
    refusal = s.check_refused("f", before, BOBS, BASE, ALICES)
    if "cannot be" in command:
        assert "it cannot be" in refusal["text"]


# ---------------------------------------------------------------- the same bytes, always


OF_EVERY_STRATEGY = {
    "merge": ("* strategy=merge\n", BASE, ALICES, BOBS),
    "union": ("* strategy=union\n", b"1\n2\n", b"1\nalice\n2\n", b"1\nbob\n2\n"),
    "json": ("* strategy=json\n", document(), document(deps__b="2"), document(deps__c="3")),
    "driver": (GIT.replace("f ", "* "), BASE, ALICES, BOBS),
    "last-writer": ("* strategy=last-writer\n", BASE, ALICES, BOBS),
}


@pytest.mark.parametrize("strategy", OF_EVERY_STRATEGY)
def test_the_same_sides_give_the_same_bytes(unmounted, writer, strategy):  # M
    """By whichever way they come, in whatever file."""
    policy, base, alices, bobs = OF_EVERY_STRATEGY[strategy]
    names = {f"{way}-{n}": way for way in WAYS for n in (1, 2)}
    s = Story(unmounted, writer, policy, dict.fromkeys(names, base))
    found = set()
    for name, way in names.items():
        s.alice.writefile(name, alices)
        assert s.save(way, name, bobs) is None
        found.add(s.read(name))
    assert s.workspace.refusals() == []
    assert len(found) == 1, found
