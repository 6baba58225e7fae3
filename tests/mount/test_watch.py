"""Everything as it happens: .stomp/events and stomp watch."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.mount_options("settle=1ms", "wait=200ms")

SOON_S = 20
N_WRITERS, N_FILES = 4, 150


def stream(workspace, since="new", flags=0):
    return os.open(workspace.path / f".stomp/events/{since}.json", os.O_RDONLY | flags)


def rows(fd, enough, size=1 << 16):
    """Lines until one of them is enough."""
    found, rest = [], b""
    while True:
        data = os.read(fd, size)
        assert data, "the end came first"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            found.append(json.loads(line))
            if enough(found[-1]):
                return found


def drained(workspace, since):
    """What there is now."""
    workspace.ctl("checkpoint")
    fd, data = stream(workspace, since, os.O_NONBLOCK), b""
    with contextlib.suppress(BlockingIOError):
        while part := os.read(fd, 1 << 16):
            data += part
    os.close(fd)
    return [json.loads(line) for line in data.splitlines()]


def versions(found):
    return [(row["path"], row["number"]) for row in found if row["what"] == "version"]


def watch(workspace, *argv, **kwargs):
    return subprocess.Popen(
        [workspace.stomp, "watch", *argv], cwd=workspace.path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **kwargs
    )


def waits_in_read(pid):
    """In read(2), and of the stream: any command reads other files before."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as call:
        words = call.read().split()
    if words[0] != "0":  # x86-64: read
        return False
    with contextlib.suppress(FileNotFoundError):
        return "/.stomp/events/" in os.readlink(f"/proc/{pid}/fd/{int(words[1], 16)}")
    return False


def until_waiting(process):
    deadline = time.monotonic() + SOON_S
    while not waits_in_read(process.pid):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


def end(process):
    process.stdout.close()
    process.stderr.close()
    process.kill()
    process.wait()


