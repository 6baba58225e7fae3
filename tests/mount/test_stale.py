"""Stale writers through the kernel: who knows what, and what is refused (S1-S10).

Every test has alice make version 2 of a file whose version 1 bob may have read. TEN is
that version 1; alice's edits are of line 3 and bob's of line 7 unless a test says so.
"""

import errno
import os

import pytest

from stomplib.calls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE

# Long enough that a re-read and the attempt after it fit in, however busy the machine is.
pytestmark = pytest.mark.mount_options("settle=400ms", "wait=300ms")

RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
CREAT, TRUNC = os.O_CREAT, os.O_TRUNC
TEN = b"".join(b"line %d\n" % i for i in range(1, 11))
OTHER = b"nothing\nof the\nkind\n"


def edit(text, *changes):
    """text with lines replaced: edit(TEN, (3, b"x"))."""
    lines = text.splitlines(keepends=True)
    for number, line in changes:
        lines[number - 1] = line + b"\n"
    return b"".join(lines)


ALICES = edit(TEN, (3, b"alice's"))
MERGED = edit(ALICES, (7, b"bob's"))
REVERTING = edit(TEN, (7, b"bob's"))


@pytest.fixture
def pair(workspace, writer):
    """Two writers; f is there with TEN, by alice, its version 1."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    return alice, bob


def identity(workspace, name="f"):
    st = os.stat(workspace / name)
    return st.st_ino, st.st_size, st.st_mtime_ns, (workspace / name).read_bytes()


def make_current(workspace, alice, data=ALICES, name="f"):
    """alice makes the current version, in place; the state of the file after it."""
    alice.writefile(name, data)
    return identity(workspace, name)


def make_stale(workspace, alice, bob, data=ALICES):
    """bob knows version 1, alice has made version 2 since."""
    bob.readfile("f")
    workspace.settle()
    return make_current(workspace, alice, data)


def python(w, script):
    """A new process of the writer that runs a script; its exit status and what it said."""
    return w.spawn("/usr/bin/python3", "-c", script)


# ---------------------------------------------------------------- S1: one attempt


@pytest.mark.mount_options("settle=200ms", "wait=20s")
def test_what_was_read_just_before_a_long_wait_is_not_known_after_it(
    workspace, pair, writer
):  # S1, S2
    """The read belongs to the attempt, which began before the wait and not after it."""
    alice, bob = pair
    make_stale(workspace, alice, bob)
    carol = writer("carol")
    fd = carol.open("f", WRONLY)  # holds it, and changes nothing
    bob.readfile("f")
    save = bob.start("writefile", path="f", data=REVERTING, mode=0o644)
    while workspace.json("status")["waiting"] == 0:
        pass
    workspace.settle()
    carol.close(fd)
    with pytest.raises(OSError) as refused:
        save.result()
    assert refused.value.errno == errno.ESTALE
    assert (workspace / "f").read_bytes() == ALICES


# ---------------------------------------------------------------- S1: what the mind knows


def test_blind_overwrite_is_refused_and_changes_nothing(workspace, pair):  # S2, S6, S7
    alice, bob = pair
    before = identity(workspace)
    assert bob.errno("open", "f", WRONLY | TRUNC) == "ESTALE"
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"
    assert identity(workspace) == before


def test_read_then_settle_is_knowledge(workspace, pair):  # S1, S3
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", OTHER)
    assert (workspace / "f").read_bytes() == OTHER
    assert not workspace.refusals()


def test_read_within_settle_is_no_knowledge(workspace, pair):  # S1, S2, S4
    alice, bob = pair
    before = make_stale(workspace, alice, bob)
    assert bob.readfile("f") == ALICES
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE"
    assert identity(workspace) == before


def test_a_read_that_belonged_to_an_attempt_observes_nothing_later(workspace, pair):  # S1, S8
    alice, bob = pair
    before = make_stale(workspace, alice, bob)
    bob.readfile("f")
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE"
    workspace.settle()
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE", "nothing was read since"
    assert identity(workspace) == before
    bob.readfile("f")
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE", "re-read within the retry"
    assert identity(workspace) == before
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", REVERTING)  # S5
    assert (workspace / "f").read_bytes() == REVERTING


def test_a_read_that_belonged_to_an_accepted_attempt_observes_nothing(workspace, pair):  # S1
    alice, bob = pair
    alice.writefile("g", TEN)
    bob.readfile("f")
    bob.append("f", b"bob's\n")  # an attempt: the read within settle is used up
    alice.readfile("f")
    workspace.settle()
    alice.writefile("f", ALICES)
    workspace.settle()
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE"


def test_stat_and_readdir_observe_nothing(workspace, pair):  # S1
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.stat("f")["size"] == len(ALICES)
    assert "f" in bob.listdir(".")
    assert bob.sh("test -s f && ls -l f && readlink -f f")[0] == 0
    workspace.settle()
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"


@pytest.mark.parametrize("viewer", ["cat f", "head -n 3 f", "sed -n 1,3p f", "tail f"])
def test_a_viewer_shows_it_to_the_mind(workspace, pair, viewer):  # S1
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.sh(viewer + " > /dev/null")[0] == 0
    workspace.settle()
    bob.writefile("f", OTHER)
    assert (workspace / "f").read_bytes() == OTHER


@pytest.mark.parametrize(
    "program", ["wc f", "grep -c line f", "cp f /dev/null", "sed -e s/1/2/ f", "sort f"]
)
def test_what_another_program_reads_the_mind_does_not_know(workspace, pair, program):  # S1
    alice, bob = pair
    before = make_stale(workspace, alice, bob)
    assert bob.sh(program + " > /dev/null")[0] == 0
    workspace.settle()
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"
    assert identity(workspace) == before


def test_what_another_writer_reads_is_its_own(workspace, pair, writer):  # S1, W2
    alice, bob = pair
    make_stale(workspace, alice, bob)
    carol = writer("carol")
    carol.readfile("f")
    workspace.settle()
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"
    assert carol.errno("writefile", "f", OTHER) is None


def test_what_somebody_has_not_finished_is_not_observed(workspace, pair):  # S1
    alice, bob = pair
    bob.readfile("f")
    workspace.settle()
    fd = alice.open("f", WRONLY)
    alice.pwrite(fd, b"LINE", 0)
    assert bob.readfile("f").startswith(b"LINE")
    workspace.settle()
    alice.pwrite(fd, b"more\n", 20)
    alice.close(fd)
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"


def test_own_writes_are_known(workspace, pair):  # S1, S3
    alice, bob = pair
    for i in range(3):
        alice.writefile("f", b"%d\n" % i)
    alice.unlink("f")
    alice.writefile("f", b"again\n")
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", b"bob's\n")
    bob.writefile("f", b"bob's again\n")
    assert not workspace.refusals()


def test_children_of_one_writer_are_one(workspace, pair):  # S1, W2
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.readfile("f")
    workspace.settle()
    assert bob.sh("echo new > f")[0] == 0, "it builds on what its mind has read"
    alice.readfile("f")
    workspace.settle()
    alice.writefile("f", TEN)
    assert bob.sh("echo newer > f")[0] != 0


# ---------------------------------------------------------------- S2, S3: the base


def test_a_process_begun_after_the_version_holds_nothing_older(workspace, pair):  # S2
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.sleep(0.03)  # start times are known to 10 ms
    script = "t = open('f').read(); open('f', 'w').write(t.replace(\"alice's\", 'line 3'))"
    assert python(bob, script)[0] == 0
    assert (workspace / "f").read_bytes() == TEN
    assert not workspace.refusals()


def test_a_process_begun_after_the_version_that_did_not_read_it(workspace, pair):  # S2, S6
    alice, bob = pair
    before = make_stale(workspace, alice, bob)
    code, _, said = bob.sh("echo blind > f")
    assert code != 0 and b"tale" in said
    assert identity(workspace) == before


def test_a_process_begun_before_the_version_may_hold_older_text(workspace, pair):  # S2, S4
    alice, bob = pair
    child = bob.fork()
    bob.child(child, "readfile", path="f")
    workspace.settle()
    before = make_current(workspace, alice)
    bob.child(child, "readfile", path="f")
    with pytest.raises(OSError) as refused:
        bob.child(child, "writefile", path="f", data=REVERTING)
    assert refused.value.errno == errno.ESTALE
    assert identity(workspace) == before


def test_a_program_observes_for_its_own_changes(workspace, pair):  # S1, S2
    alice, bob = pair
    make_stale(workspace, alice, bob)
    child = bob.fork()
    bob.child(child, "readfile", path="f")
    workspace.settle()
    assert bob.errno("writefile", "f", OTHER) == "ESTALE", "not for its parent's"
    bob.child(child, "writefile", path="f", data=OTHER)
    assert (workspace / "f").read_bytes() == OTHER


def test_from_before_the_mount_has_no_author(unmounted, writer):  # S3
    (unmounted / "old").write_bytes(TEN)
    unmounted.mount()
    bob = writer("bob")
    bob.writefile("old", OTHER)
    assert not unmounted.refusals()
    carol = writer("carol")
    assert carol.errno("writefile", "old", TEN) == "ESTALE", "now it has one"


def test_nothing_is_remembered_as_read_after_a_restart(workspace, writer):  # S3, L8
    alice, bob = writer("alice", cwd="/"), writer("bob", cwd="/")
    for w in alice, bob:
        w.call("chdir", path=str(workspace.path))
    alice.writefile("f", TEN)
    bob.readfile("f")
    workspace.settle()
    for w in alice, bob:
        w.call("chdir", path="/")
    workspace.remount()
    for w in alice, bob:
        w.call("chdir", path=str(workspace.path))
    before = identity(workspace)
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"
    assert identity(workspace) == before
    alice.writefile("f", OTHER)  # its own: the author is known
    for w in alice, bob:
        w.call("chdir", path="/")


def test_old_text_after_a_restart_is_not_overlooked(workspace, writer):  # S3, S4, L8
    """The daemon has forgotten what bob read; a re-read makes him no newer."""
    alice, bob = writer("alice", cwd="/"), writer("bob", cwd="/")
    for w in alice, bob:
        w.call("chdir", path=str(workspace.path))
    alice.writefile("f", TEN)
    bob.readfile("f")
    workspace.settle()
    alice.writefile("f", ALICES)
    for w in alice, bob:
        w.call("chdir", path="/")
    workspace.remount()
    for w in alice, bob:
        w.call("chdir", path=str(workspace.path))
    before = identity(workspace)
    bob.readfile("f")
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE"
    assert identity(workspace) == before
    bob.readfile("f")
    bob.writefile("f", MERGED)
    assert (workspace / "f").read_bytes() == MERGED, "an edit is as welcome as ever"
    for w in alice, bob:
        w.call("chdir", path="/")


def test_who_never_read_it_may_edit_what_he_reads_now(workspace, pair):  # S4
    """No base is known, and none needed: the content has all of the others' work."""
    alice, bob = pair
    make_current(workspace, alice)
    assert bob.readfile("f") == ALICES
    bob.writefile("f", MERGED)
    assert (workspace / "f").read_bytes() == MERGED


