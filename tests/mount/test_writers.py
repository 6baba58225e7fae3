"""Who is writing, as the daemon sees it from outside (W1-W5).

Writers here are what they are in life: programs with a name, an environment, a terminal,
parents. `detached` takes them from under whatever runs the tests.
"""

import contextlib
import ctypes
import os
import pty
import re
import shutil
import subprocess
import sys
import time

import pytest

from stomplib.calls import needs_root
from stomplib.writer import PYTHON

pytestmark = pytest.mark.mount_options("settle=1ms", "wait=0s")

WRONLY, CREAT = os.O_WRONLY, os.O_CREAT

# Leaves its parents behind: forked twice, in a session of its own, then the program.
DETACH = (
    "import os, sys\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
# As a program of another name: exec -a NAME.
NAMED = "import os, sys; os.execv(sys.argv[2], [sys.argv[1]] + sys.argv[3:])"
# On a terminal of its own, as the leader of the session.
ON_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@pytest.fixture
def detached(workspace, writer):
    """A process with no `stomp run` and nobody of ours above it; argv comes before it."""
    made = []

    def make(name, argv=(), env=None, **popen):
        w = writer(name, run=False, argv=[PYTHON, "-c", DETACH, *argv], env=env, **popen)
        made.append(w)
        return w

    yield make
    for w in made:
        w.stop()
        wait_gone(w.pid)


def wait_gone(pid, limit=10):
    deadline = time.monotonic() + limit
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.005)


def named(name):
    """argv before a program that makes it run under this name."""
    return (PYTHON, "-c", NAMED, name)


def me(w, child=None):
    """(writer, rule) of the process itself, or of a child of it."""
    if child is None:
        text = w.readfile(".stomp/me.json").decode()
    else:
        text = w.child(child, "readfile", path=".stomp/me.json").decode()
    return who(text)


def who(text):
    found = re.search(r'"writer":"([^"]*)","rule":"([^"]*)"', text)
    return found[1], found[2]


def me_of(w, *argv):
    """The same of a program that the writer starts: it reads me.json to stdout."""
    code, out, err = w.spawn(*argv)
    assert code == 0, err
    return who(out.decode())


CAT = ("cat", ".stomp/me.json")


# ---------------------------------------------------------------- W1: which rule


@pytest.mark.mount_options("writer=box")
def test_the_name_bound_to_the_mount_comes_first(workspace, writer, detached):  # W1a
    alice = writer("alice", env={"STOMP_AGENT": "other"})
    anybody = detached("anybody", argv=named("claude"))
    assert me(alice) == me(anybody) == ("box", "mount")
    fd = alice.open("f", WRONLY | CREAT)
    alice.write(fd, b"one")
    anybody.append("f", b"two")  # the same writer: no lease to wait for
    alice.close(fd)
    assert {(r["writer"], r["rule"]) for r in workspace.log("f")} == {("box", "mount")}


def test_a_tree_under_stomp_run_bears_its_name(workspace, writer):  # W1b
    alice = writer("alice", env={"STOMP_AGENT": "other", "CLAUDE_CODE_SESSION_ID": "s1"})
    assert me(alice) == ("alice", "run")
    assert me_of(alice, *CAT) == ("alice", "run")
    assert me_of(alice, "setsid", "sh", "-c", "cat .stomp/me.json") == ("alice", "run")
    claude = writer("bob", argv=named("claude"))
    assert me(claude) == ("bob", "run"), "before the agent below it"


def test_of_two_names_the_inner_one_counts(workspace, writer):  # W1b
    alice = writer("alice")
    inner = (str(workspace.stomp), "run", "inner", "--")
    assert me_of(alice, *inner, *CAT) == ("inner", "run")
    assert me(alice) == ("alice", "run")


@pytest.mark.parametrize("agent", ["claude", "codex", "gemini", "opencode", "aider"])
def test_a_known_agent_among_the_ancestors(workspace, detached, agent):  # W1c
    w = detached("agent", argv=named(f"/opt/bin/{agent}"))
    name = f"{agent}-{w.pid}"
    assert me(w) == (name, "agent")
    assert me_of(w, *CAT) == (name, "agent")
    assert me_of(w, "setsid", "sh", "-c", "sh -c 'cat .stomp/me.json'; :") == (name, "agent")
    w.writefile("f", b"1")
    assert w.sh("setsid sh -c 'echo 2 >> f'")[0] == 0
    assert {(r["writer"], r["rule"]) for r in workspace.log("f")} == {(name, "agent")}


