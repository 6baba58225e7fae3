"""Requests over io_uring (-o uring): the same promises on another transport.

STOMPFS_TEST_OPTIONS=uring scripts/test runs all other tests over it as well.
"""

import ctypes
import json
import os
import re
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from stomplib.saves import RDWR, WRONLY
from stomplib.transports import built, needs_ring, over_both, transport

SOON_S = 10
LONG = ("ttl=30s", "wait=20s", "settle=1ms")


def requests(workspace):
    """How many came over the ring."""
    return int(re.search(r"^stompfs_uring_requests_total (\d+)$", workspace.text("metrics"), re.M)[1])


@pytest.fixture
def ring(unmounted):
    """A workspace on the ring, whatever else the mark of the test asks for."""
    if not built(unmounted):
        pytest.skip("built without liburing")
    unmounted.mount(unmounted.options + ["uring"])
    return unmounted


def wait_until(true, what, limit=SOON_S):
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def waiting(workspace):
    return workspace.json("status")["waiting"]


# ---------------------------------------------------------------- which transport


@needs_ring
def test_requests_come_over_the_ring(ring, writer):
    before = requests(ring)
    alice = writer("alice")
    alice.writefile("f", b"x" * 300_000)
    assert alice.readfile("f") == b"x" * 300_000
    alice.rename("f", "g")
    os.stat(ring / "g")
    assert requests(ring) >= before + 5
    assert transport(ring).startswith("io_uring")
    assert "io_uring" in ring.text("status")


def test_without_the_option_nothing_comes_over_it(unmounted):
    unmounted.mount(unmounted.options + ["uring=off"])
    (unmounted / "f").write_bytes(b"1")
    assert requests(unmounted) == 0
    assert transport(unmounted) == "/dev/fuse"


def forbid_io_uring():
    """As the seccomp profiles of containers do: io_uring_setup answers EPERM."""
    allow, deny = 0x7FFF0000, 0x00050000 | 1
    program = [
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, 425),
        (0x06, 0, 0, deny),
        (0x06, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    memory = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(memory)))
    libc = ctypes.CDLL(None)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, head, 0, 0):
        os._exit(99)


@needs_ring
def test_where_it_is_forbidden_the_mount_works_as_ever(unmounted):
    if not built(unmounted):
        pytest.skip("built without liburing")
    unmounted.mount(unmounted.options + ["uring"], preexec_fn=forbid_io_uring)
    (unmounted / "f").write_bytes(b"1")
    assert (unmounted / "f").read_bytes() == b"1"
    assert requests(unmounted) == 0
    assert transport(unmounted).startswith("/dev/fuse (no io_uring")
    assert "io_uring_disabled" in unmounted.daemon_log()
    checks = json.loads(unmounted.run(unmounted.stomp, "doctor", "--json", check=False).stdout)
    (row,) = [c for c in checks["checks"] if c["name"] == "transport"]
    assert row["state"] == "warn" and "/dev/fuse" in row["found"] and row["todo"]


def test_a_supervised_mount_goes_without(unmounted):
    """It outlives its daemon, a ring does not; that both are not to be had, options say."""
    unmounted.mount(unmounted.options + ["uring=auto", "supervise"])
    assert requests(unmounted) == 0
    assert transport(unmounted).startswith("/dev/fuse")


def test_a_word_that_is_none_is_refused(unmounted):
    done = subprocess.run(
        [unmounted.stompfs, unmounted.path, "-f", "-o", "uring=maybe"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert "uring=maybe" in done.stderr and "uring=auto" in done.stderr


# ---------------------------------------------------------------- what arrives


@needs_ring
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 1 << 17, (1 << 20) - 1, 1 << 20, 3 << 20])
def test_every_size_arrives(ring, size):
    data = os.urandom(size)
    fd = os.open(ring / "f", os.O_RDWR | os.O_CREAT)
    try:
        assert os.write(fd, data) == size
        assert os.pread(fd, size + 10, 0) == data
    finally:
        os.close(fd)
    assert (ring / "f").read_bytes() == data
    assert ring.backing("f").read_bytes() == data


