"""Formatters and generators right after another's change (S1, S2, S4, S10).

Each file has BEFORE from before the mount, and bob's agent has read it. After `settle`
alice saves AFTER; at once bob runs a program over the file, as an agent's hook or shell
does. The program reads what is there and puts its own work into it: that is never
refused, and nothing of alice's is lost.
"""

import shutil
import time
from dataclasses import dataclass

import pytest

from mcp.packages import node_package
from stomplib.writer import PYTHON

pytestmark = pytest.mark.mount_options("settle=400ms", "wait=300ms")

# Badly formatted C (and JavaScript); alice renames the variable of the first function.
BEFORE = """int first(int a) {
  int sum = a+1;
  return sum;
}


int second(int b) {
    if (b>3) return 4;
  return b;
}

int third(int c) { return c; }
"""
AFTER = BEFORE.replace("sum", "by_alice")
SCRIPT = BEFORE.replace("int second(int b)", "function second(b)")
for word in ("first", "third"):
    SCRIPT = SCRIPT.replace(f"int {word}(int ", f"function {word}(")
SCRIPT = SCRIPT.replace("int sum", "let sum")
SCRIPT_AFTER = SCRIPT.replace("sum", "by_alice")

EDIT_3 = ("return c;", "return c + 1;")

DIFF = """diff --git a/f.c b/f.c
--- a/f.c
+++ b/f.c
@@ -9,4 +9,4 @@
   return b;
 }
 
-int third(int c) { return c; }
+int third(int c) { return c + 1; }
"""

READ_MODIFY_WRITE = """
import os, sys
text = open("f.c").read().replace("return c;", "return c + 1;")
how = sys.argv[1]
if how == "truncate":
    with open("f.c", "w") as f:
        f.write(text)
elif how == "update":
    with open("f.c", "r+") as f:
        f.read()
        f.seek(0)
        f.write(text)
        f.truncate()
elif how == "rename":
    with open("f.c.new", "w") as f:
        f.write(text)
    os.replace("f.c.new", "f.c")
elif how == "anew":
    os.unlink("f.c")
    with open("f.c", "x") as f:
        f.write(text)
"""


@dataclass(frozen=True)
class Program:
    name: str
    script: str  # for sh, in the workspace
    file: str = "f.c"
    bobs: tuple = EDIT_3  # it puts the second in the place of the first
    needs: str = ""
    blind: bool = False  # it begins with taking the file away, so there is no content to test

    def __str__(self):
        return self.name


# fmt: off
PROGRAMS = [
    Program("clang-format", "clang-format -i --style=LLVM f.c",
            bobs=("    if (b>3) return 4;", "  if (b > 3)\n    return 4;")),
    Program("prettier", "node $PRETTIER --write f.js", file="f.js", needs="prettier",
            bobs=("    if (b>3)", "  if (b > 3)")),
    Program("sed -i", "sed -i 's/return c;/return c + 1;/' f.c"),
    Program("sed -i.bak", "sed -i.bak 's/return c;/return c + 1;/' f.c", blind=True),
    Program("perl -pi", "perl -pi -e 's/return c;/return c + 1;/' f.c"),
    Program("perl -pi.bak", "perl -pi.bak -e 's/return c;/return c + 1;/' f.c", blind=True),
    Program("patch", "patch -s -p1 < $OUT/diff"),
    Program("git apply", "git apply $OUT/diff", blind=True),
    Program("python truncate", "python3 $OUT/rmw.py truncate"),
    Program("python update", "python3 $OUT/rmw.py update"),
    Program("python rename", "python3 $OUT/rmw.py rename"),
    Program("python anew", "python3 $OUT/rmw.py anew", blind=True),
    Program("awk and mv", "awk '{ sub(/return c;/, \"return c + 1;\"); print }' f.c > t && mv t f.c"),
    Program("ed", "printf '%s\\n' ',s/return c;/return c + 1;/' w q | ed -s f.c"),
]
# fmt: on


