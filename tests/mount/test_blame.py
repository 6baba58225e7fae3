"""stomp blame: who wrote each line."""

import json
import random

from stomplib.writer import PYTHON


def blame(workspace, *argv, code=0):
    done = workspace.run(workspace.stomp, "blame", *argv, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return (done.stdout + done.stderr).decode()


def lines(workspace, *argv):
    """(version, writer, text) of each line."""
    table = json.loads(blame(workspace, *argv, "--json"))
    assert table["schema"] == "stompfs/blame/1"
    return [(r["version"], r["writer"], r["text"]) for r in table["lines"]]


def test_lines_and_their_writers(unmounted, writer):
    (unmounted.path / "f").write_text("one\ntwo\nthree\n")
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    assert lines(unmounted, "f") == [(0, None, w) for w in ("one", "two", "three")]
    alice.writefile("f", b"one\nTWO\nthree\n")
    bob.sh("echo four >> f")
    unmounted.ctl("checkpoint")
    assert lines(unmounted, "f") == [
        (1, None, "one"),
        (2, "alice", "TWO"),
        (1, None, "three"),
        (3, "bob", "four"),
    ]
    assert lines(unmounted, "f", "--at", "2")[3:] == []
    assert lines(unmounted, "f", "-L", "2,3") == lines(unmounted, "f")[1:3]
    text = blame(unmounted, "f").splitlines()
    assert "before the mount" in text[0] and text[0].endswith("   1) one")
    assert text[1].startswith("@2") and "alice" in text[1]
    assert text[3].startswith("@3") and "bob" in text[3] and "echo four" in text[3]
    assert "has no version 9" in blame(unmounted, "f", "--at", "9", code=1)
    assert "nowhere" in blame(unmounted, "nowhere", code=1)


def test_it_follows_renames_and_saves_by_rename(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.mkdir("d")
    alice.writefile("d/f", b"a\nb\nc\n")
    bob.readfile("d/f")
    workspace.settle()
    bob.save_by_rename("d/f", b"a\nB\nc\n", temporary="d/tmp1")
    alice.rename("d", "e")
    alice.readfile("e/f")
    workspace.settle()
    alice.rename("e/f", "g")
    alice.readfile("g")
    workspace.settle()
    alice.writefile("g", b"a\nB\nc\nd\n")
    workspace.ctl("checkpoint")
    told = lines(workspace, "g")
    assert [(w, t) for _, w, t in told] == [
        ("alice", "a"), ("bob", "B"), ("alice", "c"), ("alice", "d")]
    numbers = [n for n, _, _ in told]
    assert numbers[0] == numbers[2] == 1 and numbers[1] == 2


def test_against_a_model(workspace, writer):
    """Every line is unique, so that its origin is known: the version that first had it."""
    rng = random.Random(5)
    writers = [writer(name) for name in ("alice", "bob", "carol")]
    born, content, serial = {}, [], 0
    for version in range(1, 41):
        w = rng.choice(writers)
        for _ in range(rng.randint(1, 4)):
            at = rng.randint(0, len(content))
            if content and rng.random() < 0.4:
                del content[at - 1]
            serial += 1
            line = f"line {serial}"
            content.insert(min(at, len(content)), line)
            born[line] = (version, w.name)
        data = "".join(line + "\n" for line in content).encode()
        w.sh("cat f >/dev/null 2>&1")
        argv = [PYTHON, "-c", "import sys; open('f').read() if %d > 1 else 0; "
                "open('f', 'wb').write(sys.stdin.buffer.read())" % version]
        rc, _, err = w.spawn(*argv, stdin=data)
        assert rc == 0, err
    workspace.ctl("checkpoint")
    assert lines(workspace, "f") == [(*born[line], line) for line in content]


def test_what_is_no_text(workspace, writer):
    writer("alice").writefile("b", bytes(range(256)))
    assert "no text" in blame(workspace, "b", code=1)
