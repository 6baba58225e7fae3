"""What must hold of any three contents: drawn by Hypothesis (S4, M).

Most is asked of the pure functions, through the program `verdict` (tests/unit/
verdict_main.c); the last tests go through a mount and compare. The same contents are drawn
in every run; STOMPFS_EXAMPLES=N draws N of them, anew each time.
"""

import itertools
import json
import os
import subprocess
from dataclasses import dataclass

import pytest

pytest.importorskip("hypothesis", reason="python3-hypothesis is not installed")
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from stomplib.workspace import find_build

EXAMPLES = int(os.environ.get("STOMPFS_EXAMPLES", 0))


def drawn(examples, shrink=True):
    """No clock and no file of examples: the same in every run, and nothing left behind.
    Through a mount nothing is made smaller: that outlasts the mount."""
    phases = [Phase.generate] + [Phase.shrink] * shrink
    return settings(
        phases=phases,
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
        + [HealthCheck.function_scoped_fixture],
    )


# ---------------------------------------------------------------- the program


@dataclass
class Answer:
    verdict: str  # kept, same, overlapping, reverted
    passes: bool  # for a process that has read what is there (S4)
    merge: bytes = None  # None: a conflict
    union: bytes = None
    json: bytes = None


class Verdict:
    def __init__(self, folder):
        self.program = find_build() / "tests" / "unit" / "verdict"
        self.paths = [folder / name for name in ("base", "current", "new")]

    def ask(self, base, current, new):
        """base None: nothing is known of the file."""
        words = []
        for path, content in zip(self.paths, (base, current, new)):
            if content is not None:
                path.write_bytes(content)
            words.append("-" if content is None else str(path))
        out = subprocess.run(
            [self.program, *words], check=True, capture_output=True, timeout=60
        ).stdout
        line, _, out = out.partition(b"\n")
        passes, _, out = out.partition(b"\n")
        words = line.decode().split()
        answer = Answer(words[1], passes == b"passes yes")
        while out:
            head, _, out = out.partition(b"\n")
            name, result, size = head.decode().split()
            if result == "clean":
                setattr(answer, name, out[: int(size)])
            out = out[int(size) + 1 :]
        return answer


@pytest.fixture
def verdict(tmp_path):
    made = Verdict(tmp_path)
    if not made.program.exists():
        pytest.fail(f"{made.program} is not built")
    return made.ask


# ---------------------------------------------------------------- what is drawn


def joined(lines):
    return b"".join(line + b"\n" for line in lines)


def originals(count):
    return [b"line %d" % i for i in range(count)]


@dataclass
class Hunk:
    """In the lines of the base, from at on, so many go and these come."""

    at: int
    gone: int
    come: list

    def __bool__(self):
        return bool(self.gone or self.come)


def apply(lines, hunks):
    """hunks in order and apart."""
    out, done = [], 0
    for h in hunks:
        out += lines[done : h.at] + h.come
        done = h.at + h.gone
    return out + lines[done:]


@st.composite
def two_edits(draw, apart=1):
    """(base, mine, theirs): edits of a base whose lines all differ, with at least `apart`
    unchanged lines between any two hunks."""
    hunks, at = [], draw(st.integers(0, 3))
    for number in range(draw(st.integers(1, 6))):
        gone = draw(st.integers(0, 3))
        come = [
            b"hunk %d of it, %d" % (number, i)
            for i in range(draw(st.integers(0 if gone else 1, 3)))
        ]
        hunks.append(Hunk(at, gone, come))
        at += gone + draw(st.integers(apart, 4))
    base = originals(at + draw(st.integers(0, 3)))
    whose = [draw(st.booleans()) for _ in hunks]
    mine = [h for h, w in zip(hunks, whose) if w]
    theirs = [h for h, w in zip(hunks, whose) if not w]
    return base, mine, theirs


# Lines that repeat themselves, as braces and blank lines do, and as anything may.
LINE = st.sampled_from([b"", b"}", b"{", b"a = 1", b"b = 2", b"return", b"\tx", b"long " * 9])
TEXT = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    st.lists(LINE, max_size=12),
    st.sampled_from([b"\n", b""]),
)
ANY = st.one_of(TEXT, st.binary(max_size=60))


