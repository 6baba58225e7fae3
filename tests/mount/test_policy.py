"""The policy file: hot reload, modes, directives, `stomp policy` (P1-P3, S1, S14)."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import time

import pytest

from stomplib.writer import WRONLY, clean_environment

POLICY = ".stomp-policy"
TRUNC, APPEND = os.O_TRUNC, os.O_APPEND
# The same wait and settle for everything here; what is said about a path is tested alike.
pytestmark = pytest.mark.mount_options("wait=200ms", "settle=100ms")


def wait_for(what, timeout=10):
    """The file is read again by a thread of its own: at once, but not in the same call."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def in_force(workspace):
    """The file's part of the policy in force."""
    return workspace.text("policy").split("from its line 1 ----\n")[1]


def install(workspace, writer, text):
    """By a write in place, and wait until it holds."""
    writer.writefile(POLICY, text.encode())
    wait_for(lambda: in_force(workspace) == text)


def events(workspace):
    """Texts of the policy's events, oldest first, as the journal has them. SQLite makes
    the path of the mount out of that of the backing: so it gets a copy."""
    for name in ("journal.db", "journal.db-wal"):
        shutil.copyfile(workspace.backing(".stomp") / name, workspace.scratch / name)
    db = sqlite3.connect(workspace.scratch / "journal.db")
    try:
        rows = db.execute("SELECT text FROM v_events WHERE kind = 'policy' ORDER BY seq")
        return [text for (text,) in rows]
    finally:
        db.close()


def has_versions(workspace, name):
    workspace.ctl("checkpoint")  # the last close has its version
    return os.path.exists(workspace / f".stomp/history/{name}/log.json")


def policy(workspace, *args, code=0):
    done = workspace.run(workspace.stomp, "policy", *args, check=False, env=clean_environment())
    assert done.returncode == code, (args, done.stdout, done.stderr)
    return done.stdout.decode(), done.stderr.decode()


@pytest.fixture
def alice(workspace, writer):
    return writer("alice")


@pytest.fixture
def bob(workspace, writer):
    return writer("bob")


# ---------------------------------------------------------------- hot reload


def test_an_appended_line_holds_from_then_on(workspace, alice):  # P1
    alice.writefile("a.gen", b"1\n")
    assert has_versions(workspace, "a.gen")
    assert alice.sh(f"echo '*.gen mode=pass' >> {POLICY}")[0] == 0
    wait_for(lambda: in_force(workspace) == "*.gen mode=pass\n")
    alice.writefile("b.gen", b"1\n")
    alice.writefile("a.gen", b"2\n")
    assert not has_versions(workspace, "b.gen"), "what passes has no versions"
    assert len(workspace.log("a.gen")) == 1
    assert alice.sh(f"echo '/b.gen mode=track' >> {POLICY}")[0] == 0
    wait_for(lambda: in_force(workspace).endswith("/b.gen mode=track\n"))
    alice.writefile("b.gen", b"2\n")
    assert workspace.log("b.gen")[-1]["writer"] == "alice"
    wait_for(lambda: len(events(workspace)) == 2)
    assert events(workspace)[1].startswith("in force: 2 rules and 0 directives")


def test_a_save_by_rename_and_a_removal_are_noticed(workspace, alice):  # P1, S10
    install(workspace, alice, "*.txt mode=frozen\n")
    alice.save_by_rename(POLICY, b"*.md mode=frozen\n")
    wait_for(lambda: in_force(workspace) == "*.md mode=frozen\n")
    alice.writefile("a.txt", b"x")
    assert alice.errno("writefile", "a.md", b"x") == "EROFS"
    alice.rename(POLICY, "elsewhere")
    wait_for(lambda: in_force(workspace) == "")
    alice.writefile("a.md", b"x")
    alice.rename("elsewhere", POLICY)
    wait_for(lambda: in_force(workspace) == "*.md mode=frozen\n")
    alice.unlink(POLICY)
    wait_for(lambda: in_force(workspace) == "")


