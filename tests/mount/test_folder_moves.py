"""A folder is renamed while things happen below it: each version is told under the name
its file had at that seq, and is its author's (V1, V3, V4)."""

import os
import sqlite3
import subprocess
import time

import pytest

MOVES = 200
MOVER = f"""
import os
print("ready", flush=True)
for n in range({MOVES // 2}):
    os.rename("d", "e")
    os.rename("e", "d")
"""


def moving(workspace):
    """A program of its own that renames d to e and back as fast as it can."""
    mover = subprocess.Popen(
        ["python3", "-c", MOVER], cwd=workspace.path, stdout=subprocess.PIPE, text=True
    )
    assert mover.stdout.readline() == "ready\n"
    return mover


def write(folder, name, content):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=folder)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def save(folder, name, content):
    write(folder, name + ".new", content)
    os.rename(name + ".new", name, src_dir_fd=folder, dst_dir_fd=folder)


def again(folder, name, content):
    os.unlink(name, dir_fd=folder)
    write(folder, name, content)


@pytest.mark.parametrize("how", [write, save, again])
def test_changes_below_a_folder_that_is_renamed_all_the_time(workspace, how):
    (workspace / "d").mkdir()
    (workspace / "d" / "f").write_bytes(b"0\n")
    folder = os.open(workspace / "d", os.O_RDONLY | os.O_DIRECTORY)
    mover = moving(workspace)
    contents = [b"0\n"]
    while mover.poll() is None:
        contents.append(b"%d\n" % len(contents))
        how(folder, "f", contents[-1])
    os.close(folder)
    assert mover.communicate(timeout=60)[0] == "" and mover.returncode == 0
    assert len(contents) > 10, "nothing happened meanwhile"
    workspace.ctl("checkpoint")
    rows = workspace.log("d/f")
    assert not [v for v in rows if v["kind"] == "external"]
    own = [v for v in rows if v["path"].endswith("/f") and v["kind"] != "delete"]
    kept = [workspace.version("d/f", v["number"]) for v in own]
    at = iter(kept)
    assert all(c in at for c in contents), [c for c in contents if c not in kept]


def test_a_daemon_killed_after_the_folder_of_an_open_file_was_renamed(
    workspace, writer
):  # V4
    alice = writer("alice")
    alice.sh("mkdir -p d/deep && echo before > d/deep/f")
    fd = alice.open("d/deep/f", os.O_WRONLY)
    alice.write(fd, b"of alice\n")
    writer("bob").sh("mv d moved && mv moved/deep moved/deeper")
    workspace.kill_daemon()
    workspace.mount()
    newest = workspace.log("moved/deeper/f")[-1]
    assert (newest["writer"], newest["kind"]) == ("alice", "write")
    assert "incomplete" in newest["flags"]
    assert workspace.version("moved/deeper/f", newest["number"]) == b"of alice\n"


def test_a_daemon_killed_between_the_rename_of_a_folder_and_its_row(unmounted, writer):  # V4
    unmounted.mount()
    unmounted.umount()
    db = sqlite3.connect(unmounted.path / ".stomp/journal.db", isolation_level=None)
    assert db.execute("SELECT count(*) FROM folder_move").fetchone() == (0,)
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    alice.sh("mkdir d && echo before > d/f && echo whole > d/closed")
    fd = alice.open("d/f", os.O_WRONLY)
    alice.write(fd, b"of alice\n")
    bob.sh("touch known")  # his row is there
    unmounted.ctl("checkpoint")
    db.execute("BEGIN IMMEDIATE")  # and no further one can be written
    call = bob.start("rename", source="d", target="e", flags=0)
    deadline = time.monotonic() + 30
    while not unmounted.backing("e").exists():
        assert time.monotonic() < deadline
    unmounted.kill_daemon()
    db.execute("ROLLBACK")
    db.close()
    del call
    unmounted.mount()
    for name, content in (("f", b"of alice\n"), ("closed", b"whole\n")):
        newest = unmounted.log(f"e/{name}")[-1]
        assert (newest["writer"], newest["kind"]) == ("alice", "write"), newest
        assert unmounted.version(f"e/{name}", newest["number"]) == content
    assert not [v for v in unmounted.log() if v["kind"] == "external"]
