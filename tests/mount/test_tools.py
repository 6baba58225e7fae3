"""Real tools as fresh and as stale writers (FIELD.md section 3; S3, S4, S6, S7, S10, S11).

The file f holds TEN before the mount. EDITED is TEN with bob's line 7: made by a tool
that edits (sed, patch…), lying ready in $OUT/new for a tool that copies. Each tool runs

  fresh   on f as it was before the mount: it works, and the history of f tells it
  stale   by bob, who has read version 1, after alice made version 2 (her line 3): her
          line is carried, or the tool is refused and f is as it was
  held    as stale, but the tool itself has read version 1 and waits until alice is done
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass

import pytest

from stomplib.writer import clean_environment

pytestmark = pytest.mark.mount_options("settle=200ms", "wait=300ms")

TEN = b"".join(b"line %d\n" % i for i in range(1, 11))
EDITED = TEN.replace(b"line 7\n", b"by bob\n")
ALICES = TEN.replace(b"line 3\n", b"alices\n")
CARRIED = ALICES.replace(b"line 7\n", b"by bob\n")
MORE = b"more\n"

# $HOLD: the tool has read f; now alice changes it, then the tool goes on.
HOLD = "touch $OUT/ready; until test -e $OUT/go; do sleep 0.02; done"

DIFF = """diff --git a/f b/f
--- a/f
+++ b/f
@@ -6,3 +6,3 @@
 line 6
-line 7
+by bob
 line 8
"""

PY_OPEN = """
f = open("f", "w")
f.write(open("/dev/stdin").read())
f.close()
"""

PY_HELD = """
import os
text = open("f").read().replace("line 7", "by bob")
os.system(os.environ["HOLD"])
f = open("f", "w")
f.write(text)
f.close()
"""

NODE = "const s = require('fs'); s.writeFileSync('f', s.readFileSync('/dev/stdin'))"

# nano on a terminal of its own: replace line 7, save with ^O Enter, leave with ^X.
NANO = """
import os, pty, select, subprocess, sys, time

def output(pause=0.3):
    out = b""
    while select.select([fd], [], [], pause)[0]:
        try:
            out += os.read(fd, 65536)
        except OSError:
            break
    return out

def until(*words):
    out, end = b"", time.monotonic() + 20
    while not any(w in out for w in words):
        assert time.monotonic() < end, out
        out += output(0.05)
    return out

pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp("nano", ["nano", "--ignorercfiles", "+7,1", "f"])
until(b"line 10")
output()
os.write(fd, b"\\x0bby bob\\r")
until(b"bob")
if len(sys.argv) > 1:
    subprocess.call(["sh", "-c", os.environ["HOLD"]])
os.write(fd, b"\\x0f")
until(b"Write")
os.write(fd, b"\\r")
said = until(b"Wrote", b"rror", b"modified")
if b"modified" in said:  # continue saving?
    os.write(fd, b"y")
    said = until(b"Wrote", b"rror")
