"""The tree as it was: .stomp/at/MOMENT/… (D, docs/STOMP-FOLDER.md)."""

import os
import random
import subprocess
import time
from datetime import datetime, timezone

import pytest

from stomplib.calls import needs_root
from stomplib.chaos import Chaos, lay, tell
from stomplib.writer import PYTHON

STRANGER = 54321
SEEDS = int(os.environ.get("STOMP_SEEDS", 6))


def moment(workspace):
    """A word for this very moment, with everything closed before it recorded."""
    workspace.ctl("checkpoint")
    now = time.time_ns()
    second = datetime.fromtimestamp(now // 10**9, timezone.utc)
    time.sleep(0.002)
    return second.strftime("%Y-%m-%dT%H:%M:%S") + f".{now % 10**9:09d}Z"


def differences(was, told):
    return {
        path: (was.get(path), told.get(path))
        for path in was.keys() | told.keys()
        if was.get(path) != told.get(path)
    }


def snapshot(workspace, to):
    subprocess.run(["cp", "-a", f"{workspace.path}/.", to], check=True, timeout=30)
    return tell(to)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_moment_is_as_its_snapshot(unmounted, writer, tmp_path, seed):  # D, V2, V3
    lay(unmounted.path, random.Random(seed))
    unmounted.mount()
    chaos = Chaos(unmounted, [writer("alice"), writer("bob")], seed)
    kept = []
    for i in range(9):
        word = moment(unmounted)
        kept.append((word, snapshot(unmounted, tmp_path / f"s{i}")))
        for _ in range(25):
            chaos.step()
    for word, was in kept:
        told = tell(unmounted / ".stomp/at" / word)
        assert not differences(was, told), (seed, word)
    for w in chaos.writers:
        w.stop()
    unmounted.remount()
    for word, was in kept:
        told = tell(unmounted / ".stomp/at" / word)
        assert not differences(was, told), (seed, word, "after a restart")


def test_programs_walk_it(unmounted, writer, tmp_path):  # D
    (unmounted.path / "src").mkdir()
    (unmounted.path / "src/a.txt").write_text("needle\n")
    (unmounted.path / "Makefile").write_text("all:\n\t@cat src/a.txt\n")
    unmounted.mount()
    was = moment(unmounted)
    snapshot(unmounted, tmp_path / "s")
    alice = writer("alice")
    alice.writefile("src/a.txt", b"hay\n")
    alice.rename("src", "lib")
    then = f".stomp/at/{was}"
    unmounted.run("diff", "-r", then, tmp_path / "s")
    assert unmounted.run("grep", "-r", "needle", then).stdout.endswith(b"a.txt:needle\n")
    assert unmounted.run("make", "-s", "-C", then).stdout == b"needle\n"
    copy = tmp_path / "copy"
    unmounted.run("cp", "-a", then, copy)
    assert tell(copy) == tell(tmp_path / "s")
    assert unmounted.run("diff", "-r", then, ".", check=False).returncode == 1


def test_it_is_read_only(workspace, writer):  # D
    alice = writer("alice")
    alice.writefile("a", b"a\n")
    then = f".stomp/at/{moment(workspace)}"
    assert alice.errno("writefile", f"{then}/a", b"b\n") == "EROFS"
    assert alice.errno("writefile", f"{then}/new", b"b\n") in ("EPERM", "EROFS")
    assert alice.errno("unlink", f"{then}/a") in ("EPERM", "EROFS")
    assert alice.errno("mkdir", f"{then}/d") in ("EPERM", "EROFS")
    assert alice.errno("rename", f"{then}/a", "b") in ("EPERM", "EXDEV")
    assert alice.readfile(f"{then}/a") == b"a\n"


@pytest.mark.parametrize("word", ["-", "1x", "yesterday", "2026-13-01", "2199-01-01", "2999-01-01", "-5"])
def test_what_is_no_moment_is_not_there(workspace, word):  # D
    assert not (workspace / ".stomp/at" / word).exists()


def test_words_for_a_moment(workspace, writer):  # D
    alice = writer("alice")
    alice.writefile("a", b"one\n")
    epoch = workspace.log("a")[-1]["epoch"]
    alice.writefile("a", b"two\n")
    workspace.ctl("checkpoint")
    at = workspace / ".stomp/at"
    assert (at / str(epoch) / "a").read_bytes() == b"one\n"
    assert (at / "now" / "a").read_bytes() == b"two\n"
    assert not (at / "0" / "a").exists()
    assert not (at / "-1h" / "a").exists()
    later = workspace.log("a")[-1]["epoch"]
    assert (at / str(later) / "a").read_bytes() == b"two\n"
    assert (at / str(later + 1000) / "a").read_bytes() == b"two\n"
    today = datetime.now().strftime("%Y-%m-%d")
    assert not (at / today / "a").exists()
    time.sleep(1.1)  # the log cuts its times off to the second: such a word includes it
    shown = datetime.now().strftime("%Y-%m-%dT%H:%M:%S")
    assert (at / shown / "a").read_bytes() == b"two\n"
    assert os.listdir(at) == []


def test_a_file_being_read_stays_what_it_was(unmounted, writer):  # D, V2
    old = b"".join(b"%07d\n" % i for i in range(1 << 17))
    (unmounted.path / "big").write_bytes(old)
    unmounted.mount()
    then = unmounted / ".stomp/at" / moment(unmounted) / "big"
    with open(then, "rb", buffering=0) as f:
        first = f.read(4096)
        writer("alice").writefile("big", b"new\n" * 1000)
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        rest = f.readall()
    assert first + rest == old
    assert then.read_bytes() == old


def test_what_is_being_made_is_not_of_the_past(workspace, writer):  # D
    was = moment(workspace)
    alice = writer("alice")
    fd = alice.open("new", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"not closed")
    then = workspace / ".stomp/at" / was
    assert not (then / "new").exists()
    assert os.listdir(then) == []
    alice.close(fd)
    assert not (then / "new").exists()


def run_as(uid, *argv, cwd):
    return subprocess.run(
        argv, cwd=cwd, user=uid, group=uid, extra_groups=[], capture_output=True, timeout=20
    )


@needs_root
def test_what_is_out_of_reach_stays_so(unmounted):  # D
    for name in ("shut", "open"):
        (unmounted.path / name).mkdir(mode=0o755)
        (unmounted.path / name / "f").write_text("f\n")
        (unmounted.path / name / "f").chmod(0o644)
        (unmounted.path / name / "quiet").write_text("q\n")
    (unmounted.path / "later").write_text("secret later\n")
    (unmounted.path / "sooner").write_text("secret sooner\n")
    (unmounted.path / "sooner").chmod(0o600)
    for folder in (unmounted.path, *list(unmounted.path.parents)[:-2]):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
    unmounted.mount()
    then = f".stomp/at/{moment(unmounted)}"
    (unmounted / "shut").chmod(0o700)
    (unmounted / "later").chmod(0o600)
    (unmounted / "sooner").chmod(0o644)
    os.rename(unmounted / "shut", unmounted / "closed")
    (unmounted / "closed/f").unlink()
    for path, may in {
        "open/f": True,
        "open/quiet": True,
        "shut/f": False,  # its folder is shut now, by another name
        "shut/quiet": False,
        "later": False,  # its mode of now
        "sooner": False,  # its mode of then
    }.items():
        done = run_as(STRANGER, "cat", f"{then}/{path}", cwd=unmounted.path)
        assert (done.returncode == 0) == may, (path, done.stderr)
        assert (unmounted / then / path).read_bytes()
    assert run_as(STRANGER, "ls", f"{then}/open", cwd=unmounted.path).returncode == 0
    assert run_as(STRANGER, "ls", f"{then}/shut", cwd=unmounted.path).returncode != 0


def test_a_large_folder_of_the_past_is_listed_whole_twice(workspace):  # D
    script = f"""
import os
for i in range(2000):
    open(f"f{{i}}", "w").close()
"""
    workspace.run(PYTHON, "-c", script)
    then = workspace / ".stomp/at" / moment(workspace)
    assert len(tell(then)) == 2000
    assert len(os.listdir(then)) == 2000


# ---------------------------------------------------------------- stomp restore --at


def restore(workspace, *argv, code=0, writer=None):
    argv = [str(workspace.stomp), "restore", *map(str, argv)]
    if writer:
        rc, out, err = writer.spawn(*argv)
    else:
        done = workspace.run(*argv, check=False)
        rc, out, err = done.returncode, done.stdout, done.stderr
    assert rc == code, (rc, out, err)
    return (out + err).decode()


def test_restore_a_folder(unmounted, writer, tmp_path):  # V8
    lay(unmounted.path, random.Random(1))
    unmounted.mount()
    was = moment(unmounted)
    snap = snapshot(unmounted, tmp_path / "s")
    alice = writer("alice")
    alice.writefile("src/one", b"spoilt\n")
    alice.unlink("src/link")
    alice.symlink("two", "src/link")
    alice.sh("rm -rf docs; mkdir src/new; echo n > src/new/n; chmod 700 src/two src/deep")
    alice.rename("quiet", "loud")
    alice.writefile("loud/one", b"loud\n")
    before = tell(unmounted.path)
    text = restore(unmounted, ".", "--at", was, "--dry-run")
    assert "would be restored  src/one" in text and tell(unmounted.path) == before
    text = restore(unmounted, ".", "--at", was)
    assert "src/new" in text and "--exact removes them" in text
    now = tell(unmounted.path)
    for name in list(now):
        if name.startswith(("loud", "src/new")):
            del now[name]
    assert not differences(snap, now)
    n = len(unmounted.log("src/one"))
    assert "0 changed" in restore(unmounted, ".", "--at", was)
    assert len(unmounted.log("src/one")) == n, "what is the same is not touched"
    restore(unmounted, ".", "--at", was, "--exact")
    assert not differences(snap, tell(unmounted.path))


def test_restore_into_another_folder(unmounted, writer, tmp_path):
    lay(unmounted.path, random.Random(2))
    os.utime(unmounted.path / "src/one", (1600000000, 1600000000))
    unmounted.mount()
    was = moment(unmounted)
    snapshot(unmounted, tmp_path / "s")
    writer("alice").sh("rm -rf src; echo x > docs/one")
    before = tell(unmounted.path)
    restore(unmounted, "src", "docs/one", "--at", was, "--to", tmp_path / "out")
    assert tell(tmp_path / "out/src") == tell(tmp_path / "s/src")
    assert (tmp_path / "out/src/one").stat().st_mtime == 1600000000
    assert (tmp_path / "out/one").read_bytes() == (tmp_path / "s/docs/one").read_bytes()
    assert tell(unmounted.path) == before


def test_restore_of_a_version(workspace, writer):  # V8, S5
    alice, bob = writer("alice"), writer("bob")
    for data in (b"1\n", b"2\n", b"3\n"):
        alice.writefile("f", data)
    restore(workspace, "f", "--at", "@2", writer=bob)
    assert (workspace / "f").read_bytes() == b"2\n"
    newest = workspace.log("f")[-1]
    assert newest["writer"] == "bob" and newest["number"] == 4
    assert "has no version 9" in restore(workspace, "f", "--at", "@9", code=1)
    assert "was not there then" in restore(workspace, "f", "--at", "0", code=1)
    assert "go with --at" in restore(workspace, "f", "--exact", code=2)
    assert "not soon" in restore(workspace, "f", "--at", "soon", code=2)


@pytest.mark.mount_options("wait=100ms")
def test_a_lease_holds_for_restore(workspace, writer):  # L3, V8
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("held", b"1\n")
    alice.writefile("free", b"1\n")
    was = moment(workspace)
    alice.writefile("free", b"2\n")
    fd = alice.open("held", os.O_WRONLY)
    alice.write(fd, b"2")
    text = restore(workspace, ".", "--at", was, "--exact", code=1, writer=bob)
    assert (workspace / "free").read_bytes() == b"1\n", "the others are done all the same"
    assert (workspace / "held").read_bytes() == b"2\n"
    assert "1 not done" in text and "alice" in text
    alice.close(fd)
    restore(workspace, "held", "--at", was, writer=bob)
    assert (workspace / "held").read_bytes() == b"1\n"