@st.composite
def related(draw, texts=TEXT):
    """base, current, new, of which some are alike in parts."""
    base = draw(texts)

    def edited(text):
        if draw(st.integers(0, 3)) == 0:
            return draw(texts)
        lines = text.split(b"\n")
        at = draw(st.integers(0, len(lines)))
        gone = draw(st.integers(0, 2))
        return b"\n".join(lines[:at] + draw(st.lists(LINE, max_size=2)) + lines[at + gone :])

    current = edited(base)
    return base, current, edited(draw(st.sampled_from([base, current])))


# ---------------------------------------------------------------- the verdict


@drawn(100)
@given(two_edits())
def test_what_keeps_their_hunks_is_never_stale(verdict, drawn_edits):  # S4
    """New is current with further edits, apart from theirs: KEPT, whatever they are."""
    base, mine, theirs = drawn_edits
    assume(mine and theirs)
    current = joined(apply(base, theirs))
    new = joined(apply(base, sorted(mine + theirs, key=lambda h: h.at)))
    assert verdict(joined(base), current, new).verdict == "kept"


@drawn(100)
@given(two_edits())
def test_what_lacks_their_hunks_is_always_stale(verdict, drawn_edits):  # S4
    """New is the base with edits apart from theirs: every hunk of theirs is undone."""
    base, mine, theirs = drawn_edits
    assume(theirs)
    answer = verdict(joined(base), joined(apply(base, theirs)), joined(apply(base, mine)))
    assert answer.verdict == "reverted" and not answer.passes


@drawn(120)
@given(two_edits(), st.data())
def test_one_hunk_that_is_lacking_is_enough(verdict, drawn_edits, data):  # S4
    base, mine, theirs = drawn_edits
    assume(theirs)
    lost = data.draw(st.integers(0, len(theirs) - 1))
    kept = theirs[:lost] + theirs[lost + 1 :]
    new = apply(base, sorted(mine + kept, key=lambda h: h.at))
    answer = verdict(joined(base), joined(apply(base, theirs)), joined(new))
    assert answer.verdict == "reverted"


@drawn(100)
@given(two_edits(), st.data())
def test_what_is_kept_has_every_line_that_came(verdict, drawn_edits, data):  # S4
    """New is current with anything done to it, also to their hunks."""
    base, mine, theirs = drawn_edits
    assume(theirs)
    current = apply(base, theirs)
    at = data.draw(st.integers(0, len(current)))
    gone = data.draw(st.integers(0, 4))
    put = data.draw(st.lists(st.sampled_from(base + [b"anything"]), max_size=3, unique=True))
    new = apply(apply(base, sorted(mine + theirs, key=lambda h: h.at)), [Hunk(at, gone, put)])
    answer = verdict(joined(base), joined(current), joined(new))
    if answer.verdict == "kept":
        for hunk in theirs:
            assert set(hunk.come) <= set(new), hunk


@drawn(100)
@given(related(ANY))
def test_what_holds_of_any_three_contents(verdict, three):  # S4
    base, current, new = three
    answer = verdict(base, current, new)
    assert (answer.verdict == "same") == (current == new)
    if base == current:  # nobody has changed anything
        assert answer.verdict in ("kept", "same")
    if base == new and base != current:  # the old text, whole
        assert answer.verdict == "reverted"
    assert answer.passes == (answer.verdict != "reverted")
    assert verdict(base, current, new) == answer


@drawn(100)
@given(two_edits())
def test_two_who_have_not_seen_each_other_are_stale_alike(verdict, drawn_edits):  # S4
    """Whoever comes second: the verdict is the same."""
    base, mine, theirs = drawn_edits
    assume(mine and theirs)
    texts = joined(base), joined(apply(base, mine)), joined(apply(base, theirs))
    one, other = verdict(*texts), verdict(texts[0], texts[2], texts[1])
    assert one.verdict == other.verdict == "reverted"


@drawn(100)
@given(two_edits(), st.booleans())
def test_the_verdict_is_that_of_the_text_upside_down(verdict, drawn_edits, seen):  # S4
    """No direction is special: with every line where its mirror image was."""
    base, mine, theirs = drawn_edits
    current = apply(base, theirs)
    new = apply(base, sorted(mine + theirs, key=lambda h: h.at) if seen else mine)
    there = verdict(joined(base), joined(current), joined(new))
    back = verdict(joined(base[::-1]), joined(current[::-1]), joined(new[::-1]))
    assert there.verdict == back.verdict


