"""The kernel reads the backing by itself (fs/passthrough.h); what is promised holds the same.

Each fast path is proven taken by the counters in .stomp/metrics, beside the rule that it
might break. Where kernel or privilege lack it, the tests of the counters are skipped and
`-o no_passthrough` is what everybody has.
"""

import os
import sqlite3
import sys

import pytest

RDONLY, WRONLY, RDWR, APPEND = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_APPEND
PAGE = 4096
OLD = b"o" * (260 * PAGE)  # what is smaller is read through the page cache

pytestmark = pytest.mark.mount_options("ttl=400ms", "wait=0s", "settle=1ms")


def figure(workspace, name):
    for line in workspace.text("metrics").splitlines():
        if line.startswith(f"stompfs_{name} "):
            return int(line.split()[1])
    raise KeyError(name)


def passed(workspace):
    return figure(workspace, "passthrough_opens_total")


@pytest.fixture
def passing(workspace, writer):
    """A workspace with OLD in f, where passthrough works."""
    writer("maker").writefile("f", OLD)
    before = passed(workspace)
    for _ in range(20):  # the maker's release may still be on its way
        workspace.run("cat", "f")
        if passed(workspace) > before:
            break
    else:
        pytest.skip("this kernel, or its privileges, know no passthrough")
    return workspace


@pytest.fixture(params=["passthrough", "no_passthrough"])
def either(request, unmounted):
    if request.param == "no_passthrough":
        unmounted.options.append(request.param)
    unmounted.mount()
    return unmounted


def test_reads_do_not_reach_the_daemon(passing, writer):
    bob = writer("bob")
    before = figure(passing, "read_bytes_total"), passed(passing)
    fd = bob.open("f")
    assert bob.pread(fd, 1 << 21, 0) == OLD
    m = bob.mmap(fd, len(OLD), write=False)
    assert bob.load(m, PAGE, 4) == b"oooo"
    assert passed(passing) == before[1] + 1
    assert figure(passing, "read_bytes_total") == before[0]


def test_without_it_reads_are_kept_in_the_page_cache(unmounted, writer):
    unmounted.options.append("no_passthrough")
    unmounted.mount()
    writer("alice").writefile("f", OLD)
    bob = writer("bob")
    assert bob.readfile("f") == OLD
    before = figure(unmounted, "read_bytes_total")
    assert bob.readfile("f") == OLD
    assert figure(unmounted, "read_bytes_total") == before
    assert passed(unmounted) == 0


def test_small_files_are_read_through_the_cache(passing, writer):
    writer("alice").writefile("small", b"4711\n")
    before = passed(passing)
    assert writer("bob").readfile("small") == b"4711\n"
    assert passed(passing) == before


def test_a_database_is_read_through_the_cache(passing, writer):
    """Its readers lock what they only read, and locks do not reach a twin."""
    db = sqlite3.connect(passing / "db")
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (zeroblob(2000000))")
    db.commit()
    db.close()
    before = passed(passing)
    assert writer("bob").readfile("db")[:15] == b"SQLite format 3"
    assert passed(passing) == before


