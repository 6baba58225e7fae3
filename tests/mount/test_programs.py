"""Programs as people use them, through the mount: git, make, sqlite3, tail -f, rm -rf…

Each works as on the bare folder; where two writers meet, nobody's work is lost.
"""

import os
import shutil
import subprocess
import time

import pytest

from stomplib.calls import needs_root
from stomplib.writer import clean_environment

pytestmark = pytest.mark.mount_options("settle=100ms", "wait=500ms")

WRONLY, RDWR, CREAT, TRUNC = os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


def until(condition, seconds=15, said="it did not come to be"):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, said
        time.sleep(0.03)


def log(workspace, name):
    try:
        return [v for v in workspace.log(name) if v["path"] == os.fsdecode(name)]
    except FileNotFoundError:
        return []


# ---------------------------------------------------------------- git


IDENTITY = {"GIT_CONFIG_GLOBAL": "/dev/null"}
for _who in ("AUTHOR", "COMMITTER"):
    IDENTITY.update({f"GIT_{_who}_NAME": "t", f"GIT_{_who}_EMAIL": "t@example.org"})


def ok(result):
    assert result[0] == 0, result
    return os.fsdecode(result[1])


@pytest.fixture
def origin(tmp_path):
    """A repository outside the mount: main.c on `main`, changed on `other`."""
    path = tmp_path / "origin"
    env = clean_environment(IDENTITY)

    def git(*argv):
        subprocess.run(["git", *argv], cwd=path, env=env, check=True, capture_output=True)

    path.mkdir()
    git("init", "-q", "-b", "main")
    for i in range(30):
        (path / f"f{i}.txt").write_text("".join(f"{i} {n}\n" for n in range(20)))
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("checkout", "-q", "-b", "other")
    for i in range(0, 30, 3):
        (path / f"f{i}.txt").write_text(f"other {i}\n")
    (path / "f1.txt").unlink()
    (path / "added.txt").write_text("added\n")
    git("add", "-A")
    git("commit", "-q", "-m", "second")
    git("checkout", "-q", "main")
    return path


@pytest.fixture
def cloned(workspace, writer, origin):
    alice = writer("alice", env=IDENTITY)
    ok(alice.spawn("git", "clone", "-q", str(origin), "r"))
    return alice


def test_git_works(workspace, cloned):
    git = lambda text: ok(cloned.sh(f"cd r && git {text}"))  # noqa: E731
    assert git("status --porcelain") == ""
    git("checkout -q other")
    assert (workspace / "r/f0.txt").read_text() == "other 0\n"
    assert not (workspace / "r/f1.txt").exists()
    assert git("status --porcelain") == ""
    git("checkout -q main")
    ok(cloned.sh("cd r && echo more >> f2.txt && git add -u && git commit -q -m third"))
    ok(cloned.sh("echo dirty > r/f3.txt"))
    assert git("status --porcelain").split() == ["M", "f3.txt"]
    git("stash -q")
    assert git("status --porcelain") == ""
    git("stash pop -q")
    assert (workspace / "r/f3.txt").read_text() == "dirty\n"
    git("checkout -q -- f3.txt")
    git("merge -q -m merged origin/other")
    git("gc -q")
    git("fsck --strict")
    assert len(git("log --format=%h").split()) == 4
    assert workspace.refusals() == []
    assert not any(v["path"].startswith("r/.git/") for v in workspace.log())  # P2


# Each would wipe alice's uncommitted line; git itself asks nobody.
WIPES = [
    "git checkout -q -- f0.txt",
    "git checkout -q -f other",
    "git reset -q --hard",
    "git restore f0.txt",
    "git stash -q",
    "git checkout -q origin/other -- f0.txt",
]