def test_a_bad_line_leaves_the_policy_in_force(workspace, alice):  # P1
    install(workspace, alice, "*.txt mode=frozen\n")
    alice.writefile(POLICY, b"*.md mode=frozen\n*.txt mode=gaurd\n")
    message = 'line 2: unknown mode "gaurd": did you mean "guard"?'
    wait_for(lambda: any(message in text for text in events(workspace)))
    assert f"{POLICY}: {message}; the previous policy is in force" in workspace.daemon_log()
    assert in_force(workspace) == "*.txt mode=frozen\n"
    assert alice.errno("writefile", "a.txt", b"x") == "EROFS"
    alice.writefile("a.md", b"x")
    out, said = policy(workspace, "check", "a.txt")
    assert "frozen" in out
    assert f"{POLICY} as it is now is not in force: {message}" in said
    install(workspace, alice, "*.md mode=frozen\n")
    assert alice.errno("writefile", "a.md", b"y") == "EROFS"
    alice.writefile("a.txt", b"x")


def test_a_bad_file_taken_back_is_told(workspace, alice):  # P1
    install(workspace, alice, "*.txt mode=frozen\n")
    alice.writefile(POLICY, b"%nonsense\n")
    wait_for(lambda: "nonsense" in (events(workspace) or [""])[-1])
    alice.writefile(POLICY, b"*.txt mode=frozen\n")
    wait_for(lambda: events(workspace)[-1].startswith("in force: 1 rule "))


@pytest.mark.parametrize(
    "text, message",
    [
        ("a\n", 'line 1: nothing is said about "a"'),
        ("\n*.po strategy=driver:po\n", 'line 2: no driver "po"'),
        ("* mode=pass\n", "a change of this file would go unnoticed"),
    ],
)
def test_a_bad_file_at_the_mount(unmounted, writer, text, message):  # P1, P2
    (unmounted.path / POLICY).write_text(text)
    unmounted.mount()
    assert message in unmounted.daemon_log()
    assert "the built-in policy is in force" in unmounted.daemon_log()
    assert in_force(unmounted) == ""
    alice = writer("alice")
    alice.writefile("a", b"x")
    assert has_versions(unmounted, "a")
    install(unmounted, alice, "/a mode=frozen\n")
    assert alice.errno("writefile", "a", b"y") == "EROFS"


@pytest.mark.parametrize("kind", ["fifo", "symlink", "folder"])
def test_what_is_no_file_is_no_policy(unmounted, kind):
    path = unmounted.path / POLICY
    {
        "fifo": lambda: os.mkfifo(path),
        "symlink": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
    }[kind]()
    unmounted.mount()
    assert re.search(f"{POLICY}: it cannot be used: it is ", unmounted.daemon_log())


def test_a_policy_outlives_the_mount(workspace, alice):  # P1
    install(workspace, alice, "/a mode=frozen\n")
    alice.stop()
    workspace.remount()
    assert in_force(workspace) == "/a mode=frozen\n"


# ---------------------------------------------------------------- modes


def test_frozen(workspace, alice):
    alice.writefile("f", b"old\n")
    alice.writefile("g", b"other\n")
    alice.mkdir("d")
    alice.writefile("d/x", b"x\n")
    install(workspace, alice, "/f mode=frozen\n/new mode=frozen\n/d/ mode=frozen\n")
    before = alice.stat("f")
    assert alice.errno("open", "f", WRONLY | TRUNC) == "EROFS"
    assert alice.errno("append", "f", b"x") == "EROFS"
    assert alice.errno("truncate", "f", 0) == "EROFS"
    assert alice.errno("unlink", "f") == "EROFS"
    assert alice.errno("rename", "f", "h") == "EROFS"
    assert alice.errno("rename", "g", "f") == "EROFS"
    assert alice.errno("save_by_rename", "f", b"x") == "EROFS"
    assert alice.errno("unlink", "d/x") == "EROFS"
    assert alice.errno("writefile", "new", b"x") == "EROFS"
    assert alice.readfile("f") == b"old\n"
    assert alice.stat("f") == before
    assert sorted(alice.listdir()) == sorted([POLICY, "d", "f", "g"])
    assert "mode=frozen" in workspace.why(alice)[0]["text"]