@pytest.fixture
def out(tmp_path):
    """A folder outside the mount with what the programs need."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "diff").write_text(DIFF)
    (folder / "rmw.py").write_text(READ_MODIFY_WRITE)
    return folder


def environment(out, program):
    env = {"OUT": str(out), "HOME": str(out), "GIT_CEILING_DIRECTORIES": "/"}
    if program.needs == "prettier":
        env["PRETTIER"] = str(node_package("prettier") / "bin" / "prettier.cjs")
    return env


@pytest.fixture
def story(unmounted, writer, out, program):
    """alice, bob, and the file with BEFORE, which bob has read."""
    tool = program.script.split()[-1] if program.name == "ed" else program.script
    tool = "ed" if program.name == "ed" else tool.split()[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    env = environment(out, program)
    (unmounted / program.file).write_text(BEFORE if program.file == "f.c" else SCRIPT)
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob", env=env)
    bob.readfile(program.file)
    unmounted.settle()
    return unmounted, alice, bob


def run_after(bob, program, pause=False):
    """Where content cannot speak for the process, it must have begun after the change:
    start times are known to 10 ms (S2)."""
    if pause or program.blind:
        time.sleep(0.03)
    code, _, said = bob.sh(program.script)
    return code, said


def check(workspace, program):
    content = (workspace / program.file).read_text()
    assert workspace.refusals() == []
    versions = [v for v in workspace.log(program.file) if v["path"] == program.file]
    last = next(v for v in reversed(versions) if v["content"])
    assert last["writer"] == "bob"
    assert workspace.version(program.file, last["number"]).decode() == content
    assert "alice" in [v["writer"] for v in versions], "and hers is there to go back to"


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_a_program_keeps_what_another_just_changed(story, program):  # S2, S4, S10
    workspace, alice, bob = story
    after = AFTER if program.file == "f.c" else SCRIPT_AFTER
    alice.writefile(program.file, after.encode())
    code, said = run_after(bob, program)
    assert code == 0, said
    content = (workspace / program.file).read_text()
    assert content.count("by_alice") == 2 and "sum" not in content
    assert program.bobs[1] in content and program.bobs[0] not in content
    if program.bobs == EDIT_3:
        assert content == after.replace(*EDIT_3)
    check(workspace, program)


# A patch does not fit then. mv has not read what it replaces, so it may not cover a line
# of alice's (S4): awk has, but that is another process.
NOT_OF_ONE_LINE = ("patch", "git apply", "awk and mv")
OF_ONE_LINE = [p for p in PROGRAMS if p.name not in NOT_OF_ONE_LINE]


@pytest.mark.parametrize("program", OF_ONE_LINE, ids=str)
def test_a_program_keeps_what_another_changed_in_the_same_line(story, program):  # S4
    """alice has changed the line that the program changes; it has read hers."""
    workspace, alice, bob = story
    before = BEFORE if program.file == "f.c" else SCRIPT
    mine = ("b>3", "b>33") if "format" in program.name or program.file == "f.js" else (
        "return c;",
        "return c; /* by_alice */",
    )
    alice.writefile(program.file, before.replace(*mine).encode())
    code, said = run_after(bob, program)
    assert code == 0, said
    content = (workspace / program.file).read_text()
    assert "by_alice" in content or "b > 33" in content
    check(workspace, program)


FORMATTED = [p for p in PROGRAMS if p.name in ("clang-format", "prettier")]


@pytest.mark.parametrize("program", FORMATTED, ids=str)
def test_a_formatter_may_undo_what_is_only_form(story, program):  # S2, S3
    """alice's change is nothing but bad form, so the formatter puts the old text back.
    Its process began after her change: it holds no older text, so that is no stomp."""
    workspace, alice, bob = story
    assert alice.sh(with_environment(program))[0] == 0
    good = (workspace / program.file).read_text()
    bob.readfile(program.file)
    workspace.settle()
    bad = good.replace("b > 3", "b>3")
    assert bad != good
    alice.writefile(program.file, bad.encode())
    code, said = run_after(bob, program, pause=True)
    assert code == 0, said
    assert (workspace / program.file).read_text() == good
    check(workspace, program)


def with_environment(program):
    """The script for a writer that has not got the variables."""
    if program.needs != "prettier":
        return program.script
    prettier = node_package("prettier") / "bin" / "prettier.cjs"
    return program.script.replace("$PRETTIER", str(prettier))


IN_PROCESS = ["gemini", "claude", "opencode", "vim", "biome"]


@pytest.mark.parametrize("agent", IN_PROCESS)
def test_edits_of_the_agent_itself_right_after(workspace, writer, agent):  # S1, S4
    """Twenty edits in turn, with nothing but a re-read between them."""
    alice, bob = writer("alice"), writer("bob")
    text = "".join(f"line {i} of it\n" for i in range(40))
    alice.writefile("f", text.encode())
    for w in (alice, bob):
        w.readfile("f")
    workspace.settle()
    for i in range(0, 40, 2):
        for w, line in ((alice, i), (bob, i + 1)):
            find, put = f"line {line} of", f"line {line} by {w.name} of"
            swallowed = w.call("save_edit", agent=agent, path="f", find=find, put=put)
            assert swallowed == []
            text = text.replace(find, put)
    assert (workspace / "f").read_text() == text
    assert workspace.refusals() == []


GENERATOR = (
    "text = ''.join(f'#define {n}\\n' for n in open('names').read())\n"
    "with open('out.h', 'w') as f:\n"
    "    f.write(text)\n"
)


@pytest.mark.parametrize("mode, code, names", [("guard", 1, "ab"), ("track", 0, "abc")])
def test_a_generator_that_never_reads_its_output(unmounted, writer, mode, code, names):
    """It truncates what another's run of it has made, with no knowledge of it: refused (S6),
    and the file is whole; where a line of the policy says that it is an output, it lands."""
    (unmounted / ".stomp-policy").write_text(f"out.h mode={mode}\n")
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("names", b"ab")
    assert alice.spawn(PYTHON, "-c", GENERATOR)[0] == 0
    bob.append("names", b"c")
    assert bob.spawn(PYTHON, "-c", GENERATOR)[0] == code
    assert (unmounted / "out.h").read_text() == "".join(f"#define {n}\n" for n in names)
    assert [r["asked"] for r in unmounted.refusals()] == ["open"] * code