@pytest.mark.parametrize("same_size", [True, False], ids=["same size", "longer"])
@pytest.mark.parametrize("wipe", WIPES)
def test_git_does_not_wipe_what_another_has_not_committed(
    workspace, cloned, writer, wipe, same_size
):  # S6, S10, FIELD 1.2
    alice, bob = cloned, writer("bob", env=IDENTITY)
    bob.readfile("r/f0.txt")
    workspace.settle()
    old = (workspace / "r/f0.txt").read_bytes()
    work = old.replace(b"0 3\n", b"0 x\n" if same_size else b"alice's own\n")
    alice.writefile("r/f0.txt", work)
    code, _, said = bob.sh(f"cd r && {wipe}")
    assert (workspace / "r/f0.txt").read_bytes() == work, (code, said)
    assert code != 0, "git was not told"
    assert workspace.refusals("bob")
    ok(bob.sh("cd r && git fsck --strict"))


def test_git_may_undo_its_own_writers_work(workspace, cloned):  # S3
    cloned.writefile("r/f0.txt", b"mine\n")
    ok(cloned.sh("cd r && git reset -q --hard"))
    assert (workspace / "r/f0.txt").read_bytes() != b"mine\n"
    assert [v["writer"] for v in log(workspace, "r/f0.txt")][-1] == "alice"


# ---------------------------------------------------------------- a build


MAKEFILE = """
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
prog: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)
%.o: %.c all.h
\t$(CC) -O0 -c -o $@ $<
clean:
\trm -f prog *.o
"""


def lay_program(path, units=12):
    (path / "Makefile").write_text(MAKEFILE)
    (path / "all.h").write_text("".join(f"int f{i}(int);\n" for i in range(units)))
    for i in range(units):
        body = f"int f{i}(int x)\n{{\n\treturn x + {i};\n}}\n"
        (path / f"u{i}.c").write_text(f'#include "all.h"\n{body}')
    calls = " + ".join(f"f{i}(0)" for i in range(units))
    main = f'#include <stdio.h>\n#include "all.h"\nint main(void)\n{{\n\tprintf("%d\\n", {calls});\n}}\n'
    (path / "main.c").write_text(main)
    return sum(range(units))


@needs("make")
@pytest.mark.timeout(90)
def test_a_build_while_another_edits(unmounted, writer):  # W, V1, P2
    expected = lay_program(unmounted.path)
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    build = alice.start("spawn", argv=["make", "-s", "-j4"], limit=60)
    edits = 0
    while not build.done():
        ok(bob.sh(f"sed -i '1s/.*/#include \"all.h\" \\/\\/ {edits}/' u{edits % 12}.c"))
        bob.append("notes.txt", b"%d\n" % edits)
        edits += 1
    code, _, said = build.result(timeout=70)
    assert code == 0, said
    assert edits > 2
    assert ok(alice.spawn("./prog")).split() == [str(expected)]
    assert {v["writer"] for v in log(unmounted, "prog")} == {"alice"}
    assert log(unmounted, "u0.o") == []
    assert len((unmounted / "notes.txt").read_bytes().splitlines()) == edits
    ok(alice.spawn("make", "-s", "clean"))
    ok(bob.spawn("make", "-s", "-j4", timeout=60))
    assert ok(bob.spawn("./prog")).split() == [str(expected)]
    assert log(unmounted, "prog")[-1]["writer"] == "bob"
    assert unmounted.refusals() == []


# ---------------------------------------------------------------- sqlite3


