"""Storage that fails at the Nth call: the other side of failing.c, and what must hold."""

import ctypes
import errno
import mmap
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "mount")]

from stomplib.workspace import Workspace, find_build  # noqa: E402
from stomplib.writer import AGENT, PYTHON, Writer  # noqa: E402

WHERE = {"journal": 1, "backing": 2, "both": 3}
FOR_EVER = 2**62
OPTIONS = ["settle=1ms", "wait=100ms", "ttl=10ms", "checkpoint=10s"]


class Control:
    """struct control of failing.c."""

    def __init__(self, path):
        path.write_bytes(b"\0" * 4096)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 4096)
        self.words = (ctypes.c_uint64 * 20).from_buffer(self.map)

    def arm(self, where, error, first, last):
        self.words[0] = 0
        for i, value in enumerate((WHERE[where], error, first, last, 0, 0), 1):
            self.words[i] = value
        self.map[56:120] = b"\0" * 64
        self.words[0] = 1

    def heal(self):
        self.words[0] = 0

    def dawdle(self, where, delay_us=0, hangs=False):
        """Every call there succeeds, later; while it hangs, none does."""
        self.words[15], self.words[16] = delay_us, int(hangs)
        self.arm(where, 0, 1, FOR_EVER)

    def go_on(self):
        self.words[15] = self.words[16] = 0
        self.heal()

    def delay_notes(self, us):
        """What the kernel is to forget it hears of later by that much."""
        self.words[17] = us

    @property
    def hanging(self):
        return self.words[18]

    @property
    def notified(self):
        return self.words[19]

    @property
    def count(self):
        return self.words[5]

    @property
    def failed(self):
        return self.words[6]

    @property
    def first(self):
        return self.map[56:120].split(b"\0")[0].decode()


class Failing(Workspace):
    """A workspace whose daemon stores where calls can be made to fail."""

    def __init__(self, folder, build=None):
        path = Path(folder) / "w"
        path.mkdir()
        super().__init__(path, folder, OPTIONS, build, deadline_s=3600)
        library = (Path(build) if build else find_build()) / "tests" / "faults" / "failing.so"
        self.control = Control(Path(folder) / "control")
        self.environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAULTS_CONTROL": str(Path(folder) / "control"),
            "FAULTS_WORKSPACE": os.path.realpath(path),
        }

    def mount(self, options=None, **popen):
        super().mount(options, env=self.environment, **popen)

    def writer(self, name):
        log = open(self.scratch / f"writer-{name}.err", "ab")
        launcher = [str(self.stomp), "run", name, "--", PYTHON, str(AGENT)]
        return Writer(name, launcher, self.path, log=log)

    def is_healthy(self):
        return self.json("status")["health"] == "ok"

    def until_healthy(self, seconds=10):
        deadline = time.monotonic() + seconds
        while not self.is_healthy():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


class Model:
    """What was acknowledged: of each path what it is and who made it so."""

    def __init__(self):
        self.state = {}  # path -> (what, writer); what: bytes, None (nothing), or a word
        self.modes = {}
        self.failures = []  # (step, errno name) of calls that failed

    def set(self, path, what, writer):
        self.state[path] = (what, writer)

    def content(self, path):
        what = self.state.get(path, (None, None))[0]
        return what if isinstance(what, bytes) else b""


