"""Conflicts: refused work that is kept until somebody resolves it (S11, M, D, V8, V9);
and many refusals of one program told as one incident."""

import errno
import json
import os
import subprocess
import time

import pytest

from stomplib.workspace import octal_word
from stomplib.writer import clean_environment

pytestmark = pytest.mark.mount_options("settle=100ms", "wait=300ms")

DONE, NO, USAGE, _, FAILED = range(5)
STRANGER = 54321
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")

BASE = b"".join(b"line %d\n" % i for i in range(1, 11))
OURS = BASE.replace(b"line 1\n", b"alice's line\n")
THEIRS = BASE.replace(b"line 10\n", b"bob's line\n")
BOTH = OURS.replace(b"line 10\n", b"bob's line\n")
CLASH = BASE.replace(b"line 1\n", b"bob's first line\n")


def stomp(workspace, *args, code=DONE, cwd=None):
    """The command, run by us: not one of the writers."""
    done = subprocess.run(
        [os.fsencode(a) for a in (workspace.stomp, *args)],
        cwd=cwd or workspace.path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    done.text = done.stdout.decode(errors="surrogateescape")
    done.said = done.stderr.decode(errors="surrogateescape")
    assert done.returncode == code, (args, done.returncode, done.text, done.said)
    return done


def by(writer, workspace, *args):
    """The command as a child of a writer: (rc, out, err)."""
    rc, out, err = writer.spawn(str(workspace.stomp), *args)
    return rc, out.decode(), err.decode()


def conflict(workspace, alice, bob, name="f", theirs=THEIRS, ours=OURS):
    """bob reads, alice changes, bob's whole file is refused and kept; the id."""
    alice.writefile(name, BASE)
    assert bob.readfile(name) == BASE
    workspace.settle(3)
    alice.writefile(name, ours)
    assert bob.errno("save_by_rename", name, theirs) == "ESTALE"
    row = workspace.why(bob)[0]
    assert row["kept"]
    return row["id"]


def listed(workspace):
    return sorted(map(int, os.listdir(workspace / ".stomp/conflicts")))


def ndjson(workspace):
    return [json.loads(line) for line in workspace.text("conflicts.ndjson").splitlines()]


def unresolved(workspace):
    """As every table has it, which must be the same."""
    ids = listed(workspace)
    table = workspace.json("conflicts")
    assert sorted(c["id"] for c in table["conflicts"]) == ids
    assert sorted(c["id"] for c in ndjson(workspace)) == ids
    deadline = time.monotonic() + 5  # figures follow within one commit
    while workspace.json("status")["conflicts"] != len(ids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert f"conflicts {len(ids)} unresolved" in workspace.text("status")
    assert f"\nstompfs_conflicts {len(ids)}\n" in workspace.text("metrics")
    return ids


def side(workspace, number, name):
    return (workspace / f".stomp/conflicts/{number}/{name}").read_bytes()


def event(workspace, number):
    """The event of its resolution, which there is once."""
    found = [
        e for e in workspace.json("log")["events"]
        if e["kind"] == "resolve" and e["number"] == number
    ]
    assert len(found) == 1
    return found[0]


# ---------------------------------------------------------------- what there is


def test_a_conflict_in_every_table(workspace, writer):  # S11, D
    alice, bob = writer("alice"), writer("bob")
    assert unresolved(workspace) == []
    number = conflict(workspace, alice, bob)
    assert unresolved(workspace) == [number]
    folder = workspace / f".stomp/conflicts/{number}"
    names = {"info", "info.json", "base", "ours", "theirs", "merged"}
    assert set(os.listdir(folder)) == names
    assert all((folder / name).is_file() for name in names)
    assert side(workspace, number, "base") == BASE
    assert side(workspace, number, "ours") == OURS
    assert side(workspace, number, "theirs") == THEIRS
    assert side(workspace, number, "merged") == BOTH

    row = ndjson(workspace)[0]
    assert row["schema"] == "stompfs/conflict/1"
    assert (row["path"], row["writer"], row["current_writer"]) == ("f", "bob", "alice")
    assert (row["base"], row["current"], row["size"]) == (1, 2, len(THEIRS))
    assert row["resolved"] is None
    table = workspace.json("conflicts")
    assert table["schema"] == "stompfs/conflicts/1" and table["resolved"] == []
    about = json.loads(side(workspace, number, "info.json"))
    assert about["merges"] is True and about["newest"] == 2
    assert {k: about[k] for k in row} == row
    assert f"stomp resolve {number} --merged" in side(workspace, number, "info").decode()


def test_merged_is_there_only_where_both_fit(workspace, writer):  # M
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob, theirs=CLASH)
    assert "merged" not in os.listdir(workspace / f".stomp/conflicts/{number}")
    with pytest.raises(FileNotFoundError):
        side(workspace, number, "merged")
    assert json.loads(side(workspace, number, "info.json"))["merges"] is False
    assert "--merged" not in side(workspace, number, "info").decode()
    assert "does not merge" in stomp(workspace, "resolve", str(number), "--merged",
                                     code=NO).said
    assert (workspace / "f").read_bytes() == OURS and unresolved(workspace) == [number]


def test_merged_goes_into_what_is_there_now(workspace, writer):  # S4, M
    """What came after the refusal is in the merge; ours stays what it was."""
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    later = OURS.replace(b"line 5\n", b"alice's fifth line\n")
    alice.writefile("f", later)
    both = later.replace(b"line 10\n", b"bob's line\n")
    assert side(workspace, number, "ours") == OURS
    assert side(workspace, number, "merged") == both
    rc, out, err = by(bob, workspace, "resolve", str(number), "--merged")
    assert rc == DONE, err
    assert alice.readfile("f") == both
    assert out.split()[-1] == f"f@{workspace.log('f')[-2]['number']}"  # the undo
    # alice undoes what bob wanted to change: then nothing is left to merge
    number = conflict(workspace, alice, bob, name="g")
    alice.writefile("g", OURS.replace(b"line 10\n", b"alice's last line\n"))
    assert "merged" not in os.listdir(workspace / f".stomp/conflicts/{number}")
    alice.unlink("g")
    assert set(os.listdir(workspace / f".stomp/conflicts/{number}")) >= {"base", "ours", "theirs"}
    with pytest.raises(FileNotFoundError):
        side(workspace, number, "merged")


def test_a_refusal_without_bytes_is_no_conflict(workspace, writer):  # S6, S11
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", BASE)
    bob.readfile("f")
    workspace.settle(3)
    alice.writefile("f", OURS)
    assert bob.errno("unlink", "f") == "ESTALE"
    number = workspace.why(bob)[0]["id"]
    assert unresolved(workspace) == []
    with pytest.raises(FileNotFoundError):
        os.stat(workspace / f".stomp/conflicts/{number}")
    assert "there is no conflict" in stomp(workspace, "resolve", str(number), "--ours",
                                           code=NO).said
    with pytest.raises(OSError) as failed:
        workspace.ctl(f"resolve {number} ours")
    assert failed.value.errno == errno.ENOENT


def test_conflicts_outlive_the_mount(workspace, writer):  # V4, V9
    alice, bob = writer("alice"), writer("bob")
    first, second = conflict(workspace, alice, bob), conflict(workspace, alice, bob, "g")
    stomp(workspace, "resolve", str(first), "--ours")
    alice.stop(), bob.stop()
    workspace.kill_daemon()
    workspace.mount()
    assert unresolved(workspace) == [second]
    assert side(workspace, second, "merged") == BOTH
    assert [c["id"] for c in workspace.json("conflicts")["resolved"]] == [first]


# ---------------------------------------------------------------- resolving


def test_resolve_ours_writes_nothing(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    versions = workspace.log("f")
    rc, out, err = by(bob, workspace, "resolve", str(number), "--ours")
    assert rc == DONE, err
    assert "stays as it is" in out
    assert workspace.log("f") == versions and (workspace / "f").read_bytes() == OURS
    assert unresolved(workspace) == []
    told = event(workspace, number)
    assert (told["writer"], told["path"]) == ("bob", "f")
    assert f"conflict {number} of bob resolved by bob: ours" in told["text"]
    # nothing is destroyed: by its number it can still be looked into
    assert side(workspace, number, "theirs") == THEIRS
    assert "resolved" in side(workspace, number, "info").decode()
    row = workspace.json("conflicts")["resolved"][0]
    assert (row["resolved"]["by"], row["resolved"]["how"]) == ("bob", "ours")


@pytest.mark.parametrize("how, content", [("theirs", THEIRS), ("merged", BOTH)])
def test_resolve_writes_a_version(workspace, writer, how, content):  # V8, S5
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    os.chmod(workspace / "f", 0o750)
    count = len(workspace.log("f"))
    rc, out, err = by(bob, workspace, "resolve", str(number), f"--{how}")
    assert rc == DONE, err
    assert (workspace / "f").read_bytes() == content
    assert os.stat(workspace / "f").st_mode & 0o777 == 0o750  # it keeps the mode it has
    log = workspace.log("f")
    assert len(log) == count + 1 and log[-1]["writer"] == "bob"
    assert unresolved(workspace) == []
    assert event(workspace, number)["text"].endswith(f"by bob: {how}")
    undo = out[out.index("stomp rollback") :].split()[1:]
    by(bob, workspace, *undo)
    assert (workspace / "f").read_bytes() == OURS


def test_resolve_with_a_file(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    made = workspace.scratch / "made"
    made.write_bytes(b"what both want\n")
    stomp(workspace, "resolve", str(number), "--file", made)
    assert alice.readfile("f") == b"what both want\n"
    assert event(workspace, number)["text"].endswith(": file")
    number = conflict(workspace, alice, bob, "g")
    for wrong in (workspace.scratch / "missing", workspace.scratch):
        assert stomp(workspace, "resolve", str(number), "--file", wrong,
                     code=NO if wrong.name == "missing" else FAILED).said
        assert alice.readfile("g") == OURS and unresolved(workspace) == [number]


def test_resolve_with_the_file_itself(workspace, writer):
    """Copied onto itself it would be emptied first."""
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    assert bob.readfile("f") == OURS
    workspace.settle(3)
    bob.writefile("f", BOTH)
    versions = workspace.log("f")
    stomp(workspace, "resolve", str(number), "--file", "f")
    assert (workspace / "f").read_bytes() == BOTH
    assert workspace.log("f") == versions and unresolved(workspace) == []


def test_resolve_brings_back_what_is_gone(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.mkdir("d")
    number = conflict(workspace, alice, bob, "d/f")
    alice.unlink("d/f")
    alice.rmdir("d")
    stomp(workspace, "resolve", str(number), "--theirs")
    assert (workspace / "d/f").read_bytes() == THEIRS
    assert unresolved(workspace) == []


def test_resolve_obeys_a_lease(workspace, writer):  # V8, L3
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    fd = alice.open("f", os.O_RDWR)
    alice.pwrite(fd, b"A", 0)
    rc, _, err = by(bob, workspace, "resolve", str(number), "--theirs")
    assert rc == NO and "alice is changing it" in err
    assert unresolved(workspace) == [number]
    alice.close(fd)
    rc, _, err = by(bob, workspace, "resolve", str(number), "--theirs")
    assert rc == DONE, err
    assert (workspace / "f").read_bytes() == THEIRS


def test_reading_a_side_counts_for_that_process(workspace, writer):  # S1, S5
    """As reading the history does; ours alone says nothing of what is there now."""
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    path = f".stomp/conflicts/{number}/"
    copy = "import sys; open(sys.argv[1]).read(); open('f', 'w').write('mine\\n')"
    rc, _, _ = bob.spawn("python3", "-c", copy, path + "ours")
    assert rc != 0 and alice.readfile("f") == OURS
    for name in ("theirs", "merged", "base"):
        now = name.encode() + b"\n" + OURS
        alice.readfile("f")
        workspace.settle(3)
        alice.writefile("f", now)
        # cat has read that side, the shell that opens f has not
        rc, out, _ = bob.sh(f"cat {path}{name}; cat {path}ours > f")
        assert rc != 0 and out == side(workspace, number, name)
        assert alice.readfile("f") == now
        rc, _, err = bob.spawn("python3", "-c", copy, path + name)
        assert rc == 0, err
        assert alice.readfile("f") == b"mine\n"


def test_resolved_once(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    answer = workspace.ctl(f"resolve {number} theirs", bob)
    assert answer == {"ok": True, "id": number, "path": "f", "how": "theirs"}
    with pytest.raises(OSError) as failed:
        workspace.ctl(f"resolve {number} ours")
    assert failed.value.errno == errno.EALREADY
    said = stomp(workspace, "resolve", str(number), "--theirs", code=NO).said
    assert "was resolved before: theirs, by bob" in said
    assert (workspace / "f").read_bytes() == OURS
    event(workspace, number)


def test_two_who_resolve_at_once(workspace, writer):
    """One of them is told that the other was first."""
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    calls = [w.start("ctl", line=f"resolve {number} ours") for w in (alice, bob)]
    assert sorted(str(call.errno()) for call in calls) == ["EALREADY", "None"]
    event(workspace, number)


@root_only
def test_only_its_own_user_or_root_resolves(workspace, writer):
    os.chmod(workspace.path, 0o777)
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    line = (
        "import os; fd = os.open('.stomp/ctl', os.O_RDWR)\n"
        f"try: os.write(fd, b'resolve {number} ours')\n"
        "except OSError as e: print(e.errno, os.read(fd, 4096).decode())"
    )
    stranger = {"user": STRANGER, "group": STRANGER, "extra_groups": []}
    done = workspace.run("python3", "-c", line, **stranger)
    assert done.stdout.startswith(b"%d " % errno.EPERM) and b"another user's" in done.stdout
    for name in ("theirs", "merged", "info.json"):
        assert workspace.run("cat", f".stomp/conflicts/{number}/{name}", check=False,
                             **stranger).returncode != 0
    assert unresolved(workspace) == [number]
    workspace.ctl(f"resolve {number} ours")  # root


@root_only
def test_a_stranger_resolves_its_own(workspace, writer):
    os.chmod(workspace.path, 0o777)
    stranger = {"user": STRANGER, "group": STRANGER, "extra_groups": []}
    alice, bob = writer("alice"), writer("bob", **stranger)
    number = conflict(workspace, alice, bob)
    assert bob.readfile(f".stomp/conflicts/{number}/merged") == BOTH
    # the command goes by absolute paths, and the folders above are closed to a stranger
    assert workspace.ctl(f"resolve {number} ours", bob)["ok"]
    assert unresolved(workspace) == [] and event(workspace, number)["writer"] == "bob"


@pytest.mark.parametrize("name", [b"with blank", b"\xff\n\\x.c", "ä/ö".encode()])
def test_names_of_any_bytes(workspace, writer, name):
    alice, bob = writer("alice"), writer("bob")
    if b"/" in name:
        alice.mkdir(os.path.dirname(name))
    number = conflict(workspace, alice, bob, name)
    row = ndjson(workspace)[0]
    assert row["word"] == octal_word(name)
    done = stomp(workspace, "resolve", str(number), "--merged")
    assert (workspace / name).read_bytes() == BOTH
    assert "stomp rollback" in done.text
    assert unresolved(workspace) == []


# ---------------------------------------------------------------- the command


def test_conflicts_as_a_table(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    assert "No conflict" in stomp(workspace, "conflicts").text
    first, second = conflict(workspace, alice, bob), conflict(workspace, alice, bob, "g")
    lines = stomp(workspace, "conflicts").text.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", str(second), str(first)]
    assert lines[1].split()[-1] == "g" and "bob" in lines[1] and "alice" in lines[1]
    stomp(workspace, "resolve", str(first), "--ours")
    assert [c["id"] for c in json.loads(stomp(workspace, "conflicts", "--json").text)
            ["conflicts"]] == [second]
    assert "resolved" not in json.loads(stomp(workspace, "conflicts", "--json").text)
    shown = stomp(workspace, "conflicts", "--all").text.splitlines()
    assert len(shown) == 3 and "ours (" not in shown[1] and "ours (" in shown[2]
    table = json.loads(stomp(workspace, "conflicts", "--json", "--all").text)
    assert [c["id"] for c in table["resolved"]] == [first]


def test_conflicts_show(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    number = conflict(workspace, alice, bob)
    text = stomp(workspace, "conflicts", "show", str(number)).text
    assert text.startswith("f: not ")
    ours, theirs = text[text.index("base to ours") :].split("base to theirs")
    assert "-line 1\n+alice's line\n" in ours and "bob's line" not in ours
    assert "-line 10\n+bob's line\n" in theirs and "alice's line" not in theirs
    assert "no conflict 999" in stomp(workspace, "conflicts", "show", "999", code=NO).said


@pytest.mark.parametrize(
    "args, said",
    [
        (["resolve"], "say what to work on"),
        (["resolve", "1"], "one of --ours, --theirs, --merged, --file F"),
        (["resolve", "1", "--ours", "--theirs"], "one of --ours"),
        (["resolve", "x", "--ours"], "a conflict is a number"),
        (["conflicts", "show", "x"], "a conflict is a number"),
    ],
)
def test_wrong_command_lines(workspace, args, said):
    assert said in stomp(workspace, *args, code=USAGE).said


def test_the_readme_says_how(workspace):  # S11
    readme = workspace.text("README")
    assert "stomp conflicts show ID" in readme and "stomp resolve ID" in readme


# ---------------------------------------------------------------- incidents

FILES = [f"file-{i:02}.c" for i in range(30)]


def repository(workspace, alice):
    """A committed tree, in which alice then edits every file."""
    for name in FILES:
        alice.writefile(name, b"committed\n")
    rc, _, err = alice.sh(
        "git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm one"
    )
    assert rc == 0, err


def incidents(workspace):
    return [e for e in workspace.json("log")["events"] if e["kind"] == "incident"]


def test_a_sweep_is_one_incident(workspace, writer):  # S6, S10
    alice, bob = writer("alice"), writer("bob")
    repository(workspace, alice)
    for name in FILES:
        alice.writefile(name, b"alice's work on " + name.encode() + b"\n")
    rc, _, err = bob.sh("git checkout .")
    assert rc != 0
    for name in FILES:
        assert (workspace / name).read_bytes() == b"alice's work on " + name.encode() + b"\n"

    refused = workspace.refusals("bob")
    assert sorted({r["path"] for r in refused}) == FILES  # each is told
    assert len({r["pid"] for r in refused}) == 1
    lines = [line for line in workspace.text("log").splitlines() if "  refused  " in line]
    assert len(lines) == 1
    said = "incident: git checkout . (bob) was refused 30 files: file-00.c, file-01.c, "
    assert said in lines[0] and lines[0].endswith("…") and "  30 files  " in lines[0]
    (told,) = incidents(workspace)
    assert told["files"] == FILES and told["refusals"] == len(refused)
    assert (told["writer"], told["pid"]) == ("bob", refused[0]["pid"])
    assert told["number"] == min(r["id"] for r in refused)
    assert said in told["text"] and told["command"] == "git checkout ."

    shown = [line for line in stomp(workspace, "log").text.splitlines() if said in line]
    assert len(shown) == 1 and shown[0].split()[-1] == "…"
    assert said in stomp(workspace, "log", "-n", "1").text  # the newest of all
    assert said in stomp(workspace, "log", "--writer", "bob").text
    assert "incident" not in stomp(workspace, "log", "--writer", "alice").text
    assert "incident" not in stomp(workspace, "log", FILES[0]).text


def test_incidents_of_two_sweeps_and_of_two_writers(workspace, writer):
    alice, bob, carol = writer("alice"), writer("bob"), writer("carol")
    repository(workspace, alice)
    for name in FILES:
        alice.writefile(name, b"alice's\n")
    assert bob.sh("rm -f file-0*.c")[0] != 0
    assert carol.sh("rm -f file-1*.c")[0] != 0
    time.sleep(2.2)
    assert bob.sh("rm -f file-0*.c")[0] != 0
    told = incidents(workspace)
    assert [t["writer"] for t in told] == ["bob", "carol", "bob"]  # newest first
    assert [len(t["files"]) for t in told] == [10, 10, 10]
    assert [t["seq"] for t in told] == sorted((t["seq"] for t in told), reverse=True)


def test_tries_of_one_file_are_no_incident(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", BASE)
    bob.readfile("f")
    workspace.settle(3)
    alice.writefile("f", OURS)
    for _ in range(3):
        assert bob.errno("unlink", "f") == "ESTALE"
        time.sleep(0.25)  # not the kernel's second try of one call
    assert incidents(workspace) == []
    text = workspace.text("log")
    assert text.count("  refused  ") == len(workspace.refusals("bob")) >= 2
    assert "incident" not in text