@needs_ring
def test_names_and_attributes_arrive(ring):
    long = "n" * 255
    os.mkdir(ring / long, 0o750)
    os.symlink("t" * 4000, ring / long / "link")
    assert os.readlink(ring / long / "link") == "t" * 4000
    (ring / "f").write_bytes(b"1")
    os.setxattr(ring / "f", "user.a", b"v" * 3000)
    assert os.getxattr(ring / "f", "user.a") == b"v" * 3000
    assert os.listxattr(ring / "f") == ["user.a"]
    os.removexattr(ring / "f", "user.a")
    os.link(ring / "f", ring / "h")
    os.mkfifo(ring / "p", 0o600)
    os.utime(ring / "f", ns=(1, 2_000_000_000))
    assert os.stat(ring / "p").st_mode & 0o777 == 0o600
    for i in range(2000):
        os.symlink("x", ring / long / f"{i:0200}")
    assert len(os.listdir(ring / long)) == 2001


@needs_ring
def test_many_at_once(ring):
    """More clients than threads of a queue, all at once."""
    script = (
        "import os, sys\n"
        "for k in range(40):\n"
        "    for i in range(25):\n"
        "        with open(f'{sys.argv[1]}-{i}', 'w') as f: f.write(str(k))\n"
        "        assert open(f'{sys.argv[1]}-{i}').read() == str(k)\n"
    )
    before = requests(ring)
    clients = [
        subprocess.Popen(["/usr/bin/python3", "-c", script, str(n)], cwd=ring.path)
        for n in range(24)
    ]
    for c in clients:
        assert c.wait(timeout=50) == 0
    assert requests(ring) > before + 24 * 25 * 40
    assert len(os.listdir(ring.path)) == 24 * 25


# ---------------------------------------------------------------- waiting


@needs_ring
@pytest.mark.mount_options(*LONG)
def test_waiters_do_not_starve_the_queue(ring, writer):  # L3
    """All on one CPU, so all in one queue, and far more than it begins with."""
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    assert bob.sh("cat f > /dev/null")[0] == 0
    script = (
        "import os\n"
        "cpu = min(os.sched_getaffinity(0))\n"
        "os.sched_setaffinity(0, {cpu})\n"
        "for i in range(150):\n"
        "    if os.fork() == 0:\n"
        "        os.close(os.open('f', os.O_WRONLY | os.O_APPEND))\n"
        "        os._exit(0)\n"
        "for i in range(150):\n"
        "    assert os.wait()[1] == 0\n"
    )
    tasks = f"/proc/{ring.daemon.pid}/task"
    before = len(os.listdir(tasks))
    waits = bob.start("spawn", argv=["/usr/bin/python3", "-c", script], limit=30)
    wait_until(lambda: waiting(ring) == 150, "150 waiters", 20)
    assert len(os.listdir(tasks)) < before + 25, "waiting costs no thread"
    for cpu in os.sched_getaffinity(0):  # whichever queue a request goes to
        done = ring.run("taskset", "-c", str(cpu), "sh", "-c", "cat f; echo 1 > g; rm g; ls")
        assert done.stdout == b"xf\n"
    alice.close(fd)
    assert waits.result(30)[0] == 0
    assert waiting(ring) == 0


@needs_ring
@pytest.mark.mount_options(*LONG)
def test_a_signal_ends_a_wait(ring, writer):  # L3
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    bob.readfile("f")
    for _ in range(20):
        child = subprocess.Popen(
            [ring.stomp, "run", "bob", "--", "sh", "-c", "echo $$; exec 3>>f"],
            cwd=ring.path,
            stdout=subprocess.PIPE,
        )
        pid = int(child.stdout.readline())
        wait_until(lambda: waiting(ring) == 1, "a waiter")
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        child.wait(timeout=15)
        child.stdout.close()
        assert time.monotonic() - began < 10, "it waited for the lease in spite of the signal"
        wait_until(lambda: waiting(ring) == 0, "the waiter is gone")
    alice.close(fd)