def test_append(workspace, alice, bob):  # S9
    alice.writefile("f", b"1\n")
    alice.writefile("g", b"other\n")
    install(workspace, alice, "/f mode=append\n")
    bob.append("f", b"2\n")
    alice.append("f", b"3\n")
    assert bob.sh("echo 4 >> f")[0] == 0
    assert alice.errno("writefile", "f", b"x") == "EPERM"
    assert alice.errno("writefile", "f", b"x", flags=WRONLY) == "EPERM"
    assert alice.errno("truncate", "f", 1) == "EPERM"
    assert alice.errno("unlink", "f") == "EPERM"
    assert alice.errno("rename", "f", "h") == "EPERM"
    assert alice.errno("rename", "g", "f") == "EPERM"
    assert alice.readfile("f") == b"1\n2\n3\n4\n"
    assert [v["writer"] for v in workspace.log("f")] == ["alice", "bob", "alice", "bob"]


def test_track_refuses_nothing_and_keeps_everything(workspace, alice, bob):
    install(workspace, alice, "/f mode=track\n")
    alice.writefile("f", b"1\n")
    bob.writefile("f", b"2\n")  # never read: stale where guarded
    fd = alice.open("f", WRONLY | APPEND)
    alice.call("write", fd=fd, data=b"3\n")
    bob.append("f", b"4\n")  # while alice is at it
    alice.close(fd)
    assert not workspace.refusals()
    versions = workspace.log("f")
    assert [v["number"] for v in versions] == list(range(1, len(versions) + 1))
    assert {v["writer"] for v in versions} == {"alice", "bob"}
    assert workspace.version("f", 1) == b"1\n"
    assert workspace.version("f", 2) == b"2\n"
    assert workspace.version("f", len(versions)) == b"2\n3\n4\n"


def test_pass_refuses_nothing_and_keeps_nothing(workspace, alice, bob):
    install(workspace, alice, "/out/ mode=pass\n")
    alice.mkdir("out")
    alice.writefile("out/f", b"1\n")
    bob.writefile("out/f", b"2\n")
    bob.save_by_rename("out/f", b"3\n")
    alice.rename("out/f", "out/g")
    assert alice.readfile("out/g") == b"3\n"
    assert not workspace.refusals()
    assert not has_versions(workspace, "out/f") and not has_versions(workspace, "out/g")


def test_guard_of_what_passes_by_default(workspace, alice, bob):  # P2
    alice.mkdir("node_modules")
    alice.mkdir("node_modules/ours")
    install(workspace, alice, "node_modules/ours/ mode=guard\n")
    alice.writefile("node_modules/ours/f", b"1\n")
    assert bob.errno("writefile", "node_modules/ours/f", b"2\n") == "ESTALE"
    alice.writefile("node_modules/g", b"1\n")
    bob.writefile("node_modules/g", b"2\n")


def test_spans_of_a_pattern(unmounted, writer):  # P1, L3
    unmounted.mount(["settle=100ms"])
    alice, bob = writer("alice"), writer("bob")
    install(unmounted, alice, "/soon wait=50ms\n/late wait=1500ms\n")
    took = {}
    for name in ("soon", "late"):
        alice.writefile(name, b"1\n")
        fd = alice.open(name, WRONLY | APPEND)
        alice.call("write", fd=fd, data=b"2\n")
        began = time.monotonic()
        assert bob.errno("append", name, b"x") == "EAGAIN"
        took[name] = time.monotonic() - began
        alice.close(fd)
    assert took["soon"] < 1 < took["late"]


# ---------------------------------------------------------------- directives


def me(writer, *argv):
    """As whom a child program of the writer is known."""
    code, out, said = writer.spawn(*argv, ".stomp/me.json")
    assert code == 0, said
    return json.loads(out)


def stale_after_showing(workspace, alice, bob, name, *viewer):
    """alice knows version 1; bob makes 2; a program shows it to her; she writes 1 again."""
    alice.writefile(name, b"one\ntwo\nthree\n")
    workspace.settle()
    bob.readfile(name)
    workspace.settle()
    bob.writefile(name, b"one\ntwo\nthree, by bob\n")
    assert alice.spawn(*viewer, name)[0] == 0
    workspace.settle(3)
    return alice.errno("writefile", name, b"one\nTWO\nthree\n")