def test_what_happens_comes_as_it_happens(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    fd = stream(workspace)
    alice.mkdir("d")
    alice.writefile("d/f", b"1\n")
    alice.rename("d", "e")
    found = rows(fd, lambda row: row["kind"] == "rename")
    assert [(r["what"], r["path"], r["writer"]) for r in found] == [
        ("version", "d", "alice"), ("version", "d/f", "alice"), ("folder", "e", "alice")]
    bob.readfile("e/f")
    time.sleep(0.01)
    alice.readfile("e/f")
    time.sleep(0.01)
    alice.writefile("e/f", b"2\n")
    with pytest.raises(OSError) as refused:
        bob.writefile("e/f", b"3\n")
    assert refused.value.errno == errno.ESTALE
    refusal = rows(fd, lambda row: row["kind"] == "refuse")[-1]
    assert refusal["writer"] == "bob" and refusal["path"] == "e/f"
    assert "\n" not in refusal["text"]  # the rest quotes the file
    os.close(fd)


@pytest.mark.mount_options("settle=1ms", "wait=0s", "ttl=50ms")
def test_leases_that_were_asked_for_and_ended_by_others(workspace, writer):  # L5, L9
    alice, bob = writer("alice"), writer("bob")

    def lease(who, *words):
        who.sh(f"{workspace.stomp} lease {' '.join(words)}")

    fd = stream(workspace)
    lease(alice, "acquire", "src/", "a.c", "--ttl 10m", "--reason 'rename it'")
    lease(alice, "renew", "a.c", "--ttl 20m")
    lease(alice, "release", "a.c")
    lease(bob, "break", "src/", "--force")
    held = alice.open("f", os.O_WRONLY | os.O_CREAT)
    alice.write(held, b"x")
    while not any(row["expires_ms"] < 0 for row in workspace.json("leases")["leases"]):
        pass  # until it lapses
    bob.append("f", b"y")
    found = rows(fd, lambda row: row["kind"] == "write" and row["writer"] == "bob")
    told = [(r["kind"], r["path"], r["writer"]) for r in found if r["what"] == "event"]
    assert told == [
        ("hold", "src", "alice"), ("hold", "a.c", "alice"), ("hold", "a.c", "alice"),
        ("release", "a.c", "alice"), ("break", "src", "bob"), ("takeover", "f", "bob")]
    texts = [row["text"] for row in found if row["kind"] == "hold"]
    assert texts[0] == "src: held ahead for 10 min: rename it", texts
    assert texts[2] == "a.c: held ahead for 20 min", texts
    os.close(fd)


def test_each_line_can_be_gone_on_from(workspace, writer):
    alice = writer("alice")
    for i in range(20):
        alice.writefile(f"f{i}", b"x\n")
    whole = drained(workspace, "0")
    assert len(versions(whole)) == 20
    for i, row in enumerate(whole):
        assert drained(workspace, row["cursor"]) == whole[i + 1 :]
    middle = whole[7]["seq"]
    assert drained(workspace, str(middle)) == [r for r in whole if r["seq"] > middle]
    alice.stop()
    workspace.remount()
    again = drained(workspace, whole[7]["cursor"])
    assert again[: len(whole) - 8] == whole[8:]


def test_names_that_say_no_place(workspace):
    for name in ("x", "1-", "1-2", "1-2-3-4", "-1", "1-2-x", "99999999999999999999"):
        with pytest.raises(FileNotFoundError):
            (workspace / ".stomp/events" / name).read_bytes()


@pytest.mark.timeout(120)
def test_none_is_missed_under_load_by_a_watcher_that_is_killed(workspace, writer):
    """The seqs of several writers are given out before their rows are written."""
    script = f"""
import os, sys
for i in range({N_FILES}):
    fd = os.open(f"{{sys.argv[1]}}-{{i}}", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.close(fd)
"""
    writers = [
        subprocess.Popen(
            [workspace.stomp, "run", f"w{n}", "--", "/usr/bin/python3", "-c", script, f"w{n}"],
            cwd=workspace.path,
        )
        for n in range(N_WRITERS)
    ]
    seen, cursor, kills = [], "0", 0
    wanted = N_WRITERS * N_FILES
    while len(seen) < wanted:
        watcher = watch(workspace, "--json", "--since", cursor)
        for line in watcher.stdout:
            row = json.loads(line)
            cursor = row["cursor"]
            seen += versions([row])
            if len(seen) % 97 == 0 or len(seen) == wanted:
                break
        watcher.send_signal(signal.SIGKILL)
        end(watcher)
        kills += 1
    for w in writers:
        assert w.wait(timeout=SOON_S) == 0
    assert kills > 3
    assert sorted(seen) == sorted({(f"w{n}-{i}", 1) for n in range(N_WRITERS) for i in range(N_FILES)})
    assert versions(drained(workspace, cursor)) == []


def test_a_reader_that_stands_still_costs_nobody_anything(workspace, writer):
    alice = writer("alice")
    stuck = stream(workspace, "0")
    for i in range(300):
        alice.writefile(f"f{i}", b"x\n")
    alice.writefile("last", b"x\n")
    other = stream(workspace, "0")
    assert len(versions(rows(other, lambda row: row["path"] == "last"))) == 301
    assert len(versions(rows(stuck, lambda row: row["path"] == "last", size=777))) == 301
    os.close(stuck)
    os.close(other)


def test_a_signal_ends_the_wait(workspace):
    watcher = watch(workspace)
    until_waiting(watcher)
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(timeout=SOON_S) == -signal.SIGINT
    end(watcher)


def test_a_signal_that_is_handled_interrupts_the_read_and_nothing_is_lost(workspace, writer):
    alice = writer("alice")
    code = """
import os, signal, sys
def handler(signum, frame): raise InterruptedError
signal.signal(signal.SIGUSR1, handler)
fd = os.open(".stomp/events/new.json", os.O_RDONLY)
print("open", flush=True)
try:
    os.read(fd, 65536)
except InterruptedError:
    print("interrupted", flush=True)
sys.stdout.write(os.read(fd, 65536).decode())
"""
    reader = subprocess.Popen(
        ["/usr/bin/python3", "-c", code], cwd=workspace.path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    assert reader.stdout.readline() == b"open\n"
    until_waiting(reader)
    reader.send_signal(signal.SIGUSR1)
    assert reader.stdout.readline() == b"interrupted\n"
    alice.writefile("f", b"x\n")
    assert json.loads(reader.stdout.readline())["path"] == "f"
    assert reader.wait(timeout=SOON_S) == 0
    end(reader)


def test_many_wait_without_a_thread_each_and_there_is_a_limit(workspace, writer):
    alice = writer("alice")
    watchers = [watch(workspace, "--json") for _ in range(40)]
    for w in watchers:
        until_waiting(w)
    alice.writefile("f", b"x\n")  # more wait than the daemon has threads
    for w in watchers:
        assert json.loads(w.stdout.readline())["path"] == "f"
        end(w)
    held = []
    with pytest.raises(OSError) as full:
        for _ in range(300):
            held.append(stream(workspace))
    assert full.value.errno == errno.ENFILE and len(held) == 256
    for fd in held:
        os.close(fd)
    os.close(stream(workspace))


def test_the_end_of_the_mount_is_the_end_of_the_stream(workspace):
    watcher = watch(workspace)
    until_waiting(watcher)
    daemon = workspace.daemon
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(timeout=SOON_S) == 0
    workspace._stop_watchdog()
    workspace.daemon = None
    assert watcher.wait(timeout=SOON_S) == 0, watcher.stderr.read()
    end(watcher)


def test_only_what_is_asked_for(workspace, writer):
    alice, bob = writer("alice"), writer("bob")
    alice.mkdir("d")
    alice.writefile("d/a", b"x\n")
    bob.writefile("d/b", b"x\n")
    bob.writefile("c", b"x\n")
    workspace.ctl("checkpoint")
    watcher = watch(workspace, "--since", "0", "--writer", "bob", "d")
    line = watcher.stdout.readline().decode()
    assert re.fullmatch(r"\d+-\d+-\d+  \S+  bob  write  d/b@1\n", line)
    bob.writefile("d/b2", b"x\n")
    assert b"d/b2@1" in watcher.stdout.readline()
    end(watcher)
    wrong = workspace.run(workspace.stomp, "watch", "--since", "yesterday", check=False)
    assert wrong.returncode == 2 and b"cursor" in wrong.stderr