def states(pid):
    """Of all its threads; none: it has ended."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return {(t / "stat").read_text().rpartition(")")[2].split()[0] for t in tasks}
    except (FileNotFoundError, ProcessLookupError):
        return set()


def in_call(pid, number):
    words = Path(f"/proc/{pid}/syscall").read_text(encoding="ascii").split()
    return words[0] == str(number)


SIGNALLED = """
import os, signal, sys
def heard(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGUSR1, heard)
fd = os.open('.stomp/events/new', os.O_RDONLY) if sys.argv[1] == 'read' else -1
print(os.getpid(), flush=True)
sys.stdin.readline()
try:
    os.read(fd, 100) if fd >= 0 else os.open('f', os.O_WRONLY | os.O_APPEND)
    print('in vain')
except KeyboardInterrupt:
    print('interrupted')
"""


@pytest.mark.mount_options("ttl=1h", "wait=1h", "settle=1ms")
@over_both
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize(("call", "is_in"), [("open", 257), ("read", 0)])  # x86-64
def test_a_signal_before_the_daemon_has_the_request_ends_the_wait(  # L3
    workspace, writer, number, call, is_in
):
    """Over io_uring the kernel tells nobody of such a signal."""
    alice = writer("alice")
    fd = alice.open("f", WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    child = subprocess.Popen(
        [workspace.stomp, "run", "bob", "--", "/usr/bin/python3", "-c", SIGNALLED, call],
        cwd=workspace.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pid, daemon = int(child.stdout.readline()), workspace.daemon.pid
    os.kill(daemon, signal.SIGSTOP)
    try:
        wait_until(lambda: states(daemon) == {"T"}, "the daemon stands still")
        child.stdin.write(b"\n")
        child.stdin.flush()
        wait_until(lambda: in_call(pid, is_in), "the call")
        os.kill(pid, number)
        # From then on it waits for the answer alone (D), or is gone: an earlier moment
        # would be one for an INTERRUPT.
        wait_until(lambda: states(pid) <= {"D", "Z"}, "it has heard the signal")
    finally:
        os.kill(daemon, signal.SIGCONT)
    try:
        said = child.communicate(timeout=SOON_S)[0]
    finally:
        child.kill()
    assert said == (b"interrupted\n" if number == signal.SIGUSR1 else b"")
    assert waiting(workspace) == 0
    alice.close(fd)


TURNS = """
import os, sys
turn, other, cpu = map(int, sys.argv[1:])
os.sched_setaffinity(0, {cpu})
for i in range(300):
    os.read(turn, 1)
    fd = os.open('f', os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    os.write(fd, b'x')
    os.close(fd)
    os.write(other, b'.')
"""


@pytest.mark.mount_options("settle=1ms")
@over_both
def test_who_comes_after_the_close_is_not_refused(workspace):  # L2, L3
    """The next one's open may overtake the release, where he runs on another CPU."""
    (workspace / "f").touch()
    pipes, cpus = [os.pipe(), os.pipe()], sorted(os.sched_getaffinity(0))
    both = [
        subprocess.Popen(
            [workspace.stomp, "run", name, "--", "/usr/bin/python3", "-c", TURNS]
            + [str(turn), str(other), str(cpu)],
            cwd=workspace.path,
            pass_fds=(turn, other),
        )
        for name, turn, other, cpu in [
            ("alice", pipes[0][0], pipes[1][1], cpus[0]),
            ("bob", pipes[1][0], pipes[0][1], cpus[-1]),
        ]
    ]
    os.write(pipes[0][1], b".")
    try:
        # One that fails takes no more turns.
        wait_until(lambda: any(p.poll() is not None for p in both), "an end", 50)
        assert [p.wait(timeout=SOON_S) for p in both] == [0, 0]
    finally:
        for p in both:
            p.kill()
            p.wait()
        for end in (end for pipe in pipes for end in pipe):
            os.close(end)
    assert (workspace / "f").read_bytes() == b"x" * 600
    assert workspace.json("refusals")["refusals"] == []


MOVING = """
import os, sys
cpus = sorted(os.sched_getaffinity(0))
for i in range(200):
    os.sched_setaffinity(0, {cpus[i % len(cpus)]})
    fd = os.open('f', int(sys.argv[1]))
    os.write(fd, b'%03d' % i)
    os.close(fd)
os.sched_setaffinity(0, {cpus[200 % len(cpus)]})
print(open('.stomp/leases').read())
"""


@over_both
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY | os.O_APPEND])
def test_each_close_ends_a_session_on_whatever_cpu(workspace, flags):  # V1, L2
    (workspace / "f").touch()
    before = len(workspace.log("f"))
    said = workspace.run_as("alice", "/usr/bin/python3", "-c", MOVING, str(flags)).stdout
    assert len(workspace.log("f")) == before + 200
    assert b"alice" not in said


