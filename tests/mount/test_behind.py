"""Large contents are captured behind: who reads waits for nobody, who writes overwrites
nothing that is still to be captured, and kill -9 loses neither content nor author."""

import os
import re
import shutil
import subprocess
import time

import pytest

pytestmark = pytest.mark.mount_options("settle=20ms")

MIB = 1024 * 1024
LARGE = os.urandom(MIB) + bytes(MIB // 2) + os.urandom(MIB)
OTHER = os.urandom(2 * MIB)
THREADS = 2  # fs/behind.c

# Copying into the store stops until the pipe "go" is opened for writing.
HELD_COPIES = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t copy_file_range(int in, off64_t *off_in, int out, off64_t *off_out, size_t size,
	unsigned flags)
{
	char name[512];

	snprintf(name, sizeof(name), "%s/armed", getenv("HOLD"));
	if (access(name, F_OK) == 0) {
		snprintf(name, sizeof(name), "%s/held.%d", getenv("HOLD"), (int)gettid());
		close(open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		snprintf(name, sizeof(name), "%s/go", getenv("HOLD"));
		close(open(name, O_RDONLY | O_CLOEXEC));
	}
	return syscall(SYS_copy_file_range, in, off_in, out, off_out, size, flags);
}
"""


class Hold:
    def __init__(self, folder):
        self.folder = folder
        self.go = -1
        os.mkfifo(folder / "go")

    def arm(self):
        (self.folder / "armed").touch()

    def disarm(self):
        (self.folder / "armed").unlink(missing_ok=True)

    def wait(self, n=1):
        """Until n captures are held in the middle of their copying."""
        until(lambda: len(list(self.folder.glob("held.*"))) == n)

    def release(self):
        self.disarm()
        if self.go < 0:
            self.go = os.open(self.folder / "go", os.O_RDWR)


@pytest.fixture
def held(unmounted, tmp_path):
    """The workspace is mounted; its captures of large contents stop where they copy."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    folder, build = tmp_path / "hold", tmp_path / "build"
    folder.mkdir()
    shim = tmp_path / "hold.so"
    (tmp_path / "hold.c").write_text(HELD_COPIES)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, tmp_path / "hold.c"], check=True)
    (build / "fs").mkdir(parents=True)
    (build / "cli").symlink_to(unmounted.build / "cli")
    wrapper = build / "fs" / "stompfs"
    wrapper.write_text(
        f'#!/bin/sh\nHOLD={folder} LD_PRELOAD={shim} exec {unmounted.stompfs} "$@"\n'
    )
    wrapper.chmod(0o755)
    unmounted.build = build
    hold = Hold(folder)
    hold.arm()
    unmounted.mount()
    yield hold
    hold.release()
    os.close(hold.go)


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def metric(workspace, name):
    text = workspace.text("metrics")
    return int(re.search(rf"^stompfs_{name}(?:_total)? (\d+)$", text, re.M).group(1))


def quiet(workspace):
    names = ("captures_under_way", "leases", "journal_queued")
    until(lambda: not any(metric(workspace, name) for name in names))


def versions(workspace, name):
    quiet(workspace)
    return [(v["writer"], v["kind"], v.get("flags", [])) for v in workspace.log(name)]


def test_small_contents_are_not_given_away(workspace, writer):
    alice = writer("alice")
    alice.writefile("f", bytes(MIB - 1))
    quiet(workspace)
    assert metric(workspace, "captures") == 1
    assert metric(workspace, "captures_behind") == 0


def test_a_small_change_of_a_large_file_neither(workspace, writer):  # V6
    alice = writer("alice")
    alice.writefile("f", LARGE)
    quiet(workspace)
    assert metric(workspace, "captures_behind") == 1
    fd = alice.open("f", os.O_WRONLY)
    alice.pwrite(fd, b"x", 5000)
    alice.close(fd)
    quiet(workspace)
    assert metric(workspace, "captures_behind") == 1
    assert metric(workspace, "captures_partial") == 1


