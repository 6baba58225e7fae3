"""The virtual folder .stomp (D, docs/STOMP-FOLDER.md)."""

import errno
import json
import mmap
import os
import re
import stat
import subprocess
import threading
import time

import pytest

from stomplib.workspace import octal_word

TEXTS = {"README", "status", "me", "why", "writers", "leases", "log", "policy", "metrics", "fsck"} | {
    "gc",
    "pins",
}
TABLES = {
    "status.json": "status",
    "me.json": "me",
    "why.json": "refusals",
    "writers.json": "writers",
    "leases.json": "leases",
    "log.json": "log",
    "refusals.json": "refusals",
    "conflicts.json": "conflicts",
    "fsck.json": "fsck",
    "gc.json": "gc",
    "pins.json": "pins",
}
FOLDERS = {"history", "conflicts", "at", "since", "sets", "events"}
OTHERS = {"ctl", "conflicts.ndjson"}
STRANGER = 54321

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")


def as_user(workspace, uid, *argv):
    """A program of another user; it reaches the workspace through its folder alone."""
    return subprocess.run(
        argv,
        cwd=workspace.path,
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        timeout=20,
    )


def read_all(workspace, timeout=10):
    """Every document at the top, each within the timeout."""
    texts = {}
    for name in sorted(TEXTS | TABLES.keys() | {"ctl"}):
        path = f".stomp/{name}"
        texts[name] = workspace.run("cat", path, timeout=timeout).stdout.decode()
    return texts


def version_there(workspace, name, number, timeout=5):
    """Wait for a version: the kernel sends the release that ends it after the close."""
    deadline = time.monotonic() + timeout
    path = workspace / ".stomp/history" / name / str(number)
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path


def make_stale(workspace, alice, bob, name="f"):
    """bob read version 1; alice has made version 2 since."""
    alice.writefile(name, b"one\n")
    bob.readfile(name)
    workspace.settle()
    alice.writefile(name, b"one\ntwo\n")


def be_refused(workspace, alice, bob, name="f"):
    make_stale(workspace, alice, bob, name)
    assert bob.errno("writefile", name, b"mine\n") == "ESTALE"


# ---------------------------------------------------------------- what is there


def test_all_documents_are_there_and_readable(workspace):  # D
    names = set(os.listdir(workspace / ".stomp"))
    assert names == TEXTS | TABLES.keys() | FOLDERS | OTHERS
    for name, text in read_all(workspace).items():
        assert text, name
        assert text.endswith("\n"), name
    for name in TEXTS | TABLES.keys():
        st = os.stat(workspace / ".stomp" / name)
        assert stat.S_IMODE(st.st_mode) == 0o444, name
        assert st.st_uid == os.geteuid()
    assert stat.S_IMODE(os.stat(workspace / ".stomp/ctl").st_mode) == 0o666


def test_tables_have_valid_json_twins(workspace, writer):  # D
    be_refused(workspace, writer("alice"), writer("bob"), 'o\n"d\\d \udcff')
    for name, schema in TABLES.items():
        pairs = json.loads(
            (workspace / ".stomp" / name).read_text(), object_pairs_hook=list
        )
        assert pairs[0] == ("schema", f"stompfs/{schema}/1"), name
    path = workspace.json("log")["versions"][0]["path"]
    assert path == 'o\n"d\\d \\xff'  # bytes that are not UTF-8 can still be told


def test_status_is_one_screen(workspace, writer):  # D
    alice, bob = writer("alice"), writer("bob")
    for i in range(5):
        be_refused(workspace, alice, bob, f"{i}-" + "long" * 20)
    fds = [alice.open(f"held{i}" + "x" * 90, os.O_WRONLY | os.O_CREAT) for i in range(5)]
    lines = workspace.text("status").splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["health", "ok"]
    for fd in fds:
        alice.close(fd)


