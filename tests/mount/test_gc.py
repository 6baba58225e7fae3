"""Retention: keep=, stomp gc, stomp pin, the ceiling of the history (V7, V9).

A longer run under load and kill -9:
STOMP_GC_ROUNDS=50 pytest --timeout 900 tests/mount/test_gc.py -k kill_9"""

import contextlib
import fcntl
import json
import os
import random
import sqlite3
import subprocess
import threading

import pytest

from stomplib.writer import clean_environment

DONE, NO, USAGE, NO_WORKSPACE = 0, 1, 2, 3
POLICY = ".stomp-policy"

pytestmark = pytest.mark.mount_options("settle=100ms", "wait=300ms")


def stomp(workspace, *args, code=DONE):
    done = subprocess.run(
        [os.fsencode(a) for a in (workspace.stomp, *args)],
        cwd=workspace.path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done.stdout + done.stderr


def gc(workspace, *options):
    workspace.ctl("checkpoint")  # the last close has its version
    return json.loads(stomp(workspace, "gc", "--json", *options))


def numbers(workspace, name):
    workspace.ctl("checkpoint")
    rows = [v["number"] for v in workspace.log(name) if v["path"] == name]
    return sorted(rows, reverse=True)


def fsck(workspace):
    """Of the folder, after its end: nothing is wrong."""
    return stomp(workspace, "fsck", "--scrub", str(workspace.path))


@pytest.fixture
def keeping(unmounted, writer):
    """A workspace whose policy is there before the mount, and a writer in it."""

    def make(text, *options):
        (unmounted.path / POLICY).write_text(text)
        unmounted.options = [*unmounted.options, *options]
        unmounted.mount()
        return unmounted, writer("alice")

    return make


def test_only_what_the_policy_keeps_stays(keeping):  # V9
    workspace, alice = keeping("* keep=3\n/all keep=all\n")
    for i in range(12):
        alice.writefile("f", b"text %d\n" % i)
        alice.writefile("all", b"text %d\n" % i)
    tried = gc(workspace, "--dry-run")
    assert tried["versions"] == 9 and tried["dry_run"]
    assert numbers(workspace, "f") == list(range(12, 0, -1))
    assert "gone: 9 versions" in stomp(workspace, "gc")
    assert numbers(workspace, "f") == [12, 11, 10]
    assert {v["number"]: "gap" in v["flags"] for v in workspace.log("f")} == {
        12: False,
        11: False,
        10: True,
    }
    assert numbers(workspace, "all") == list(range(12, 0, -1))
    assert [workspace.version("f", n) for n in (10, 11, 12)] == [
        b"text 9\n",
        b"text 10\n",
        b"text 11\n",
    ]
    assert not os.path.exists(workspace / ".stomp/history/f/9")
    alice.writefile("f", b"more\n")  # numbers go on
    assert numbers(workspace, "f") == [13, 12, 11, 10]
    assert gc(workspace)["versions"] == 1
    alice.stop()
    workspace.umount()
    fsck(workspace)


def stomp_gc(workspace, *options, code=DONE):
    """Of the folder, from elsewhere."""
    done = subprocess.run(
        [workspace.stomp, "gc", *options, str(workspace.path)],
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout + done.stderr


def stored(workspace):
    """What the history is, byte for byte, but for what SQLite has beside it."""
    folder = workspace.path / ".stomp"
    return {
        path: path.read_bytes() if path.name != "journal.db" else rows(path)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def rows(database):
    with contextlib.closing(sqlite3.connect(database)) as db:
        return list(db.iterdump())


def test_what_is_not_mounted_is_collected_by_the_command(keeping):  # V9
    workspace, alice = keeping("* keep=3\n/all keep=all\n")
    big = random.Random(3).randbytes(400_000)  # object files
    for i in range(12):
        alice.writefile("f", b"text %d\n" % i)
        alice.writefile("all", b"text %d\n" % i)
        alice.writefile("big", bytes([i]) + big[i * 1000 :])
    alice.stop()
    workspace.umount()
    before = stored(workspace)
    tried = json.loads(stomp_gc(workspace, "--dry-run", "--json"))
    assert tried["versions"] == 18 and tried["dry_run"] and not tried["error"]
    assert stored(workspace) == before
    assert "gone: 18 versions" in stomp_gc(workspace)
    assert len(list((workspace.path / ".stomp/objects").rglob("*.*"))) <= 3
    assert "gone: 0 versions" in stomp_gc(workspace)
    fsck(workspace)
    workspace.mount()
    assert numbers(workspace, "f") == [12, 11, 10]
    assert numbers(workspace, "all") == list(range(12, 0, -1))
    assert workspace.version("f", 10) == b"text 9\n"
    assert workspace.version("big", 10) == bytes([9]) + big[9000:]


def test_a_folder_that_a_daemon_has_is_not_collected_round_it(keeping, tmp_path):  # V9
    workspace, alice = keeping("* keep=1\n")
    for i in range(3):
        alice.writefile("f", b"text %d\n" % i)
    alice.stop()
    workspace.umount()
    before = stored(workspace)
    with open(workspace.path / ".stomp/lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a daemon that is mounted elsewhere
        said = stomp_gc(workspace, code=NO)
        assert "served by a daemon" in said and "stomp umount" in said
        assert str(workspace.path) in said
    assert stored(workspace) == before
    never = tmp_path / "never"
    never.mkdir()
    done = subprocess.run(
        [workspace.stomp, "gc", str(never)], capture_output=True, text=True, check=False
    )
    assert done.returncode == NO_WORKSPACE and "never mounted" in done.stderr


def test_what_to_keep_is_not_guessed(keeping):  # V9, P1
    workspace, alice = keeping("* keep=1\n")
    for i in range(3):
        alice.writefile("f", b"text %d\n" % i)
    alice.stop()
    workspace.umount()
    (workspace.path / POLICY).write_text("* keep=1\n* keep=nonsense\n")
    before = stored(workspace)
    said = stomp_gc(workspace, code=NO)
    assert "line 2" in said and "nothing is collected" in said
    assert stored(workspace) == before
    (workspace.path / POLICY).unlink()  # the built-in one
    assert "gone: 0 versions" in stomp_gc(workspace)


def test_after_a_kill_the_changes_are_recorded_first(keeping):  # V4, V9
    workspace, alice = keeping("* keep=1\n")
    for i in range(3):
        alice.writefile("f", b"text %d\n" % i)
    workspace.ctl("checkpoint")
    fd = alice.open("g", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"half a tex")
    workspace.kill_daemon()
    alice.stop()
    before = stored(workspace)
    said = stomp_gc(workspace, code=NO)
    assert "in the middle of 1 change;" in said and "stomp mount" in said
    assert stored(workspace) == before
    workspace.mount()
    assert workspace.log("g")[-1]["flags"] == ["incomplete", "recovered"]
    workspace.umount()
    assert "gone: 2 versions" in stomp_gc(workspace)
    fsck(workspace)


def test_a_deleted_file_comes_back(keeping):  # V9
    workspace, alice = keeping("* keep=1\n")
    for text in (b"one\n", b"two\n", b"three\n"):
        alice.writefile("f", text)
    alice.unlink("f")
    gc(workspace)
    assert numbers(workspace, "f") == [4, 3]
    stomp(workspace, "restore", "f")
    assert alice.readfile("f") == b"three\n"
    assert numbers(workspace, "f")[0] > 4


def test_a_pinned_moment_stays_as_it_was(keeping):  # V9
    workspace, alice = keeping("* keep=1\n")
    alice.mkdir("src")
    for text in (b"one\n", b"two\n"):
        alice.writefile("src/a", text)
        alice.writefile("b", text)
    workspace.ctl("checkpoint")
    stomp(workspace, "pin", "good", "src")
    assert "pinned already" in stomp(workspace, "pin", "good", code=NO)
    for text in (b"three\n", b"four\n"):
        alice.writefile("src/a", text)
        alice.writefile("b", text)
    alice.writefile("src/new", b"1\n")
    alice.writefile("src/new", b"2\n")
    gc(workspace)
    (pin,) = json.loads(stomp(workspace, "pin", "--list", "--json"))["pins"]
    assert pin["name"] == "good" and pin["path"] == "src" and pin["writer"]
    then = workspace / f".stomp/at/seq:{pin['seq']}"
    assert (then / "src/a").read_bytes() == b"two\n"
    assert os.listdir(then / "src") == ["a"]
    assert numbers(workspace, "src/a") == [4, 2]
    assert numbers(workspace, "b") == [4]
    assert "good" in stomp(workspace, "pin", "--list")
    assert "nothing is pinned as bad" in stomp(workspace, "pin", "--remove", "bad", code=NO)
    alice.stop()
    workspace.remount()
    stomp(workspace, "pin", "--remove", "good")
    gc(workspace)
    assert numbers(workspace, "src/a") == [4]
    assert "Nothing is pinned" in stomp(workspace, "pin", "--list")


def test_pins_of_the_past_and_wrong_ones(keeping):  # V9
    workspace, alice = keeping("* keep=1\n")
    alice.writefile("f", b"one\n")
    workspace.ctl("checkpoint")
    (seq,) = [v["seq"] for v in workspace.log("f")]
    alice.writefile("f", b"two\n")
    alice.writefile("f", b"three\n")
    workspace.ctl("checkpoint")
    stomp(workspace, "pin", "first", "f", "--at", f"seq:{seq}")
    gc(workspace)
    assert numbers(workspace, "f") == [3, 1]
    stomp(workspace, "pin", "a b", code=USAGE)
    stomp(workspace, "pin", "x", "--at", "tomorrow", code=USAGE)
    stomp(workspace, "pin", code=USAGE)
    stomp(workspace, "pin", "--list", "x", code=USAGE)
    stomp(workspace, "gc", "/", code=NO_WORKSPACE)


def test_an_unresolved_conflict_keeps_its_sides(keeping, writer):  # V9
    workspace, alice = keeping("* keep=1\n")
    bob = writer("bob")
    base = b"".join(b"line %d\n" % i for i in range(10))
    alice.writefile("f", base)
    assert bob.readfile("f") == base
    workspace.settle(3)
    alice.writefile("f", base.replace(b"line 1\n", b"alice\n"))
    assert bob.errno("save_by_rename", "f", base.replace(b"line 9\n", b"bob\n")) == "ESTALE"
    refused = workspace.why(bob)[0]
    for i in range(4):
        alice.append("f", b"more %d\n" % i)
    gc(workspace)
    assert numbers(workspace, "f") == [6, 2, 1]
    folder = workspace / f".stomp/conflicts/{refused['id']}"
    assert (folder / "base").read_bytes() == base
    assert b"alice" in (folder / "ours").read_bytes()
    assert b"bob" in (folder / "theirs").read_bytes()


def test_what_a_writer_knew_is_not_guessed(keeping, writer):  # S4, V9
    workspace, alice = keeping("* keep=1\n")
    bob = writer("bob")
    text = [b"line %d\n" % i for i in range(10)]
    alice.writefile("f", b"".join(text))
    alice.writefile("f", b"".join([b"second\n", *text[1:]]))
    known = bob.readfile("f")
    workspace.settle(3)
    alice.writefile("f", b"".join([b"third\n", *text[1:]]))
    alice.writefile("f", b"".join([b"fourth\n", *text[1:]]))
    gc(workspace)
    assert numbers(workspace, "f") == [4]
    mine = known.replace(b"line 9\n", b"bob\n")
    assert bob.errno("save_by_rename", "f", mine) == "ESTALE"
    assert alice.readfile("f").startswith(b"fourth\n")


def test_undo_does_not_take_others_work_for_its_own(keeping, writer):  # V9
    workspace, alice = keeping("* keep=2\n")
    bob = writer("bob")
    text = [b"line %d\n" % i for i in range(12)]

    def change(who, line, put):
        text[line] = put
        workspace.settle(3)
        who.readfile("f")
        workspace.settle(3)
        who.writefile("f", b"".join(text))
        workspace.ctl("checkpoint")

    alice.writefile("f", b"".join(text))
    change(alice, 0, b"alice\n")
    workspace.ctl("checkpoint")
    stomp(workspace, "pin", "first", "f")
    change(alice, 2, b"alice's, collected\n")
    change(bob, 6, b"bob's\n")
    change(alice, 11, b"alice's last\n")
    assert gc(workspace)["versions"] >= 1
    assert numbers(workspace, "f") == [5, 4, 2]
    said = stomp(workspace, "undo", "bob", code=NO)
    assert "were collected" in said
    assert alice.readfile("f") == b"".join(text)


class Churn:
    """Writers of their own files, through the kernel, until told to stop."""

    def __init__(self, workspace, n=3):
        self.workspace, self.stopping, self.wrote = workspace, threading.Event(), {}
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def run(self, i):
        rng = random.Random(i)
        while not self.stopping.is_set():
            name = f"f{i}-{rng.randrange(4)}"
            data = rng.randbytes(rng.choice([200, 5000, 200_000]))
            try:
                (self.workspace / name).write_bytes(data)
            except OSError:  # the daemon was killed
                return
            self.wrote[name] = data

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_under_load_and_kill_9(keeping):  # V4, V9
    workspace, alice = keeping("* keep=2\n")
    total = 0
    for _ in range(int(os.environ.get("STOMP_GC_ROUNDS", "3"))):
        churn = Churn(workspace)
        total += sum(gc(workspace)["versions"] for _ in range(4))
        workspace.ctl("gc")
        workspace.kill_daemon()  # wherever it is
        churn.stop()
        workspace.mount()
        for name, data in churn.wrote.items():
            now = (workspace / name).read_bytes()
            workspace.ctl("checkpoint")
            head = max(workspace.log(name), key=lambda v: v["number"])
            assert workspace.version(name, head["number"]) == now
            assert now == data or head["number"] > 1  # the write that was cut short
    assert total > 10
    sums = gc(workspace)
    assert sums["error"] == 0
    alice.stop()
    workspace.umount()
    fsck(workspace)
    objects = [f for _, _, files in os.walk(workspace.path / ".stomp/objects") for f in files]
    assert len(objects) <= 2 * 12  # two contents of each file at most: no garbage


def test_the_ceiling(keeping):  # V7, V9
    workspace, alice = keeping("* keep=1\n", "journal_max=16M")
    rng = random.Random(3)
    assert workspace.json("status")["max_bytes"] == 16 << 20
    warned = refused = 0
    for _ in range(40):
        before = workspace.path.joinpath("f").read_bytes() if warned else None
        health = workspace.json("status")["health"]
        if health != "ok":
            assert "journal_max=" in health and "stomp gc" in health
            warned += 1
        try:
            (workspace / "f").write_bytes(rng.randbytes(600_000))
        except OSError as error:
            assert error.errno == 28
            refused += 1
            assert (workspace / "f").read_bytes() == before
            break
        workspace.ctl("checkpoint")
    assert refused and warned >= 3  # it is said long before
    assert "refused" in workspace.json("status")["health"]
    assert workspace.json("status")["used_bytes"] < 18 << 20
    gc(workspace)
    assert workspace.json("status")["health"] == "ok"
    (workspace / "f").write_bytes(b"again\n")
    alice.stop()
    workspace.umount()
    fsck(workspace)