def test_a_viewer_more_and_one_less(workspace, alice, bob, tmp_path):  # S1
    shows = tmp_path / "showit"
    shows.write_text("#!/bin/sh\nread -r line <\"$1\"; echo \"$line\"\n")
    shows.chmod(0o755)
    assert me(alice, "cat")["viewer"]
    assert stale_after_showing(workspace, alice, bob, "a", "cat") is None
    assert stale_after_showing(workspace, alice, bob, "b", shows) == "ESTALE"
    install(workspace, alice, "%viewer showit -cat\n")
    assert not me(alice, "cat")["viewer"]
    assert stale_after_showing(workspace, alice, bob, "c", "cat") == "ESTALE"
    assert stale_after_showing(workspace, alice, bob, "d", shows) is None


def house(tmp_path):
    """A program that runs another as its child, as agents run their tools."""
    path = tmp_path / "house-agent"
    path.write_text('#!/bin/sh\n"$@"\n')
    path.chmod(0o755)
    return str(path)


def test_an_agent_of_ones_own(workspace, alice, writer, tmp_path):  # W1c, S14
    program = house(tmp_path)
    alice.writefile("f", b"1\n")
    install(workspace, alice, "%agent house program=house-agent errno=EBUSY\n")
    first = writer("house", run=False, argv=[program])
    second = writer("house", run=False, argv=[program])
    known = [json.loads(w.readfile(".stomp/me.json")) for w in (first, second)]
    assert [k["rule"] for k in known] == ["agent", "agent"]
    assert all(re.fullmatch(r"house-\d+", k["writer"]) for k in known)
    assert known[0]["writer"] != known[1]["writer"], "two instances are two writers"
    assert first.errno("writefile", "f", b"2\n") == "EBUSY"
    assert workspace.why(first)[0]["errno"] == "EBUSY"
    assert workspace.why(first)[0]["reason"] == "stale"
    held = alice.open("f", WRONLY | APPEND)
    alice.call("write", fd=held, data=b"more\n")
    assert second.errno("append", "f", b"x") == "EBUSY"
    assert workspace.why(second)[0]["reason"] == "held"


def test_the_errno_of_an_agent_under_a_launcher(workspace, alice, writer, tmp_path):  # S14
    program = house(tmp_path)
    alice.writefile("f", b"1\n")
    install(workspace, alice, "%agent house program=house-agent errno=EBUSY\n")
    carol = writer("carol", argv=[program])
    assert json.loads(carol.readfile(".stomp/me.json"))["writer"] == "carol"
    assert carol.errno("writefile", "f", b"2\n") == "EBUSY"
    install(workspace, alice, "%agent house program=house-agent errno=ESTALE\n")
    dave = writer("dave", argv=[program])
    assert dave.errno("writefile", "f", b"2\n") == "ESTALE"


def test_the_built_in_errno_of_an_agent(workspace, alice, writer):  # S14, docs/ERRNO.md
    alice.writefile("f", b"1\n")
    for variable, expected in (("GEMINI_CLI", "EBUSY"), ("CLAUDECODE", "ESTALE")):
        agent = writer(variable, run=False, env={variable: "1"})
        assert json.loads(agent.readfile(".stomp/me.json"))["rule"] == "variable"
        assert agent.errno("writefile", "f", b"2\n") == expected


# ---------------------------------------------------------------- stomp policy


def test_check_explains(workspace, alice):  # P3
    text = "# ours\n*.md ttl=5m\n/docs/ mode=track\n\n/docs/new.md mode=frozen strategy=union\n"
    install(workspace, alice, text)
    alice.mkdir("docs")
    out, said = policy(workspace, "check", "docs/new.md")
    assert not said
    lines = [line.split(None, 3) for line in out.splitlines()]
    assert out.splitlines()[0] == "docs/new.md"
    rows = {row[0]: row[1:] for row in lines[2:]}
    assert rows["mode"] == ["frozen", f"{POLICY}:5", "/docs/new.md mode=frozen strategy=union"]
    assert rows["strategy"][:2] == ["union", f"{POLICY}:5"]
    assert rows["ttl"] == ["5m", f"{POLICY}:2", "*.md ttl=5m"]
    assert rows["wait"][1].startswith("built-in:")
    assert list(rows) == "mode strategy ttl wait linger settle checkpoint durability keep".split()


