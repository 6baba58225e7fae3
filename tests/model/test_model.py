#!/usr/bin/python3
"""Random changes by several writers, through the kernel, against the rules in small.

    tests/model/test_model.py [--seed 1] [--steps 150] [--shrink SECONDS]

After each step the errno, the content, the mode, the mtime and the history of every path
it touched are compared with reference.py; at the end, and again after a remount, the
tree, all versions and all refusals. A mismatch prints the last steps, and where asked
the shortest list of steps found that fails as well. STOMP_MODEL_SEEDS: how many seeds
pytest runs (3), STOMP_MODEL_STEPS: how many steps each (120), STOMP_MODEL_SEED: the first.
"""

import argparse
import errno
import os
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount")]

from reference import APPEND, BLIND, TRUNCATING, WHOLE, Reference, Uncertain  # noqa: E402
from stomplib.calls import RENAME_EXCHANGE  # noqa: E402
from stomplib.workspace import Workspace  # noqa: E402
from stomplib.writer import AGENT, PYTHON, WRONLY, Writer, name_of  # noqa: E402

CREAT, EXCL, APPENDING = os.O_CREAT, os.O_EXCL, os.O_APPEND
SEED = int(os.environ.get("STOMP_MODEL_SEED", 1))
SEEDS = int(os.environ.get("STOMP_MODEL_SEEDS", 3))
STEPS = int(os.environ.get("STOMP_MODEL_STEPS", 120))
SETTLE_MS = 120

WRITERS = ("alice", "bob", "carol", "dave")
PATHS = ("f", "g", "h", "old", "older")
BEFORE = {"old": b"from\nbefore\n", "older": b"older\n"}
OLD_NS = 10**18  # 2001, as tar and rsync -a set it

# How often, and whether a read within settle may come first (S1, S4).
OPS = {
    "write": (14, True),
    "rewrite": (5, True),
    "middle": (6, True),
    "append": (8, True),
    "save": (12, True),
    "old_save": (2, True),
    "create": (3, False),
    "unlink": (4, True),
    "recreate": (4, True),
    "read": (14, False),
    "view": (3, False),
    "sed": (3, False),
    "rename": (8, True),
    "exchange": (4, True),
    "chmod": (4, True),
    "link": (3, True),
    "truncate": (3, True),
    "touch": (3, False),
    "remount": (1, False),
}


class Mismatch(AssertionError):
    pass


class TooSlow(Exception):
    """A read and the attempt after it took longer than settle: nothing is learnt."""


@dataclass(frozen=True)
class Step:
    """Stands alone: any list of steps can be run, so that one can be shortened."""

    number: int
    op: str
    writer: str
    path: str
    other: str
    read_first: bool
    seed: float

    def __str__(self):
        read = "reads, " if self.read_first else ""
        return f"{self.number}: {self.writer} {read}{self.op} {self.path} ({self.other})"


def steps_of(seed, count):
    rng = random.Random(seed)
    steps = []
    for number in range(1, count + 1):
        op = rng.choices(list(OPS), [weight for weight, _ in OPS.values()])[0]
        path, other = rng.sample(PATHS, 2)
        read_first = OPS[op][1] and rng.random() < 0.35
        steps.append(
            Step(number, op, rng.choice(WRITERS), path, other, read_first, rng.random())
        )
    return steps


