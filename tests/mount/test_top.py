"""stomp top: the live screen, on a pseudo-terminal, and the plain text of --once."""

import os
import re
import signal

import pytest

from stomplib.processes import stop_process
from stomplib.screen import Terminal
from stomplib.writer import clean_environment


@pytest.fixture
def top(workspace, tmp_path):
    made = []

    def start(*argv, rows=24, columns=80, env=None, cwd=None):
        environment = clean_environment(
            {"TERM": "xterm", "PAGER": "cat", "LC_ALL": "C.UTF-8", **(env or {})}
        )
        argv = [str(workspace.stomp), "top", "-i", "200ms", *argv]
        made.append(Terminal(argv, cwd or workspace.path, environment, rows, columns))
        return made[-1]

    yield start
    for terminal in made:
        terminal.close()


@pytest.fixture
def busy(workspace, writer):
    """alice holds held.c, bob was refused it and his bytes were kept."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("a.c", b"one\n")
    bob.readfile("a.c")
    workspace.settle()
    alice.writefile("a.c", b"two\n")
    assert bob.errno("save_by_rename", "a.c", b"ONE\n") == "ESTALE"
    workspace.ctl("checkpoint")
    alice.sh(f"{workspace.stomp} lease acquire held.c --ttl 10m --reason 'rename it'")
    return alice, bob


def once(workspace, *argv, code=0):
    done = workspace.run(workspace.stomp, "top", *argv, check=False)
    assert done.returncode == code, (done.stdout, done.stderr)
    return (done.stdout + done.stderr).decode()


def pane(text, title):
    """The rows below the title of a pane of --once."""
    part = text.split(f"\n{title} (", 1)[1].split("\n\n", 1)[0]
    return part.splitlines()[2:]


def focus(terminal, title):
    for _ in range(5):
        # The screen comes in pieces.
        terminal.wait_for(lambda t: re.search(r"^> ", t, re.M))
        if f"> {title}" in terminal.text():
            return
        before = re.search(r"^> .*", terminal.text(), re.M).group()
        terminal.keys("\t")
        terminal.wait_for(lambda t, was=before: re.search(r"^> ", t, re.M) and was not in t)
    assert f"> {title}" in terminal.text()


def pane_rows(terminal):
    lines = terminal.text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("> "))
    return lines[at + 2:-1]


def test_once(workspace, busy):
    text = once(workspace, "--once")
    assert f"workspace {workspace.path}\nhealth: ok\n" in text
    assert "leases 1" in text and "conflicts 1" in text and "\x1b" not in text
    assert any("alice" in r and " run " in r for r in pane(text, "writers"))
    held = pane(text, "leases")
    assert len(held) == 1 and "held.c" in held[0] and "rename it" in held[0]
    refused = pane(text, "refusals and conflicts")
    assert len(refused) == 1 and "bob" in refused[0] and "stale" in refused[0]
    assert re.search(r"conflict \d+ +a\.c", refused[0])
    sets = pane(text, "change sets")
    listed = {s["id"]: s for s in workspace.json("sets/log")["sets"]}
    assert len(sets) == len(listed) >= 1
    for row in sets:
        number, name, _, files, changes = row.split()[:5]
        one = listed[int(number)]
        assert (name, int(files), int(changes)) == (one["writer"], one["files"], one["changes"])
    events = pane(text, "newest events")
    assert len([r for r in events if " write " in r and r.endswith("a.c")]) == 2
    assert re.search(r"\d+\.\d changes/s, \d+\.\d refusals/s", text)


def test_once_where_nothing_is(workspace, tmp_path):
    text = once(workspace)
    assert "leases (0)" in text and "newest events (0)" in text
    assert "not inside a mounted workspace" in once(workspace, str(tmp_path), code=3)
    assert "--interval takes" in once(workspace, "-i", "1ms", code=2)


@pytest.mark.mount_options("wait=30s")
def test_waits_are_shown(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("f", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    call = bob.start("open", path="f", flags=os.O_WRONLY, mode=0o644)
    while not any(lease["waiting"] for lease in workspace.json("leases")["leases"]):
        assert not call.done(), "it does not wait"
    text = once(workspace)
    assert "waiting 1" in text
    assert any("bob" in r and "f (alice)" in r for r in pane(text, "writers"))
    assert re.search(r"alice .* bob +f", pane(text, "leases")[0])
    alice.close(fd)
    call.result()


def is_whole(text):
    """All parts are there: a screen comes in pieces, one that has a row may have no more."""
    titles = ("writers", "leases", "refusals and conflicts", "change sets", "newest events")
    lines = text.split("\n")
    return (
        lines[0].startswith("stomp top  ")
        and "changes/s" in lines[1] and "refusals/s" in lines[1]
        and all(re.search(rf"^[->] {title} \(", text, re.M) for title in titles)
        and lines[-1].startswith("q quit")
    )


def test_the_screen(workspace, busy, top):
    terminal = top()
    text = terminal.wait_for(lambda t: "held.c" in t and is_whole(t))
    assert str(workspace.path)[:30] in text.split("\n")[0]
    busy[0].writefile("fresh.c", b"new\n")  # it is live
    workspace.ctl("checkpoint")
    terminal.wait_for("fresh.c")
    terminal.keys("?")
    terminal.wait_for("break the selected lease")
    terminal.keys("?")
    terminal.wait_for("fresh.c")
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


def test_sizes(workspace, busy, top):
    terminal = top()
    terminal.wait_for("held.c")
    terminal.size(40, 132)
    terminal.wait_for(lambda t: "q quit" in t.split("\n")[39])
    for rows, columns in ((10, 40), (5, 20), (3, 9), (2, 3), (1, 1), (1, 200), (60, 4)):
        terminal.size(rows, columns)
        want = "stomp top"[:columns]
        terminal.wait_for(lambda t, w=want.rstrip(): t.startswith(w))
        terminal.keys("j\tk")
    terminal.size(24, 80)
    terminal.wait_for(lambda t: "held.c" in t and "q quit" in t.split("\n")[23])
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


def test_a_lease_is_broken(workspace, busy, top):
    terminal = top()
    terminal.wait_for("held.c")
    terminal.keys("b")
    terminal.wait_for("select one first")
    focus(terminal, "leases")
    terminal.keys("b")
    terminal.wait_for("break the lease of alice on held.c? y/n")
    terminal.keys("n")
    terminal.wait_for("left as it is")
    assert [x["path"] for x in workspace.json("leases")["leases"]] == ["held.c"]
    terminal.keys("b")
    terminal.wait_for("y/n")
    terminal.keys("y")
    terminal.wait_for("broken: held.c")
    terminal.wait_for("leases (0)")
    assert workspace.json("leases")["leases"] == []
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


def test_diff_and_why_leave_the_screen_and_come_back(workspace, busy, top):
    terminal = top(env={"PAGER": "sed 's/^/paged:/'"})
    terminal.wait_for("> newest events")
    busy[0].writefile("a.c", b"three\n")
    workspace.ctl("checkpoint")
    terminal.wait_for(lambda t: re.search(r"alice +write +\d+ +3 a\.c", t))
    row = next(i for i, r in enumerate(pane_rows(terminal)) if re.search(r" 3 a\.c", r))
    terminal.keys("j" * row + "d")
    text = terminal.wait_for("[Enter: back")
    assert "paged:-two" in text and "paged:+three" in text
    terminal.keys("\r")
    terminal.wait_for("> newest events")
    terminal.keys("w")
    assert "stale" in terminal.wait_for("[Enter: back")
    terminal.keys("\r")
    terminal.wait_for("> newest events")
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


def test_a_set_is_undone(workspace, writer, top):
    alice = writer("alice")
    alice.writefile("good", b"good\n")
    workspace.ctl("checkpoint")
    terminal = top(env={"PAGER": "cat; grep SigBlk /proc/self/status"})
    terminal.wait_for(lambda t: re.search(r"alice +\w+ +\d+ +1 good", t))
    terminal.keys("u")
    text = terminal.wait_for("[Enter: back")
    assert "good" in text and (workspace.path / "good").exists()
    assert re.search(r"SigBlk:\s+0+$", text, re.M), "the pager gets ^C and resizes"
    terminal.keys("\r")
    terminal.wait_for("? y/n")
    terminal.keys("y")
    terminal.wait_for("[Enter: back")
    terminal.keys("\r")
    terminal.wait_for("undone: set")
    assert not (workspace.path / "good").exists()
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


def test_a_set_is_undone_in_its_own_pane(workspace, writer, top):
    alice, bob = writer("alice"), writer("bob")
    bob.writefile("kept", b"kept\n")
    for name in ("wrong", "wrong too"):
        alice.writefile(name, b"wrong\n")
    workspace.ctl("checkpoint")
    terminal = top()
    terminal.wait_for(lambda t: re.search(r"^ *\d+ alice +\S+ +2 +2 ", t, re.M))
    focus(terminal, "change sets")
    rows = [i for i, r in enumerate(pane_rows(terminal)) if re.search(r"\d alice ", r)]
    terminal.keys("j" * rows[0] + "u")
    text = terminal.wait_for("[Enter: back")
    assert "wrong" in text and "wrong\\040too" in text.replace("wrong too", "wrong\\040too")
    assert "kept" not in text and (workspace.path / "wrong").exists()
    terminal.keys("\r")
    terminal.wait_for("? y/n")
    terminal.keys("y")
    terminal.wait_for("[Enter: back")
    terminal.keys("\r")
    terminal.wait_for("undone: set")
    assert not (workspace.path / "wrong").exists()
    assert not (workspace.path / "wrong too").exists()
    assert (workspace.path / "kept").exists()
    terminal.wait_for("undo of")  # which is a set itself
    lines = terminal.text().splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 24
    terminal.keys("q")
    assert terminal.end() == 0 and terminal.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_leave_the_terminal_as_it_was(workspace, busy, top, number):
    terminal = top()
    terminal.wait_for("held.c")
    os.kill(terminal.pid, number)
    assert terminal.end() == -number and terminal.restored()


def test_the_mount_goes(workspace, busy, top):
    """It holds nothing of the mount: umount is not busy because of it."""
    for w in busy:
        w.stop()
    terminal = top(str(workspace.path), cwd="/")
    terminal.wait_for("held.c")
    workspace.umount()
    assert terminal.end() == 1 and terminal.restored()
    assert b"is gone: it is not mounted any more" in terminal.raw


def test_the_daemon_is_killed(workspace, busy, top):
    for w in busy:
        w.stop()
    terminal = top(str(workspace.path), cwd="/")
    terminal.wait_for("held.c")
    workspace.kill_daemon()
    assert terminal.end() == 1 and terminal.restored()
    assert b"is gone: " in terminal.raw


def test_a_mount_that_stands_still(workspace, busy, top):
    """Keys go on; leaving is at once."""
    terminal = top(str(workspace.path), cwd="/")
    terminal.wait_for("held.c")
    stop_process(workspace.daemon.pid)
    try:
        terminal.wait_for("NO ANSWER")
        terminal.keys("?")
        terminal.wait_for("break the selected lease")
        terminal.keys("q")
        assert terminal.end() == 0 and terminal.restored()
    finally:
        os.kill(workspace.daemon.pid, signal.SIGCONT)


def test_names_cannot_steer_the_terminal(workspace, writer, top):
    alice = writer("alice")
    alice.sh(r"""printf x > "$(printf 'e\033[2Jv\302\233il')" """)
    workspace.ctl("checkpoint")
    terminal = top()
    terminal.wait_for(r"e\x1b[2Jv?il")
    terminal.keys("q")
    assert terminal.end() == 0
    assert b"\x1b[2Jv" not in terminal.raw and b"\xc2\x9b" not in terminal.raw
    assert "\x1b" not in once(workspace)


def test_a_terminal_that_is_not_known(workspace, top):
    terminal = top(env={"TERM": "no-such-terminal"})
    assert terminal.end() == 4
    assert b"--once" in terminal.raw