# ---------------------------------------------------------------- the end


@needs_ring
@pytest.mark.mount_options(*LONG)
def test_kill_leaves_a_dead_mount_that_can_be_unmounted(ring, writer):  # V4
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", RDWR | os.O_CREAT)
    alice.write(fd, b"x")
    bob.readfile("f")
    waits = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_until(lambda: waiting(ring) == 1, "a waiter")
    ring.daemon.kill()
    ring.daemon.wait(timeout=SOON_S)
    assert waits.errno(SOON_S) in ("ECONNABORTED", "ENOTCONN")
    with pytest.raises(OSError):
        os.stat(ring / "f")
    ring.kill_daemon()
    ring.mount()
    assert (ring / "f").read_bytes() == b"x"
    assert ring.log("f")[-1]["writer"] == "alice"


STORM = """
import os
for i in range(60):
    if os.fork() == 0:
        try:
            os.close(os.open('f', os.O_WRONLY | os.O_APPEND))
        except OSError:
            pass
        os._exit(0)
for i in range(60):
    os.wait()
"""


@needs_ring
@pytest.mark.mount_options(*LONG)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_daemon_ends_in_a_storm_of_waiters(ring, writer, number):
    """Entries grow, and the daemon asks its own mount: nothing may hang on that."""
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    bob.readfile("f")
    waits = bob.start("spawn", argv=["/usr/bin/python3", "-c", STORM], limit=30)
    wait_until(lambda: waiting(ring) >= 5, "5 waiters")
    ring.daemon.send_signal(number)
    assert ring.daemon.wait(timeout=SOON_S) == (0 if number == signal.SIGTERM else -9)
    assert waits.result(20)[0] == 0
    ring.kill_daemon()


@needs_ring
@pytest.mark.mount_options(*LONG)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_also_with_waiters_and_open_files(ring, writer, number):
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", RDWR | os.O_CREAT)
    alice.write(fd, b"x")
    bob.readfile("f")
    waits = bob.start("open", path="f", flags=WRONLY, mode=0)
    wait_until(lambda: waiting(ring) == 1, "a waiter")
    ring.daemon.send_signal(number)
    assert ring.daemon.wait(timeout=SOON_S) == 0
    assert waits.errno(SOON_S) is not None
    ring.kill_daemon()
    ring.mount()
    assert ring.log("f")[-1]["writer"] == "alice"


@needs_ring
def test_a_reader_thread_and_umount_while_busy(ring):
    """Requests until the very end: the mount goes, nobody hangs."""
    stop = threading.Event()
    failed = []

    def hammer(n):
        while not stop.is_set():
            try:
                (ring / f"f{n}").write_bytes(b"1")
                os.unlink(ring / f"f{n}")
            except OSError as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=hammer, args=(n,), daemon=True) for n in range(6)]
    for t in threads:
        t.start()
    wait_until(lambda: requests(ring) > 2000, "2000 requests", 30)
    ring.daemon.send_signal(signal.SIGTERM)
    assert ring.daemon.wait(timeout=SOON_S) == 0
    stop.set()
    for t in threads:
        t.join(SOON_S)
        assert not t.is_alive()
    ring.kill_daemon()