def test_readme_fits_and_says_what_to_do(workspace, writer):  # D
    lines = writer("alice").readfile(".stomp/README").decode().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 78
    text = "\n".join(lines)
    assert "You are alice." in text
    for word in ("EAGAIN", "ESTALE", "cat .stomp/why", "cp .stomp/history/", "stomp run"):
        assert word in text


def test_status_json_tells_of_the_mount(workspace):  # D
    status = workspace.json("status")
    assert status["mountpoint"] == str(workspace.path)
    assert status["pid"] == workspace.daemon.pid
    assert status["health"] == "ok"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", status["since"])
    assert status["kernel"] == os.uname().release


# ---------------------------------------------------------------- out of the way


def test_it_is_not_listed_and_nothing_wanders_in(workspace):  # D
    (workspace / "a").write_text("x\n")
    assert os.listdir(workspace.path) == ["a"]
    assert b".stomp" not in workspace.run("find", ".").stdout
    assert workspace.run("grep", "-rl", "ESTALE", ".", check=False).returncode == 1
    assert workspace.run("tar", "cf", "-", ".").stdout.count(b".stomp") == 0
    assert (workspace / ".stomp/README").exists()


@pytest.mark.mount_options("show")
def test_show_lists_it(workspace):  # D
    assert os.listdir(workspace.path) == [".stomp"]
    workspace.run("find", ".stomp", "-maxdepth", "1")


@pytest.mark.parametrize("name", sorted(TEXTS | TABLES.keys()))
def test_documents_are_read_only(workspace, name):  # D
    path = workspace / ".stomp" / name
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        with pytest.raises(PermissionError):
            os.open(path, flags)


def test_nothing_can_be_made_or_removed_there(workspace):  # D
    folder = workspace / ".stomp"
    (workspace / "f").write_text("x")
    attempts = [
        lambda: os.mkdir(folder / "x"),
        lambda: os.open(folder / "x", os.O_WRONLY | os.O_CREAT),
        lambda: os.symlink("f", folder / "x"),
        lambda: os.unlink(folder / "README"),
        lambda: os.rmdir(folder / "history"),
        lambda: os.rename(folder / "README", folder / "R"),
        lambda: os.rename(folder / "README", workspace / "R"),
        lambda: os.rename(workspace / "f", folder / "f"),
        lambda: os.rename(folder, workspace / "stomp"),
        lambda: os.rename(workspace / "f", folder),
        lambda: os.link(workspace / "f", folder / "f"),
        lambda: os.chmod(folder / "README", 0o600),
        lambda: os.chmod(folder, 0o700),
        lambda: os.rmdir(folder),
        lambda: os.mkdir(folder),
    ]
    for number, attempt in enumerate(attempts):
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno != errno.ENOSYS, number
    assert set(os.listdir(folder)) == TEXTS | TABLES.keys() | FOLDERS | OTHERS
    assert (workspace / "f").read_text() == "x"


def test_extended_attributes_are_none(workspace):  # D
    assert os.listxattr(workspace / ".stomp/README") == []
    assert workspace.run("cp", "-a", ".stomp/README", "copy").returncode == 0


# ---------------------------------------------------------------- me, why


def test_me_names_the_reader_and_the_rule(workspace, writer):  # W4, D
    alice = writer("alice")
    me = json.loads(alice.readfile(".stomp/me.json"))
    assert (me["writer"], me["rule"], me["pid"]) == ("alice", "run", alice.pid)
    assert me["uid"] == os.geteuid()
    text = alice.readfile(".stomp/me").decode()
    assert text.startswith("You are known here as alice.\n")
    assert "stomp run NAME -- CMD" in text