def test_a_script_of_that_name_is_the_agent_too(workspace, detached, tmp_path):  # W1c
    """#!/usr/bin/env node: what runs is the interpreter, what counts is the script."""
    script = tmp_path / "claude"
    script.write_text("import os, sys; os.execv(sys.argv[1], ['x'] + sys.argv[2:])")
    launcher = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    script.write_text(launcher)
    w = detached("agent", argv=(PYTHON, str(script)))
    name, rule = me(w)
    assert rule == "agent" and re.fullmatch(r"claude-\d+", name)
    assert name != f"claude-{w.pid}", "it is the script's process that gives the name"


def test_an_agent_that_an_agent_started_is_its_own(workspace, detached):  # W1c, W2
    outer = detached("outer", argv=named("claude"))
    code, out, err = outer.spawn(
        PYTHON, "-c", NAMED, "codex", "/bin/sh", "-c", "cat .stomp/me.json; :"
    )
    name, rule = who(out.decode())
    assert rule == "agent" and name.startswith("codex-"), err
    assert me(outer) == (f"claude-{outer.pid}", "agent")


def test_our_own_variable(workspace, detached):  # W1d
    w = detached("w", env={"STOMP_AGENT": "zoe", "CODEX_SESSION_ID": "abc"})
    assert me(w) == ("zoe", "variable")
    assert me_of(w, *CAT) == ("zoe", "variable")
    assert me_of(w, "env", "STOMP_AGENT=yan", *CAT) == ("yan", "variable"), "the nearest"
    assert me_of(w, "env", "-i", "/bin/cat", ".stomp/me.json") == ("zoe", "variable")


@pytest.mark.parametrize(
    "variable,agent",
    [
        ("CLAUDE_CODE_SESSION_ID", "claude"),
        ("CODEX_SESSION_ID", "codex"),
        ("QWEN_CODE_SESSION_ID", "qwen"),
        ("OPENCODE_PID", "opencode"),
    ],
)
def test_variables_that_agents_set(workspace, detached, variable, agent):  # W1d, W2
    one, two = (detached(n, env={variable: n}) for n in ("1111", "2222"))
    again = detached("again", env={variable: "1111"})
    assert me(one)[1] == "variable" and me(one)[0].startswith(agent)
    assert me(again) == me(one), "one session"
    assert me(two)[1] == "variable" and me(two) != me(one), "another one"


def test_children_that_outlive_their_agent_are_still_its(workspace, detached):  # W1d
    agent = detached("agent", argv=named("claude"))
    name = me(agent)
    env = ("env", "CLAUDE_CODE_SESSION_ID=s-77")
    assert me_of(agent, *env, *CAT) == name, "seen as its child: the id is learned"
    script = (
        "nohup setsid sh -c 'until test -e go; do sleep 0.02; done;"
        " cat .stomp/me.json > was; echo late >> f' > /dev/null 2>&1 &"
    )
    agent.writefile("f", b"1\n")
    assert agent.spawn(*env, "sh", "-c", script)[0] == 0
    agent.kill()
    wait_gone(agent.pid)
    (workspace / "go").touch()
    deadline = time.monotonic() + 10
    while (workspace / "f").read_bytes() != b"1\nlate\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert who((workspace / "was").read_text()) == (name[0], "variable")
    wait_until_last_writer(workspace, "f", name[0])
    assert not workspace.refusals()


def wait_until_last_writer(workspace, path, name):
    deadline = time.monotonic() + 10
    while workspace.log(path)[-1]["writer"] != name:
        assert time.monotonic() < deadline, workspace.log(path)
        time.sleep(0.01)


@contextlib.contextmanager
def terminal():
    master, slave = pty.openpty()
    try:
        yield os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def test_shells_on_terminals_are_two_people(workspace, detached):  # W1e
    with terminal() as one, terminal() as two:
        a = detached("a", argv=(PYTHON, "-c", ON_TERMINAL, one))
        b = detached("b", argv=(PYTHON, "-c", ON_TERMINAL, two))
        assert me(a)[1] == me(b)[1] == "terminal"
        assert me(a) != me(b)
        for argv in (CAT, ("setsid", *CAT), ("sh", "-c", "set -m; cat .stomp/me.json & wait")):
            assert me_of(a, *argv) == me(a), argv
        a.writefile("f", b"1")
        assert b.errno("writefile", "f", b"2") == "ESTALE"
        a.stop(), b.stop()
        wait_gone(a.pid), wait_gone(b.pid)


