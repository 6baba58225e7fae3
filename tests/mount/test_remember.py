"""What is known of names that are not in use: bounded, and what is forgotten does no harm.

A file whose inode the kernel forgot, or whose name was removed, stays known whole, then as
a trace, then not at all (fs/lineage.h). Then the journal has to be enough.
"""

import os
import re
import time
from pathlib import Path

import pytest

WHOLE = 1024  # LINEAGES_WHOLE
LIMIT = 64 << 10

pytestmark = [
    pytest.mark.mount_options("remember=64K", "settle=400ms", "wait=300ms"),
    pytest.mark.timeout(120),
]

TEN = b"".join(b"line %d\n" % i for i in range(1, 11))
ALICES = TEN.replace(b"line 3", b"alice's")
BOBS = TEN.replace(b"line 7", b"bob's")
DROP = Path("/proc/sys/vm/drop_caches")
needs_drop = pytest.mark.skipif(
    not os.access(DROP, os.W_OK), reason="the kernel cannot be told to forget inodes"
)


def drop_inodes(workspace, limit_s=30):
    """Make the kernel forget all that nobody has open."""
    end = time.monotonic() + limit_s
    while metrics(workspace)["inodes"] > 1:
        assert time.monotonic() < end, f"the kernel does not forget: {metrics(workspace)}"
        DROP.write_text("2\n")
        time.sleep(0.01)


def metrics(workspace):
    pairs = re.findall(r"^stompfs_(\w+) (\d+)$", workspace.text("metrics"), re.M)
    return {name: int(value) for name, value in pairs}


def churn(workspace, n, prefix="churn"):
    """n names that come and go."""
    for i in range(n):
        path = workspace / f"{prefix}-{i}"
        path.write_bytes(b"x")
        path.unlink()
    workspace.ctl("checkpoint")


def forget(workspace):
    """Until of all names that were known nothing is."""
    known = metrics(workspace)
    drop_inodes(workspace)
    aim = known["forgotten_names_total"] + known["remembered_names"] + known["inodes"]
    for i in range(20):
        if metrics(workspace)["forgotten_names_total"] > aim:
            return
        churn(workspace, 400, f"forget-{i}")
    pytest.fail(f"not forgotten: {metrics(workspace)}")


def test_names_that_come_and_go_take_bounded_memory(workspace):
    names = 3000
    churn(workspace, names)
    churn(workspace, 100, "more")  # what had to wait for the journal goes as well
    m = metrics(workspace)
    assert m["remembered_max_bytes"] == LIMIT
    assert m["remembered_bytes"] <= LIMIT
    assert 0 < m["remembered_names"] <= WHOLE + LIMIT // 100
    assert m["forgotten_names_total"] + m["remembered_names"] == names + 100


@needs_drop
def test_what_was_forgotten_is_still_somebodys(workspace, writer):  # S2, S3, S6
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    alice.writefile("f", ALICES)
    alice.writefile("gone", TEN)
    alice.unlink("gone")
    forget(workspace)
    assert bob.errno("writefile", "f", BOBS) == "ESTALE"
    assert bob.errno("unlink", "f") == "ESTALE"
    assert (workspace / "f").read_bytes() == ALICES
    alice.writefile("f", TEN)
    bob.writefile("gone", BOBS)
    versions = workspace.log("f")
    assert [(v["number"], v["writer"]) for v in versions] == [(n, "alice") for n in (1, 2, 3)]
    assert [v["kind"] for v in workspace.log("gone")][:2] == ["write", "delete"]
    assert [v["number"] for v in workspace.log("gone")] == [1, 2, 3]


@needs_drop
def test_a_read_within_the_attempt_is_no_knowledge_of_what_was_forgotten(
    workspace, writer
):  # S1, S2, S4: bob began before the version was made
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    bob.readfile("f")
    workspace.settle()
    alice.writefile("f", ALICES)
    forget(workspace)
    assert bob.readfile("f") == ALICES
    assert bob.errno("writefile", "f", BOBS) == "ESTALE", "it takes alice's line back"
    assert (workspace / "f").read_bytes() == ALICES
    bob.readfile("f")
    workspace.settle()
    bob.writefile("f", BOBS)
    assert workspace.log("f")[-1]["writer"] == "bob"


@needs_drop
def test_a_later_process_may_edit_what_was_forgotten(workspace, writer):  # S2
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", ALICES)
    forget(workspace)
    assert bob.sh("sed -i 's/line 7/later/' f")[0] == 0
    assert b"later" in (workspace / "f").read_bytes()
    assert b"alice's" in (workspace / "f").read_bytes()


@needs_drop
def test_who_read_it_is_known_while_there_is_room(workspace, writer):  # S1: the trace
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    bob.readfile("f")
    workspace.settle()
    drop_inodes(workspace)
    churn(workspace, WHOLE + 50)
    m = metrics(workspace)
    assert m["forgotten_names_total"] == 0 and m["remembered_bytes"] > 0
    bob.writefile("f", BOBS)  # not read again
    assert [v["writer"] for v in workspace.log("f")] == ["alice", "bob"]
    assert not workspace.refusals()


@needs_drop
def test_renames_of_what_was_forgotten_are_followed(workspace, writer):  # V3
    alice, bob = writer("alice"), writer("bob")
    (workspace / "d").mkdir()
    alice.writefile("d/a", TEN)
    alice.rename("d/a", "d/b")
    alice.rename("d", "e")
    forget(workspace)
    assert bob.errno("writefile", "e/b", BOBS) == "ESTALE"
    alice.writefile("e/b", ALICES)
    rows = [(v["path"], v["number"], v["kind"]) for v in workspace.log("e/b")]
    assert rows[0][0] == "d/a" and rows[-1] == ("e/b", rows[-1][1], "write")
    assert {v["writer"] for v in workspace.log("e/b")} == {"alice"}


@pytest.mark.mount_options("linger=30s")
def test_a_lease_that_lingers_is_not_forgotten(workspace, writer):  # L2, L3
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", TEN)
    alice.unlink("f")
    churn(workspace, 2 * WHOLE)
    assert bob.errno("writefile", "f", BOBS) == "EAGAIN"
    assert not (workspace / "f").exists()
