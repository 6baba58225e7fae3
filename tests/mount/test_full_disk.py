"""A disk that is really full, under the tree and its history together (V7).

tmpfs and ext4, small ones, for this test alone. What was acknowledged is there, with its
version; what was not says ENOSPC and has not happened; it recovers by itself.
"""

import errno
import json
import os
import shutil
import subprocess
import time

import pytest

from stomplib.calls import needs_root
from stomplib.workspace import Workspace

pytestmark = needs_root

MIB = 1 << 20
DISK = 40 * MIB
LIMIT_S = 30
FILES = 12


def mount_disk(kind, point, scratch):
    if kind == "tmpfs":
        argv = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(point)]
    else:
        if not shutil.which("mkfs.ext4"):
            pytest.skip("mkfs.ext4 is not installed")
        image = scratch / "image"
        with open(image, "wb") as f:
            f.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        # The loop device goes by itself with the mount.
        argv = ["mount", "-t", "ext4", "-o", "loop", str(image), str(point)]
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no {kind} of our own can be mounted here: {done.stderr.strip()}")


class Disk:
    """The small file system, and what fills it beside the workspace."""

    def __init__(self, point):
        self.point = point
        self.ballast = point / "ballast"

    def fill(self, leave=0):
        with open(self.ballast, "ab", buffering=0) as f:
            for piece in (MIB, 4096, 512):
                try:
                    while True:
                        f.write(bytes(piece))
                except OSError as e:
                    assert e.errno == errno.ENOSPC
            os.fsync(f.fileno())
            os.ftruncate(f.fileno(), f.tell() - leave)

    def empty(self):
        self.ballast.unlink()


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request, tmp_path):
    point = tmp_path / "disk"
    point.mkdir()
    mount_disk(request.param, point, tmp_path)
    yield Disk(point)
    done = subprocess.run(["umount", str(point)], timeout=LIMIT_S)
    if done.returncode:  # a test that failed left something open
        subprocess.run(["umount", "-l", str(point)], check=True, timeout=LIMIT_S)


@pytest.fixture
def full(request, disk, tmp_path):
    """A workspace on it, not mounted yet."""
    path = disk.point / "w"
    path.mkdir()
    made = Workspace(path, tmp_path, ["settle=0s"])
    request.node.stomp_workspace = made
    yield made
    made.close(getattr(request.node, "stomp_failed", False))


def state(n, generation):
    return f"file {n}, generation {generation:06}\n".encode() * 40


class Oracle:
    """What each file holds, by what its writers were told."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.now = {}
        self.said = {}  # every content that was acknowledged, by file, in order
        self.refused = 0

    def acknowledge(self, name, content):
        self.now[name] = content
        self.said.setdefault(name, []).append(content)

    def attempt(self, what, name, content):
        """True: it was acknowledged; else ENOSPC, and nothing has happened."""
        try:
            what(self.workspace / name, content)
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            self.refused += 1
            self.untouched(name)
            return False
        self.acknowledge(name, content)
        return True

    def untouched(self, name):
        path = self.workspace / name
        if name in self.now:
            assert path.read_bytes() == self.now[name], name
        else:
            assert not path.exists(), name

    def holds(self):
        """The tree, and every acknowledged content as a version, in order."""
        for name, content in self.now.items():
            assert (self.workspace / name).read_bytes() == content, name
            rows = [v["number"] for v in self.workspace.log(name) if v["path"] == name]
            kept = [self.workspace.version(name, n) for n in rows]
            assert kept[-1] == content, name
            at = iter(kept)
            assert all(c in at for c in self.said[name]), f"{name}: a version is missing"


def in_place(path, content):
    """The same blocks again: the tree needs no room for it, its history does."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, content, 0)
    finally:
        os.close(fd)


def by_rename(path, content):
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            if os.write(fd, content) != len(content):
                raise OSError(errno.ENOSPC, "a part of it")
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        if temporary.exists():
            try:
                os.unlink(temporary)
            except OSError as e:
                assert e.errno == errno.ENOSPC
        raise


def recovers(workspace):
    """By itself: nobody tells it that there is room."""
    deadline = time.monotonic() + LIMIT_S
    while workspace.json("status")["health"] != "ok":
        assert time.monotonic() < deadline, workspace.text("status")
        time.sleep(0.05)
    workspace.ctl("checkpoint")


def until_refused(oracle, what, names):
    """Changes until one is refused: what was queued before that has its place (V4)."""
    for generation in range(2, 100_000):
        for n, name in enumerate(names):
            if not oracle.attempt(what, name, state(n, generation)):
                return
    raise AssertionError("a full disk refused nothing")


def begin(workspace):
    workspace.mount()
    oracle = Oracle(workspace)
    for n in range(FILES):
        (workspace / f"f{n}").write_bytes(state(n, 1))
        oracle.acknowledge(f"f{n}", state(n, 1))
    (workspace / "bystander").write_bytes(b"of somebody else\n" * 1000)
    oracle.acknowledge("bystander", b"of somebody else\n" * 1000)
    workspace.ctl("checkpoint")
    return oracle


@pytest.mark.parametrize("leave", [0, 16 * 1024])
@pytest.mark.parametrize("what", [in_place, by_rename])
def test_a_full_disk_refuses_and_recovers(full, disk, what, leave):  # V7, V4
    oracle = begin(full)
    disk.fill(leave)
    until_refused(oracle, what, [f"f{n}" for n in range(FILES)])
    for n in range(FILES):
        oracle.untouched(f"f{n}")
    oracle.untouched("bystander")
    assert full.daemon.poll() is None
    disk.empty()
    recovers(full)
    assert oracle.refused
    oracle.holds()
    for n in range(FILES):
        assert oracle.attempt(in_place, f"f{n}", state(n, 999_999))
    full.ctl("checkpoint")
    oracle.holds()