class Script:
    """Changes of two writers, call by call, each tracked in the model once it was
    acknowledged. Nothing here is stale or held by another when it is asked for."""

    def __init__(self, workspace, folder, alice, bob):
        self.workspace, self.folder = workspace, folder
        self.alice, self.bob = alice, bob
        self.model = Model()

    def path(self, name):
        return f"{self.folder}/{name}"

    def prepare(self):
        """What lies there before anything fails, all by bob."""
        self.bob.mkdir(self.folder)
        for name in ("keep", "old", "app", "ren", "gone", "cut", "mod", "tk", "src"):
            data = f"{name} of bob\n".encode() * 3
            self.bob.writefile(self.path(name), data)
            self.model.set(name, data, "bob")
        self.bob.mkdir(self.path("empty"))
        self.bob.mkdir(self.path("fold"))
        self.bob.writefile(self.path("fold/in"), b"in\n")
        self.model.set("empty", "folder", "bob")
        self.model.set("fold/in", b"in\n", "bob")
        self.workspace.ctl("checkpoint")

    def attempt(self, step, call, *args, then=None, **kw):
        """True when it was acknowledged."""
        try:
            result = call(*args, **kw)
        except OSError as error:
            self.model.failures.append((step, errno.errorcode.get(error.errno, error.errno)))
            return None
        if then:
            then(result)
        return (result,)

    def write(self, step, writer, name, flags, pieces, fsync=False):
        opened = self.attempt(step + ".open", writer.open, self.path(name), flags, 0o644)
        if not opened:
            return
        fd, model, who = opened[0], self.model, writer.name
        appends = flags & os.O_APPEND
        if flags & os.O_TRUNC or name not in model.state or model.state[name][0] is None:
            model.set(name, b"", who)
        at = len(model.content(name)) if appends else 0
        for data in pieces:
            done = self.attempt(step + ".write", writer.write, fd, data)
            if done:
                before = model.content(name)
                model.set(name, before[:at] + data + before[at + len(data):], who)
                at += len(data)
        if fsync:
            self.attempt(step + ".fsync", writer.fsync, fd)
        self.attempt(step + ".close", writer.close, fd)

    def run(self):
        trunc, creat = os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_EXCL
        alice, bob, model, path = self.alice, self.bob, self.model, self.path
        for name in ("old", "ren", "gone", "cut", "mod"):
            alice.readfile(path(name))
        time.sleep(0.005)  # settle: she knows them now
        self.write("create", alice, "new", creat, [b"one\n", b"two\n"])
        self.write("overwrite", alice, "old", trunc, [b"anew\n" * 50])
        self.write("append", alice, "app", os.O_WRONLY | os.O_APPEND, [b"more\n"], True)
        self.write("temporary", alice, "tmp", creat, [b"saved by rename\n"])
        if model.state.get("tmp", (None,))[0] is not None:
            self.attempt("rename", alice.rename, path("tmp"), path("ren"),
                         then=lambda _: self.renamed("tmp", "ren"))
        self.attempt("unlink", alice.unlink, path("gone"),
                     then=lambda _: model.set("gone", None, "alice"))
        self.attempt("truncate", alice.truncate, path("cut"), 3,
                     then=lambda _: model.set("cut", model.content("cut")[:3], "alice"))
        self.attempt("mkdir", alice.mkdir, path("sub"),
                     then=lambda _: model.set("sub", "folder", "alice"))
        self.attempt("symlink", alice.symlink, "keep", path("sl"),
                     then=lambda _: model.set("sl", "link to keep", "alice"))
        self.attempt("link", alice.link, path("src"), path("hl"),
                     then=lambda _: model.set("hl", model.content("src"), "alice"))
        self.attempt("chmod", alice.chmod, path("mod"), 0o600,
                     then=lambda _: self.chmodded("mod"))
        self.attempt("rmdir", alice.rmdir, path("empty"),
                     then=lambda _: model.set("empty", None, "alice"))
        self.attempt("folder", alice.rename, path("fold"), path("fold2"),
                     then=lambda _: self.renamed("fold/in", "fold2/in", moved="bob"))
        self.take_over()
        self.write("large", alice, "large", creat, [os.urandom(300_000)])

    def renamed(self, old, new, moved=None):
        what, who = self.model.state[old]
        self.model.set(new, what, moved or "alice")
        self.model.set(old, None, moved or "alice")

    def chmodded(self, name):
        self.model.modes[name] = 0o600
        self.model.set(name, self.model.content(name), "alice")

    def take_over(self):
        """bob has not closed, his lease lapses, alice takes the file."""
        opened = self.attempt("half.open", self.bob.open, self.path("tk"), os.O_WRONLY)
        if opened:
            done = self.attempt("half.write", self.bob.write, opened[0], b"HALF")
            if done:
                was = self.model.content("tk")
                self.model.set("tk", b"HALF" + was[4:], "bob")
            time.sleep(0.03)
        self.alice.readfile(self.path("tk"))
        time.sleep(0.005)
        self.write("takeover", self.alice, "tk", os.O_WRONLY | os.O_TRUNC, [b"alice's\n"])
        if opened:
            self.attempt("half.close", self.bob.close, opened[0])


def what_is(path):
    if os.path.islink(path):
        return "link to " + os.readlink(path)
    if os.path.isdir(path):
        return "folder"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def brief(what):
    return what[:30] if isinstance(what, bytes) else what


def problems_of(workspace, script):
    """What contradicts V3, V4, V7 after everything works again, as sentences."""
    found, model = [], script.model
    for name, (what, who) in model.state.items():
        path = workspace / script.folder / name
        now = what_is(path)
        if now != what:
            found.append(f"{name} is {brief(now)}, acknowledged was {brief(what)} of {who}")
            continue
        mode = model.modes.get(name)
        if mode and os.stat(path).st_mode & 0o777 != mode:
            found.append(f"{name} has another mode than acknowledged")
        found += history_problems(workspace, f"{script.folder}/{name}", name, what, who)
    return found


def history_problems(workspace, path, name, what, who):
    try:
        rows = [v for v in workspace.log(path)]
    except FileNotFoundError:
        return [] if what is None else [f"{name}: no history"]
    own = [v for v in rows if v["path"] == path] or rows
    found, last = [], own[-1]
    numbers = [v["number"] for v in own]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        found.append(f"{name}: versions are numbered {numbers}")
    if last["writer"] != who:
        found.append(f"{name}: its newest version is {last['kind']} by {last['writer']},"
                     f" acknowledged was one by {who}")
    if any(v["kind"] == "external" for v in own):
        found.append(f"{name}: a change through the mount is called external")
    if isinstance(what, bytes) and workspace.version(path, last["number"]) != what:
        found.append(f"{name}: is not as its newest version")
    return found


def trial(workspace, alice, bob, number, where, error, first, last):
    """One run of the script with faults: (did any call fail, problems, what failed)."""
    script = Script(workspace, f"d{number}", alice, bob)
    script.prepare()
    control = workspace.control
    control.arm(where, error, first, last)
    script.run()
    found = []
    refused = [f for f in script.model.failures if f[1] == errno.errorcode[error]]
    odd = [f for f in script.model.failures if f[1] != errno.errorcode[error]]
    if odd:
        found.append(f"failed with another errno: {odd}")
    began = time.monotonic()
    healthy = workspace.is_healthy()
    if time.monotonic() - began > 1:
        found.append("status took longer than a second")
    if last == FOR_EVER and where == "journal" and refused and healthy:
        found.append(f"status says healthy while changes are refused: {refused}")
    failed, what = control.failed > 0, control.first
    control.heal()
    if workspace.daemon.poll() is not None:
        return failed, [f"the daemon ended with {workspace.daemon.returncode}"], what
    if not workspace.until_healthy():
        found.append("not healthy 10 s after the storage is")
    else:
        workspace.ctl("checkpoint")
        found += problems_of(workspace, script)
    detail = f"{what}; refused: {[f[0] for f in refused]}"
    return failed, found, detail