def test_the_topmost_ancestor_when_nothing_else_tells(workspace, detached):  # W1f
    a, b = detached("a"), detached("b")
    assert me(a)[1] == me(b)[1] == "ancestor"
    assert me(a) != me(b)
    assert me(a)[0].endswith(f"-{a.pid}")
    for argv in (CAT, ("setsid", *CAT), ("sh", "-c", "sh -c 'cat .stomp/me.json'; :")):
        assert me_of(a, *argv) == me(a), "sessions and groups tell nothing"


# ---------------------------------------------------------------- W2: instances, escapes


def test_two_instances_of_one_agent_are_two_writers(workspace, detached):  # W2
    one, two = (detached("agent", argv=named("claude")) for _ in range(2))
    assert me(one) == (f"claude-{one.pid}", "agent")
    assert me(two) == (f"claude-{two.pid}", "agent")
    fd = one.open("f", WRONLY | CREAT)
    one.write(fd, b"1")
    assert two.errno("open", "f", WRONLY) == "EAGAIN"
    one.close(fd)
    assert two.errno("writefile", "f", b"2") == "ESTALE"


def test_two_runs_of_one_name_at_a_time_are_two_writers(workspace, writer):  # W2
    one, two = writer("alice"), writer("alice")
    assert me(one) == ("alice", "run")
    name, rule = me(two)
    assert rule == "run" and re.fullmatch(r"alice-\d+", name)
    one.stop(), two.stop()
    assert me(writer("alice")) == ("alice", "run"), "one after the other is one writer"


ESCAPES = {
    "a child": ("cat", ".stomp/me.json"),
    "its own session": ("setsid", "-w", "cat", ".stomp/me.json"),
    "no environment": ("env", "-i", "/bin/cat", ".stomp/me.json"),
    "another name": (PYTHON, "-c", NAMED, "innocent", "/bin/cat", ".stomp/me.json"),
    "a pid namespace": ("unshare", "--pid", "--fork", "cat", ".stomp/me.json"),
    "a sandbox": (
        *("unshare", "--user", "--map-root-user", "--pid", "--mount-proc", "--fork"),
        *("env", "-i", "/bin/cat", ".stomp/me.json"),
    ),
    "all namespaces": (
        *("unshare", "--user", "--map-root-user", "--pid", "--ipc", "--uts", "--net"),
        *("--mount", "--fork", "setsid", "env", "-i", "/bin/cat", ".stomp/me.json"),
    ),
}


def run_or_skip(w, argv):
    if argv[0] == "unshare":
        tried = subprocess.run(
            [*argv[: argv.index("--fork") + 1], "true"], capture_output=True, check=False
        )
        if tried.returncode:
            pytest.skip(f"unshare is not permitted: {tried.stderr.decode().strip()}")
    return me_of(w, *argv)


@pytest.mark.parametrize("argv", ESCAPES.values(), ids=ESCAPES)
def test_nothing_escapes_from_stomp_run(workspace, writer, argv):  # W2
    assert run_or_skip(writer("alice"), argv) == ("alice", "run")


@pytest.mark.parametrize("argv", ESCAPES.values(), ids=ESCAPES)
def test_nothing_escapes_from_an_agent(workspace, detached, argv):  # W1c, W2
    w = detached("agent", argv=named("claude"))
    assert run_or_skip(w, argv) == (f"claude-{w.pid}", "agent")


def test_a_double_fork_with_no_environment_is_still_the_writer(workspace, writer):  # W2
    """Its parents are gone, its session and environment new: the launcher adopted it."""
    alice = writer("alice")
    alice.writefile("f", b"1")
    script = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "null = os.open('/dev/null', os.O_RDWR)\n"
        "for fd in range(3): os.dup2(null, fd)\n"
        "os.execve('/bin/sh', ['sh', '-c', '''\n"
        "until test -e go; do /bin/sleep 0.02; done\n"
        "/bin/cat .stomp/me.json > was.tmp; /bin/mv was.tmp was\n"
        "'''], {})\n"
    )
    assert alice.spawn(PYTHON, "-c", script)[0] == 0
    (workspace / "go").touch()
    deadline = time.monotonic() + 10
    while not (workspace / "was").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert who((workspace / "was").read_text()) == ("alice", "run")
    wait_until_last_writer(workspace, "was", "alice")