class Run:
    def __init__(self, folder, settle_ms=SETTLE_MS):
        self.folder = Path(folder)
        path = self.folder / "w"
        path.mkdir()
        for name, data in BEFORE.items():
            (path / name).write_bytes(data)
        options = [f"settle={settle_ms}ms", "wait=2s"]
        self.ws = Workspace(path, folder, options, deadline_s=600)
        self.settle_s = settle_ms / 1000
        self.model = Reference(BEFORE)
        self.mtimes = {}  # path: (number of its version, mtime of that, of all before)
        self.ahead = set()  # touched beyond now: that is not known after a restart
        self.told = []
        self.lines = 0

    def start(self):
        self.ws.mount()
        self.writers = {}
        for name in WRITERS:
            argv = [str(self.ws.stomp), "run", name, "--", PYTHON, str(AGENT)]
            with open(self.folder / f"writer-{name}.err", "wb") as log:
                w = self.writers[name] = Writer(name, argv, "/", None, log)
            w.call("chdir", path=str(self.ws.path))

    def close(self):
        for w in getattr(self, "writers", {}).values():
            w.stop()
        self.ws.close(failed=sys.exc_info()[0] is not None)

    # ------------------------------------------------------------ contents

    def line(self):
        self.lines += 1
        return b"line%05d, unlike any other\n" % self.lines

    def contents(self, step):
        """What a writer may put at a path: kinds for which the verdict is plain, in an
        order that the step chooses."""
        story = self.model.at.get(step.path)
        now = story.content if story else b""
        known = self.model.contents.get(story.known.get(step.writer, 0)) if story else None
        kinds = [now + self.line(), self.line(), now]
        if known:
            kinds += [known, known + self.line(), self.edited(known, step)]
        random.Random(step.seed).shuffle(kinds)
        return [*kinds, self.line() + self.line(), now]

    def edited(self, data, step):
        lines = data.splitlines(keepends=True)
        lines[int(step.seed * 997) % len(lines)] = self.line()
        return b"".join(lines)

    def plain(self, step, shape):
        """A content whose verdict is plain, or Uncertain."""
        for new in self.contents(step):
            if self.try_model(lambda m: m.judge(step.path, step.writer, shape, new)):
                return new
        raise Uncertain

    def try_model(self, judge):
        story_state = {s: (dict(s.known), set(s.young)) for s in set(self.model.at.values())}
        refusals = len(self.model.refusals)
        try:
            judge(self.model)
            return True
        except Uncertain:
            return False
        finally:
            del self.model.refusals[refusals:]
            for story, (known, young) in story_state.items():
                story.known, story.young = known, young

    # ------------------------------------------------------------ one step

    def step(self, step):
        before = self.state()
        w = self.writers[step.writer]
        began = time.monotonic()
        if step.read_first:
            expected = self.model.read(step.path, step.writer, settles=False)
            self.expect("read", expected, w.errno("readfile", step.path))
        self.touched = {step.path, step.other}
        getattr(self, step.op)(step, w)
        if step.read_first and time.monotonic() - began > 0.9 * self.settle_s:
            raise TooSlow
        if any(s.young for s in self.model.at.values()):
            self.ws.settle()
            self.model.settle()
        self.compare(step, before)

    def expect(self, what, expected, got):
        expected = name_of(expected) if expected else None
        if got != expected:
            raise Mismatch(f"{what}: {got}, not {expected}\n{self.last_refusal()}")
        self.failed = got

    def last_refusal(self):
        rows = self.ws.refusals()
        return f"the newest refusal: {rows[-1]}" if rows else "nothing was refused"

    def both(self, what, expect, method, *args, **kwargs):
        """The writer's call, then the model's, which may ask what the call has done."""
        got = w_errno(method, *args, **kwargs)
        self.model.telling = self.telling
        self.expect(what, expect(), got)

    def telling(self, story, path):
        """Of several names, the one whose history has grown."""
        grown = [
            name
            for name in sorted(story.names)
            if len(story.names) > 1 and len(self.rows(name)) > self.model.head(name)
        ]
        return grown[0] if grown else path

    # ---- the operations

    def write(self, step, w):
        new = self.plain(step, TRUNCATING)
        self.both("write", lambda: self.model.change(step.path, w.name, TRUNCATING, new),
                  w.writefile, step.path, new)

    def rewrite(self, step, w):
        """From offset 0, without O_TRUNC, cut to length at the end."""
        if step.path not in self.model.at:
            raise Uncertain
        new = self.plain(step, WHOLE)

        def save():
            fd = w.open(step.path, WRONLY)
            try:
                w.pwrite(fd, new, 0)
                w.ftruncate(fd, len(new))
            except OSError:
                w.errno("close", fd)
                raise
            w.close(fd)

        self.both("rewrite", lambda: self.model.change(step.path, w.name, WHOLE, new), save)

    def middle(self, step, w):
        story = self.model.at.get(step.path)
        if not story or b"\n" not in story.content[:-1]:
            raise Uncertain
        at = story.content.index(b"\n") + 1
        line = self.line()
        new = story.content[:at] + line + story.content[at + len(line) :]
        if not new.endswith(b"\n") or new.count(b"\n") > story.content.count(b"\n"):
            raise Uncertain

        def save():
            fd = w.open(step.path, WRONLY)
            try:
                w.pwrite(fd, line, at)
            finally:
                w.close(fd)

        self.both("in the middle", lambda: self.model.change(step.path, w.name, BLIND, new),
                  save)

    def append(self, step, w):
        story, line = self.model.at.get(step.path), self.line()
        new = (story.content if story else b"") + line
        self.both("append", lambda: self.model.change(step.path, w.name, APPEND, new),
                  w.append, step.path, line)

    def truncate(self, step, w):
        story = self.model.at.get(step.path)
        if not story:
            raise Uncertain
        new = story.content[: story.content.find(b"\n") + 1] if step.seed < 0.5 else b""
        self.both("truncate", lambda: self.model.change(step.path, w.name, BLIND, new),
                  w.truncate, step.path, len(new))

    def save(self, step, w, mtime_ns=None):
        new = self.plain(step, WHOLE)
        temporary = f"{step.path}.{step.number}.tmp"
        self.touched.add(temporary)

        def save():
            w.writefile(temporary, new, flags=WRONLY | CREAT | EXCL)
            if mtime_ns:
                w.utime(temporary, [mtime_ns, mtime_ns])
            try:
                w.rename(temporary, step.path)
            except OSError:
                w.unlink(temporary)
                raise

        def expected():
            self.model.create(temporary, w.name, new)
            failed = self.model.rename(temporary, step.path, w.name)
            if failed:
                self.model.unlink(temporary, w.name)
            return failed

        self.both("save by rename", expected, save)

    def old_save(self, step, w):
        """As rsync -a and cp -p do: with the mtime of long ago (S12)."""
        self.save(step, w, OLD_NS)

    def create(self, step, w):
        new = self.line()
        self.both("create", lambda: self.model.create(step.path, w.name, new),
                  w.writefile, step.path, new, flags=WRONLY | CREAT | EXCL)

    def unlink(self, step, w):
        self.both("unlink", lambda: self.model.unlink(step.path, w.name),
                  w.unlink, step.path)

    def recreate(self, step, w):
        """As git and tar do, who sets an old mtime as well."""
        new = self.line()

        def save():
            w.unlink(step.path)
            w.writefile(step.path, new, flags=WRONLY | CREAT | EXCL)
            if step.seed < 0.5:
                w.utime(step.path, [OLD_NS, OLD_NS])

        def expected():
            failed = self.model.unlink(step.path, w.name)
            return failed or self.model.create(step.path, w.name, new)

        self.both("unlink and create", expected, save)

    def read(self, step, w):
        self.expect("read", self.model.read(step.path, w.name, settles=True),
                    w.errno("readfile", step.path))
        self.ws.settle()

    def view(self, step, w):
        expected = self.model.read(step.path, w.name, settles=True)
        code = w.spawn("cat", step.path)[0]
        self.expect("cat", expected, None if code == 0 else "ENOENT")
        self.ws.settle()

    def sed(self, step, w):
        """A process that began after the current version and reads it knows it (S2)."""
        story, line = self.model.at.get(step.path), self.line()
        if not story or not story.content or len(story.names) > 1:
            raise Uncertain
        w.sleep(0.03)  # start times are known to 10 ms
        new = line + story.content

        def edit():
            code, _, said = w.spawn("sed", "-i", f"1i {line.decode().strip()}", step.path)
            if code:
                raise OSError(errno.EIO, said.decode())

        def expected():
            self.model.begin(step.path, story)
            self.model.made(story, w.name, new)
            base = self.model.head(step.path)
            self.model.append(step.path, "replace", w.name, base, story)

        self.both("sed -i", expected, edit)

    def rename(self, step, w):
        self.uncertain_unless(lambda m: m.judge(step.path, w.name, BLIND) or m.judge(
            step.other, w.name, WHOLE, m.at[step.path].content if step.path in m.at else b""))
        self.both("rename", lambda: self.model.rename(step.path, step.other, w.name),
                  w.rename, step.path, step.other)

    def exchange(self, step, w):
        one, two = (self.model.at.get(p) for p in (step.path, step.other))
        if one and two and one is not two:
            if len(one.names | two.names) > 2:
                raise Uncertain
            self.uncertain_unless(lambda m: m.judge(step.path, w.name, BLIND) or m.judge(
                step.other, w.name, WHOLE, one.content))
        self.both("exchange", lambda: self.model.exchange(step.path, step.other, w.name),
                  w.rename, step.path, step.other, RENAME_EXCHANGE)

    def uncertain_unless(self, judge):
        if not self.try_model(judge):
            raise Uncertain

    def chmod(self, step, w):
        mode = random.Random(step.seed).choice((0o644, 0o600, 0o755))
        self.both("chmod", lambda: self.model.chmod(step.path, w.name, mode),
                  w.chmod, step.path, mode)

    def link(self, step, w):
        self.both("link", lambda: self.model.link(step.path, step.other, w.name),
                  w.link, step.path, step.other)

    def touch(self, step, w):
        """S12: to the past, or far ahead of all that follows."""
        ns = OLD_NS if step.seed < 0.7 else time.time_ns() + 3600 * 10**9
        self.ahead |= {step.path} if ns > OLD_NS else set()
        expected = None if step.path in self.model.at else errno.ENOENT
        self.both("touch", lambda: expected, w.utime, step.path, [ns, ns])

    def remount(self, step=None, w=None):
        for each in self.writers.values():
            each.call("chdir", path="/")
        self.ws.remount()
        for each in self.writers.values():
            each.call("chdir", path=str(self.ws.path))
        self.model.remount()
        for path in self.ahead:
            self.mtimes.pop(path, None)

    # ------------------------------------------------------------ comparing

    def rows(self, path):
        try:
            return [v for v in self.ws.log(path) if v["path"] == path]
        except FileNotFoundError:
            return []

    def state(self):
        """Identity of every file, for what must not change when a change was refused."""
        return {name: identity(self.ws / name) for name in PATHS}

    def compare(self, step, before):
        for path in sorted(self.touched):
            self.compare_file(path)
            self.compare_history(path)
            self.compare_mtime(path)
        for path in PATHS:
            if path not in self.touched or self.failed == "ESTALE":
                if identity(self.ws / path) != before[path] and not self.shares(path):
                    raise Mismatch(f"{path} was not to change:\n{before[path]}\n"
                                   f"{identity(self.ws / path)}")

    def shares(self, path):
        story = self.model.at.get(path)
        return story and story.names & self.touched

    def compare_file(self, path):
        story = self.model.at.get(path)
        try:
            got = (self.ws / path).read_bytes()
        except FileNotFoundError:
            got = None
        if got != (story.content if story else None):
            raise Mismatch(f"{path} is {got}, not {story and story.content}")
        if story and os.stat(self.ws / path).st_mode & 0o7777 != story.mode:
            raise Mismatch(f"{path} has mode {os.stat(self.ws / path).st_mode:o}, "
                           f"not {story.mode:o}")

    def compare_history(self, path):
        expected, rows = self.model.history.get(path, []), self.rows(path)
        got = [(v["number"], v["kind"], v["writer"]) for v in rows]
        wanted = [(i, v.kind, v.writer) for i, v in enumerate(expected, 1)]
        if got != wanted:
            raise Mismatch(f"versions of {path}:\n{got}\nnot\n{wanted}")
        for row, v in list(zip(rows, expected))[-3:]:
            if path not in self.model.linked and not self.alike(path, row["base"], v.base):
                raise Mismatch(f"{path}@{row['number']} ({v.kind} by {v.writer}) "
                               f"has base {row['base']}, not {v.base}")
            if v.content is None:
                continue
            try:
                stored = self.ws.version(path, row["number"])
            except OSError as error:
                stored = str(error)
            if stored != v.content:
                raise Mismatch(f"{path}@{row['number']} ({v.kind} by {v.writer}) is "
                               f"{stored}, not {v.content}")

    def alike(self, path, a, b):
        """Two numbers of the same content are one base; and who has read what lay there
        before the mount may be told to know version 1, or nothing."""
        rows = self.model.history.get(path, [])
        if {a, b} == {0, 1}:
            return rows[0].kind == "initial"
        return a == b or (a and b and rows[a - 1].content == rows[b - 1].content)

    def compare_mtime(self, path):
        """S12: from version to version of a path it strictly increases."""
        if path not in self.model.at or path in self.model.linked:
            return
        number = content_number(self.model.history.get(path, []))
        mtime = os.stat(self.ws / path).st_mtime_ns
        was, last, floor = self.mtimes.get(path, (0, 0, 0))
        if number != was:
            floor = max(floor, last)
        if mtime <= floor and number > 1:
            raise Mismatch(f"{path}@{number} has mtime {mtime}, an earlier one {floor}")
        self.mtimes[path] = (number, mtime, floor)

    def compare_all(self):
        names = set(self.model.history) | set(self.model.at)
        there = set(os.listdir(self.ws.path))
        if there != set(self.model.at):
            raise Mismatch(f"the tree is {sorted(there)}, not {sorted(self.model.at)}")
        for path in sorted(names):
            self.compare_file(path)
            self.compare_history(path)
        rows = [r for r in self.ws.refusals() if r["reason"] != "held"]
        got = [(r["writer"], r["path"], r["base"], r["current"]) for r in rows]
        wanted = self.model.refusals[-200:]
        for i in range(max(len(got), len(wanted))):
            a, b = got[i : i + 1], wanted[i : i + 1]
            if not a or not b or not self.same_refusal(a[0], b[0]):
                raise Mismatch(f"refusal {i + 1} of {len(got)}, {len(wanted)} expected: "
                               f"{a} not {b}")

    def same_refusal(self, a, b):
        """Of a file with several names any may be told, with the numbers of its own."""
        if {a[1], b[1]} <= self.model.linked:
            return a[0] == b[0]
        return a[:2] == b[:2] and a[3] == b[3] and self.alike(a[1], a[2], b[2])

    def all(self, steps):
        self.start()
        done = 0
        for step in steps:
            self.failed = None
            try:
                self.step(step)
                done += 1
                self.told.append(f"{step} → {self.failed or 'done'}")
            except Uncertain:
                if any(s.young for s in self.model.at.values()):
                    self.ws.settle()
                    self.model.settle()
            except (Mismatch, OSError) as error:
                self.told.append(f"{step} → MISMATCH")
                raise Mismatch(f"step {step}\n{error}") from error
        self.compare_all()
        self.remount()
        self.compare_all()
        return done


