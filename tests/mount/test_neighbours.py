"""Users who share a workspace and mean harm, or are merely broken: nobody reads what he may
not, takes what is another's, or stops the rest. POSIX ACLs; D, L9, S11, W1."""

import errno
import json
import os
import shutil
import stat
import subprocess
import time

import pytest

from stomplib.calls import in_child, needs_root
from stomplib.writer import AGENT, PYTHON, Writer

ALICE, BOB, TEAM = 12001, 12002, 12100

pytestmark = [needs_root, pytest.mark.mount_options("allow_other", "settle=20ms", "wait=100ms")]
needs_acl = pytest.mark.skipif(not shutil.which("setfacl"), reason="no setfacl here")


@pytest.fixture
def shared(workspace):
    """A workspace whose folder everybody may write to."""
    os.chmod(workspace.path, 0o1777)
    return workspace


@pytest.fixture
def open_tree(tree):
    os.chmod(tree, 0o1777)
    return tree


def acl(path, *entries, default=False):
    words = ["setfacl"] + (["-d"] if default else [])
    for entry in entries:
        words += ["-m", entry]
    done = subprocess.run(words + [path], capture_output=True, text=True)
    if "not supported" in done.stderr:
        pytest.skip("the backing has no ACLs")
    assert done.returncode == 0, done.stderr