def test_a_reader_sees_an_intercepted_write_at_once(either, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", OLD)
    fd = bob.open("f")
    m = bob.mmap(fd, len(OLD), write=False)
    assert bob.load(m, 0, 3) == b"ooo"
    writing = alice.open("f", WRONLY)
    for i in range(20):
        word = b"%05d" % i
        alice.pwrite(writing, word, i * 100)
        assert bob.pread(fd, 5, i * 100) == word
        assert bob.load(m, i * 100, 5) == word
    alice.pwrite(writing, b"longer", len(OLD) + PAGE)
    assert bob.fstat(fd)["size"] == len(OLD) + PAGE + 6
    assert bob.pread(fd, 6, len(OLD) + PAGE) == b"longer"


def test_who_can_map_and_write_beside_a_reader(either, writer):  # L6
    """He cannot share the readers' mode; he gets an inode of his own, nobody notices."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", OLD)
    fd = bob.open("f")
    m = bob.mmap(fd, len(OLD), write=False)
    assert bob.load(m, 0, 3) == b"ooo"
    both = alice.open("f", RDWR)
    theirs = alice.mmap(both, len(OLD))
    alice.store(theirs, 10, b"stored")
    alice.msync(theirs)
    alice.pwrite(both, b"written", 100)
    assert bob.pread(fd, 6, 10) == bob.load(m, 10, 6) == b"stored"
    assert bob.pread(fd, 7, 100) == bob.load(m, 100, 7) == b"written"
    assert alice.load(theirs, 100, 7) == b"written"
    assert bob.fstat(fd)["ino"] == alice.fstat(both)["ino"] == bob.stat("f")["ino"]
    alice.munmap(theirs)
    alice.close(both)
    (newest,) = either.log("f")[-1:]
    assert newest["writer"] == "alice"
    assert either.version("f", newest["number"])[:16] == b"o" * 10 + b"stored"


def test_twins_are_made_only_where_they_are_needed(passing, writer):
    alice, bob = writer("alice"), writer("bob")
    reading = bob.open("f")
    alice.open("f", WRONLY)
    assert figure(passing, "twins_total") == 0, "who cannot read it cannot map it"
    alice.open("f", RDWR)
    assert figure(passing, "twins_total") == 1
    bob.close(reading)
    before = passed(passing)
    assert bob.readfile("f") == OLD
    assert passed(passing) == before, "nobody gets in the way of such a writer twice"
    alice.open("f", RDWR)
    assert figure(passing, "twins_total") == 1


def test_a_stale_write_beside_passing_readers_is_refused(either, writer):  # S6, S7
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", OLD)
    assert bob.readfile("f") == OLD
    either.settle()
    keeps = bob.open("f")
    alice.writefile("f", b"new" + OLD[3:])
    either.text("log")  # her release is handled
    assert bob.errno("open", path="f", flags=RDWR | os.O_TRUNC) == "ESTALE"
    assert bob.errno("open", path="f", flags=WRONLY | os.O_TRUNC) == "ESTALE"
    fd = bob.open("f", WRONLY | APPEND)
    bob.close(fd)
    assert bob.errno("truncate", path="f", size=1) == "ESTALE"
    assert bob.pread(keeps, 3, 0) == b"new"
    assert (either / "f").read_bytes() == b"new" + OLD[3:]


def test_fencing_with_a_passing_open(either, writer):  # L5
    """A descriptor that writes beside passing readers is fenced as any other."""
    alice, bob, carol = writer("alice"), writer("bob"), writer("carol")
    alice.writefile("f", OLD)
    reading = carol.open("f")
    assert carol.pread(reading, 3, 0) == b"ooo"
    fd = alice.open("f", WRONLY)
    alice.pwrite(fd, b"alice", 0)
    either.settle(900)  # her lease lapses
    bob.call("peek", path="f")
    either.settle()
    theirs = bob.open("f", WRONLY)
    bob.pwrite(theirs, b"bob..", 0)
    assert alice.errno("pwrite", fd, b"late", 0) == "ESTALE"
    assert carol.pread(reading, 5, 0) == b"bob.."
    hers = [v for v in either.log("f") if v["writer"] == "alice"][-1]
    assert "incomplete" in hers["flags"]
    assert either.version("f", hers["number"])[:5] == b"alice"


def test_attributes_are_exact_after_the_daemons_own_change(passing, writer):
    alice, bob = writer("alice"), writer("bob")
    reading = bob.open("f")
    assert bob.fstat(reading)["size"] == len(OLD)
    alice.call("peek", path="f")
    passing.settle()
    alice.writefile("f", b"short, but more than nothing\n" * 40)
    passing.run(passing.stomp, "rollback", "f@1")
    assert bob.fstat(reading)["size"] == len(OLD)
    assert bob.pread(reading, 1 << 21, 0) == OLD
    assert bob.readfile("f") == OLD
    assert bob.stat("f")["size"] == len(OLD)


def test_pass_files_are_written_by_the_kernel_alone(passing, writer):
    passing.run("mkdir", "node_modules")
    alice = writer("alice")
    before = figure(passing, "writes_total")
    alice.writefile("node_modules/x.js", OLD)
    fd = alice.open("node_modules/x.js", RDWR)
    m = alice.mmap(fd, len(OLD))
    alice.store(m, 0, b"mapped")
    alice.pwrite(fd, b"written", 2 * len(OLD))
    assert figure(passing, "writes_total") == before
    assert passing.backing("node_modules/x.js").read_bytes()[:6] == b"mapped"
    assert alice.fstat(fd)["size"] == 2 * len(OLD) + 7
    alice.ftruncate(fd, 5)
    assert passing.backing("node_modules/x.js").read_bytes() == b"mappe"
    assert not (passing / ".stomp/history/node_modules/x.js").exists()


def test_an_unlinked_file_is_read_through_its_descriptor(passing, writer):
    """The daemon opened none of its own for it."""
    alice = writer("alice")
    alice.writefile("gone", OLD)
    passing.text("log")  # the release is handled
    before = passed(passing)
    fd = alice.open("gone")
    assert passed(passing) == before + 1
    alice.unlink("gone")
    assert alice.pread(fd, 3, 0) == b"ooo"
    assert alice.fstat(fd)["nlink"] == 0
    alice.close(fd)


HURRY = """
import os, sys, threading
names, count, modes = sys.argv[1].split(","), int(sys.argv[2]), sys.argv[3:]
failed = []
def work(flags, start):
    start.wait()
    for name in names:
        for _ in range(count):
            try:
                os.close(os.open(name, flags, 0o644))
            except OSError as error:
                failed.append((flags, str(error)))
start = threading.Barrier(len(modes))
threads = [threading.Thread(target=work, args=(int(m), start)) for m in modes]
[t.start() for t in threads]
[t.join() for t in threads]
sys.exit(repr(failed[:5]) if failed else 0)
"""


def hurry(workspace, names, count, *modes):
    workspace.run_as(
        "hurried", sys.executable, "-c", HURRY, ",".join(names), str(count),
        *map(str, modes), timeout=60,
    )  # fmt: skip


def test_opens_that_overtake_each_other_fit_together(passing):
    """Answers to two opens reach the kernel in any order; no mode may then be wrong (EIO)."""
    writing = WRONLY | os.O_CREAT | APPEND
    hurry(passing, ["f"], 6000, RDONLY, writing, RDONLY, writing)
    assert figure(passing, "twins_total") == 0


def test_way_is_made_for_who_maps_and_nobody_is_told(passing, writer):
    """Each file gets a twin while others open it: none of them may hear of that (ESTALE)."""
    maker = writer("another")
    names = [f"many{i}" for i in range(12)]
    for name in names:
        maker.writefile(name, OLD)
    hurry(passing, names, 60, RDONLY, RDWR, RDONLY, RDONLY)
    assert figure(passing, "twins_total") > 0
