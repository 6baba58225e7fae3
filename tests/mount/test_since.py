"""since/ and `stomp changes`: what is different from then (D)."""

import json
import os

import pytest


def rows(text):
    """The table as {path: (what, by)}."""
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["FILE", "WHAT", "BY"], text
    what, by, see = (lines[0].index(w) for w in ("WHAT", "BY", "TO SEE IT"))
    return {
        line[:what].strip(): (line[what:by].strip(), line[by:see].strip(), line[see:].strip())
        for line in lines[1:]
        if line.strip()
    }


def epoch_now(workspace):
    workspace.ctl("checkpoint")
    return max(v["epoch"] for v in workspace.log())


def changes(writer, workspace, *argv):
    rc, out, err = writer.spawn(workspace.stomp, "changes", *argv)
    assert rc == 0, err
    return out.decode()


def test_what_others_did_since_an_epoch(unmounted, writer):  # D
    (unmounted.path / "old").write_text("1\n2\n3\n4\n")
    (unmounted.path / "gone").write_text("x\n")
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    bob.writefile("mine", b"mine\n")
    unmounted.text("log")  # his release is handled: his version comes before alice's
    alice.writefile("both", b"a\n")
    epoch = epoch_now(unmounted)
    alice.writefile("old", b"1\n2\nthree\n4\n5\n")
    alice.writefile("new", b"n\n")
    alice.unlink("gone")
    alice.writefile("came and went", b"")
    alice.unlink("came and went")
    alice.mkdir("d")
    alice.append("both", b"b\n")
    bob.readfile("both")
    unmounted.settle()
    bob.append("both", b"c\n")
    bob.append("mine", b"more\n")
    text = bob.readfile(f".stomp/since/{epoch}").decode()
    assert rows(text) == {
        "both": ("changed +2 -0", "alice, you", "stomp diff both@1"),
        "d": ("new folder", "alice", ""),
        "gone": ("deleted +0 -1", "alice", "stomp cat gone@1"),
        "new": ("new +1 -0", "alice", "cat new"),
        "old": ("changed +2 -1", "alice", "stomp diff old@1"),
    }
    told = json.loads(bob.readfile(f".stomp/since/{epoch}.json"))
    assert told["schema"] == "stompfs/since/1" and told["me"] == "bob"
    mine = [c for c in told["changes"] if c["path"] == "mine"][0]
    assert mine["mine"] and not mine["others"] and mine["added"] == 1
    assert "mine" in changes(bob, unmounted, "--since", str(epoch))
    assert "mine" not in rows(changes(bob, unmounted, "--since", str(epoch), "--not-by", "me"))
    assert "old" not in changes(bob, unmounted, "--since", str(epoch), "--not-by", "alice")
    rc, out, _ = bob.sh("stomp=" + str(unmounted.stomp) + "; $stomp diff old@1")
    assert rc == 1 and b"+three" in out, "the command that is told shows it"


def test_since_last(workspace, writer):  # D
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("a", b"1\n")
    workspace.text("log")  # her release is handled: her version comes before bob's
    bob.writefile("b", b"1\n")
    nothing = "Nothing that others did since then is different now.\n"
    assert bob.readfile(".stomp/since/last").decode() == nothing, "his own change is a look"
    alice.writefile("a", b"2\n")
    assert rows(bob.readfile(".stomp/since/last").decode())["a"][:2] == ("changed +1 -1", "alice")
    assert bob.readfile(".stomp/since/last").decode() == nothing, "he has looked"
    alice.writefile("c", b"1\n")
    assert rows(changes(bob, workspace))["c"][1] == "alice"
    assert "Nothing" in changes(bob, workspace, "--since", "last")
    assert rows(alice.readfile(".stomp/since/-1h").decode())["b"][1] == "bob"


def test_it_is_short_whatever_happened(workspace, writer):  # D
    alice = writer("alice")
    alice.writefile("first", b"")
    workspace.text("log")
    epoch = epoch_now(workspace)
    alice.sh("for i in $(seq 120); do echo $i > f$i; done")
    text = writer("bob").readfile(f".stomp/since/{epoch}").decode()
    assert len(text.splitlines()) == 52 and "70 more" in text
    told = changes(writer("carol"), workspace, "--since", str(epoch))
    assert len(told.splitlines()) == 52 and "70 more" in told


@pytest.mark.parametrize("word", ["-", "later", "first", "1x.json", "2199-01-01"])
def test_what_is_no_moment(workspace, word):
    assert not os.path.exists(workspace / ".stomp/since" / word)
    if not word.endswith(".json"):
        done = workspace.run(workspace.stomp, "changes", "--since=" + word, check=False)
        assert done.returncode == 2 and b"--since takes a time" in done.stderr


def test_the_readme_tells_of_it(workspace):
    assert ".stomp/since/last" in workspace.text("README")