@drawn(100)
@given(related())
def test_line_ends_do_not_matter_where_all_have_the_same(verdict, three):  # S4
    lf = verdict(*three)
    crlf = verdict(*(text.replace(b"\n", b"\r\n") for text in three))
    assert lf.verdict == crlf.verdict


# ---------------------------------------------------------------- the merges


@drawn(100)
@given(two_edits())
def test_a_merge_has_every_hunk_of_both(verdict, drawn_edits):  # M
    base, mine, theirs = drawn_edits
    both = joined(apply(base, sorted(mine + theirs, key=lambda h: h.at)))
    texts = joined(base), joined(apply(base, theirs)), joined(apply(base, mine))
    answer = verdict(*texts)
    assert answer.merge == answer.union == both
    for side in texts[1:]:  # what is merged undoes nothing of either's
        assert verdict(texts[0], side, both).verdict == ("same" if side == both else "kept")


@drawn(100)
@given(related(ANY))
def test_merging_any_contents(verdict, three):  # M
    base, current, new = three
    answer, swapped = verdict(base, current, new), verdict(base, new, current)
    assert verdict(base, current, new) == answer, "the same sides, the same bytes"
    assert answer.merge == swapped.merge, "whoever comes second"
    assert (answer.union is None) == (swapped.union is None)
    if any(b"\0" in text for text in three):
        assert answer.merge is answer.union is None, "binary contents are never merged"
        return
    if answer.merge is not None:
        assert answer.union == answer.merge
    if base == current or base == new or current == new:
        assert answer.merge == (new if base == current else current)


@drawn(120)
@given(two_edits(apart=0), st.data())
def test_a_union_has_every_line_that_came(verdict, drawn_edits, data):  # M
    """Also of hunks side by side and at one place, where a merge is a conflict."""
    base, mine, theirs = drawn_edits
    at = data.draw(st.integers(0, len(base)))
    taken = [range(h.at, h.at + h.gone + 1) for h in mine + theirs]
    if not any(at in r for r in taken):
        mine = sorted(mine + [Hunk(at, 0, [b"mine, here"])], key=lambda h: h.at)
        theirs = sorted(theirs + [Hunk(at, 0, [b"theirs, here"])], key=lambda h: h.at)
    answer = verdict(joined(base), joined(apply(base, theirs)), joined(apply(base, mine)))
    lines = answer.union.splitlines()
    for line in itertools.chain.from_iterable(h.come for h in mine + theirs):
        assert lines.count(line) == 1, line


SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["", "x", "é\n"]))
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=4)
    ),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.sampled_from("abcdefg"), VALUE, max_size=6)


def dump(value, indent):
    return json.dumps(value, indent=indent).encode() + b"\n"


MISSING = object()


@drawn(100)
@given(OBJECT, OBJECT, OBJECT, st.sampled_from([None, 2, "\t"]))
def test_a_json_merge_has_every_key_of_both(verdict, base, current, new, indent):  # M
    answer = verdict(*(dump(v, indent) for v in (base, current, new)))
    assert verdict(*(dump(v, indent) for v in (base, current, new))).json == answer.json
    swapped = verdict(*(dump(v, indent) for v in (base, new, current)))
    assert (answer.json is None) == (swapped.json is None)
    if answer.json is None:
        assert base not in (current, new) and current != new
        return
    merged = json.loads(answer.json)
    for key in set(base) | set(current) | set(new):
        b, c, n = (v.get(key, MISSING) for v in (base, current, new))
        found = merged.get(key, MISSING)
        if same(c, n) or same(b, n):
            assert same(found, c), key
        elif same(b, c):
            assert same(found, n), key
        else:  # only two objects or two arrays are merged further
            assert type(found) is type(c) is type(n) and type(c) in (dict, list), key


def same(a, b):
    """As JSON has it: true is not 1."""
    if a is MISSING or b is MISSING:
        return a is b
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


# ---------------------------------------------------------------- through the mount


BATCH = st.lists(st.tuples(two_edits(), st.booleans()), min_size=6, max_size=6)
WAYS = ("claude", "gemini", "opencode", "vim")  # all of them re-read before they write


def distinct(contents):
    return [content for content, _ in itertools.groupby(contents)]