def test_why_tells_the_refused_and_nobody_else(workspace, writer):  # S11
    alice, bob = writer("alice"), writer("bob")
    nothing = b"No refusal so far: nothing of yours was turned away.\n"
    assert bob.readfile(".stomp/why") == nothing
    be_refused(workspace, alice, bob)
    text = bob.readfile(".stomp/why").decode()
    assert text.startswith("f: ")
    assert "alice" in text and "ESTALE" in text
    assert alice.readfile(".stomp/why") == nothing
    (row,) = workspace.why(bob)
    assert (row["path"], row["reason"], row["errno"]) == ("f", "stale", "ESTALE")
    assert (row["writer"], row["current_writer"]) == ("bob", "alice")
    assert (row["base"], row["current"]) == (1, 2)
    assert row["text"].strip() in text
    assert workspace.why(alice) == []
    assert [r["id"] for r in workspace.json("refusals")["refusals"]] == [row["id"]]


def test_why_is_remembered_across_a_remount(workspace, writer):  # S11
    alice, bob = writer("alice"), writer("bob")
    be_refused(workspace, alice, bob)
    alice.stop()
    bob.stop()
    workspace.remount()
    text = workspace.run_as("bob", "cat", ".stomp/why").stdout.decode()
    assert text.startswith("f: ")


# ---------------------------------------------------------------- tables


