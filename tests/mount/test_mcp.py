"""Two MCP file system servers, the real ones from npm, in one tree (S1-S8, S10, S11, S14).

alice and bob are two models; each one's tool calls go to a server of its own. The server
of write_file neither re-reads nor checks anything: what protects alice's work here is the
mount alone.
"""

import os
import re

import pytest

from mcp.client import McpServer, ToolError

pytestmark = pytest.mark.mount_options("settle=300ms", "wait=300ms")

TEN = "".join(f"line {i}\n" for i in range(1, 11))
ALICES = TEN.replace("line 3\n", "alice's\n")
BOBS = TEN.replace("line 8\n", "bob's\n")
BOTH = ALICES.replace("line 8\n", "bob's\n")

# What the server prints for the errno that the writer table has for it (S14).
READABLE = "EBUSY: resource busy or locked"


@pytest.fixture
def servers(workspace, tmp_path):
    """alice's and bob's, both initialized."""
    made = []
    with open(tmp_path / "writer-mcp.err", "wb") as log:
        try:
            for name in ("alice", "bob"):
                made.append(McpServer(workspace, name, log))
            for server in made:
                server.initialize()
            yield made
        finally:
            for server in made:
                server.stop()


def state(workspace, name):
    st = os.stat(workspace / name)
    return st.st_mode, st.st_ino, st.st_mtime_ns, (workspace / name).read_text()


def content_writers(workspace, name):
    rows = [v for v in workspace.log(name) if v["path"] == name]
    return [v["writer"] for v in rows if v["kind"] in ("write", "replace", "move")]


def told(server, tool, *arguments):
    """What the model reads of a call that fails."""
    with pytest.raises(ToolError) as raised:
        getattr(server, tool)(*arguments)
    return str(raised.value)


def known_and_changed(workspace, alice, bob, name="f.txt"):
    """bob has read alice's version 1; she has made version 2."""
    alice.write(name, TEN)
    assert bob.read(name) == TEN
    workspace.settle()
    alice.edit(name, "line 3\n", "alice's\n")
    assert (workspace / name).read_text() == ALICES
    return state(workspace, name)


def test_fresh_calls_of_every_tool_land(workspace, servers):  # S3, S10, V1, V3
    alice, bob = servers
    alice.write("f.txt", TEN)
    alice.write("f.txt", TEN + "more\n")
    assert bob.read("f.txt") == TEN + "more\n"
    workspace.settle()
    bob.write("f.txt", TEN)
    bob.edit("f.txt", "line 8\n", "bob's\n")
    assert content_writers(workspace, "f.txt") == ["alice", "alice", "bob", "bob"]
    bob.call("create_directory", path=bob.path("sub"))
    bob.move("f.txt", "sub/g.txt")
    assert (workspace / "sub/g.txt").read_text() == BOBS
    assert not (workspace / "f.txt").exists()
    assert workspace.refusals() == []
    moved = [v for v in workspace.log("sub/g.txt") if v["kind"] == "move"]
    assert [(v["writer"], v["from_path"]) for v in moved] == [("bob", "f.txt")]
    assert os.listdir(workspace.path) == ["sub"], "no temporaries"


def test_stale_write_file_is_refused_until_it_is_read(workspace, servers):  # S4, S7, S8, S11
    alice, bob = servers
    before = known_and_changed(workspace, alice, bob)
    for _ in range(2):  # a retry is judged as the first try was
        said = told(bob, "write", "f.txt", BOBS)
        assert READABLE in said, said
        assert state(workspace, "f.txt") == before
    assert os.listdir(workspace.path) == ["f.txt"], "its temporary is gone"
    first, _ = workspace.refusals("bob")
    assert first["path"] == "f.txt" and first["reason"] == "stale" and first["asked"] == "replace"
    assert (first["base"], first["current"], first["current_writer"]) == (1, 2, "alice")
    kept = workspace / f".stomp/conflicts/{first['id']}/theirs"
    assert kept.read_text() == BOBS
    # What it is told to do helps.
    why = bob.read(".stomp/why")
    assert re.search(r"f\.txt: not replaced\. alice changed it .* Read the file again", why), why
    assert bob.read("f.txt") == ALICES
    workspace.settle()
    bob.write("f.txt", BOTH)
    assert (workspace / "f.txt").read_text() == BOTH
    assert content_writers(workspace, "f.txt") == ["alice", "alice", "bob"]


