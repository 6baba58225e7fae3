"""How a refusal is told, recorded and answered (S7, S8, S11-S14)."""

import errno
import json
import os
import re
import time

import pytest

from stomplib.calls import FALLOC_KEEP_SIZE, RENAME_EXCHANGE

pytestmark = pytest.mark.mount_options("settle=500ms", "wait=0s")

RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
CREAT, EXCL, TRUNC, APPEND = os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND
NONBLOCK = os.O_NONBLOCK
TEN = b"".join(b"line %d\n" % i for i in range(1, 11))
ALICES = TEN.replace(b"line 3\n", b"alice's\n")
REVERTING = TEN.replace(b"line 7\n", b"bob's\n")
OTHER = b"nothing\nof the\nkind\n"
LONG_AGO_NS = 1_000_000_000 * 10**9


@pytest.fixture
def pair(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.mkdir("src")
    alice.writefile("src/f", TEN)
    alice.writefile("f", TEN)
    bob.writefile("mine", OTHER)
    return alice, bob


def make_stale(workspace, alice, bob, name="f"):
    bob.readfile(name)
    workspace.settle()
    alice.writefile(name, ALICES)


def hold(alice, name="f"):
    fd = alice.open(name, WRONLY)
    alice.write(fd, b"line")
    return fd


# ---------------------------------------------------------------- S11: the words


STALE_TEXT = (
    r"src/f: not written\. alice changed it \d+ m?s ago \(version 2, line 3\); "
    r"you last read version 1\. Read the file again, then redo your change\."
    r".* \(refusal (\d+), ESTALE\)"
)


def test_a_stale_write_is_explained_in_one_sentence(workspace, pair):  # S11
    alice, bob = pair
    make_stale(workspace, alice, bob, "src/f")
    bob.readfile("src/f")
    assert bob.errno("writefile", "src/f", REVERTING) == "ESTALE"
    text = bob.readfile(".stomp/why").decode()
    found = re.search(STALE_TEXT, text)
    assert found, text
    refusal = workspace.why(bob)[0]
    assert refusal["id"] == int(found[1])
    assert f".stomp/conflicts/{refusal['id']}/theirs" in refusal["text"]
    for line in ("-alice's", "+line 3"):
        assert line in text, "the lines at stake"


def test_a_stale_change_without_content_is_explained_too(workspace, pair):  # S11
    alice, bob = pair
    make_stale(workspace, alice, bob)
    for what, args, done in (
        ("unlink", ("f",), "removed"),
        ("rename", ("f", "g"), "renamed"),
        ("truncate", ("f", 3), "truncated"),
        ("open", ("f", WRONLY | TRUNC), "written"),
    ):
        assert bob.errno(what, *args) == "ESTALE"
        text = workspace.why(bob)[0]["text"]
        assert text.startswith(f"f: not {done}. alice changed it "), text
        assert "version 2" in text and "you last read version 1" in text
        assert "Read the file again" in text and "ESTALE" in text


def test_who_never_read_it_is_told_so(workspace, pair):  # S11
    alice, bob = pair
    alice.writefile("f", ALICES)
    assert bob.errno("writefile", "f", OTHER) == "ESTALE"
    assert "you have not read that version" in workspace.why(bob)[0]["text"]


def test_who_is_kept_out_is_told_by_whom_and_what_to_do(workspace, pair):  # S11, L3
    alice, bob = pair
    hold(alice)
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"
    refusal = workspace.why(bob)[0]
    assert re.match(
        r"f: not written\. alice is changing it \(lease epoch \d+, for at most \d+ m?s more "
        r"unless it goes on writing\)\. Try again",
        refusal["text"],
    ), refusal["text"]
    assert refusal["text"].endswith(f"(refusal {refusal['id']}, EAGAIN)")
    assert refusal["epoch"] == workspace.leases("f")[0]["epoch"]
    fd = bob.open("f", RDWR)
    assert bob.errno("write", fd, b"x") == "ESTALE"
    assert "open it again" in workspace.why(bob)[0]["text"], "a handle is of no use any more"


def test_the_record_tells_what_a_program_needs(workspace, pair):  # S11
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.readfile("f")
    assert bob.errno("save_by_rename", "f", REVERTING) == "ESTALE"
    refusal = workspace.refusals(bob)[-1]
    assert refusal == workspace.why(bob)[0]
    assert refusal["path"] == "f"
    assert (refusal["asked"], refusal["reason"], refusal["errno"]) == (
        "replace",
        "stale",
        "ESTALE",
    )
    assert (refusal["writer"], refusal["pid"]) == ("bob", bob.pid)
    assert (refusal["base"], refusal["current"], refusal["current_writer"]) == (1, 2, "alice")
    assert refusal["hunks"] == "lines 3-3" and refusal["kept"]
    theirs = workspace / f".stomp/conflicts/{refusal['id']}/theirs"
    assert theirs.read_bytes() == REVERTING
    assert refusal["text"] in workspace.text(f"conflicts/{refusal['id']}/info")
    code, out, _ = bob.spawn(str(workspace.stomp), "why")
    assert code == 0 and refusal["text"].splitlines()[0] in out.decode()


def test_everybody_reads_his_own(workspace, pair, writer):  # S11
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.errno("unlink", "f") == "ESTALE"
    assert workspace.why(bob) and not workspace.why(alice)
    assert bob.sh("cat .stomp/why")[1].startswith(b"f: not removed"), "also his children"
    assert not workspace.why(writer("carol"))


def test_what_was_refused_outlives_the_daemon(unmounted, writer):  # S11, V9
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    make_stale(unmounted, alice, bob)
    bob.readfile("f")
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE"
    refusal = unmounted.why(bob)[0]
    alice.stop(), bob.stop()
    unmounted.kill_daemon()
    unmounted.mount()
    theirs = unmounted / f".stomp/conflicts/{refusal['id']}/theirs"
    assert theirs.read_bytes() == REVERTING
    assert unmounted.refusals("bob")[-1]["text"] == refusal["text"]
    carol = writer("carol")
    assert carol.errno("unlink", "f") == "ESTALE"
    assert unmounted.why(carol)[0]["id"] > refusal["id"], "no number comes twice"
    carol.stop()


# ---------------------------------------------------------------- S11: one or two


ATTEMPTS = {
    "open": lambda w: w.open("f", WRONLY | TRUNC),
    "unlink": lambda w: w.unlink("f"),
    "rename": lambda w: w.rename("f", "g"),
    "rename onto": lambda w: w.rename("mine", "f"),
    "truncate": lambda w: w.truncate("f", 3),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_each_attempt_is_one_refusal(workspace, pair, attempt):  # S11
    """The kernel comes twice after an ESTALE; whoever tries three times is refused three
    times, in whatever thread or process."""
    alice, bob = pair
    make_stale(workspace, alice, bob)
    for n in range(1, 4):
        with pytest.raises(OSError) as refused:
            attempt(bob)
        assert refused.value.errno == errno.ESTALE
        assert len(workspace.refusals(bob)) == n
    ids = [r["id"] for r in workspace.refusals(bob)]
    assert ids == sorted(set(ids))


def test_the_loser_of_each_retry_is_judged_as_the_first(workspace, pair):  # S8
    alice, bob = pair
    make_stale(workspace, alice, bob)
    for _ in range(5):
        bob.readfile("f")
        assert bob.errno("writefile", "f", REVERTING) == "ESTALE"
        assert bob.errno("save_by_rename", "f", REVERTING) == "ESTALE"
        assert bob.errno("truncate", "f", 5) == "ESTALE"
    workspace.settle()
    assert bob.errno("writefile", "f", REVERTING) == "ESTALE", "time alone clears nothing"
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", REVERTING)
    assert (workspace / "f").read_bytes() == REVERTING


# ---------------------------------------------------------------- errnos, S13, S14


def through(flags, what, *args):
    def way(w):
        fd = w.open("f", flags)
        try:
            getattr(w, what)(fd, *args)
        finally:
            w.close(fd)

    return way


def copy_into(w):
    source, fd = w.open("mine"), w.open("f", RDWR)
    try:
        w.copy_range(source, fd, 4, 0, 20)
    finally:
        w.close(fd)
        w.close(source)


# What each operation answers to a writer that is kept out, and to a stale one.
ERRNOS = {
    "open O_WRONLY": (lambda w: w.close(w.open("f", WRONLY)), "EAGAIN", None),
    "open O_TRUNC": (lambda w: w.open("f", WRONLY | TRUNC), "EAGAIN", "ESTALE"),
    "open O_APPEND": (lambda w: w.close(w.open("f", WRONLY | APPEND)), "EAGAIN", None),
    "open O_NONBLOCK": (lambda w: w.close(w.open("f", WRONLY | NONBLOCK)), "EAGAIN", None),
    "unlink": (lambda w: w.unlink("f"), "EAGAIN", "ESTALE"),
    "rename": (lambda w: w.rename("f", "g"), "EAGAIN", "ESTALE"),
    "rename into a folder": (lambda w: w.rename("f", "src/g"), "EAGAIN", "ESTALE"),
    "rename onto": (lambda w: w.rename("mine", "f"), "EAGAIN", "ESTALE"),
    "exchange": (lambda w: w.rename("mine", "f", RENAME_EXCHANGE), "EAGAIN", "ESTALE"),
    "truncate": (lambda w: w.truncate("f", 3), "EAGAIN", "ESTALE"),
    "write": (through(RDWR, "pwrite", b"x", 20), "ESTALE", "ESTALE"),
    "write O_NONBLOCK": (through(RDWR | NONBLOCK, "pwrite", b"x", 20), "ESTALE", "ESTALE"),
    "append": (through(RDWR | APPEND, "write", b"x"), "ESTALE", None),
    "ftruncate": (through(RDWR, "ftruncate", 3), "ESTALE", "ESTALE"),
    "fallocate": (
        through(RDWR, "fallocate", FALLOC_KEEP_SIZE, 0, 1 << 16),
        "ESTALE",
        "ESTALE",
    ),
    "copy_file_range": (copy_into, "ESTALE", "ESTALE"),
}


def outcome(way, w):
    try:
        way(w)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


@pytest.mark.parametrize("name", ERRNOS)
def test_what_each_operation_answers(workspace, pair, name):  # S13, L1, S6
    way, held, stale = ERRNOS[name]
    alice, bob = pair
    bob.readfile("f")
    workspace.settle()
    fd = hold(alice)
    assert outcome(way, bob) == held
    alice.pwrite(fd, ALICES, 0)
    alice.close(fd)
    assert outcome(way, bob) == stale


@pytest.mark.mount_options("refusal=EBUSY")
@pytest.mark.parametrize("name", ERRNOS)
def test_ebusy_for_both_where_so_configured(workspace, pair, name):  # S14
    way, held, stale = ERRNOS[name]
    alice, bob = pair
    bob.readfile("f")
    workspace.settle()
    fd = hold(alice)
    assert outcome(way, bob) == "EBUSY"
    assert workspace.why(bob)[0]["errno"] == "EBUSY"
    assert "EBUSY)" in workspace.why(bob)[0]["text"]
    alice.pwrite(fd, ALICES, 0)
    alice.close(fd)
    before = len(workspace.refusals(bob))
    assert outcome(way, bob) == (stale and "EBUSY")
    assert len(workspace.refusals(bob)) == before + bool(stale)


@pytest.mark.mount_options("refusal=EBUSY", "ttl=200ms")
def test_ebusy_through_a_fenced_handle(workspace, pair):  # S14, L5
    alice, bob = pair
    fd = hold(alice)
    time.sleep(0.3)
    bob.append("f", b"bob's")
    assert alice.errno("write", fd, b"late") == "EBUSY"


def test_a_name_that_is_held_answers_eagain_to_a_create(workspace, pair):  # L9, S13
    alice, bob = pair
    workspace.ctl("lease acquire ttl=5m new", alice)
    for flags in (WRONLY | CREAT, WRONLY | CREAT | EXCL, RDWR | CREAT | TRUNC):
        assert bob.errno("open", "new", flags) == "EAGAIN"
        assert not (workspace / "new").exists()
    assert bob.errno("rename", "mine", "new") == "EAGAIN"
    for what, *args in (("link", "mine"), ("symlink", "mine"), ("mkdir",)):
        assert bob.errno(what, *args, "new") == "EAGAIN", what
        assert not (workspace / "new").exists()


def test_reading_never_knows_a_refusal(workspace, pair):  # S13
    alice, bob = pair
    fd = hold(alice)
    theirs = bob.open("f", RDONLY | NONBLOCK)
    for n in range(50):
        alice.pwrite(fd, b"%4d" % n, 0)
        assert bob.pread(theirs, 1 << 16, 0)[:4] == b"%4d" % n
    both = bob.open("f", RDWR | NONBLOCK)
    assert bob.errno("write", both, b"x") == "ESTALE"
    assert bob.pread(both, 4, 0) == b"  49"
    assert bob.errno("close", both) is None


def test_existing_and_crossing_stand_for_themselves(workspace, pair):  # S13
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.errno("open", "f", WRONLY | CREAT | EXCL) == "EEXIST"
    assert bob.errno("link", "mine", "f") == "EEXIST"
    assert bob.errno("rename", "mine", "f", 1) == "EEXIST"
    assert bob.errno("rename", "f", "../outside") == "EXDEV"
    assert not workspace.refusals(), "none of them is a refusal"


# ---------------------------------------------------------------- S12: mtime


def test_mtime_only_grows_whatever_tools_set(workspace, pair, tmp_path):  # S12
    alice, bob = pair
    old = tmp_path / "old"
    mtimes = []

    def step(script, n=[0]):
        n[0] += 1
        old.write_bytes(TEN + b"%d\n" % n[0])
        os.utime(old, ns=(LONG_AGO_NS, LONG_AGO_NS))
        before = len(workspace.log("f"))
        code, _, said = alice.sh(script.format(old=old))
        assert code == 0, said
        assert len(workspace.log("f")) > before, f"{script}: no version"
        mtimes.append((workspace / "f").stat().st_mtime_ns)
        assert mtimes == sorted(set(mtimes)), script

    for script in (
        "echo 1 >> f",
        "cp -p {old} f",
        "echo 2 >> f; touch -d '2001-01-01' f",
        "rsync -a {old} f",
        "rsync -a --inplace {old} f",
        "cp -p {old} g && mv g f",
        "tar -C / -cPf - {old} --transform 's,.*,f,' | tar xf -",
        "install -p {old} f",
        "cp -a {old} h && touch -d '2001-01-01' h && mv h f",
        "echo 3 > f; touch -d '2001-01-01' f; touch -r {old} f",
        "perl -e 'open F, q(>>f); print F 4; close F; utime 9, 9, q(f)'",
    ):
        step(script)
    recorded = [
        os.stat(workspace / f".stomp/history/f/{r['number']}").st_mtime_ns
        for r in workspace.log("f")
        if r["path"] == "f" and r["kind"] in ("write", "replace")
    ]
    assert len(recorded) > len(mtimes)
    assert recorded == sorted(set(recorded))


def test_a_touch_back_stays_above_the_version_before(workspace, pair):  # S12
    alice, bob = pair
    first = (workspace / "f").stat().st_mtime_ns
    alice.writefile("f", ALICES)
    for times in ([LONG_AGO_NS] * 2, [first] * 2):
        alice.utime("f", times)
        assert (workspace / "f").stat().st_mtime_ns > first
    alice.chmod("f", 0o600)
    alice.utime("f", [LONG_AGO_NS] * 2)
    assert (workspace / "f").stat().st_mtime_ns > first


def test_a_file_of_one_version_keeps_the_mtime_it_was_given(workspace, pair):  # S12
    """cp -p, tar x and git of a new file: nothing came before it."""
    alice, bob = pair
    alice.writefile("new", TEN)
    alice.utime("new", [LONG_AGO_NS] * 2)
    assert (workspace / "new").stat().st_mtime_ns == LONG_AGO_NS


def test_a_new_mode_is_no_new_content(workspace, pair):  # S12
    """chmod and touch -d of a file that has had one content only; after a restart too."""
    alice, bob = pair
    alice.writefile("new", TEN)
    alice.chmod("new", 0o600)
    alice.chmod("new", 0o644)
    alice.utime("new", [LONG_AGO_NS] * 2)
    assert (workspace / "new").stat().st_mtime_ns == LONG_AGO_NS
    alice.stop()
    bob.stop()
    workspace.remount()
    os.utime(workspace / "new", ns=(5, LONG_AGO_NS - 9))
    assert (workspace / "new").stat().st_mtime_ns == LONG_AGO_NS - 9


# ---------------------------------------------------------------- S7: when it is told


def test_close_is_the_last_resort_and_tells(workspace, pair):  # S7, S11
    """The old first line decides nothing: alice's may follow."""
    alice, bob = pair
    make_stale(workspace, alice, bob)
    before = os.stat(workspace / "f")
    bob.readfile("f")
    fd = bob.open("f", WRONLY | TRUNC)
    bob.write(fd, b"line 1\nline 2\nline 3\n")
    assert not workspace.refusals(bob)
    assert bob.errno("close", fd) == "ESTALE"
    after = os.stat(workspace / "f")
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (
        before.st_ino,
        before.st_size,
        before.st_mtime_ns,
    )
    (refusal,) = workspace.refusals(bob)
    assert refusal["asked"] == "close" and refusal["kept"]


def test_fsync_tells_before_close_does(workspace, pair):  # S7
    alice, bob = pair
    make_stale(workspace, alice, bob)
    bob.readfile("f")
    fd = bob.open("f", WRONLY | TRUNC)
    bob.write(fd, b"line 1\nline 2\nline 3\n")
    assert bob.errno("fsync", fd) == "ESTALE"
    assert len(workspace.refusals(bob)) == 1
    assert bob.errno("close", fd) is None, "told once"
    assert len(workspace.refusals(bob)) == 1


@pytest.mark.parametrize(
    "script",
    [
        "printf 'line 1\\n' > f",
        "exec 3> f; exec 4>&3; exec 3>&-; printf 'line 1\\n' >&4",
        "(printf 'line 1\\n'; printf 'line 2\\n') > f",
    ],
)
def test_a_shells_redirection_is_judged_by_its_data(workspace, pair, script):  # S6, S7
    """A new shell that has not read f: refused at the open, not at an empty flush."""
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.sh(script)[0] != 0
    assert (workspace / "f").read_bytes() == ALICES
    assert [r["asked"] for r in workspace.refusals(bob)] == ["open"]


def test_a_duplicate_closed_before_the_data_is_no_verdict(workspace, pair):  # S7
    alice, bob = pair
    make_stale(workspace, alice, bob)
    script = (
        "import os, sys\n"
        "fd = os.open('f', os.O_RDONLY); text = os.read(fd, 9999); os.close(fd)\n"
        "fd = os.open('f', os.O_WRONLY | os.O_TRUNC)\n"
        "os.dup2(fd, 9); os.close(fd)\n"
        "os.write(9, text.replace(b'line 7', b'bob')); os.close(9)\n"
    )
    code, _, said = bob.spawn("/usr/bin/python3", "-c", script)
    assert code == 0, said
    assert (workspace / "f").read_bytes() == ALICES.replace(b"line 7", b"bob")
    assert not workspace.refusals()


def test_refusals_are_json_a_program_can_read(workspace, pair):  # S11, D
    alice, bob = pair
    make_stale(workspace, alice, bob)
    assert bob.errno("unlink", "f") == "ESTALE"
    code, out, _ = bob.spawn(str(workspace.stomp), "why", "--json")
    assert code == 0
    assert json.loads(out)["refusals"][0]["id"] == workspace.refusals(bob)[0]["id"]