def test_writers_and_leases_tell_who_does_what(workspace, writer):  # W4, L9
    alice = writer("alice")
    fd = alice.open("held", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    (row,) = workspace.leases("held")
    assert (row["writer"], row["handles"], row["explicit"]) == ("alice", 1, False)
    assert 0 < row["expires_ms"] <= 30_000
    assert row["waiting"] == []
    table = workspace.text("leases").splitlines()
    assert table[0].split()[:3] == ["PATH", "WRITER", "EPOCH"]
    assert table[1].split()[:3] == ["held", "alice", str(row["epoch"])]
    (me,) = [w for w in workspace.json("writers")["writers"] if w["name"] == "alice"]
    assert me["rule"] == "run" and me["processes"] >= 1 and me["last_seen_ms"] < 30_000
    assert re.search(r"^alice +run ", workspace.text("writers"), re.M)
    alice.close(fd)


@pytest.mark.mount_options("wait=30s")
def test_nothing_waits_while_a_lease_is_held(workspace, writer):  # D
    alice, bob = writer("alice"), writer("bob")
    fd = alice.open("held", os.O_WRONLY | os.O_CREAT)
    alice.write(fd, b"x")
    waiting = bob.start("open", path="held", flags=os.O_WRONLY)
    deadline = time.monotonic() + 10
    while not workspace.leases("held")[0]["waiting"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert workspace.leases("held")[0]["waiting"] == ["bob"]
    assert workspace.json("status")["waiting"] == 1
    read_all(workspace, timeout=5)
    for folder in (".stomp/history", ".stomp/conflicts"):
        workspace.run("ls", "-lR", folder, timeout=5)
    assert workspace.ctl("ping") == {"ok": True}
    assert not waiting.done()
    alice.close(fd)
    bob.close(waiting.result())


def test_log_is_current_and_newest_first(workspace, writer):  # D, V1
    alice = writer("alice")
    for i in range(3):
        alice.writefile("f", b"%d\n" % i)
        version_there(workspace, "f", i + 1)
        rows = workspace.json("log")["versions"]
        assert (rows[0]["path"], rows[0]["number"]) == ("f", i + 1)
        assert (rows[0]["writer"], rows[0]["size"]) == ("alice", 2)
    seqs = [row["seq"] for row in rows]
    assert seqs == sorted(seqs, reverse=True)
    lines = workspace.text("log").splitlines()
    assert lines[0].split() == ["TIME", "FILE", "WHAT", "WRITER", "SIZE", "NOTES"]
    assert lines[1].split()[2:5] == ["f@3", "write", "alice"]


def test_log_tells_of_refusals(workspace, writer):  # D
    be_refused(workspace, writer("alice"), writer("bob"))
    assert re.search(r"  f +refused +bob +- +refusal 1: ", workspace.text("log"))


def test_metrics_are_openmetrics(workspace, writer):  # D
    alice, bob = writer("alice"), writer("bob")
    be_refused(workspace, alice, bob)
    lines = workspace.text("metrics").splitlines()
    types, samples = {}, {}
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in types
            types[name] = kind
        elif not line.startswith("# "):
            sample, value = line.rsplit(" ", 1)
            samples[sample.split("{")[0]] = float(value)
    assert lines[-1] == "# EOF"
    suffix = {"counter": "_total", "gauge": "", "info": "_info"}
    assert set(samples) == {name + suffix[kind] for name, kind in types.items()}
    assert all(name.startswith("stompfs_") for name in types)
    assert samples["stompfs_refused_stale_total"] >= 1
    assert samples["stompfs_versions"] >= 2


def test_policy_is_the_one_in_force(workspace):  # P2
    assert ".git" in workspace.text("policy")


# ---------------------------------------------------------------- history


def test_history_holds_each_version_as_it_was(workspace, writer):  # V1, D
    alice = writer("alice")
    texts = [b"one\n", b"two two\n", b""]
    for number, text in enumerate(texts, 1):
        alice.writefile("f", text, mode=0o640)
        version_there(workspace, "f", number)
        made = os.stat(workspace / "f").st_mtime_ns
    folder = workspace / ".stomp/history/f"
    assert set(os.listdir(folder)) == {"1", "2", "3", "log", "log.json"}
    for number, text in enumerate(texts, 1):
        assert workspace.version("f", number) == text
        st = os.stat(folder / str(number))
        assert st.st_size == len(text)
        assert stat.S_ISREG(st.st_mode)
        assert stat.S_IMODE(st.st_mode) == 0o640  # as it was: cp brings it back
        with pytest.raises(PermissionError):
            os.open(folder / str(number), os.O_WRONLY)
    assert os.stat(folder / "3").st_mtime_ns == made
    for name in ("0", "4", "01", "+1", "1x", "log.txt"):
        with pytest.raises(FileNotFoundError):
            os.stat(folder / name)
    with pytest.raises(FileNotFoundError):
        os.stat(workspace / ".stomp/history/g")
    assert [v["number"] for v in workspace.log("f")] == [1, 2, 3]
    assert "f@2" in (folder / "log").read_text()


def test_the_newest_of_a_history_by_number(workspace):  # D
    for i in range(7):
        (workspace / "f").write_text(f"{i}\n")
    folder = workspace / ".stomp/history/f"
    whole = json.loads((folder / "log.json").read_text())["versions"]
    assert len(whole) == 7
    for n in (1, 3, 7, 50):
        assert json.loads((folder / f"log-{n}.json").read_text())["versions"] == whole[:n]
    lines = (folder / "log").read_text().splitlines()
    newest = [line.split() for line in (folder / "log-2").read_text().splitlines()]
    assert newest == [line.split() for line in lines[:3]]  # a heading, and two
    done = workspace.run(workspace.stomp, "log", "-n", "2", "--json", "f")
    assert json.loads(done.stdout)["versions"] == whole[:2]
    for name in ("log-0", "log-", "log-x", "log-1.txt", "log2", "log-01"):
        assert not (folder / name).exists(), name
    assert not any(name.startswith("log-") for name in os.listdir(folder))


def test_a_file_wins_over_the_newest_of_its_folders_history(workspace):  # D
    (workspace / "d").mkdir()
    (workspace / "d/log-2").write_text("x\n")
    os.unlink(workspace / "d/log-2")
    os.rmdir(workspace / "d")
    assert (workspace / ".stomp/history/d/log-2").is_dir()
    assert (workspace / ".stomp/history/d/log-1").is_file()


def test_history_can_be_mapped_and_read_anywhere(workspace, writer):  # D
    text = os.urandom(1 << 20)
    writer("alice").writefile("f", text)
    fd = os.open(version_there(workspace, "f", 1), os.O_RDONLY)
    assert os.pread(fd, 100, 12345) == text[12345:12445]
    assert os.pread(fd, 100, len(text)) == b""
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[:] == text
    os.close(fd)
    assert workspace.run("cmp", "f", ".stomp/history/f/1").returncode == 0


@pytest.mark.parametrize(
    "name",
    ["a b", "new\nline", 'quo"te', "back\\slash", "\udcff\udc80", "ünï", "-n", "x" * 255],
)
def test_history_of_odd_names(workspace, writer, name):  # D
    alice = writer("alice")
    alice.mkdir("d")
    alice.writefile(f"d/{name}", b"odd\n")
    assert version_there(workspace, f"d/{name}", 1).read_bytes() == b"odd\n"
    assert name in os.listdir(workspace / ".stomp/history/d")
    assert len(workspace.log(f"d/{name}")) == 1


def test_names_below_come_before_the_folders_own_log(workspace, writer):  # D
    alice = writer("alice")
    alice.mkdir("d")
    alice.writefile("d/log", b"a log\n")
    alice.writefile("d/1", b"a name that is a number\n")
    assert version_there(workspace, "d/log", 1).read_bytes() == b"a log\n"
    assert version_there(workspace, "d/1", 1).read_bytes() == b"a name that is a number\n"
    rows = json.loads((workspace / ".stomp/history/d/log.json").read_text())["versions"]
    assert [row["kind"] for row in rows] == ["mkdir"]


def test_history_outlives_the_file_and_its_folder(workspace, writer):  # V3
    alice = writer("alice")
    alice.mkdir("d")
    alice.writefile("d/f", b"x\n")
    alice.unlink("d/f")
    alice.call("rmdir", path="d")
    assert workspace.version("d/f", 1) == b"x\n"
    assert workspace.log("d/f")[-1]["kind"] == "delete"
    assert "d" in os.listdir(workspace / ".stomp/history")


def test_history_follows_a_renamed_folder(workspace, writer):  # V3
    alice = writer("alice")
    alice.mkdir("old")
    alice.writefile("old/f", b"one\n")
    alice.rename("old", "new")
    alice.writefile("new/f", b"two\n")
    version_there(workspace, "new/f", 2)
    log = workspace.log("new/f")
    folder = workspace / ".stomp/history/new/f"
    numbers = {str(v["number"]) for v in log if v["content"]}
    assert {n for n in os.listdir(folder) if n.isdigit()} == numbers
    assert workspace.version("new/f", log[0]["number"]) == b"one\n"
    assert workspace.version("new/f", log[-1]["number"]) == b"two\n"


def test_rollback_needs_no_tool_of_ours(workspace, writer):  # V8, S5
    alice, bob = writer("alice"), writer("bob")
    make_stale(workspace, alice, bob)
    rc, _, err = bob.spawn("cp", ".stomp/history/f/1", "f")
    assert rc == 0, err
    version_there(workspace, "f", 3)
    assert (workspace / "f").read_bytes() == b"one\n"
    versions = workspace.log("f")
    assert [v["number"] for v in versions] == [1, 2, 3]
    assert versions[-1]["writer"] == "bob"
    assert workspace.version("f", 2) == b"one\ntwo\n"  # nothing is destroyed


@root_only
def test_history_is_as_private_as_the_file_was(workspace, writer):  # D
    os.chmod(workspace.path, 0o755)
    alice = writer("alice")
    alice.mkdir("private", mode=0o700)
    alice.writefile("private/f", b"x\n", mode=0o644)
    alice.writefile("secret", b"x\n", mode=0o600)
    alice.chmod("secret", 0o644)
    alice.writefile("open", b"x\n", mode=0o644)
    version_there(workspace, "open", 1)
    reads = {
        ".stomp/history/open/1": 0,
        ".stomp/history/secret/1": 1,
        ".stomp/history/secret/2": 0,
        ".stomp/history/private/f/1": 1,
    }
    for path, rc in reads.items():
        assert as_user(workspace, STRANGER, "cat", path).returncode == rc, path
    alice.unlink("private/f")
    alice.call("rmdir", path="private")
    gone = as_user(workspace, STRANGER, "cat", ".stomp/history/private/f/1")
    assert gone.returncode == 1


# ---------------------------------------------------------------- conflicts


def refuse_a_save(workspace, alice, bob):
    make_stale(workspace, alice, bob)
    assert bob.errno("save_by_rename", "f", b"mine\n") == "ESTALE"
    row = workspace.why(bob)[0]
    assert row["kept"]
    return str(row["id"])


def test_refused_bytes_are_kept(workspace, writer):  # S11
    refusal = refuse_a_save(workspace, writer("alice"), writer("bob"))
    folder = workspace / ".stomp/conflicts"
    assert os.listdir(folder) == [refusal]
    folder /= refusal
    assert set(os.listdir(folder)) == {"info", "info.json", "base", "ours", "theirs"}
    assert (folder / "theirs").read_bytes() == b"mine\n"
    assert (folder / "base").read_bytes() == b"one\n"
    assert (folder / "ours").read_bytes() == b"one\ntwo\n"
    info = (folder / "info").read_text()
    assert info.startswith("f: ") and "bob" in info
    for name in ("merged", "0", "1"):
        with pytest.raises(FileNotFoundError):
            os.stat(folder / name)
    with pytest.raises(FileNotFoundError):
        os.stat(workspace / ".stomp/conflicts/999999")


@root_only
def test_refused_bytes_are_their_writers_own(workspace, writer):  # S11
    os.chmod(workspace.path, 0o755)
    refusal = refuse_a_save(workspace, writer("alice"), writer("bob"))
    path = f".stomp/conflicts/{refusal}/theirs"
    st = os.stat(workspace / path)
    assert (stat.S_IMODE(st.st_mode), st.st_uid) == (0o400, os.geteuid())
    assert as_user(workspace, STRANGER, "cat", path).returncode == 1


# ---------------------------------------------------------------- ctl


def ctl(workspace, line):
    """The errno's number or 0, and the answer."""
    fd = os.open(workspace / ".stomp/ctl", os.O_RDWR)
    try:
        try:
            os.write(fd, line)
            number = 0
        except OSError as error:
            number = error.errno
        text = b""
        while piece := os.read(fd, 7):  # an answer is a stream
            text += piece
        return number, json.loads(text)
    finally:
        os.close(fd)


def test_ctl_answers_on_the_same_descriptor(workspace):  # D
    fd = os.open(workspace / ".stomp/ctl", os.O_RDWR)
    for line in (b"ping\n", b"checkpoint", b"ping"):
        assert os.write(fd, line) == len(line)
        assert json.loads(os.read(fd, 4096)) == {"ok": True}
        assert os.read(fd, 4096) == b""
    os.close(fd)


def test_ctl_works_from_a_shell(workspace):  # D
    script = "exec 3<>.stomp/ctl; echo ping >&3; cat <&3; echo ping > .stomp/ctl"
    assert workspace.run("sh", "-c", script).stdout == b'{"ok":true}\n'
    assert b"lease acquire" in workspace.run("cat", ".stomp/ctl").stdout
    assert workspace.run("sh", "-c", "echo nonsense > .stomp/ctl", check=False).returncode


@pytest.mark.parametrize(
    "line, error",
    [
        (b"\n", "EINVAL"),
        (b"nonsense", "EINVAL"),
        (b"ping ping", "EINVAL"),
        (b"ping\nping\n", "EINVAL"),
        (b"lease acquire", "EINVAL"),
        (b"lease acquire ttl=5 a", "EINVAL"),
        (b"lease acquire ../a", "EINVAL"),
        (b"lease acquire a\\9", "EINVAL"),
        (b"lease renew a", "ENOENT"),
        (b"lease release a", "ENOENT"),
        (b"lease acquire " + b"x" * 5000, "E2BIG"),
    ],
)
def test_ctl_errors_are_the_writes_errno_and_explained(workspace, line, error):  # D
    number, answer = ctl(workspace, line)
    assert (answer["ok"], answer["errno"]) == (False, error)
    assert errno.errorcode[number] == error
    assert len(answer["error"]) > 8


def test_leases_by_ctl(workspace, writer):  # L9
    alice, bob = writer("alice"), writer("bob")
    name = "a b\udcff"
    line = f"lease acquire ttl=5m reason=big\\040change {octal_word(name)} *.md"
    answer = workspace.ctl(line, alice)
    assert answer["ok"]
    assert {row["path"] for row in answer["leases"]} == {"a b\\xff", "*.md"}
    for row in answer["leases"]:
        assert (row["writer"], row["reason"]) == ("alice", "big change")
        assert row["explicit"] and 290_000 < row["expires_ms"] <= 300_000
    assert bob.errno("call", "ctl", line="lease acquire *.md") == "EAGAIN"
    assert workspace.ctl("lease release *.md", alice)["leases"] == []
    assert workspace.ctl("lease acquire *.md", bob)["ok"]
    assert [r["writer"] for r in workspace.leases("*.md")] == ["bob"]


def test_refused_ctl_command_says_who_holds_it(workspace, writer):  # L9
    workspace.ctl("lease acquire f", writer("alice"))
    number, answer = ctl(workspace, b"lease acquire f")
    assert number == errno.EAGAIN
    assert answer["errno"] == "EAGAIN" and "alice" in answer["error"]


# ---------------------------------------------------------------- many at once


def test_many_readers_while_the_tree_changes(workspace, writer):  # D
    alice = writer("alice")
    alice.mkdir("d")
    problems = []
    stop = threading.Event()

    def read_on():
        while not stop.is_set():
            try:
                for name in TABLES:
                    json.loads((workspace / ".stomp" / name).read_bytes())
                for name in os.listdir(workspace / ".stomp/history"):
                    os.stat(workspace / ".stomp/history" / name)
            except (OSError, ValueError) as error:
                problems.append(error)
                return

    readers = [threading.Thread(target=read_on) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for i in range(60):
            alice.writefile(f"d/{i % 7}", b"%d\n" % i)
    finally:
        stop.set()
        for reader in readers:
            reader.join(timeout=20)
    assert problems == []


def test_leases_and_renames_tell_names_as_words(workspace, writer):  # D
    alice = writer("alice")
    name = "odd \udcff\n"
    workspace.ctl(f"lease acquire {octal_word(name)} plain", alice)
    words = {lease["writer"]: lease.get("word") for lease in workspace.leases() if lease.get("word")}
    assert words == {"alice": octal_word(name)}
    assert "word" not in workspace.leases("plain")[0]
    workspace.ctl(f"lease release {octal_word(name)} plain", alice)
    alice.mkdir(name)
    alice.rename(name, "now plain")
    seq = workspace.ctl("moment")["last"]
    fd = os.open(workspace / f".stomp/events/{seq - 1}.json", os.O_RDONLY | os.O_NONBLOCK)
    row = json.loads(os.read(fd, 1 << 16).splitlines()[-1])
    os.close(fd)
    assert (row["from_word"], row["word"]) == (octal_word(name), octal_word("now plain"))


def test_a_moment_is_a_place_in_the_journal(workspace, writer):  # D
    alice = writer("alice")
    alice.writefile("f", b"1\n")
    first = workspace.ctl("moment")
    alice.writefile("f", b"2\n")
    second = workspace.ctl("moment")
    epoch = workspace.log("f")[0]["epoch"]
    assert first["last"] < second["seq"] == second["last"]
    assert workspace.ctl(f"moment {epoch}")["seq"] == workspace.log("f")[0]["seq"]
    assert workspace.ctl(f"moment seq:{first['seq']}")["seq"] == first["seq"]
    with pytest.raises(OSError) as error:
        workspace.ctl("moment yesterday")
    assert error.value.errno == errno.EINVAL