# ---------------------------------------------------------------- S6, S10: each way in


def through(flags, what, *args):
    """A change through a descriptor opened with flags."""

    def way(w):
        fd = w.open("f", flags)
        try:
            getattr(w, what)(fd, *args)
        finally:
            w.close(fd)

    return way


def copy_into(flags):
    def way(w):
        source = w.open("mine", RDONLY)
        fd = w.open("f", flags)
        try:
            w.copy_range(source, fd, 1 << 16, 0, 0)
        finally:
            w.close(fd)
            w.close(source)

    return way


WAYS = {
    "O_TRUNC": through(WRONLY | TRUNC, "write", OTHER),
    "O_RDWR|O_TRUNC": through(RDWR | TRUNC, "write", OTHER),
    "O_CREAT|O_TRUNC": through(WRONLY | CREAT | TRUNC, "write", OTHER),
    "O_TRUNC alone": through(RDONLY | TRUNC, "fstat"),
    "rewrite without O_TRUNC": through(WRONLY | CREAT, "write", OTHER),
    "in the middle": through(WRONLY, "pwrite", b"X", 12),
    "in the middle, O_RDWR": through(RDWR, "pwrite", b"X", 12),
    "past the end": through(WRONLY, "pwrite", b"X", 4000),
    "ftruncate(0)": through(WRONLY, "ftruncate", 0),
    "ftruncate(n)": through(WRONLY, "ftruncate", 9),
    "ftruncate(n), O_RDWR": through(RDWR, "ftruncate", 9),
    "truncate(n)": lambda w: w.truncate("f", 9),
    "truncate(0)": lambda w: w.truncate("f", 0),
    "truncate(more)": lambda w: w.truncate("f", 9000),
    "punch a hole": through(
        WRONLY, "fallocate", FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, 20
    ),
    "copy_file_range": copy_into(WRONLY | TRUNC),
    "copy_file_range into": copy_into(WRONLY),
    "unlink": lambda w: w.unlink("f"),
    "rename away": lambda w: w.rename("f", "f.bak"),
    "rename onto": lambda w: w.rename("mine", "f"),
    "exchange": lambda w: w.rename("mine", "f", RENAME_EXCHANGE),
    "exchange, the other way": lambda w: w.rename("f", "mine", RENAME_EXCHANGE),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_every_way_in_is_guarded_alike(workspace, pair, way):  # S6, S7, S10, S13
    alice, bob = pair
    bob.writefile("mine", OTHER)
    before = make_current(workspace, alice)
    names = sorted(os.listdir(workspace.path))
    with pytest.raises(OSError) as refused:
        way(bob)
    assert refused.value.errno == errno.ESTALE
    assert identity(workspace) == before
    assert sorted(os.listdir(workspace.path)) == names
    assert (workspace / "mine").read_bytes() == OTHER
    assert workspace.log("f")[-1]["writer"] == "alice"
    # The kernel comes twice after an ESTALE: that is one refusal.
    assert [(r["reason"], r["current_writer"]) for r in workspace.refusals(bob)] == [
        ("stale", "alice")
    ]


def test_every_way_in_is_open_to_who_knows(workspace, pair, way):  # S3, S5
    alice, bob = pair
    bob.writefile("mine", OTHER)
    make_current(workspace, alice)
    bob.readfile("f")
    workspace.settle()
    way(bob)
    assert not workspace.refusals()


def test_appends_need_no_current_base(workspace, pair):  # S9
    alice, bob = pair
    make_current(workspace, alice)
    bob.append("f", b"bob was here\n")
    assert (workspace / "f").read_bytes() == ALICES + b"bob was here\n"
    assert bob.sh("echo so was his shell >> f")[0] == 0
    assert not workspace.refusals()


def test_appending_lets_nobody_else_overwrite(workspace, pair):  # S9, S3
    alice, bob = pair
    bob.append("f", b"bob was here\n")
    before = identity(workspace)
    assert alice.errno("writefile", "f", OTHER) == "ESTALE"
    assert identity(workspace) == before


def test_a_store_through_a_mapping_is_a_change_like_any(workspace, pair):  # S6, S10
    alice, bob = pair
    data = bytes(range(256)) * 48  # three pages
    before = make_current(workspace, alice, data)
    fd = bob.open("f", RDWR)
    m = bob.mmap(fd, len(data))
    bob.errno("store", m, 5000, b"bob's")  # whether it, msync or nothing tells him,
    bob.errno("msync", m)
    bob.munmap(m)
    bob.errno("close", fd)
    assert identity(workspace) == before  # nobody else sees it
    assert workspace.refusals(bob)[-1]["reason"] == "stale"
    bob.readfile("f")
    workspace.settle()
    fd = bob.open("f", RDWR)
    m = bob.mmap(fd, len(data))
    bob.store(m, 5000, b"bob's")
    bob.msync(m)
    assert (workspace / "f").read_bytes()[5000:5005] == b"bob's"
    bob.munmap(m)
    bob.close(fd)


def test_saving_by_backup_is_a_change_of_the_path(workspace, pair):  # S10
    alice, bob = pair
    before = make_current(workspace, alice)
    code, _, said = bob.sh("mv f f~ && echo mine > f")
    assert code != 0 and b"tale" in said
    assert identity(workspace) == before
    assert sorted(os.listdir(workspace.path)) == ["f"]
    assert alice.sh("mv f f~ && echo mine > f")[0] == 0
    rows = workspace.log("f")
    assert [r["number"] for r in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["writer"] == "alice" and (workspace / "f").read_bytes() == b"mine\n"
    assert bob.errno("writefile", "f", OTHER) == "ESTALE", "the history goes on"


def test_refusing_the_unlink_keeps_the_file(workspace, pair):  # S10
    alice, bob = pair
    bob.writefile("mine", OTHER)
    before = make_current(workspace, alice)
    assert bob.sh("install mine f")[0] != 0
    assert bob.sh("tar cf - mine --transform s/mine/f/ | tar xf - --unlink-first")[0] != 0
    assert identity(workspace) == before


def test_rename_onto_carries_the_test_with_it(workspace, pair):  # S4, S10
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.save_by_rename("f", MERGED)
    assert (workspace / "f").read_bytes() == MERGED
    assert workspace.log("f")[-1]["writer"] == "bob"


def test_a_tree_cannot_be_removed_over_anothers_change(workspace, writer):  # S6, S10
    alice, bob = writer("alice"), writer("bob")
    bob.mkdir("d")
    bob.writefile("d/f", TEN)
    alice.readfile("d/f")
    workspace.settle()
    alice.writefile("d/f", ALICES)
    assert bob.sh("rm -rf d")[0] != 0
    assert (workspace / "d/f").read_bytes() == ALICES


def test_git_checkout_does_not_take_anothers_work_away(workspace, writer):  # S10
    alice, bob = writer("alice"), writer("bob")
    setup = (
        "git init -q . && git config user.email a@b && git config user.name n && "
        "git add f && git commit -qm one"
    )
    bob.writefile("f", TEN)
    code, _, said = bob.sh(setup)
    assert code == 0, said
    alice.readfile("f")
    workspace.settle()
    before = make_current(workspace, alice)
    bob.sh("git checkout -q -- f; git stash -q; git reset -q --hard")
    assert identity(workspace) == before


# ---------------------------------------------------------------- S4: tools as writers


PYTHON_EDIT = "t = open('f').read(); open('f', 'w').write(t.replace('7', 'seven'))"


@pytest.mark.parametrize(
    "tool",
    [
        "sed -i s/7/seven/ f",
        "perl -pi -e s/7/seven/ f",
        f'/usr/bin/python3 -c "{PYTHON_EDIT}"',
        "printf '%s\\n' ',s/7/seven/' w q | ed -s f",
    ],
)
def test_a_tool_that_reads_and_writes_at_once_is_fresh(workspace, pair, tool):  # S2
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.sleep(0.03)
    code, _, said = bob.sh(tool)
    assert code == 0, said
    assert (workspace / "f").read_bytes() == ALICES.replace(b"7", b"seven")
    assert not workspace.refusals()


@pytest.mark.parametrize(
    "tool",
    [
        "cp {old} f",
        "cat {old} > f",
        "tee f < {old}",
        "mv -f {old} f",
        "rsync {old} f",
        "rsync --inplace {old} f",
        "dd if={old} of=f status=none",
        "install {old} f",
        "tar -C / -cPf - {old} --transform 's,.*,f,' | tar xf -",
    ],
)
def test_a_tool_that_brings_old_content_is_refused(workspace, pair, tmp_path, tool):  # S4, S6
    alice, bob = pair
    old = tmp_path / "old"
    old.write_bytes(REVERTING)
    before = make_stale(workspace, alice, bob)
    done = bob.sh(tool.format(old=old))
    assert done[0] != 0, done
    assert identity(workspace) == before
    assert workspace.refusals(bob)