INSERTS = """
import sqlite3, sys
db = sqlite3.connect("t.db", timeout=30, isolation_level=None)
for i in range(int(sys.argv[2])):
    db.execute("insert into t values (?, ?)", (sys.argv[1], i))
db.close()
"""


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_two_writers_use_one_database(workspace, writer, journal):  # P2
    alice, bob = writer("alice"), writer("bob")
    python = ["/usr/bin/python3", "-c"]
    make = f"import sqlite3; d = sqlite3.connect('t.db'); d.execute('pragma journal_mode={journal}')"
    ok(alice.spawn(*python, make + "; d.execute('create table t(who, n)')"))
    each = 40
    calls = [
        w.start("spawn", argv=[*python, INSERTS, w.name, str(each)], limit=50)
        for w in (alice, bob)
    ]
    for call in calls:
        code, _, said = call.result(timeout=60)
        assert code == 0, said
    count = "select who, count(*) from t group by who order by who; pragma integrity_check"
    rows = ok(bob.spawn("sqlite3", "t.db", count)).split()
    assert rows == [f"alice|{each}", f"bob|{each}", "ok"]
    # In WAL mode only checkpoints write the database itself, whoever makes them.
    known = {v["writer"] for v in log(workspace, "t.db")}
    assert known == {"alice", "bob"} if journal == "delete" else known <= {"alice", "bob"}
    assert workspace.refusals() == []


# ---------------------------------------------------------------- watching


def test_tail_f_sees_what_another_appends(workspace, writer, tmp_path):
    alice = writer("alice")
    alice.writefile("log.txt", b"first\n")
    seen = tmp_path / "seen"
    argv = ["tail", "-s", "0.1", "-n", "+1", "-f", str(workspace / "log.txt")]
    with open(seen, "wb") as out:
        tail = subprocess.Popen(argv, stdout=out)
    try:
        until(lambda: seen.read_bytes() == b"first\n")
        for i in range(3):
            alice.append("log.txt", b"%d\n" % i)
        until(lambda: seen.read_bytes() == b"first\n0\n1\n2\n", said=seen.read_bytes())
    finally:
        tail.kill()
        tail.wait()


@needs("inotifywait")
def test_inotify_tells_what_goes_through_the_mount(workspace, writer, tmp_path):
    """Local events only: the kernel makes them for every call through the mount."""
    alice = writer("alice")
    alice.writefile("f", b"1\n")
    events = tmp_path / "events"
    argv = ["inotifywait", "-m", "-q", "-r", "--format", "%e %f", str(workspace.path)]
    with open(events, "wb") as out:
        watch = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        def told(word):  # the watch may not stand yet: again until it does
            alice.append("f", b"2\n")
            return word in events.read_bytes()

        until(lambda: told(b"MODIFY f"))
        alice.save_by_rename("f", b"3\n", temporary="t")
        alice.unlink("f")
        until(lambda: b"MOVED_TO f" in events.read_bytes())
        until(lambda: b"DELETE f" in events.read_bytes())
    finally:
        watch.kill()
        watch.wait()


# ---------------------------------------------------------------- trees and names


def test_rm_rf_of_a_tree_in_use_spares_what_is_held(workspace, writer):  # L3, S6
    alice, bob = writer("alice"), writer("bob")
    ok(bob.sh("mkdir -p d/e; for i in 1 2 3 4; do echo $i > d/$i; echo $i > d/e/$i; done"))
    reading = alice.open("d/1")
    fd = alice.open("d/e/held", WRONLY | CREAT)
    alice.write(fd, b"alice's\n")
    code, _, said = bob.sh("rm -rf d")
    assert code != 0 and b"held" in said, said
    assert alice.read(reading) == b"1\n"
    alice.write(fd, b"and more\n")
    alice.close(fd)
    alice.close(reading)
    assert (workspace / "d/e/held").read_bytes() == b"alice's\nand more\n"
    assert os.listdir(workspace / "d") == ["e"]
    assert workspace.refusals("bob")[-1]["path"] == "d/e/held"
    ok(alice.sh("rm -rf d"))
    assert not (workspace / "d").exists()
    assert [v["kind"] for v in log(workspace, "d/e/held")][-1] == "delete"


