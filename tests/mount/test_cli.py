"""The stomp command: what it answers, prints and returns (docs/STOMP-FOLDER.md).

The first half reads a .stomp folder laid out by hand, for what a live one does not show
at will (two midnights, a journal in trouble); the second half works on a mount.
"""

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from stomplib.calls import elsewhere
from stomplib.processes import stop_process
from stomplib.workspace import find_build, mounts_on
from stomplib.writer import clean_environment

DONE, NO, USAGE, NO_WORKSPACE, FAILED = range(5)
STOMP = find_build() / "cli" / "stomp"
COMMANDS = "mount umount run status top log changes blame diff cat rollback restore report lease why conflicts resolve policy doctor agents pin gc watch".split()


def stomp(cwd, *args, code=DONE, env=None, timeout=30):
    """Run the command as a pipe's neighbour; its output as text."""
    done = subprocess.run(
        [os.fsencode(STOMP)] + [os.fsencode(a) for a in args],
        cwd=cwd,
        env=clean_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    done.text = done.stdout.decode(errors="surrogateescape")
    done.said = done.stderr.decode(errors="surrogateescape")
    assert done.returncode == code, (args, done.returncode, done.text, done.said)
    assert "\033" not in done.text, "colours went into a pipe"
    return done


def on_terminal(cwd, *args, env=None, columns=80):
    """Run it on a terminal of its own: what the terminal got."""
    pid, master = pty.fork()
    if pid == 0:
        try:
            os.chdir(cwd)
            size = struct.pack("HHHH", 24, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            environment = clean_environment({"TERM": "xterm", "PAGER": "", **(env or {})})
            os.execve(STOMP, [os.fsencode(STOMP), *map(os.fsencode, args)], environment)
        finally:
            os._exit(99)
    got = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.2)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the other side is closed
            break
        if not piece:
            break
        got += piece
    os.close(master)
    if time.monotonic() >= deadline:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, got.decode().replace("\r\n", "\n")


# ---------------------------------------------------------------- a folder laid by hand


def version(path, number, kind="write", writer="alice", **fields):
    row = {
        "seq": number,
        "time": "2001-02-03T04:05:06.789Z",
        "path": path,
        "number": number,
        "kind": kind,
        "writer": writer,
        "epoch": 0,
        "base": number - 1,
        "size": 4,
        "mode": "0644",
        "content": None if kind in ("delete", "rmdir", "mkdir") else "0" * 32,
        "flags": [],
        "from_path": None,
        "from_number": 0,
        "rule": "run",
        "pid": 10,
        "command": "sh",
    }
    row.update(fields)
    return row


class Laid:
    def __init__(self, root):
        self.root = root
        (root / "src").mkdir(parents=True)
        (root / ".stomp" / "history").mkdir(parents=True)
        self.table("status", version="0.1.0", mountpoint=str(root), pid=1, health="ok",
                   versions=77, journal_bytes=12345, libfuse="3.14.0")
        (root / ".stomp" / "status").write_text("health    ok\n")
        self.table("log", versions=[])
        self.table("leases", leases=[])
        self.table("refusals", refusals=[])
        self.refusals()

    def table(self, name, schema=None, **content):
        path = self.root / ".stomp" / f"{name}.json"
        path.write_text(json.dumps({"schema": f"stompfs/{schema or name}/1", **content}))

    def refusals(self, *rows):
        for name in ("why", "refusals"):
            self.table(name, "refusals", refusals=list(rows))
        (self.root / ".stomp" / "why").write_text("".join(r["text"] + "\n" for r in rows))

    def history(self, path, rows, **contents):
        """Versions of a path, newest first; contents: _1=b"…"."""
        folder = self.root / ".stomp" / "history" / path
        folder.mkdir(parents=True)
        (folder / "log.json").write_text(
            json.dumps({"schema": "stompfs/log/1", "versions": rows})
        )
        for name, data in contents.items():
            (folder / name.strip("_")).write_bytes(data)

    def __call__(self, *args, **kw):
        return stomp(self.root, *args, **kw)


@pytest.fixture
def laid(tmp_path):
    return Laid(tmp_path / "laid")


def test_help_names_every_command_and_has_an_example(tmp_path):
    text = stomp(tmp_path, "--help").text
    assert stomp(tmp_path, "help").text == text
    assert all(re.search(rf"^  {name} ", text, re.M) for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
    assert "example\n  stomp" in text and "Exit codes" in text
    assert stomp(tmp_path, code=USAGE).said == text, "without a command: how to use it"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(tmp_path, name):
    text = stomp(tmp_path, name, "--help").text
    assert stomp(tmp_path, "help", name).text == text
    assert text.startswith(f"usage: stomp {name}") and "\nexample\n  stomp" in text


@pytest.mark.parametrize("verb", ["acquire", "renew", "release", "break", "list"])
def test_help_of_a_lease_verb(tmp_path, verb):
    text = stomp(tmp_path, "lease", verb, "--help").text
    assert text.startswith(f"usage: stomp lease {verb}") and "\nexample\n  stomp" in text


def test_version(tmp_path):
    assert re.fullmatch(r"stomp \d+\.\d+\.\d+\n", stomp(tmp_path, "--version").text)


@pytest.mark.parametrize(
    "line, hint",
    [
        ("statsu", "did you mean `stomp status`?"),
        ("rolback x@1", "did you mean `stomp rollback`?"),
        ("unmount x", "did you mean `stomp umount`?"),
        ("frobnicate", "`stomp help` lists"),
        ("--versoin", "did you mean `stomp --version`?"),
        ("help statsu", "did you mean `stomp status`?"),
        ("log --jsn", "did you mean --json?"),
        ("log --xyzzy", "there is no option --xyzzy"),
        ("log -z", "there is no option -z"),
        ("log -n 0", "-n takes a number from 1, not 0"),
        ("log -n", "-n needs a value"),
        ("log a b", "one argument too many: b"),
        ("status --json=1", "--json takes no value"),
        ("cat a", "a@N"),
        ("rollback a", "a@N"),
        ("cat", "say what to work on"),
        ("lease", "usage: stomp lease"),
        ("lease aquire x", "did you mean `acquire`?"),
        ("lease acquire x --ttl soon", "a span like 30s"),
        ("restore", "say what to work on"),
        ("mount", "say what to work on"),
        ("umount", "say what to work on"),
        ("doctor a b", "one argument too many: b"),
        ("agents now", "one argument too many: now"),
        ("why -n x", "-n takes a number from 1, not x"),
        ("diff a b c", "one argument too many: c"),
    ],
)
def test_a_wrong_line_says_what_is_right(laid, line, hint):
    done = laid(*line.split(), code=USAGE)
    assert hint in done.said and not done.text


@pytest.mark.parametrize(
    "line",
    ["status", "log", "log x", "diff x", "cat x@1", "rollback x@1", "restore x", "why",
     "lease list", "lease acquire x"],
)
def test_outside_a_workspace(tmp_path, line):
    done = stomp(tmp_path, *line.split(), code=NO_WORKSPACE)
    assert "is not inside a mounted workspace" in done.said and "stomp mount" in done.said


def test_an_unmounted_workspace_is_recognized(tmp_path):
    (tmp_path / "w" / ".stomp").mkdir(parents=True)
    (tmp_path / "w" / "deep").mkdir()
    done = stomp(tmp_path, "log", "w/deep/x", code=NO_WORKSPACE)
    assert f"the workspace {tmp_path}/w is not mounted" in done.said


def test_the_workspace_is_found_from_below(laid):
    laid.history("src/a.c", [version("src/a.c", 1)], _1=b"one\n")
    (laid.root / "src" / "deep").mkdir()
    (laid.root / "link").symlink_to("src")
    for folder, path in [("", "src/a.c"), ("src", "a.c"), ("src/deep", "../a.c"),
                         ("", "link/a.c"), ("src", "./gone/../a.c"), ("..", "laid/src/a.c"),
                         ("/", laid.root / "src" / "a.c")]:
        done = stomp(laid.root / folder, "cat", f"{path}@1")
        assert done.text == "one\n", (folder, path)


def test_two_paths_of_different_places(laid, tmp_path):
    laid.history("a", [version("a", 1)], _1=b"")
    done = laid("diff", "a@1", tmp_path / "b", code=USAGE)
    assert "is outside the workspace" in done.said


def test_log_table(laid):
    rows = [
        version("src/gone.c", 2, "delete"),
        version("src/a.c", 3, flags=["incomplete"], writer="bob", size=123456),
        version("b\nc", 1, "move", from_path="a"),
        version("src/a.c", 1, "initial", writer=None),
    ]
    laid.table("log", versions=rows)
    lines = laid("log").text.splitlines()
    assert lines[0].split() == ["WHEN", "WRITER", "WHAT", "SIZE", "VERSION", "FILE"]
    cells = [re.split(r" {2,}", line) for line in lines[1:]]
    assert cells[0] == ["2001-02-03", "alice", "delete", "-", "@2", "src/gone.c"]
    assert cells[1] == ["2001-02-03", "bob", "write incomplete", "121K", "@3", "src/a.c"]
    assert cells[2][-1] == "b\\nc (was a)", "a name cannot break the table"
    assert cells[3][1:3] == ["-", "initial"]
    at = lines[0].index("FILE")
    assert all(line[at - 2 : at] == "  " and line[at] != " " for line in lines[1:])


def test_log_filters(laid):
    rows = [version("src/a", 2, writer="bob"), version("srcx", 1), version("src/b", 1)]
    laid.table("log", versions=rows)
    assert [l.split()[-1] for l in laid("log", "src").text.splitlines()[1:]] == ["src/a", "src/b"]
    assert len(laid("log", "-n1").text.splitlines()) == 2
    assert "bob" in laid("log", "--writer", "bob").text
    assert "no change by carol" in laid("log", "-w", "carol", code=NO).said
    assert "no version of src/x" in laid("log", "src/x", code=NO).said
    data = json.loads(laid("log", "src", "--writer=bob", "--json").text)
    assert data == {"schema": "stompfs/log/1", "versions": rows[:1]}
    raw = (laid.root / ".stomp" / "log.json").read_text()
    assert laid("log", "--json").text == raw + "\n", "unfiltered: as the daemon wrote it"


def test_json_that_is_none_is_not_passed_on(laid):
    (laid.root / ".stomp" / "leases.json").write_text('{"schema": "stompfs/leases/1", ')
    assert not laid("lease", "list", "--json", code=FAILED).text
    (laid.root / ".stomp" / "leases.json").write_text('{"schema": "something/else/1"}')
    done = laid("lease", "list", "--json", code=FAILED)
    assert "stomp doctor" in done.said and not done.text


def test_lease_list_table(laid):
    row = {"path": "src/a.c", "writer": "alice", "epoch": 12, "expires_ms": 28000,
           "handles": 1, "explicit": False, "reason": None, "waiting": ["bob", "carol"]}
    other = dict(row, path="*.c", expires_ms=-5, explicit=True, reason="rename it", waiting=[])
    laid.table("leases", leases=[row, other])
    lines = laid("lease", "list").text.splitlines()
    assert lines[1].split() == ["alice", "28", "s", "12", "bob", "carol", "src/a.c"]
    assert re.split(r" {2,}", lines[2]) == ["alice", "lapsed", "12", "-", "*.c", "rename it"]
    laid.table("leases", leases=[])
    assert laid("lease", "list").text == "Nobody holds a lease.\n"


def test_why_and_all(laid):
    assert laid("why").text == "Nothing was refused to you.\n"
    assert laid("why", "--all").text == "Nothing was refused to anybody here.\n"
    row = {"id": 31, "time": "2001-02-03T04:05:06Z", "path": "src/a.c", "asked": "open",
           "reason": "stale", "errno": "ESTALE", "writer": "bob", "current_writer": "alice",
           "holder": None, "text": "src/a.c: not written. Read it again."}
    laid.refusals(row, dict(row, id=30, text="an older one"))
    assert laid("why").text == row["text"] + "\nan older one\n"
    assert laid("why", "-n", "1").text == row["text"] + "\n"
    cells = re.split(r" {2,}", laid("why", "--all").text.splitlines()[1])
    assert cells == ["31", "2001-02-03", "bob", "open", "ESTALE", "stale", "alice", "src/a.c"]
    assert len(json.loads(laid("why", "--json", "-n1").text)["refusals"]) == 1
    assert len(json.loads(laid("why", "--json").text)["refusals"]) == 2


def test_doctor_reads_the_journals_health(laid):
    # Other machines may lack things: only the lines of the workspace are looked at.
    def checks():
        done = subprocess.run([STOMP, "doctor", "--json"], cwd=laid.root, check=False,
                              capture_output=True, env=clean_environment())
        data = json.loads(done.stdout)
        assert data["schema"] == "stompfs/doctor/1"
        assert done.returncode == (NO if data["result"] == "fail" else DONE)
        return {row["name"]: row for row in data["checks"]}

    found = checks()
    assert {"/dev/fuse", "fusermount3", "kernel", "libfuse", "stompfs", "allow_other",
            "open files", "free space", "workspace", "journal"} <= set(found)
    assert found["journal"]["state"] == "ok" and found["journal"]["todo"] is None
    laid.table("status", version="0.1.0", health="The history cannot be written: full.")
    bad = checks()["journal"]
    assert bad["state"] == "fail" and "full" in bad["found"] and bad["todo"]
    text = subprocess.run([STOMP, "doctor"], cwd=laid.root, capture_output=True, text=True,
                          check=False, env=clean_environment())
    assert text.returncode == NO
    assert re.search(r"^fail  journal      The history .*\n +→ ", text.stdout, re.M)


def test_agents_is_five_lines(tmp_path):
    lines = stomp(tmp_path, "agents").text.splitlines()
    assert len(lines) == 5 and all(line.startswith("- ") for line in lines)
    text = "\n".join(lines)
    for word in ("EAGAIN", "ESTALE", ".stomp/why", ".stomp/me", ".stomp/history/"):
        assert word in text


def test_colours_only_on_a_terminal(laid):
    laid.table("log", versions=[version("src/a.c", 1)])
    code, text = on_terminal(laid.root, "log")
    assert code == DONE and "\033[36malice\033[m" in text
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\033" not in on_terminal(laid.root, "log", env=env)[1]
    assert "\033[36m" in on_terminal(laid.root, "log", env={"NO_COLOR": ""})[1]


def test_pager_only_on_a_terminal(laid):
    pager = {"PAGER": "sed s/^/paged:/"}
    laid.table("log", versions=[version("src/a.c", 1)])
    assert "paged:" in on_terminal(laid.root, "log", env=pager)[1]
    assert "paged:" not in laid("log", env=pager).text
    code, text = on_terminal(laid.root, "log", env={"PAGER": "true"})
    assert (code, text) == (DONE, ""), "a pager that quits early is no failure"


def test_a_terminal_cuts_what_is_too_wide_a_pipe_gets_all(laid):
    long = "x" * 100 + "/" + "y" * 100
    laid.table("log", versions=[version(long, 1)])
    text = on_terminal(laid.root, "log", env={"NO_COLOR": "1"})[1]
    assert "…" in text and max(map(len, text.splitlines())) <= 80
    assert long in laid("log").text


def test_an_answer_that_cannot_be_written_is_a_failure(laid):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([STOMP, "status"], cwd=laid.root, stdout=full, check=False,
                              stderr=subprocess.PIPE, env=clean_environment())
    assert done.returncode == FAILED and b"No space left" in done.stderr


def test_restore_takes_the_mode_and_the_name_of_then(laid):
    laid.history("src/new.sh", [
        version("src/new.sh", 2, "delete", writer="bob"),
        version("src/new.sh", 1, "move", from_path="src/old.sh", content=None),
        version("src/old.sh", 4, mode="0750"),
    ])
    laid.history("src/old.sh", [version("src/old.sh", 4, mode="0750")], _4=b"#!/bin/sh\n")
    done = laid("restore", "src/new.sh")
    assert (laid.root / "src/new.sh").read_bytes() == b"#!/bin/sh\n"
    assert (laid.root / "src/new.sh").stat().st_mode & 0o7777 == 0o750
    assert "is back: version 4" in done.text and "bob deleted it" in done.text


def test_restore_of_a_folder_takes_what_the_same_process_deleted(laid):
    def gone(path, pid, data=b"x"):
        rows = [version(path, 2, "delete", pid=pid), version(path, 1)]
        laid.history(path, rows, _1=data)

    gone("d/deep/a", 50, b"a")
    gone("d/b", 50, b"b")
    gone("d/earlier", 49)
    laid.history("d/kept", [version("d/kept", 1)], _1=b"k")
    for folder in ("d/deep", "d/empty", "d"):
        path = laid.root / ".stomp/history" / folder
        path.mkdir(exist_ok=True)
        (path / "log.json").write_text(json.dumps({
            "schema": "stompfs/log/1", "versions": [version(folder, 2, "rmdir", pid=50)]}))
    done = laid("restore", "d")
    assert (laid.root / "d/deep/a").read_bytes() == b"a"
    assert (laid.root / "d/b").read_bytes() == b"b"
    assert (laid.root / "d/empty").is_dir()
    assert sorted(os.listdir(laid.root / "d")) == ["b", "deep", "empty"]
    assert "d is back with 2 files" in done.text


def test_rollback_of_a_link(laid):
    rows = [version("l", 2), version("l", 1, "symlink")]
    laid.history("l", rows, _1=b"src/a.c", _2=b"a file\n")
    (laid.root / "l").write_text("now a file")
    laid("rollback", "l@1")
    assert os.readlink(laid.root / "l") == "src/a.c"
    done = laid("rollback", "l@2", code=NO)
    assert "is a symbolic link now" in done.said and os.readlink(laid.root / "l") == "src/a.c"


# ---------------------------------------------------------------- on a mount


@pytest.fixture
def two(workspace, writer):
    """A file of two versions, by alice and by bob, beside the one it began with."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("a.c", b"one\ntwo\nthree\n")
    bob.readfile("a.c")
    workspace.settle()
    bob.writefile("a.c", b"one\nTWO\nthree\n")
    return alice, bob


def at(ws):
    return lambda *args, **kw: stomp(ws.path, *args, **kw)


def test_status(workspace):
    run = at(workspace)
    assert run("status").text.startswith("health    ok\n")
    data = json.loads(run("status", "--json").text)
    assert data["schema"] == "stompfs/status/1" and data["mountpoint"] == str(workspace.path)
    assert stomp("/", "status", workspace.path).text.startswith("health    ok\n")


def test_log_tells_who(workspace, two):
    rows = [re.split(r" {2,}", r) for r in at(workspace)("log", "a.c").text.splitlines()[1:]]
    assert [(r[1], r[4], r[5]) for r in rows[:2]] == [("bob", "@2", "a.c"), ("alice", "@1", "a.c")]
    data = json.loads(at(workspace)("log", "a.c", "--json").text)
    assert [v["writer"] for v in data["versions"]] == ["bob", "alice"]
    assert "bob" not in at(workspace)("log", "--writer", "alice").text
    assert at(workspace)("log", "nowhere", code=NO).said


def test_cat(workspace, two):
    run = at(workspace)
    assert run("cat", "a.c@1").text == "one\ntwo\nthree\n"
    assert run("cat", "a.c@2").text == "one\nTWO\nthree\n"
    assert "has no version 9; it has 1 to 2" in run("cat", "a.c@9", code=NO).said
    assert "no version of b.c is recorded" in run("cat", "b.c@1", code=NO).said


def test_diff(workspace, two, tmp_path):
    run = at(workspace)
    newest = run("diff", "a.c", code=NO).text
    assert run("diff", "a.c@1", "a.c@2", code=NO).text == newest
    assert newest.splitlines()[2:] == ["@@ -1,3 +1,3 @@", " one", "-two", "+TWO", " three"]
    assert "(alice, " in newest.splitlines()[0] and "(bob, " in newest.splitlines()[1]
    back = run("diff", "a.c@2", "a.c@1", code=NO).text
    assert "-TWO\n+two\n" in back
    assert run("diff", "a.c@2").text == "" and "no difference" in run("diff", "a.c@2").said
    assert "-two\n+TWO\n" in run("diff", "a.c@1", code=NO).text
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.c").write_text("one\ntwo\nthree\n")
    for tool in (["patch", "-p1"], ["git", "apply", "-R"]):
        subprocess.run(tool, cwd=tmp_path / "p", input=newest.encode(), check=True,
                       capture_output=True)
    assert (tmp_path / "p" / "a.c").read_text() == "one\ntwo\nthree\n"


def test_diff_of_bytes_and_of_the_last_line(workspace, writer):
    alice = writer("alice")
    alice.writefile("b", b"a\0b")
    alice.writefile("b", b"a\0c")
    alice.writefile("t", b"x")
    alice.writefile("t", b"x\n")
    assert "differ: binary" in at(workspace)("diff", "b@1", "b@2", code=NO).text
    text = at(workspace)("diff", "t@1", "t@2", code=NO).text
    assert text.splitlines()[2:] == ["@@ -1 +1 @@", "-x", "\\ No newline at end of file", "+x"]


def test_rollback_is_a_version_and_can_be_undone(workspace, two):  # V8
    run = at(workspace)
    os.chmod(workspace / "a.c", 0o755)
    done = run("rollback", "a.c@1")
    assert (workspace / "a.c").read_text() == "one\ntwo\nthree\n"
    assert (workspace / "a.c").stat().st_mode & 0o777 == 0o644, "the mode of then"
    undo = done.text.split("undo: stomp ")[1].split()
    assert [v["number"] for v in workspace.log("a.c")][:2] == [1, 2], "nothing is destroyed"
    run(*undo)
    assert (workspace / "a.c").read_text() == "one\nTWO\nthree\n"
    assert (workspace / "a.c").stat().st_mode & 0o777 == 0o755


@pytest.mark.mount_options("wait=100ms")
def test_rollback_obeys_a_lease(workspace, two):  # V8, L3, S11
    alice, bob = two
    fd = bob.open("a.c", os.O_WRONLY | os.O_APPEND)
    bob.write(fd, b"more\n")
    done = at(workspace)("rollback", "a.c@1", code=NO)
    assert "bob" in done.said and "a.c" in done.said and "refusal" in done.said
    assert (workspace / "a.c").read_text() == "one\nTWO\nthree\nmore\n"
    bob.close(fd)
    at(workspace)("rollback", "a.c@1")
    assert (workspace / "a.c").read_text() == "one\ntwo\nthree\n"


def test_rollback_of_what_is_gone(workspace, two):
    run = at(workspace)
    two[1].unlink("a.c")
    number = workspace.log("a.c")[-1]["number"]
    assert "it is a delete" in run("rollback", f"a.c@{number}", code=NO).said
    run("rollback", "a.c@2")
    assert (workspace / "a.c").read_text() == "one\nTWO\nthree\n"


def test_restore(workspace, writer):
    run, alice = at(workspace), writer("alice")
    alice.mkdir("d")
    alice.writefile("d/x", b"precious\n", mode=0o640)
    assert "is there, not deleted" in run("restore", "d/x", code=NO).said
    alice.unlink("d/x")
    alice.rmdir("d")
    done = run("restore", "d/x")
    assert (workspace / "d" / "x").read_bytes() == b"precious\n"
    assert (workspace / "d" / "x").stat().st_mode & 0o777 == 0o640
    assert "alice deleted it" in done.text
    assert "no version of y is recorded" in run("restore", "y", code=NO).said


def test_restore_after_rm_rf(workspace, writer):
    run, alice = at(workspace), writer("alice")
    for name in ("d/one", "d/deep/two", "d/deep/three"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        alice.writefile(name, name.encode())
    alice.unlink("d/one")
    assert alice.sh("rm -rf d")[0] == 0
    assert "d is back with 2 files" in run("restore", "d").text
    assert (workspace / "d/deep/two").read_text() == "d/deep/two"
    assert sorted(os.listdir(workspace / "d")) == ["deep"], "what went before stays gone"


def test_names_of_any_kind(workspace, writer):
    run, alice = at(workspace), writer("alice")
    for name in (b"a b", b"line\nbreak", b"\xff\xfe", b"it's", b"mail@3", b"back\\slash",
                 "naïve".encode(), b"-dash"):
        alice.writefile(name, b"first\n")
        alice.writefile(name, b"second\n")
        prefix = b"./" if name.startswith(b"-") else b""
        assert run("cat", prefix + name + b"@1").text == "first\n", name
        assert "-first\n+second\n" in run("diff", prefix + name + b"@1", code=NO).text
        run("rollback", prefix + name + b"@1")
        assert (workspace / name).read_bytes() == b"first\n"
        (workspace / name).unlink()
        run("restore", prefix + name)
        assert (workspace / name).read_bytes() == b"first\n"


# ---------------------------------------------------------------- leases, refusals


def as_writer(w, *args):
    """The command as a child of a writer: (code, out, err)."""
    code, out, err = w.spawn(str(STOMP), *args)
    return code, out.decode(), err.decode()


@pytest.mark.mount_options("wait=100ms")
def test_lease_by_hand(workspace, writer):  # L9
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("a b", b"1")
    code, out, err = as_writer(
        alice, "lease", "acquire", "a b", "x*", "--ttl", "5m", "--reason", "a big change")
    assert (code, err) == (DONE, "")
    assert "alice" in out and "a b" in out and "x*" in out
    row = {r["path"]: r for r in workspace.leases()}["a b"]
    assert row["explicit"] and row["reason"] == "a big change"
    assert 290_000 < row["expires_ms"] <= 300_000

    assert bob.errno("writefile", "a b", b"2") == "EAGAIN"
    code, out, err = as_writer(bob, "lease", "acquire", "free", "a b")
    assert code == NO and "alice" in err, "who holds it"
    assert not workspace.leases("free"), "all or none"
    code, out, err = as_writer(bob, "lease", "release", "a b")
    assert code == NO and err
    assert as_writer(alice, "lease", "renew", "a b", "-t", "10m")[0] == DONE
    assert workspace.leases("a b")[0]["expires_ms"] > 500_000
    listed = as_writer(bob, "lease", "list")[1]
    assert "a big change" in listed and "alice" in listed
    code, out, err = as_writer(alice, "lease", "release", "a b", "x*", "--json")
    assert code == DONE and json.loads(out)["ok"] is True
    assert bob.errno("writefile", "x1", b"2") is None


@pytest.mark.mount_options("wait=100ms")
def test_an_agent_breaks_a_lease_only_by_force(workspace, writer):  # L9
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", b"1")
    assert as_writer(alice, "lease", "acquire", "f")[0] == DONE
    code, _, err = as_writer(bob, "lease", "break", "f")
    assert code == NO and "--force" in err and workspace.leases("f")
    code, out, _ = as_writer(bob, "lease", "break", "f", "--force")
    assert (code, out) == (DONE, "broken: f\n")
    assert not [r for r in workspace.leases("f") if r["writer"] == "alice"]


def test_a_lease_line_that_is_too_long(workspace):
    names = [f"{'n' * 200}{i}" for i in range(30)]
    done = at(workspace)("lease", "acquire", *names, code=USAGE)
    assert "4096" in done.said and not workspace.leases()


@pytest.mark.mount_options("wait=100ms")
def test_why_is_ones_own(workspace, writer):  # S11
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"1")
    assert bob.errno("writefile", "f", b"2") == "EAGAIN"
    code, out, _ = as_writer(bob, "why")
    assert code == DONE and "f: " in out and "alice" in out
    rows = json.loads(as_writer(bob, "why", "--json")[1])["refusals"]
    assert [(r["path"], r["errno"], r["holder"]) for r in rows] == [("f", "EAGAIN", "alice")]
    assert not json.loads(as_writer(alice, "why", "--json")[1])["refusals"]
    assert "bob" in at(workspace)("why", "--all").text
    alice.close(fd)


# ---------------------------------------------------------------- mount, umount, doctor


@pytest.fixture
def by_hand(tmp_path):
    """A folder that the test mounts with the command itself."""
    path = tmp_path / "own"
    path.mkdir()
    (path / "f").write_text("here\n")
    yield path
    for _ in range(8):
        if not mounts_on(path):
            break
        subprocess.run(["umount", "-l", str(path)], check=False)
        time.sleep(0.1)


def has_ended(pid):
    """Gone, or a zombie that whoever adopted it has not reaped."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return ") Z " in stat.read()
    except OSError as error:
        assert error.errno in (errno.ENOENT, errno.ESRCH)
        return True


def kill_and_wait(pid):
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_mount_and_umount(by_hand, tmp_path):
    done = stomp(tmp_path, "mount", "own")
    assert f"mounted: {by_hand}" in done.text
    assert mounts_on(by_hand) == ["fuse.stompfs"]
    assert (by_hand / "f").read_text() == "here\n"
    status = json.loads(stomp(by_hand, "status", "--json").text)
    assert "is mounted already" in stomp(tmp_path, "mount", "own", code=NO).said
    (by_hand / "below").mkdir()
    said = stomp(tmp_path, "mount", "own/below", code=NO).said
    assert f"is inside the workspace {by_hand} already" in said
    assert "its root is" in stomp(tmp_path, "umount", "own/below", code=NO_WORKSPACE).said
    stomp(tmp_path, "umount", "own")
    assert not mounts_on(by_hand)
    assert has_ended(status["pid"]), "it waits until all is written"
    assert "nothing is mounted" in stomp(tmp_path, "umount", "own", code=NO_WORKSPACE).said


def test_mount_options_are_passed_on(by_hand, tmp_path):
    stomp(tmp_path, "mount", "own", "-o", "show", "-o", "wait=1s")
    assert ".stomp" in os.listdir(by_hand)
    stomp(tmp_path, "umount", "own")


def test_mount_that_cannot_be(by_hand, tmp_path):
    assert "No such file" in stomp(tmp_path, "mount", "nowhere", code=NO).said
    assert "is not a folder" in stomp(tmp_path, "mount", "own/f", code=USAGE).said
    done = stomp(tmp_path, "mount", "own", "-o", "wait=soon", code=USAGE)
    assert "wait" in done.said and not mounts_on(by_hand)
    assert "but" in stomp(tmp_path, "umount", "/proc", code=NO_WORKSPACE).said


def test_umount_names_who_uses_it(by_hand, tmp_path):
    stomp(tmp_path, "mount", "own")
    with subprocess.Popen(["sleep", "60"], cwd=by_hand) as user:
        try:
            said = stomp(tmp_path, "umount", "own", code=NO).said
            assert f"{user.pid} sleep: stands in it" in said
        finally:
            user.kill()
    with open(by_hand / "f", encoding="utf-8"):
        said = stomp(tmp_path, "umount", "own", code=NO).said
        assert f"{os.getpid()} " in said and "has a file of it open" in said
    stomp(tmp_path, "umount", "own")


def test_a_copy_of_the_mount_elsewhere_is_named(by_hand, tmp_path):
    """A container's mount namespace keeps the daemon: umount says whose, and does not wait
    for what may never come."""
    stomp(tmp_path, "mount", "own")
    pid = json.loads(stomp(by_hand, "status", "--json").text)["pid"]
    copy = subprocess.Popen(elsewhere(by_hand, "sh", "-c", "echo; read -r line"),
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with copy:
        if copy.stdout.readline() != b"\n":
            pytest.skip("no mount namespaces here")
        said = stomp(tmp_path, "umount", "own", code=NO).said
        assert f"{by_hand} is unmounted here" in said
        assert f"  {copy.pid} sh: has it in its mount namespace\n" in said
        assert not mounts_on(by_hand) and not has_ended(pid)
        copy.stdin.close()
    deadline = time.monotonic() + 20
    while not has_ended(pid):
        assert time.monotonic() < deadline, "the daemon outlives the last copy"
        time.sleep(0.02)


def test_a_dead_mount_is_named_and_mended(by_hand, tmp_path):
    stomp(tmp_path, "mount", "own")
    pid = json.loads(stomp(by_hand, "status", "--json").text)["pid"]
    kill_and_wait(pid)
    said = stomp(tmp_path, "log", "own/f", code=NO_WORKSPACE).said
    assert f"the mount at {by_hand} is dead" in said and "stomp mount" in said
    done = subprocess.run([STOMP, "doctor"], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env=clean_environment())
    assert done.returncode == NO
    assert re.search(rf"^fail  mounts +the daemon of {by_hand} is gone$", done.stdout, re.M)
    done = stomp(tmp_path, "mount", "own")
    assert "took away a dead mount" in done.said
    assert mounts_on(by_hand) == ["fuse.stompfs"] and (by_hand / "f").read_text() == "here\n"
    stomp(tmp_path, "umount", "own")


@pytest.mark.skipif(os.geteuid() != 0, reason="the way of root")
def test_a_dead_mount_is_replaced_without_baring_the_folder(by_hand, tmp_path):
    """Somebody writes all the time, by path: what arrives has a version, or it did not."""
    stomp(tmp_path, "mount", "own", "-o", "nosuid,dev,noexec")
    (by_hand / "sub").mkdir()
    before = mount_row(by_hand)
    stop, made = threading.Event(), []

    def write():
        while not stop.is_set():
            path = by_hand / "sub" / f"n{len(made)}"
            try:
                with open(path, "x") as f:
                    f.write("x")
            except OSError as e:
                # ENOENT would be the folder without what is in it, EAGAIN a mount that is new
                assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EEXIST), e
                if e.errno != errno.EEXIST:
                    continue
            made.append(path.name)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            pid = json.loads(stomp(by_hand, "status", "--json").text)["pid"]
            kill_and_wait(pid)
            done = stomp(tmp_path, "mount", "own", "-o", "nosuid,dev,noexec")
            assert "took away a dead mount" in done.said
            assert mount_row(by_hand) == before and len(mounts_on(by_hand)) == 1
    finally:
        stop.set()
        writer.join()
    for version in json.loads((by_hand / ".stomp/log.json").read_text())["versions"]:
        assert version["kind"] != "external" and version["writer"], version
    assert made and set(os.listdir(by_hand / "sub")) >= set(made[:-1])
    for name in made[:-1]:
        assert os.path.exists(by_hand / ".stomp/history/sub" / name / "1"), name
    stomp(tmp_path, "umount", "own")


def mount_row(path):
    """Type and options as the kernel has them."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        rows = [line.split() for line in table]
    (row,) = [r for r in rows if r[4] == str(path)]
    return row[5], row[row.index("-") + 1 :]


def test_a_dead_mount_can_be_taken_away(by_hand, tmp_path):
    stomp(tmp_path, "mount", "own")
    pid = json.loads(stomp(by_hand, "status", "--json").text)["pid"]
    kill_and_wait(pid)
    stomp(tmp_path, "umount", "own")
    assert not mounts_on(by_hand)


def test_a_daemon_that_hangs_hangs_nobody(by_hand, tmp_path):
    stomp(tmp_path, "mount", "own")
    pid = json.loads(stomp(by_hand, "status", "--json").text)["pid"]
    stop_process(pid)
    try:
        said = stomp(tmp_path, "mount", "own", code=FAILED).said
        assert "does not answer" in said and "stomp umount --lazy" in said
        done = subprocess.run([STOMP, "doctor", by_hand], capture_output=True, text=True,
                              timeout=30, check=False, env=clean_environment())
        assert re.search(rf"^fail  mounts +{by_hand} does not answer$", done.stdout, re.M)
        stomp(tmp_path, "umount", "--lazy", "own")
        assert not mounts_on(by_hand)
    finally:
        kill_and_wait(pid)


def test_a_shell_beneath_the_mount_is_told(by_hand, tmp_path):
    script = f"cd own; '{STOMP}' mount . >/dev/null; '{STOMP}' log; '{STOMP}' doctor"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env=clean_environment())
    assert "stands beneath" in done.stderr and 'cd "$PWD"' in done.stderr
    assert re.search(r"^fail  this shell", done.stdout, re.M)
    stomp(tmp_path, "umount", "own")


def test_doctor_on_a_mount(workspace):
    # Mounts of tests that run beside this one may be dead by design: any exit code.
    text = subprocess.run([STOMP, "doctor"], cwd=workspace.path, capture_output=True,
                          text=True, timeout=30, check=False).stdout
    assert re.search(r"^ok    journal ", text, re.M)
    assert re.search(rf"^ok    workspace    {workspace.path}, stompfs ", text, re.M)
