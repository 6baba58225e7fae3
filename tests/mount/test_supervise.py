"""A supervised mount outlives its daemon (supervise.h): V4, L5, L6, L8."""

import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stomplib.workspace import Workspace, mounts_on

LIMIT_S = 20
MOUNT_HELPER = "/sbin/mount.fuse3"  # what mount(8) runs for fuse.*
CUT = (errno.ESTALE, errno.ECONNABORTED)

needs_handover = pytest.mark.skipif(
    tuple(int(n) for n in os.uname().release.split(".")[:2]) < (6, 16),
    reason="FUSE_NOTIFY_INC_EPOCH came with Linux 6.16",
)


class Supervised(Workspace):
    """The process that we started is the supervisor, the daemon is its child."""

    def pid(self):
        return self.json("status")["pid"]

    def kill_once(self):
        """kill -9 of the daemon; returns once it is gone, not waiting for the next."""
        pid = self.pid()
        end = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(pid))
        os.close(end)
        return pid

    def restarted(self, old):
        """The daemon after the one with this pid serves."""
        wait_until(lambda: self.asked_pid() not in (None, old))
        return self.json("status")

    def asked_pid(self):
        try:
            return self.pid()
        except OSError:
            return None

    def kill_and_wait(self):
        return self.restarted(self.kill_once())


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(true, limit_s=LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


@pytest.fixture
def supervised(request, tmp_path):
    options = ["supervise", "settle=20ms", "wait=200ms"]
    for marker in request.node.iter_markers("mount_options"):
        options += marker.args
    path = tmp_path / "w"
    path.mkdir()
    (path / "sub").mkdir()
    (path / "before").write_bytes(b"from before\n")
    made = Supervised(path, tmp_path, options)
    request.node.stomp_workspace = made
    made.mount()
    yield made
    made.close(getattr(request.node, "stomp_failed", False))


@pytest.fixture
def alice(supervised, tmp_path):
    from stomplib.writer import AGENT, PYTHON, Writer

    launcher = [str(supervised.stomp), "run", "alice", "--"]
    with open(tmp_path / "writer.err", "wb") as log:
        # It stands outside: a folder of the old daemon's is no place any more.
        w = Writer("alice", launcher + [PYTHON, str(AGENT)], supervised.path, None, log)
    yield w
    w.stop()


def know(workspace, name):
    """After a restart nothing is remembered as read (S3)."""
    (workspace / name).read_bytes()
    workspace.settle()


def refused(call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    return caught.value.errno


@needs_handover
def test_the_mount_stays_and_says_that_its_daemon_was_killed(supervised):  # V4
    device = os.stat(supervised.path).st_dev
    before = supervised.json("status")
    assert (before["restarts"], before["supervisor"]) == (0, supervised.daemon.pid)
    status = supervised.kill_and_wait()
    assert status["restarts"] == 1
    assert status["last_end"] == "signal 9 (Killed)"
    assert status["supervisor"] == supervised.daemon.pid
    assert os.stat(supervised.path).st_dev == device
    assert "restarts  1, by supervisor" in supervised.text("status")
    assert "ended with signal 9 (Killed) and was started again" in supervised.text("log")
    assert "it is started again" in supervised.daemon_log()


@needs_handover
def test_old_handles_answer_estale_for_ever_and_a_path_leads_to_the_file(
    supervised, alice
):  # L8
    fd = alice.open("sub/f", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"one\n")
    reader = os.open(supervised / "before", os.O_RDONLY)
    folder = os.open(supervised / "sub", os.O_RDONLY | os.O_DIRECTORY)
    root = os.scandir(supervised.path)
    status = supervised.kill_and_wait()
    assert status["health"] == "ok"
    # More new nodes than could miss the memory of the old ones, were ids just addresses.
    for i in range(300):
        (supervised / f"new{i}").write_bytes(b"new\n")
    for _ in range(3):
        assert alice.errno("write", fd, b"two\n") == "ESTALE"
    # Where the kernel reads the backing by itself the descriptor still can; else ESTALE.
    try:
        assert os.read(reader, 100) == b"from before\n"
    except OSError as error:
        assert error.errno == errno.ESTALE
    assert refused(os.listdir, folder) == errno.ESTALE
    # A listing of the root is nobody's handle: it goes on, or it says that it cannot.
    try:
        assert {"before", "sub"} <= {entry.name for entry in root}
    except OSError as error:
        assert error.errno == errno.ESTALE
    assert all((supervised / f"new{i}").read_bytes() == b"new\n" for i in range(300))
    assert (supervised / "sub" / "f").read_bytes() == b"one\n"
    assert (supervised / "before").read_bytes() == b"from before\n"
    for old in (reader, folder):
        os.close(old)
    root.close()


@needs_handover
def test_what_was_written_is_a_version_and_epochs_go_on(supervised, alice):  # V4, L8
    fd = alice.open("f", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"half\n")
    old_epoch = supervised.leases("f")[0]["epoch"]
    supervised.kill_and_wait()
    cut = supervised.log("f")[-1]
    assert (cut["writer"], cut["epoch"]) == ("alice", old_epoch)
    assert "incomplete" in cut["flags"] and "recovered" in cut["flags"]
    assert supervised.leases("f") == []
    know(supervised, "f")
    (supervised / "f").write_bytes(b"whole\n")
    assert supervised.log("f")[-1]["epoch"] > old_epoch
    assert alice.errno("close", fd) in (None, "ESTALE")
    assert (supervised / "f").read_bytes() == b"whole\n"


@needs_handover
def test_the_kernel_believes_nothing_that_the_old_daemon_said(supervised):
    """Attributes and names were cached for an hour."""
    path = supervised / "before"
    assert path.stat().st_size == 12 and not (supervised / "later").exists()
    os.link(path, supervised / "other")
    old = supervised.kill_once()
    supervised.restarted(old)
    (supervised / "other").write_bytes(b"longer than before\n")
    assert path.stat().st_size == 19
    assert path.read_bytes() == b"longer than before\n"
    (supervised / "later").write_bytes(b"x")
    assert sorted(os.listdir(supervised.path)) == ["before", "later", "other", "sub"]
    supervised.kill_and_wait()
    os.unlink(supervised.backing("later"))  # round the mount, while nothing was cached
    os.close(os.open(supervised.backing("around"), os.O_CREAT | os.O_WRONLY))
    supervised.kill_and_wait()
    assert sorted(os.listdir(supervised.path)) == ["around", "before", "other", "sub"]
    os.rename(supervised / "around", supervised / "later")
    assert sorted(os.listdir(supervised.path)) == ["before", "later", "other", "sub"]


@needs_handover
def test_a_mapping_of_the_old_daemon_reaches_nothing(supervised):  # L6
    (supervised / "m").write_bytes(b"." * 4096)
    fd = os.open(supervised / "m", os.O_RDWR)
    view = mmap.mmap(fd, 4096)
    view[0:3] = b"old"
    view.flush()
    supervised.kill_and_wait()
    know(supervised, "m")
    (supervised / "m").write_bytes(b"," * 4096)
    view[0:3] = b"bad"
    assert refused(lambda: (view.flush(), os.fsync(fd))) in (errno.ESTALE, errno.EIO)
    assert (supervised / "m").read_bytes() == b"," * 4096
    view.close()
    assert refused(os.close, fd) == errno.ESTALE
    assert (supervised / "m").read_bytes() == b"," * 4096


READER = """
import os, sys
n = 0
while os.getppid() == int(sys.argv[2]):
    with open(sys.argv[1], "rb") as f:
        assert f.read() == b"from before\\n"
    os.stat(sys.argv[1]); os.listdir(os.path.dirname(sys.argv[1]))
    n += 1
    if n == 3:
        print("reading", flush=True)
    if os.path.exists(sys.argv[3]):
        print(n)
        break
"""


@needs_handover
def test_who_only_reads_by_path_notices_nothing(supervised, tmp_path):
    """Questions are asked again: no error in any of many kills."""
    end = tmp_path / "end"
    argv = [sys.executable, "-c", READER, str(supervised / "before"), str(os.getpid()), end]
    reader = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert reader.stdout.readline() == "reading\n"
    for restarts in range(1, 9):
        # An open descriptor that is read right then answers ESTALE: that is the promise
        # about handles. The reader opens, reads and closes; only a kill between its open
        # and its read may show.
        assert supervised.kill_and_wait()["restarts"] == restarts
        if reader.poll() is not None:
            break
    end.touch()
    out, err = reader.communicate(timeout=LIMIT_S)
    last = err.strip().splitlines()[-1] if err.strip() else ""
    assert reader.returncode == 0 or "Stale file handle" in last, err
    assert "ECONN" not in err and "Transport" not in err and "abort" not in err, err


@needs_handover
def test_writers_hear_of_it_and_lose_nothing_acknowledged(supervised, tmp_path):  # V4
    done, problems, stop = [], [], threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            try:
                with open(supervised / "journal.txt", "a") as f:
                    f.write(f"{n}\n")
            except OSError as error:
                if error.errno not in CUT:
                    problems.append(error)
                continue
            done.append(n)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(6):
        had = len(done)
        wait_until(lambda: len(done) > had + 3)
        supervised.kill_and_wait()
    stop.set()
    thread.join(LIMIT_S)
    assert not problems, problems
    lines = [int(line) for line in (supervised / "journal.txt").read_text().split()]
    assert set(done) <= set(lines)
    assert len(lines) == len(set(lines)), "a write was done twice"
    assert supervised.json("status")["health"] == "ok"


def test_unmounting_ends_daemon_and_supervisor(supervised):
    daemon = supervised.pid()
    done = subprocess.run([supervised.stomp, "umount", supervised.path], timeout=LIMIT_S)
    assert done.returncode == 0
    assert supervised.daemon.wait(LIMIT_S) == 0
    assert not alive(daemon) and mounts_on(supervised.path) == []
    supervised.daemon = None


def test_unmounting_after_a_restart(supervised):
    supervised.kill_and_wait()
    daemon = supervised.pid()
    subprocess.run([supervised.stomp, "umount", supervised.path], check=True, timeout=LIMIT_S)
    assert supervised.daemon.wait(LIMIT_S) == 0
    assert not alive(daemon) and mounts_on(supervised.path) == []
    supervised.daemon = None


@pytest.mark.parametrize("kills", [0, 1])
def test_sigterm_to_the_supervisor_unmounts(supervised, kills):
    for _ in range(kills):
        supervised.kill_and_wait()
    daemon = supervised.pid()
    supervised.daemon.send_signal(signal.SIGTERM)
    assert supervised.daemon.wait(LIMIT_S) == 0
    assert not alive(daemon) and mounts_on(supervised.path) == []
    supervised.daemon = None


@pytest.mark.mount_options("no_handover")
def test_on_an_older_kernel_the_dead_mount_is_replaced(supervised, alice):  # L8
    """As without FUSE_NOTIFY_INC_EPOCH: old handles get ENOTCONN, paths work again."""
    fd = alice.open(str(supervised / "f"), os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"half\n")
    status = supervised.kill_and_wait()
    assert status["restarts"] == 1
    assert mounts_on(supervised.path).count("fuse.stompfs") == 1
    assert alice.errno("write", fd, b"more\n") in ("ENOTCONN", "ECONNABORTED")
    assert (supervised / "f").read_bytes() == b"half\n"
    assert "incomplete" in supervised.log("f")[-1]["flags"]


def test_a_daemon_that_cannot_start_leaves_the_mount_dead_and_mount_replaces_it(supervised):
    """Better that nothing can be written than that it is unguarded."""
    lock = supervised.backing(".stomp/lock")
    os.unlink(lock)
    os.mkdir(lock)
    os.kill(supervised.pid(), signal.SIGKILL)
    assert supervised.daemon.wait(LIMIT_S) != 0
    supervised.daemon = None
    assert "the daemon cannot be started" in supervised.daemon_log()
    assert mounts_on(supervised.path)[-1] == "fuse.stompfs"
    assert refused(os.listdir, supervised.path) == errno.ENOTCONN
    os.rmdir(lock)
    done = subprocess.run(
        [supervised.stomp, "mount", supervised.path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "took away a dead mount" in done.stderr
    assert (supervised / "before").read_bytes() == b"from before\n"
    subprocess.run([supervised.stomp, "umount", supervised.path], check=True)


@pytest.mark.skipif(not os.path.exists(MOUNT_HELPER), reason="no mount.fuse3 here")
def test_mount_8_gets_over_a_dead_mount(unmounted):
    """mount -t fuse.stompfs, as fstab does it."""
    path = unmounted.path
    (path / "f").write_bytes(b"x\n")
    unmounted.mount()
    unmounted.daemon.kill()
    unmounted.daemon.wait(LIMIT_S)
    unmounted._stop_watchdog()
    unmounted.daemon = None
    error = errno.ECANCELED
    while error in (errno.ECANCELED, errno.ECONNABORTED):  # until the last of a ring is gone
        error = refused(os.listdir, path)
    assert error == errno.ENOTCONN
    env = dict(os.environ, PATH=f"{unmounted.stompfs.parent}:{os.environ['PATH']}")
    done = subprocess.run(
        [MOUNT_HELPER, path, path, "-o", "rw", "-t", "fuse.stompfs"],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "took away a dead mount" in done.stderr
    assert mounts_on(path).count("fuse.stompfs") == 1
    assert (path / "f").read_bytes() == b"x\n"
    status = json.loads((path / ".stomp" / "status.json").read_text())
    assert status["supervisor"] == 0
    subprocess.run([unmounted.stomp, "umount", path], check=True)


def doctor(workspace):
    done = subprocess.run(
        [workspace.stomp, "doctor", "--json", workspace.path],
        capture_output=True, text=True, timeout=LIMIT_S,
    )
    return {row["name"]: row for row in json.loads(done.stdout)["checks"]}


@needs_handover
def test_doctor_tells_of_the_supervisor(supervised):
    supervisor = supervised.json("status")["supervisor"]
    found = doctor(supervised)
    assert found["supervisor"]["state"] == "ok"
    assert f"process {supervisor}, 0 restarts" in found["supervisor"]["found"]
    assert "free" in found["history size"]["found"]


def test_doctor_tells_of_no_supervisor_and_of_passthrough(workspace):
    found = doctor(workspace)
    assert found["supervisor"]["found"].startswith("none")
    passing = workspace.json("status")["passthrough"]
    assert found["passthrough"]["found"].startswith("not in use") != passing
    workspace.remount(["no_passthrough"])
    assert workspace.json("status")["passthrough"] is False
    assert doctor(workspace)["passthrough"]["found"].startswith("not in use")