def test_write_file_of_what_was_never_read_is_refused(workspace, servers):  # S4, S10
    alice, bob = servers
    alice.write("f.txt", ALICES)
    before = state(workspace, "f.txt")
    assert READABLE in told(bob, "write", "f.txt", "something else\n")
    assert state(workspace, "f.txt") == before
    bob.write("f.txt", ALICES + "and more\n")  # with all that is there it undoes nothing
    bob.write("new.txt", "bob's\n")
    assert (workspace / "f.txt").read_text() == ALICES + "and more\n"


def test_edit_file_keeps_anothers_line(workspace, servers):  # S4: a harmless edit
    alice, bob = servers
    known_and_changed(workspace, alice, bob)
    said = bob.edit("f.txt", "line 8\n", "bob's\n")
    assert "+bob's" in said
    assert (workspace / "f.txt").read_text() == BOTH
    assert workspace.refusals() == []
    assert content_writers(workspace, "f.txt") == ["alice", "alice", "bob"]


def test_edit_file_that_undoes_anothers_line_is_refused(workspace, servers):  # S4, S7
    """bob has not been shown alice's line, yet his edit takes exactly it back."""
    alice, bob = servers
    before = known_and_changed(workspace, alice, bob)
    assert READABLE in told(bob, "edit", "f.txt", "alice's\n", "line 3\n")
    assert state(workspace, "f.txt") == before
    assert bob.read("f.txt") == ALICES
    workspace.settle()
    bob.edit("f.txt", "alice's\n", "line 3\n")  # now that is a decision (S5)
    assert (workspace / "f.txt").read_text() == TEN


def test_edit_file_of_a_line_that_is_gone_is_its_own_error(workspace, servers):
    alice, bob = servers
    before = known_and_changed(workspace, alice, bob)
    assert "Could not find exact match" in told(bob, "edit", "f.txt", "line 3\n", "x\n")
    assert state(workspace, "f.txt") == before
    assert workspace.refusals() == []


def test_stale_move_file_is_refused_until_it_is_read(workspace, servers):  # S6, S8, V3
    alice, bob = servers
    before = known_and_changed(workspace, alice, bob)
    assert READABLE in told(bob, "move", "f.txt", "g.txt")
    assert state(workspace, "f.txt") == before
    assert os.listdir(workspace.path) == ["f.txt"]
    (refusal,) = workspace.refusals("bob")
    assert refusal["asked"] == "rename" and not refusal["kept"]
    assert bob.read("f.txt") == ALICES
    workspace.settle()
    bob.move("f.txt", "g.txt")
    assert (workspace / "g.txt").read_text() == ALICES
    # Onto a file that is there the server does not move at all.
    alice.write("h.txt", "alice's\n")
    assert "already exists" in told(bob, "move", "g.txt", "h.txt")
    assert (workspace / "h.txt").read_text() == "alice's\n"


def test_two_servers_without_a_launcher_are_two_writers(workspace, tmp_path):  # W1c, W2, S14
    with open(tmp_path / "writer-mcp.err", "wb") as log:
        pair = [McpServer(workspace, n, log, launch=False) for n in ("first", "second")]
        try:
            for server in pair:
                server.initialize()
            names = [re.search(r'"writer":"([^"]*)"', s.read(".stomp/me.json"))[1] for s in pair]
            assert len(set(names)) == 2
            assert all(re.fullmatch(r"mcp-server-filesystem-\d+", n) for n in names), names
            known_and_changed(workspace, *pair)
            assert READABLE in told(pair[1], "write", "f.txt", BOBS)
            assert (workspace / "f.txt").read_text() == ALICES
        finally:
            for server in pair:
                server.stop()