os.kill(pid, 9)
os.waitpid(pid, 0)
sys.exit(b"rror" in said)
"""

SCRIPTS = {"new": EDITED.decode(), "f": EDITED.decode(), "diff": DIFF, "nano.py": NANO}
SCRIPTS.update({"open.py": PY_OPEN, "held.py": PY_HELD, "node.js": NODE})
SCRIPTS["main.c"] = "int main(void) { return 0; }\n"


@dataclass(frozen=True)
class Tool:
    """One row. kinds: what a run adds to the history of f. stale: "carried" or "refused".
    kept: the bytes had arrived when it was refused, so they are kept (S11). fresh,
    carried: what f starts with after a run by a fresh and by a stale writer."""

    name: str
    script: str
    kinds: str
    stale: str = "refused"
    kept: bool = False
    fresh: bytes = EDITED
    carried: bytes = CARRIED

    def __str__(self):
        return self.name


# fmt: off
TOOLS = [
    Tool("sed -i",         "sed -i 's/line 7/by bob/' f",       "replace",       "carried"),
    Tool("perl -pi",       "perl -pi -e 's/line 7/by bob/' f",  "replace",       "carried"),
    Tool("patch",          "patch -s f $OUT/diff",              "replace",       "carried"),
    Tool("rsync",          "rsync $OUT/new f",                  "replace",       kept=True),
    Tool("rsync inplace",  "rsync --inplace $OUT/new f",        "write",         kept=True),
    Tool("mv",             "cp $OUT/new new; mv -f new f",      "replace",       kept=True),
    Tool("mv across",      "mv -f $OUT/new f",                  "delete write"),
    Tool("cp",             "cp $OUT/new f",                     "write"),
    Tool("tee",            "tee f < $OUT/new > $OUT/null",      "write"),
    Tool("cat >",          "cat $OUT/new > f",                  "write"),
    Tool("echo >>",        "echo more >> f",                    "write",         "carried",
         fresh=TEN + MORE, carried=ALICES + MORE),
    Tool("install",        "install -m 600 $OUT/new f",         "delete write"),
    Tool("tar x",          "tar xf $OUT/f.tar",                 "delete write"),
    Tool("git apply",      "git apply $OUT/diff",               "delete write",  "carried"),
    Tool("git checkout",   "git checkout -q edited -- f",       "delete write"),
    Tool("git stash",      "git stash -q",                      "delete write"),
    Tool("gcc -o",         "gcc -o f $OUT/main.c",              "delete write",
         fresh=b"\x7fELF"),
    Tool("python open",    "python3 $OUT/open.py < $OUT/new",   "write"),
    Tool("node writeFile", "node $OUT/node.js < $OUT/new",      "write"),
    Tool("vim",            "vim -es -n -u NONE -i NONE f -c '7s/.*/by bob/' -c 'wq!'",
         "write", "carried"),
    Tool("nano",           "python3 $OUT/nano.py",              "write",         "carried"),
]

# These have read version 1 and save when alice has made version 2.
HELD = [
    Tool("sed -i",         "sed -i -e 's/line 7/by bob/' -e \"7e $HOLD\" f", "", kept=True),
    Tool("perl -pi",       "perl -pi -e 's/line 7/by bob/; system($ENV{HOLD}) if $. == 7' f",
         "", kept=True),
    Tool("python open",    "python3 $OUT/held.py",              ""),
    Tool("vim",            "echo y | vim -es -n -u NONE -i NONE f -c '7s/.*/by bob/' "
                           "-c 'silent !sh -c \"$HOLD\"' -c 'w!' -c 'q!'", "", kept=True),
    Tool("nano",           "python3 $OUT/nano.py held",         ""),
]
# fmt: on


@pytest.fixture
def out(tmp_path):
    """A folder outside the mount with what the tools need; $OUT for them."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))
    subprocess.run(["tar", "cf", "f.tar", "f"], cwd=folder, check=True)
    return folder


@pytest.fixture
def workspace(request, unmounted, out):
    """Mounted with f there, for git in a repository."""
    tool = request.node.callspec.params["tool"]
    program = tool.script.split()[0]
    for editor in ("nano", "vim"):
        program = editor if tool.name == editor else program
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if program == "git":
        make_repository(unmounted.path, out, tool.name == "git stash")
    (unmounted / "f").write_bytes(TEN)
    os.utime(unmounted / "f", (1_700_000_000, 1_700_000_000))
    unmounted.mount()
    return unmounted


@pytest.fixture
def bob(workspace, writer, out):
    return writer("bob", env=environment(out))


def environment(out):
    env = {"OUT": str(out), "HOLD": HOLD, "HOME": str(out)}
    for who in ("AUTHOR", "COMMITTER"):
        env.update({f"GIT_{who}_NAME": "bob", f"GIT_{who}_EMAIL": "bob@example.org"})
    return env


def make_repository(path, out, head_is_edited):
    """TEN is on main and EDITED on the branch `edited`, or EDITED is on main already."""

    def git(*argv):
        env = clean_environment(environment(out))
        subprocess.run(["git", *argv], cwd=path, env=env, check=True)

    git("init", "-q", "-b", "main")
    (path / "f").write_bytes(EDITED)
    git("add", "f")
    git("commit", "-q", "-m", "edited")
    git("branch", "edited")
    if not head_is_edited:
        (path / "f").write_bytes(TEN)
        git("commit", "-q", "-a", "-m", "ten")


def state(workspace):
    st = os.stat(workspace / "f")
    return st.st_ino, st.st_mode, st.st_mtime_ns, (workspace / "f").read_bytes()