NAMES = [b"new\nline", b"\xff\xfe\x80", b"tab\t", b" ", b"-n", b"back\\slash", b'"quoted"',
         b"\xc3\xa4", b"%s%n", b"*", b"\x01", b"@3", b"n" * 255]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names_of_any_bytes(workspace, writer, name):
    alice, bob = writer("alice"), writer("bob")
    alice.writefile(name, b"1\n")
    if len(name) < 250:
        alice.save_by_rename(os.fsdecode(name), b"2\n")
    else:
        alice.writefile(name, b"2\n")
    assert os.fsencode(os.listdir(workspace.path)[0]) == name
    assert workspace.version(name, 1) == b"1\n"
    until(lambda: len(log_of_bytes(workspace, name)) >= 2)
    assert workspace.version(name, 2) == b"2\n"
    assert bob.errno("writefile", name, b"3\n") == "ESTALE"
    assert workspace.text("log") and workspace.json("refusals")["refusals"]
    fd = alice.open(name, WRONLY)
    assert workspace.json("leases")["leases"]
    alice.close(fd)
    ok(bob.spawn("stat", "--", os.fsdecode(name)))
    alice.unlink(name)
    assert os.listdir(workspace.path) == []


def log_of_bytes(workspace, name):
    try:
        return workspace.log(name)
    except FileNotFoundError:
        return []


# ---------------------------------------------------------------- large


@pytest.mark.timeout(90)
def test_a_sparse_file_of_four_gigabytes(workspace, writer):  # V6
    alice = writer("alice")
    size = 4 << 30
    began = time.monotonic()
    fd = alice.open("big", RDWR | CREAT)
    alice.ftruncate(fd, size)
    alice.pwrite(fd, b"end", size - 3)
    alice.close(fd)
    until(lambda: len(log(workspace, "big")) == 1, seconds=30)
    took = time.monotonic() - began
    assert took < 15, f"{took:.1f} s until the version was recorded"
    st = os.stat(workspace / "big")
    assert st.st_size == size and st.st_blocks * 512 < 1 << 20
    with open(workspace / "big", "rb") as f:
        f.seek(-4, os.SEEK_END)
        assert f.read() == b"\0end"
    assert log(workspace, "big")[0]["size"] == size
    workspace.ctl("checkpoint")
    assert workspace.json("status")["stored_bytes"] < 4 << 20
    began = time.monotonic()
    alice.truncate("big", 5)
    alice.unlink("big")
    assert time.monotonic() - began < 15


def limited(workspace, descriptors):
    """The daemon of this workspace shall have no more: the hard limit as well."""
    script = workspace.scratch / "stompfs"
    limit = f"ulimit -n {descriptors}"
    script.write_text(f'#!/bin/sh\n{limit}\nexec {workspace.stompfs} "$@"\n')
    script.chmod(0o755)
    kind = type(workspace)
    workspace.__class__ = type("Limited", (kind,), {"stompfs": script})


def many(folder, count):
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    for i in range(count):
        os.close(os.open(f"{i:06}", WRONLY | CREAT, 0o644, dir_fd=fd))
    os.close(fd)


@needs_root
@pytest.mark.timeout(170)
@pytest.mark.parametrize("limit", [None, 1024], ids=["as it is", "1024 descriptors"])
def test_a_hundred_thousand_files_in_one_folder(unmounted, writer, limit):
    count = 100_000
    many(unmounted / "d", count)
    if limit:
        limited(unmounted, limit)
    unmounted.mount()
    assert len(os.listdir(unmounted / "d")) == count
    assert sum(1 for e in os.scandir(unmounted / "d") if e.is_file()) == count
    for i in range(0, count, 20):
        os.stat(unmounted / f"d/{i:06}")
    alice = writer("alice")
    ok(alice.sh("cd d && for i in 0 1 2 3 4; do rm 00${i}*; done", timeout=100))
    make = "import os\nfor i in range(5000): os.close(os.open(f'd/new{i}', 65, 0o644))"
    ok(alice.spawn("/usr/bin/python3", "-c", make, timeout=100))
    assert len(os.listdir(unmounted / "d")) == count - 5000 + 5000
    if limit:
        assert len(os.listdir(f"/proc/{unmounted.daemon.pid}/fd")) <= limit
    assert unmounted.json("status")["health"] == "ok"
    alice.stop()