def test_the_status_says_what_is_wrong_and_what_to_do(full, disk):
    oracle = begin(full)
    disk.fill()
    until_refused(oracle, in_place, [f"f{n}" for n in range(FILES)])
    assert "the disk is full" in full.text("status")
    assert "make some on the file system of this folder" in full.text("status")
    assert "full" in full.json("status")["health"]
    assert oracle.now["f0"] == (full / "f0").read_bytes(), "reading goes on"
    assert full.version("f0", 1) == state(0, 1), "so does its history"
    disk.empty()
    recovers(full)
    oracle.holds()


def test_removing_what_is_not_guarded_makes_room(full, disk):
    """A build's output has no history to be kept: it can go, and that is the room."""
    oracle = begin(full)
    (full / "node_modules").mkdir()
    (full / "node_modules" / "large").write_bytes(bytes(4 * MIB))
    disk.fill()
    until_refused(oracle, in_place, [f"f{n}" for n in range(FILES)])
    os.unlink(full / "node_modules" / "large")
    recovers(full)
    assert oracle.attempt(in_place, "f0", state(0, 999_999))
    full.ctl("checkpoint")
    oracle.holds()


def reserved(workspace):
    return workspace.backing(".stomp/reserve").stat().st_blocks * 512


def test_gc_makes_room_where_there_is_none_and_unlink_works_again(full, disk):  # V7, V9
    """What docs/RELIABILITY.md advises. Old versions go although even that needs room."""
    (full.path / ".stomp-policy").write_text("* keep=2\n")
    oracle = begin(full)
    for _ in range(9):  # of which gc lets seven go
        (full / "large").write_bytes(os.urandom(MIB))
    full.ctl("checkpoint")
    assert reserved(full) >= 4 * MIB
    for _ in range(2):  # the room that it needs is set aside again
        disk.fill()
        until_refused(oracle, in_place, [f"f{n}" for n in range(FILES)])
        with pytest.raises(OSError) as refused:
            os.unlink(full / "f0")
        assert refused.value.errno == errno.ENOSPC
        oracle.untouched("f0")
        done = full.run(full.stomp, "gc", "--json", timeout=LIMIT_S)
        assert json.loads(done.stdout)["error"] == 0
        recovers(full)
        assert reserved(full) >= 4 * MIB
        assert (full / "f0").read_bytes() == oracle.now["f0"]
        os.unlink(full / "f0")
        full.ctl("checkpoint")
        assert full.log("f0")[-1]["kind"] == "delete"
        full.run(full.stomp, "restore", "f0", timeout=LIMIT_S)
        assert (full / "f0").read_bytes() == oracle.now["f0"], "its last content was kept"
        for _ in range(14):
            (full / "large").write_bytes(os.urandom(MIB // 2))
        full.ctl("checkpoint")


def test_killed_while_full_and_mounted_again_with_room(full, disk):  # V4
    oracle = begin(full)
    disk.fill()
    until_refused(oracle, in_place, [f"f{n}" for n in range(FILES)])
    full.kill_daemon()
    disk.empty()
    full.mount()
    recovers(full)
    oracle.holds()


KIB_LEFT = [64, 256, 640, 1024, 1536, 2560, 5120, 20480, 30720]


def test_mounting_on_a_full_disk_spoils_nothing(disk, tmp_path):
    """A first mount that runs out of room, at one step or another: it serves or says
    why, and the next one, with room, has a history from the beginning."""
    refused = 0
    for kib in KIB_LEFT:
        path = disk.point / f"w{kib}"
        path.mkdir()
        (path / "mine").write_bytes(b"from before\n")
        made = Workspace(path, tmp_path, ["settle=0s"])
        try:
            disk.fill(kib * 1024)
            done = subprocess.run(
                [made.stompfs, path], capture_output=True, text=True, timeout=LIMIT_S
            )
            refused += done.returncode != 0
            if done.returncode:
                assert "No space left" in done.stderr, (kib, done.stderr)
            assert (path / "mine").read_bytes() == b"from before\n"
            if done.returncode == 0:
                subprocess.run([made.stomp, "umount", path], check=True, timeout=LIMIT_S)
            disk.empty()
            made.mount()
            oracle = Oracle(made)
            assert oracle.attempt(in_place, "mine", b"after that!\n"), kib
            made.ctl("checkpoint")
            kept = [made.version("mine", n) for n in (1, 2)]
            assert kept == [b"from before\n", b"after that!\n"], kib
            made.umount()
            assert (path / ".stomp" / "queue").stat().st_blocks * 512 > 8 * MIB, kib
        finally:
            made.close(failed=True)
        shutil.rmtree(path)
    assert 0 < refused < len(KIB_LEFT), "the steps are elsewhere"


def test_killed_and_mounted_again_while_full(full, disk):  # V4, V7
    """No room for anything at the mount: it serves or says why, and loses nothing."""
    oracle = begin(full)
    disk.fill()
    until_refused(oracle, in_place, [f"f{n}" for n in range(FILES)])
    full.kill_daemon()
    disk.fill()
    try:
        full.mount()
    except AssertionError:
        assert "No space left" in full.daemon_log() or "full" in full.daemon_log()
        assert full.daemon is None
        disk.empty()
        full.mount()
    else:
        for n in range(FILES):
            assert (full / f"f{n}").read_bytes() == oracle.now[f"f{n}"]
        disk.empty()
    recovers(full)
    oracle.holds()