def test_check_of_several_as_json(workspace, alice):  # P3
    install(workspace, alice, "build/ mode=pass\n")
    alice.mkdir("build")
    alice.mkdir("src")
    alice.writefile("src/build", b"a file of that name\n")
    out, _ = policy(workspace, "check", "--json", "build", "src/build", "no/build/", "build/x")
    answer = json.loads(out)
    assert answer["schema"] == "stompfs/policy-check/1"
    modes = {
        (p["path"], p["folder"]): {r["key"]: r for r in p["rules"]}["mode"]
        for p in answer["paths"]
    }
    assert {key: (m["value"], m["file"]) for key, m in modes.items()} == {
        ("build", True): ("pass", POLICY),
        ("src/build", False): ("guard", None),
        ("no/build", True): ("pass", POLICY),
        ("build/x", False): ("pass", POLICY),
    }
    assert modes[("build", True)]["line"] == 1
    assert modes[("build", True)]["text"] == "build/ mode=pass"


def test_check_by_another_file(workspace, tmp_path):  # P3
    other = tmp_path / "other"
    other.write_text("\n\n*.c mode=track\n")
    out, _ = policy(workspace, "check", "--file", other, "src/a.c")
    assert re.search(rf"^mode +track +{other}:3 +\*\.c mode=track$", out, re.M)
    assert "outside the" in policy(workspace, "check", "/x", "--file", other, code=2)[1]
    other.write_text("*.c mode=trak\n")
    _, said = policy(workspace, "check", "--file", other, "src/a.c", code=1)
    assert f'{other}: line 1: unknown mode "trak": did you mean "track"?' in said


def test_show(workspace, alice):  # P3
    install(workspace, alice, "*.c mode=track\n")
    out, said = policy(workspace, "show")
    assert out == workspace.text("policy") and not said
    assert out.endswith("*.c mode=track\n") and "* mode=guard strategy=reject" in out
    # What is shown is itself a policy.
    shown = workspace.scratch / "shown"
    shown.write_text(out)
    assert "good" in policy(workspace, "test", shown)[0]


def test_test_installs_nothing(workspace, tmp_path):  # P1
    good = tmp_path / "good"
    good.write_text("*.c mode=track\n%viewer glow\n%agent house program=h\n")
    assert "1 rule and 2 directives" in policy(workspace, "test", good)[0]
    assert in_force(workspace) == ""
    bad = tmp_path / "bad"
    bad.write_text("# fine\n%agnet x\n")
    assert 'line 2: unknown directive "%agnet": did you mean "%agent"?' in (
        policy(workspace, "test", bad, code=1)[1]
    )
    assert "No such file" in policy(workspace, "test", tmp_path / "none", code=1)[1]
    done = subprocess.run(
        [workspace.stomp, "policy", "test", "-"], input=b"* mode=\n", capture_output=True,
        cwd=tmp_path, check=False, timeout=30,
    )
    assert done.returncode == 1 and b"-: line 1: unknown mode" in done.stderr


def test_what_is_not_known_names_the_nearest(workspace):
    assert "did you mean `check`?" in policy(workspace, "chek", code=2)[1]
    assert "check|show|test" in policy(workspace, code=2)[1]


# ---------------------------------------------------------------- what agents are told


def test_the_readme_says_what_holds_here(workspace, alice):  # D, S1, M
    said = "merged instead, where both changes fit"
    assert "A read counts after 100 ms" in workspace.text("README")
    assert said not in workspace.text("README"), "only where a line asks for it"
    install(workspace, alice, "*.md strategy=merge\n")
    lines = workspace.text("README").splitlines()
    assert any(said in line for line in lines)
    assert len(lines) <= 60 and max(map(len, lines)) <= 78