def history(workspace):
    """(kind, writer) of the versions of f, oldest first, after checking its numbers."""
    rows = [v for v in workspace.log("f") if v["path"] == "f"]
    assert [v["number"] for v in rows] == list(range(1, len(rows) + 1))
    epochs = [v["epoch"] for v in rows if v["epoch"]]
    assert epochs == sorted(epochs)
    return [(v["kind"], v["writer"]) for v in rows]


def expected(tool, said):
    """kinds, of bob's; a mode version more where the tool sets the mode after closing."""
    made = [(kind, "bob") for kind in tool.kinds.split()]
    return [made, made + [("mode", "bob")]] if said in ("install", "gcc -o") else [made]


def check_refused(workspace, tool, before, code, said):
    assert state(workspace) == before, said
    assert code != 0, "the tool was not told"
    refusals = workspace.refusals("bob")
    # What goes on through a refused descriptor is refused as such.
    reasons = {r["reason"] for r in refusals}
    assert "stale" in reasons and reasons <= {"stale", "fenced"}, refusals
    assert any(r["kept"] for r in refusals) == tool.kept, refusals
    for r in filter(lambda r: r["kept"], refusals):
        kept = workspace / ".stomp/conflicts" / str(r["id"]) / "theirs"
        assert kept.read_bytes() == EDITED


@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_fresh_tool_works_and_its_history_is_there(workspace, bob, tool):  # S3, S10, V1-V3
    code, _, said = bob.sh(tool.script)
    assert code == 0, said
    content = (workspace / "f").read_bytes()
    assert content.startswith(tool.fresh)
    made = history(workspace)
    assert made[0] == ("initial", None)
    assert made[1:] in expected(tool, tool.name)
    assert workspace.version("f", 1) == TEN
    assert workspace.version("f", len(made)) == content
    assert workspace.refusals() == []


@pytest.mark.parametrize("tool", TOOLS, ids=str)
def test_stale_tool_carries_or_is_refused(workspace, bob, writer, tool):  # S2, S4, S6, S7
    alice = writer("alice")
    bob.readfile("f")
    workspace.settle()
    alice.writefile("f", ALICES)
    before = state(workspace)
    time.sleep(0.03)  # start times of processes are known to 10 ms
    code, _, said = bob.sh(tool.script)
    if tool.stale == "refused":
        check_refused(workspace, tool, before, code, said)
        assert history(workspace) == [("initial", None), ("write", "alice")]
        return
    assert code == 0, said
    assert (workspace / "f").read_bytes() == tool.carried
    made = history(workspace)
    assert made[:2] == [("initial", None), ("write", "alice")]
    assert made[2:] in expected(tool, tool.name)
    assert workspace.refusals() == []


@pytest.mark.parametrize("tool", HELD, ids=str)
def test_tool_that_has_read_the_old_version_is_refused(
    workspace, bob, writer, out, tool
):  # S2, S4, S7, S11
    alice = writer("alice")
    running = bob.start("spawn", argv=["sh", "-c", tool.script], limit=30)
    deadline = time.monotonic() + 20
    while not (out / "ready").exists():
        assert time.monotonic() < deadline and not running.done(), running
        time.sleep(0.02)
    workspace.settle()
    alice.writefile("f", ALICES)
    before = state(workspace)
    (out / "go").touch()
    code, _, said = running.result(timeout=40)
    check_refused(workspace, tool, before, code, said)
    assert history(workspace) == [("initial", None), ("write", "alice")]


@pytest.mark.parametrize("name", ["t.sqlite", "t.bin"])
def test_sqlite_statements_of_two_writers_are_all_there(unmounted, writer, name):  # P2
    workspace = unmounted
    workspace.mount()
    alice, bob = writer("alice"), writer("bob")
    assert alice.spawn("sqlite3", name, "create table t(x)")[0] == 0
    for number in range(3):
        for w in (alice, bob):
            statement = f"insert into t values('{w.name}{number}')"
            code, _, said = w.spawn("sqlite3", name, statement)
            assert code == 0, said
    _, rows, _ = bob.spawn("sqlite3", name, "select count(*) from t; pragma integrity_check")
    assert rows.split() == [b"6", b"ok"]
    versions = workspace.log(name)
    assert [v["writer"] for v in versions if v["kind"] == "write"][-6:] == ["alice", "bob"] * 3
    assert workspace.refusals() == []