def w_errno(method, *args, **kwargs):
    try:
        method(*args, **kwargs)
    except OSError as error:
        return name_of(error.errno)
    return None


def identity(path):
    try:
        st = os.stat(path)
        return st.st_ino, st.st_size, st.st_mtime_ns, path.read_bytes()
    except FileNotFoundError:
        return None


def content_number(versions):
    """Number of the version that made the content there is."""
    kept = ("mode", "link")
    return max((i for i, v in enumerate(versions, 1) if v.kind not in kept), default=0)


def run_steps(steps, tries=4):
    """None, or what does not match. Repeated with a longer settle on a slow machine."""
    settle_ms = SETTLE_MS
    for _ in range(tries):
        folder = tempfile.mkdtemp(prefix="stomp-model.")
        run = Run(folder, settle_ms)
        try:
            try:
                run.done = run.all(steps)
            finally:
                run.close()
            return run, None
        except Mismatch as error:
            return run, str(error)
        except TooSlow:
            settle_ms *= 3
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise AssertionError("the machine is too slow for any settle")


def shrink(steps, seconds):
    """Fewer steps that fail as well: whole pieces left out, ever smaller ones."""
    end = time.monotonic() + seconds
    size = len(steps) // 2
    while size and time.monotonic() < end:
        at = 0
        while at < len(steps) and time.monotonic() < end:
            fewer = steps[:at] + steps[at + size :]
            if fewer and run_steps(fewer)[1]:
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def report(seed, count, run, problem):
    return "\n".join([problem, "", "the last steps:", *run.told[-20:],
                      f"again: tests/model/test_model.py --seed {seed} --steps {count}"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(SEED, SEED + SEEDS))
def test_random_changes_follow_the_rules(seed):
    # L1, L10, S1-S12, V1-V3, and the numbering of versions
    run, problem = run_steps(steps_of(seed, STEPS))
    assert not problem, report(seed, STEPS, run, problem)
    assert run.done > STEPS // 2, "most steps were not tried"
    assert run.model.refusals, "nothing was ever refused"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--shrink", type=float, default=0, metavar="SECONDS")
    given = parser.parse_args()
    steps = steps_of(given.seed, given.steps)
    began = time.monotonic()
    run, problem = run_steps(steps)
    if not problem:
        print(f"{run.done} steps, {len(run.model.refusals)} refusals, "
              f"{time.monotonic() - began:.1f} s: as the rules say")
        return 0
    print(report(given.seed, given.steps, run, problem))
    if given.shrink:
        number = int(run.told[-1].split(":")[0])
        steps = shrink([s for s in steps if s.number <= number], given.shrink)
        run, problem = run_steps(steps)
        print("\nshortest found:", *(run.told if problem else steps), problem, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