class Mounted:
    """alice changes what bob has read; bob saves over it."""

    def __init__(self, workspace, writer):
        self.workspace = workspace
        self.alice, self.bob = writer("alice"), writer("bob")
        self.numbers = itertools.count()

    def play(self, batch, prefix="f"):
        """batch: of (base, current, new). The contents of the files, by whether bob's save
        was refused; the names."""
        files = []
        for base, current, new in batch:
            number = next(self.numbers)
            name, agent = f"{prefix}{number}", WAYS[number % len(WAYS)]
            (self.workspace.scratch / name).write_bytes(new)
            self.alice.writefile(name, base)
            files.append((name, agent, current))
        for name, _, _ in files:
            self.bob.call("peek", path=name)
        self.workspace.settle()
        for name, _, current in files:
            self.alice.writefile(name, current)
        return [(name, self.save(name, agent)) for name, agent, _ in files]

    def save(self, name, agent):
        try:
            source = self.workspace.scratch / name
            told = self.bob.call("save_whole", agent=agent, path=name, source=source)
        except OSError:
            return "refused"
        silent = [r for r in self.workspace.refusals("bob") if r["path"] == name]
        return "refused, unheard" if told or silent else "landed"

    def versions(self, name):
        """Contents of its versions, oldest first, each of them once: a rename onto it of the
        same bytes is a version of its own."""
        self.workspace.ctl("checkpoint")
        rows = [r for r in self.workspace.log(name) if r["path"] == name and r["content"]]
        return distinct([self.workspace.version(name, r["number"]) for r in rows])


@pytest.fixture
def mounted(unmounted, writer):
    """Mounted with strategy=merge for names that begin with m."""
    (unmounted / ".stomp-policy").write_text("m* strategy=merge\n")
    unmounted.mount(["settle=400ms", "wait=300ms"])
    return Mounted(unmounted, writer)


def texts_of(edits, seen):
    """What bob knew, what alice made of it, and what bob writes: having seen that or not."""
    base, mine, theirs = edits
    both = sorted(mine + theirs, key=lambda h: h.at)
    return joined(base), joined(apply(base, theirs)), joined(apply(base, both if seen else mine))


@drawn(4, shrink=False)
@given(BATCH)
def test_the_mount_answers_as_the_function_does(mounted, verdict, batch):  # S4, S7, V1
    """Accepted: the file is what was written, and every version is there. Refused: the
    agent was told, and the file is as it was."""
    texts = [texts_of(*drawn_batch) for drawn_batch in batch]
    for (name, outcome), (base, current, new) in zip(mounted.play(texts), texts):
        answer = verdict(base, current, new)
        assert outcome == ("landed" if answer.passes else "refused"), (name, answer)
        wanted = new if answer.passes else current
        assert (mounted.workspace / name).read_bytes() == wanted
        history = mounted.versions(name)
        assert history == distinct([base, current, wanted]), name


@drawn(3, shrink=False)
@given(BATCH)
def test_the_mount_merges_as_the_function_does(mounted, verdict, batch):  # M, V1
    """Whatever bob has seen, with edits apart from hers everything of both is there."""
    texts = [texts_of(*drawn_batch) for drawn_batch in batch]
    for (name, outcome), (base, current, new) in zip(mounted.play(texts, "m"), texts):
        answer = verdict(base, current, new)
        wanted = new if answer.passes else answer.merge
        assert outcome == "landed"
        assert (mounted.workspace / name).read_bytes() == wanted
        history = mounted.versions(name)
        assert history == distinct([base, current, wanted]), name


@drawn(6, shrink=False)
@given(st.permutations([(w, n) for w in ("alice", "bob") for n in range(4)]), st.data())
def test_every_accepted_change_is_in_the_end(mounted, order, data):  # S1, S4, M
    """Two who save their own text again and again and never look at the file."""
    name = f"m{next(mounted.numbers)}"
    base = [b"line %d" % i for i in range(24)]
    mounted.alice.writefile(name, joined(base))
    mounted.bob.call("peek", path=name)
    mounted.workspace.settle()
    minds, everything = {"alice": list(base), "bob": list(base)}, list(base)
    for who, number in order:
        at = 6 * number + (0 if who == "alice" else 3)
        minds[who][at] = everything[at] = b"%s %d" % (who.encode(), number)
        way = data.draw(st.sampled_from(("mcp", "pi")))  # these do not re-read
        source = mounted.workspace.scratch / name
        source.write_bytes(joined(minds[who]))
        args = {"agent": way, "path": name, "source": source}
        assert getattr(mounted, who).call("save_whole", **args) == []
        assert (mounted.workspace / name).read_bytes() == joined(everything), (who, number)
    assert mounted.workspace.refusals() == []