def getfacl(path):
    done = subprocess.run(
        ["getfacl", "-cpn", path], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def put(path, data, uid, mode=0o600):
    path.write_bytes(data)
    os.chown(path, uid, uid)
    os.chmod(path, mode)


def read(name):
    def run():
        with open(name, "rb") as f:
            return f.read()

    return run


def wait_until(true, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def opens(name, flags):
    return lambda: os.close(os.open(name, flags))


# ---------------------------------------------------------------- ACLs, as natively


@needs_acl
def test_an_acl_lets_in_whom_it_names_and_nobody_else(open_tree):
    f = open_tree / "f"
    put(f, b"for bob", 0)
    acl(f, f"u:{BOB}:r")
    assert in_child(open_tree, read("f"), uid=BOB) == b"for bob"
    assert in_child(open_tree, opens("f", os.O_WRONLY), uid=BOB) == "EACCES"
    assert in_child(open_tree, read("f"), uid=ALICE) == "EACCES"
    assert f"user:{BOB}:r--" in getfacl(f)
    acl(f, f"u:{BOB}:rw")
    assert in_child(open_tree, opens("f", os.O_WRONLY), uid=BOB) is None


@needs_acl
def test_the_mask_of_an_acl_is_not_the_groups_right(open_tree):
    """Without asking for ACLs, mode 0660 would let the whole group in."""
    f = open_tree / "f"
    put(f, b"not for the team", 0)
    os.chown(f, 0, TEAM)
    acl(f, f"u:{BOB}:rw", "g::-", "m::rw")
    assert stat.S_IMODE(f.stat().st_mode) == 0o660
    assert in_child(open_tree, read("f"), uid=ALICE, groups=[TEAM]) == "EACCES"
    assert in_child(open_tree, read("f"), uid=BOB) == b"not for the team"


@needs_acl
@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_a_default_acl_is_inherited_and_takes_the_place_of_the_umask(open_tree, mask):
    d = open_tree / "d"
    d.mkdir()
    acl(d, f"u:{BOB}:rwx", default=True)

    def make():
        os.umask(mask)
        os.close(os.open("d/f", os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir("d/e", 0o777)
        os.mkfifo("d/p", 0o666)
        os.close(os.open("plain", os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir("folder", 0o777)

    assert in_child(open_tree, make) is None
    assert f"user:{BOB}:rwx" in getfacl(d / "f")
    assert f"default:user:{BOB}:rwx" in getfacl(d / "e")
    assert stat.S_IMODE((d / "p").stat().st_mode) & 0o060 == 0o060
    assert in_child(open_tree, read("d/f"), uid=BOB) == b""
    assert stat.S_IMODE((open_tree / "plain").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((open_tree / "folder").stat().st_mode) == 0o777 & ~mask


@needs_acl
def test_chmod_changes_the_mask(open_tree):
    f = open_tree / "f"
    put(f, b"x", 0)
    acl(f, f"u:{BOB}:rw")
    os.chmod(f, 0o600)
    assert "mask::---" in getfacl(f)
    assert in_child(open_tree, read("f"), uid=BOB) == "EACCES"
    os.chmod(f, 0o640)
    assert in_child(open_tree, read("f"), uid=BOB) == b"x"


@needs_acl
def test_who_is_not_of_the_group_loses_setgid_by_setting_an_acl(open_tree):
    f = open_tree / "f"
    put(f, b"x", ALICE)
    os.chown(f, ALICE, TEAM)
    os.chmod(f, 0o2770)

    def grant():
        return subprocess.run(["setfacl", "-m", f"u:{BOB}:r", "f"], check=False).returncode

    assert in_child(open_tree, grant, uid=BOB) != 0
    assert in_child(open_tree, grant, uid=ALICE) == 0
    assert not f.stat().st_mode & stat.S_ISGID


# ---------------------------------------------------------------- history, by the back doors


def doors(workspace, name, number):
    """Every way to a version that does not go through the file itself."""
    at = workspace.log(name)[number - 1]["time"]
    return [f".stomp/history/{name}/{number}", f".stomp/at/{at}/{name}"]


@pytest.mark.parametrize("shut", ["mode", "owner", "folder"])
def test_a_version_obeys_the_permissions_it_had(shared, shut):
    (shared / "d").mkdir()
    f = shared / "d" / "f"
    put(f, b"secret one", ALICE, 0o644)
    if shut == "mode":
        os.chmod(f, 0o600)
    elif shut == "owner":
        os.chmod(f, 0o400)
    else:
        os.chmod(shared / "d", 0o700)
    shared.ctl("checkpoint")
    number = len(shared.log("d/f"))
    for door in doors(shared, "d/f", number):
        assert in_child(shared.path, read(door), uid=BOB) == "EACCES", door
        assert in_child(shared.path, read(door)) == b"secret one", door
    cat = [str(shared.stomp), "cat", f"d/f@{number}"]

    def stomp_cat():
        done = subprocess.run(cat, capture_output=True, check=False)
        return done.returncode, done.stdout

    assert in_child(shared.path, stomp_cat, uid=BOB)[1] == b""


def test_what_was_shut_stays_shut_after_it_is_opened(shared):
    f = shared / "f"
    put(f, b"secret", ALICE, 0o600)
    shared.ctl("checkpoint")
    secret = len(shared.log("f"))
    f.read_bytes()
    shared.settle()
    f.write_bytes(b"public")
    os.chmod(f, 0o644)
    shared.ctl("checkpoint")
    public = len(shared.log("f"))
    assert in_child(shared.path, read(f".stomp/history/f/{public}"), uid=BOB) == b"public"
    assert in_child(shared.path, read(f".stomp/history/f/{secret}"), uid=BOB) == "EACCES"
    assert in_child(shared.path, read(f".stomp/history/f/{secret}"), uid=ALICE) == b"secret"


@needs_acl
def test_an_acl_guards_the_versions_too(shared):
    f = shared / "f"
    put(f, b"not for the team", 0)
    os.chown(f, 0, TEAM)
    acl(f, f"u:{BOB}:rw", "g::-", "m::rw")
    shared.ctl("checkpoint")
    for door in doors(shared, "f", len(shared.log("f"))):
        assert in_child(shared.path, read(door), uid=ALICE, groups=[TEAM]) == "EACCES", door


# ---------------------------------------------------------------- refused bytes, identity


class User(Writer):
    """A writer who is another user; its name by STOMP_AGENT, which anybody may set."""

    def __init__(self, workspace, uid, name, log):
        argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        argv += [PYTHON, "-B", str(AGENT)]
        super().__init__(name, argv, workspace.path, {"STOMP_AGENT": name}, log)

    def ctl(self, line):
        return self.call("ctl", line=line)


@pytest.fixture
def user(shared, tmp_path):
    made = []

    def make(uid, name):
        with open(tmp_path / f"writer-{len(made)}.err", "wb") as log:
            made.append(User(shared, uid, name, log))
        return made[-1]

    yield make
    for w in made:
        w.stop()


@pytest.fixture
def refused(shared, user):
    """Alice was refused, with what she wrote kept; the number of the conflict."""
    (shared / "d").mkdir()
    os.chmod(shared / "d", 0o777)
    put(shared / "d" / "f", b"line one\n", ALICE, 0o666)
    alice = user(ALICE, "alice")
    alice.readfile("d/f")
    shared.settle()
    (shared / "d" / "f").read_bytes()
    shared.settle()
    (shared / "d" / "f").write_bytes(b"line of root\n")
    assert alice.errno("save_by_rename", "d/f", b"ALICE-SECRET\n") == "ESTALE"
    rows = shared.json("conflicts")["conflicts"]
    assert rows and rows[0]["uid"] == ALICE
    return alice, rows[0]["id"]


def test_refused_bytes_are_their_writers_and_roots(shared, refused):  # S11
    _, number = refused
    folder = f".stomp/conflicts/{number}"
    theirs = f"{folder}/theirs"
    assert in_child(shared.path, read(theirs), uid=ALICE) == b"ALICE-SECRET\n"
    assert in_child(shared.path, read(theirs)) == b"ALICE-SECRET\n"
    for name in ("theirs", "base", "ours", "info", "info.json"):
        assert in_child(shared.path, read(f"{folder}/{name}"), uid=BOB) == "EACCES", name
    assert in_child(shared.path, lambda: os.listdir(folder), uid=BOB) == "EACCES"


def test_no_table_tells_others_what_was_refused(shared, refused):  # S11
    for name in os.listdir(shared.path / ".stomp"):
        path = shared.path / ".stomp" / name
        if path.is_dir() or name == "ctl":
            continue
        text = in_child(shared.path, read(f".stomp/{name}"), uid=BOB)
        assert b"ALICE-SECRET" not in text, name
    mine = in_child(shared.path, read(".stomp/refusals.json"), uid=ALICE)
    assert b"ALICE-SECRET" in mine
    row = json.loads(in_child(shared.path, read(".stomp/refusals.json"), uid=BOB))["refusals"][0]
    assert row["text"].startswith("d/f: ") and "\n" not in row["text"]


def test_a_forged_name_is_another_writer(shared, refused, user):  # W1
    alice, number = refused
    mallory = user(BOB, "alice")
    name = json.loads(mallory.readfile(".stomp/me.json"))["writer"]
    assert name != json.loads(alice.readfile(".stomp/me.json"))["writer"]
    assert json.loads(mallory.readfile(".stomp/why.json"))["refusals"] == []
    assert mallory.errno("readfile", f".stomp/conflicts/{number}/theirs") == "EACCES"
    assert mallory.errno("ctl", f"resolve {number} theirs") == "EPERM"
    assert shared.json("conflicts")["conflicts"]


def test_a_forged_name_takes_no_lease(shared, user):  # W1, L9
    put(shared / "mine", b"x\n", ALICE, 0o644)
    alice, mallory = user(ALICE, "alice"), user(BOB, "alice")
    alice.ctl("lease acquire ttl=60s mine")
    assert mallory.errno("ctl", "lease release mine") == "ENOENT"
    assert mallory.errno("ctl", "lease renew mine") == "ENOENT"
    assert mallory.errno("ctl", "lease break mine") == "EACCES"
    assert len(shared.leases("mine")) == 1
    put(shared / "both", b"x\n", ALICE, 0o666)
    fd = alice.open("both", os.O_WRONLY | os.O_APPEND)
    alice.write(fd, b"of alice\n")
    assert mallory.errno("append", "both", b"of mallory\n") == "EAGAIN"
    alice.close(fd)


@pytest.mark.parametrize(
    "path, may",
    [
        ("hers", False),
        ("private/anything", False),
        ("private/*", False),
        ("private/deep/**/*.c", False),
        ("*", False),
        ("**", False),
        ("/*.c", False),
        ("his", True),
        ("his-own/new", True),
        ("his-own/*", True),
        ("his-own/not/yet/there", True),
        ("read-only", True),  # his folder: he may replace it
    ],
)
def test_a_lease_is_for_who_could_write_there(shared, user, path, may):  # L9
    os.chmod(shared.path, 0o755)
    put(shared / "hers", b"x\n", ALICE, 0o644)
    put(shared / "his", b"x\n", BOB, 0o644)
    (shared / "private").mkdir(0o700)
    (shared / "his-own").mkdir()
    os.chown(shared / "his-own", BOB, BOB)
    if path == "read-only":
        path = "his-own/read-only"
        put(shared / path, b"x\n", BOB, 0o444)
    bob = user(BOB, "bob")
    said = bob.errno("ctl", f"lease acquire ttl=60s {path}")
    assert said == (None if may else "EACCES")
    assert bool(shared.json("leases")["leases"]) == may


# ---------------------------------------------------------------- bounds


def test_one_users_open_files_of_stomp_keep_nobody_else_out(shared):
    ready, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(shared.path)
            os.setgid(BOB), os.setuid(BOB)
            held, error = [], None
            while error is None and len(held) < 4500:
                try:
                    held.append(os.open(".stomp/me", os.O_RDONLY))
                except OSError as e:
                    error = e.errno
            os.write(ready[1], f"{len(held)} {errno.errorcode[error]}".encode())
            os.read(done[0], 1)
        finally:
            os._exit(0)
    try:
        held, error = os.read(ready[0], 100).decode().split()
        assert error in ("ENFILE", "EMFILE") and int(held) < 4096
        assert b"health" in in_child(shared.path, read(".stomp/status"), uid=ALICE)
        assert b"health" in in_child(shared.path, read(".stomp/status"))
        assert shared.ctl("ping")["ok"]
    finally:
        os.write(done[1], b"x")
        os.waitpid(pid, 0)


def memory_kib(pid):
    """What the daemon allocated. Not what is mapped of files: the queue and the intents
    have one size, and count as they are first touched (8 MiB each)."""
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("RssAnon")).split()[1])


def test_a_stopped_reader_of_stomp_stops_nobody(shared):
    """It has the folder open, a document half read and a line of ctl unanswered."""
    script = """
import os, signal
fds = [os.open(f".stomp/{n}", os.O_RDONLY) for n in ("log.json", "status", "history")]
os.read(fds[0], 1)
ctl = os.open(".stomp/ctl", os.O_RDWR)
os.write(ctl, b"ping")
os.kill(os.getpid(), signal.SIGSTOP)
"""
    with subprocess.Popen([PYTHON, "-c", script], cwd=shared.path) as stuck:
        os.waitpid(stuck.pid, os.WUNTRACED)
        for i in range(50):
            (shared / "f").write_text(f"{i}\n")
            assert (shared / "f").read_text() == f"{i}\n"
        assert shared.ctl("ping")["ok"] and shared.json("log")["versions"]
        stuck.kill()


def test_names_without_end_cost_bounded_memory(shared):
    """Files made, read, renamed and removed. Of what is gone a bounded number of names is
    remembered (fs/lineage.h): what one costs is small."""
    pid = shared.json("status")["pid"]

    def round_of(n):
        for i in range(1200):
            name = shared / f"round{n}-{i}"
            name.write_bytes(b"x")
            name.read_bytes()
            os.rename(name, shared / f"renamed{n}-{i}")
            os.unlink(shared / f"renamed{n}-{i}")
        shared.ctl("checkpoint")
        return memory_kib(pid)

    round_of(0)
    first = round_of(1)
    last = [round_of(n) for n in (2, 3, 4)][-1]
    assert last - first < 3 * 1200 * 4, f"{first} → {last} KiB: more than 4 KiB a name"


@pytest.mark.mount_options("user_files=20")
def test_one_users_open_files_keep_nobody_else_out(shared, user):
    """Guarded and `pass` files, made and opened; nothing is made by what is refused."""
    (shared / ".git").mkdir()
    os.chmod(shared / ".git", 0o1777)
    alice, bob = user(ALICE, "alice"), user(BOB, "bob")
    new = os.O_RDWR | os.O_CREAT
    held = [bob.open(("", ".git/")[i % 2] + f"b{i}", new) for i in range(20)]
    for name, flags in (("more", new), (".git/more", new), ("b0", os.O_RDONLY)):
        assert bob.errno("open", name, flags) == "ENFILE"
    assert not (shared / "more").exists() and not (shared / ".git/more").exists()
    alice.close(alice.open("a", new))
    (shared / "of-root").write_text("x")
    assert "user_files_refused_total 3" in shared.text("metrics")
    for fd in held:
        bob.close(fd)
    wait_until(lambda: shared.json("status")["open_handles"] == 0, "all are closed")
    again = [bob.open(f"b{i}", os.O_RDONLY) for i in range(0, 20, 2)]
    assert len(again) == 10


@pytest.mark.mount_options("user_waits=3", "wait=50s")
def test_one_users_waits_keep_nobody_else_out(shared, user):  # L3
    put(shared / "f", b"x\n", ALICE, 0o666)
    alice, carol = user(ALICE, "alice"), user(ALICE, "carol")
    fd = alice.open("f", os.O_WRONLY | os.O_APPEND)
    alice.write(fd, b"of alice\n")
    bobs = [user(BOB, f"bob-{i}") for i in range(4)]

    def appends(who):
        return who.start("open", path="f", flags=os.O_WRONLY | os.O_APPEND, mode=0)

    def waits(n):
        wait_until(lambda: shared.json("status")["waiting"] == n, f"{n} wait")

    waiting = []
    for n, bob in enumerate(bobs[:3], 1):
        waiting.append(appends(bob))
        waits(n)
    assert bobs[3].errno("open", "f", os.O_WRONLY | os.O_APPEND) == "EAGAIN"
    waiting.append(appends(carol))
    waits(4)
    assert "user_waits_refused_total 1" in shared.text("metrics")
    alice.close(fd)
    for who, wait in zip([*bobs[:3], carol], waiting):
        who.close(wait.result())
    bobs[3].close(bobs[3].open("f", os.O_WRONLY | os.O_APPEND))