def test_a_detached_child_holds_its_writers_lease(workspace, writer):  # W2, L1
    alice, bob = writer("alice"), writer("bob")
    child = alice.fork(detach=True)
    fd = alice.child(child, "open", path="f", flags=WRONLY | CREAT)
    alice.child(child, "write", fd=fd, data=b"1")
    assert workspace.leases("f")[0]["writer"] == "alice"
    alice.append("f", b"2")
    assert bob.errno("open", "f", WRONLY) == "EAGAIN"


# ---------------------------------------------------------------- W3: threads, pids

THREADS = """
import os, threading
def in_thread(fn):
    t = threading.Thread(target=fn); t.start(); t.join()
fds = []
in_thread(lambda: fds.append(os.open("f", os.O_WRONLY | os.O_CREAT)))
in_thread(lambda: os.write(fds[0], b"one thread"))
in_thread(lambda: os.close(fds[0]))
in_thread(lambda: print(open(".stomp/me.json").read()))
print(os.getpid())
"""


def test_a_thread_is_its_process(workspace, detached):  # W3, W4
    w = detached("agent", argv=named("claude"))
    code, out, err = w.spawn(PYTHON, "-c", THREADS)
    assert code == 0, err
    text, pid = out.decode().strip().rsplit("\n", 1)
    assert who(text) == (f"claude-{w.pid}", "agent")
    (row,) = workspace.log("f")
    assert (row["writer"], row["pid"]) == (f"claude-{w.pid}", int(pid))
    assert f'"pid":{pid},' in text


def test_who_opened_it_is_who_writes_it(workspace, writer):  # W3
    """An inherited descriptor writes with the child's pid: the opener's all the same."""
    alice = writer("alice")
    fd = alice.open("f", WRONLY | CREAT)
    child = alice.fork()
    alice.child(child, "write", fd=fd, data=b"by a child")
    alice.close(fd)
    alice.child(child, "close", fd=fd)
    (row,) = workspace.log("f")
    assert (row["writer"], row["pid"]) == ("alice", alice.pid)


def test_a_descriptor_handed_to_another_writer_stays_its_openers(workspace, writer):  # W3
    alice = writer("alice")
    stomp = workspace.stomp
    code, _, err = alice.sh(f"{stomp} run bob -- sh -c 'cat .stomp/me.json >&9' 9> f")
    assert code == 0, err
    assert who((workspace / "f").read_text()) == ("bob", "run")
    assert {(r["writer"], r["rule"]) for r in workspace.log("f")} == {("alice", "run")}


class CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack"),
            *("stack_size", "tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


# As `stomp run bob`: a child with the pid of a process that is no more.
REUSE = """
import ctypes, os, sys
sys.path.insert(0, {here!r})
from test_writers import CloneArgs
pid = ctypes.c_int32(int(sys.argv[1]))
args = CloneArgs(exit_signal=17, set_tid=ctypes.addressof(pid), set_tid_size=1)
got = ctypes.CDLL(None, use_errno=True).syscall(435, ctypes.byref(args), ctypes.sizeof(args))
if got == 0:
    script = "read me < .stomp/me.json; echo $me; echo again >> f; echo new > g"
    os.execv("/bin/sh", ["sh", "-c", script])
if got < 0:
    sys.exit(77)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(got, 0)[1]))
"""


@needs_root
def test_a_reused_pid_is_not_who_had_it_before(workspace, writer, detached):  # W3
    w = detached("agent", argv=named("claude"))
    w.writefile("f", b"1\n")
    name, pid = me(w)[0], w.pid
    w.kill()
    wait_gone(pid)
    time.sleep(0.03)  # start times are known to 10 ms
    bob = writer("bob")
    here = os.path.dirname(os.path.abspath(__file__))
    code, out, err = bob.spawn(PYTHON, "-c", REUSE.format(here=here), str(pid))
    if code == 77:
        pytest.skip("no process can be made with a chosen pid here")
    assert who(out.decode()) == ("bob", "run"), err
    assert f'"pid":{pid},' in out.decode()
    assert [r["writer"] for r in workspace.log("f")] == [name, "bob"]
    (row,) = workspace.log("g")
    assert (row["writer"], row["pid"]) == ("bob", pid)


# ---------------------------------------------------------------- W4: the evidence


def test_the_evidence_is_recorded(workspace, writer, detached):  # W4
    alice = writer("alice")
    alice.writefile("f", b"1")
    agent = detached("agent", argv=named("claude"))
    assert agent.spawn("sh", "-c", "echo two words >> f; :")[0] == 0
    first, second = workspace.log("f")
    assert (first["writer"], first["rule"], first["pid"]) == ("alice", "run", alice.pid)
    assert "agent.py" in first["command"]
    assert (second["writer"], second["rule"]) == (f"claude-{agent.pid}", "agent")
    assert second["command"].startswith("sh -c echo two words >> f")
    assert second["pid"] not in (alice.pid, agent.pid)
    rows = {r["name"]: r for r in workspace.json("writers")["writers"]}
    assert rows["alice"]["rule"] == "run" and rows["alice"]["uid"] == os.getuid()
    assert rows[f"claude-{agent.pid}"]["pid"] == agent.pid


def test_the_evidence_outlives_the_daemon(workspace, writer):  # W4, V4
    alice = writer("alice")
    alice.writefile("f", b"1")
    row = workspace.log("f")[-1]
    alice.stop()
    workspace.kill_daemon()
    workspace.mount()
    again = workspace.log("f")[-1]
    for key in ("writer", "rule", "pid", "command", "epoch", "time"):
        assert again[key] == row[key]


def test_whoever_asks_is_told_why(workspace, writer, detached):  # W4
    alice = writer("alice")
    text = alice.readfile(".stomp/me").decode()
    assert "You are known here as alice" in text and "run" in text
    agent = detached("agent", argv=named("claude"))
    text = agent.readfile(".stomp/me").decode()
    assert f"claude-{agent.pid}" in text and str(agent.pid) in text and "agent" in text


# ---------------------------------------------------------------- W5: unknown


@needs_root
def test_who_cannot_be_looked_up_is_unknown(unmounted, writer, tmp_path):  # W5
    """The daemon in a pid namespace of its own: everybody outside comes as pid 0."""
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("no pid namespace can be made here")
    build = tmp_path / "build"
    (build / "fs").mkdir(parents=True)
    (build / "cli").symlink_to(unmounted.build / "cli")
    wrapper = build / "fs" / "stompfs"
    wrapper.write_text(
        f'#!/bin/sh\nexec {unshare} --pid --fork --kill-child {unmounted.stompfs} "$@"\n'
    )
    wrapper.chmod(0o755)
    unmounted.build = build
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob", argv=named("claude"))
    assert me(alice) == me(bob) == ("unknown", "unknown")
    alice.writefile("f", b"1")
    bob.append("f", b"2")
    assert {r["writer"] for r in unmounted.log("f")} == {"unknown"}
    assert [w["name"] for w in unmounted.json("writers")["writers"]] == ["unknown"]


def test_a_process_that_outlives_the_daemon_is_who_it_was(unmounted):  # W2, W3, S3
    """Not bob-2, to whom his own file is somebody else's."""
    workspace = unmounted
    workspace.mount()
    script = (
        "import os, sys\n"
        "for n, line in enumerate(sys.stdin):\n"
        "    os.chdir(line.strip())\n"
        "    try:\n"
        "        open('mine', 'w').write(f'the {n}th text\\n')\n"
        "        print('ok', flush=True)\n"
        "    except OSError as e:\n"
        "        print(e, flush=True)\n"
        "    os.chdir('/')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True, env={"PATH": os.environ["PATH"]}, cwd="/",
    )  # fmt: skip

    def save():
        process.stdin.write(f"{workspace.path}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        assert save() == "ok"
        names = {v["writer"] for v in workspace.log("mine")}
        workspace.remount()
        assert save() == "ok", workspace.text("log")
        workspace.ctl("checkpoint")
        assert {v["writer"] for v in workspace.log("mine")} == names
    finally:
        process.stdin.close()
        process.wait(10)