def test_readers_do_not_wait(held, unmounted, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", LARGE)
    held.wait()
    assert bob.stat("f")["size"] == len(LARGE)
    assert bob.readfile("f") == LARGE
    assert alice.readfile("f") == LARGE
    assert "f" in bob.listdir(".")
    bob.writefile("another", b"text")  # other files change as ever
    assert metric(unmounted, "captures_under_way") == 1, "and it is captured still"
    assert metric(unmounted, "captures_waited_for") == 0
    held.release()
    assert len(versions(unmounted, "f")) == 1
    assert unmounted.version("f", 1) == LARGE
    assert metric(unmounted, "captures_under_way") == 0
    assert metric(unmounted, "captures_whole") == metric(unmounted, "captures")


def test_what_is_read_meanwhile_is_known(held, unmounted, writer):  # S1, S3
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", LARGE)
    held.wait()
    fd = bob.open("f", os.O_RDONLY)
    assert bob.pread(fd, 100, 0) == LARGE[:100]
    held.release()
    quiet(unmounted)
    unmounted.settle()
    there = bob.open("f", os.O_WRONLY)
    assert bob.pwrite(there, b"bob's", 0) == 5
    bob.close(there)
    assert [v[0] for v in versions(unmounted, "f")] == ["alice", "bob"]
    assert not unmounted.refusals()


def test_what_was_not_read_stays_unknown(held, unmounted, writer):  # S6
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", LARGE)
    held.wait()
    held.release()
    quiet(unmounted)
    there = bob.open("f", os.O_WRONLY)
    assert bob.errno("pwrite", there, b"bob's", 5) == "ESTALE"
    assert unmounted.version("f", 1) == LARGE


CALLS = {
    "write": ("append", {"path": "f", "data": b"bob's"}),
    "truncate": ("truncate", {"path": "f", "size": 5}),
    "rename": ("rename", {"source": "f", "target": "g"}),
    "rename onto": ("rename", {"source": "new", "target": "f"}),
    "unlink": ("unlink", {"path": "f"}),
    "chmod": ("chmod", {"path": "f", "mode": 0o600}),
    "link": ("link", {"source": "f", "target": "g"}),
}


@pytest.mark.parametrize("change", CALLS)
def test_a_change_waits_and_overwrites_nothing(held, unmounted, writer, change):  # V1, V4
    alice, bob = writer("alice"), writer("bob")
    bob.writefile("new", b"new")
    alice.writefile("f", LARGE)
    held.wait()
    assert bob.stat("f")["size"] == len(LARGE)
    assert bob.readfile("f")[:9] == LARGE[:9]
    unmounted.settle()
    op, args = CALLS[change]
    started = bob.start(op, **args)
    until(lambda: metric(unmounted, "captures_waited_for") == 1)
    assert not started.done()
    assert (unmounted.backing("f")).read_bytes() == LARGE
    held.release()
    started.result()
    quiet(unmounted)
    assert unmounted.version("f", 1) == LARGE
    first = [v for v in unmounted.log("f") if v["number"] == 1 and v["writer"] == "alice"]
    assert len(first) == 1
    assert not unmounted.refusals()
    if change == "write":
        assert unmounted.version("f", 2) == LARGE + b"bob's"
    if change == "truncate":
        assert unmounted.version("f", 2) == LARGE[:5]


def test_what_still_waits_its_changer_captures(held, unmounted, writer):
    alice, bob = writer("alice"), writer("bob")
    for i in range(THREADS):
        alice.writefile(f"f{i}", LARGE)
    held.wait(THREADS)
    held.disarm()
    alice.writefile("g", OTHER)
    until(lambda: metric(unmounted, "captures_behind") == THREADS + 1)
    bob.append("g", b"bob's")
    assert metric(unmounted, "captures_waited_for") == 1
    assert metric(unmounted, "captures_under_way") >= THREADS, "these are held still"
    held.release()
    assert [v[0] for v in versions(unmounted, "g")] == ["alice", "bob"]
    assert unmounted.version("g", 1) == OTHER
    assert unmounted.version("g", 2) == OTHER + b"bob's"
    for i in range(THREADS):
        assert unmounted.version(f"f{i}", 1) == LARGE


@pytest.mark.parametrize("more", [0, 1], ids=["while it runs", "while it waits"])
def test_kill_loses_nothing(held, unmounted, writer, more):  # V4
    alice = writer("alice")
    files = [f"f{i}" for i in range(1 + more * THREADS)]
    for name in files:
        alice.writefile(name, LARGE)
    held.wait(min(len(files), THREADS))
    until(lambda: metric(unmounted, "captures_behind") == len(files))
    unmounted.kill_daemon()
    held.release()
    unmounted.mount()
    for name in files:
        rows = unmounted.log(name)
        assert [v["writer"] for v in rows] == ["alice"]
        assert "incomplete" not in str(rows[0].get("flags", ""))
        assert unmounted.version(name, 1) == LARGE


def test_the_end_of_the_mount_waits_for_them(held, unmounted, writer):
    alice = writer("alice")
    alice.writefile("f", LARGE)
    held.wait()
    alice.stop()
    unmounted.run("true", cwd="/")
    subprocess.run(["umount", unmounted.path], check=True)
    assert unmounted.daemon.poll() is None, "it has something to write down"
    held.release()
    assert unmounted.daemon.wait(timeout=30) == 0
    unmounted._stop_watchdog()
    unmounted.daemon = None
    unmounted.mount()
    rows = unmounted.log("f")
    assert [v["writer"] for v in rows] == ["alice"]
    assert "incomplete" not in str(rows[0].get("flags", ""))
    assert unmounted.version("f", 1) == LARGE


def test_changed_round_the_mount_meanwhile(held, unmounted, writer):
    """What was captured is not what is there any more: it is captured again."""
    alice = writer("alice")
    alice.writefile("f", LARGE)
    held.wait()
    with open(unmounted.backing("f"), "r+b") as f:
        f.write(b"outside")
    held.release()
    quiet(unmounted)
    assert unmounted.version("f", 1) == b"outside" + LARGE[7:]
