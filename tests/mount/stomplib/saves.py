"""How agents change an existing file (FIELD.md section 2), system call by system call.

Stands alone (standard library only): runs inside a writer (agent.py). An error that the
agent swallows is told in the outcome, every other one is raised as it came.
"""

import os
from dataclasses import dataclass, field

RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
CREAT, EXCL, TRUNC = os.O_CREAT, os.O_EXCL, os.O_TRUNC


def read(path):
    fd = os.open(path, RDONLY)
    try:
        pieces = []
        while piece := os.read(fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def write(fd, data):
    while data:
        data = data[os.write(fd, data) :]


@dataclass
class Saver:
    """One save under way; what it does not say aloud goes to `swallowed`."""

    swallowed: list = field(default_factory=list)

    def close(self, fd, quietly=False):
        try:
            os.close(fd)
        except OSError:
            if not quietly:
                raise
            self.swallowed.append("close")

    def into(self, fd, data, quietly=False):
        """Write all and close; a failing write closes too, and is what is told."""
        try:
            write(fd, data)
        except OSError:
            self.close(fd, quietly=True)
            raise
        self.close(fd, quietly)

    def rename(self, temporary, path):
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise

    def claude(self, path, data):
        """Temporary through the folder's descriptor; rename."""
        folder = os.open(os.path.dirname(path) or ".", RDONLY | os.O_DIRECTORY)
        try:
            name = f"{os.path.basename(path)}.tmp.{os.getpid()}.0123"
            temporary = f"/proc/self/fd/{folder}/{name}"
            fd = os.open(temporary, WRONLY | CREAT | EXCL, 0o644)
            write(fd, data)
            os.fchmod(fd, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644)
            os.fsync(fd)
            self.close(fd, quietly=True)
            self.rename(temporary, path)
        finally:
            os.close(folder)

    def qwen(self, path, data):
        temporary = f"{path}.4f5a.tmp"
        fd = os.open(temporary, WRONLY | CREAT | TRUNC, 0o644)
        write(fd, data)
        os.fsync(fd)
        os.close(fd)
        os.chmod(temporary, 0o644)
        self.rename(temporary, path)

    def mcp(self, path, data):
        try:
            fd = os.open(path, WRONLY | CREAT | EXCL, 0o644)
        except FileExistsError:
            temporary = f"{path}.77aa.tmp"
            self.into(os.open(temporary, WRONLY | CREAT | TRUNC, 0o644), data)
            self.rename(temporary, path)
            os.chmod(path, 0o644)
        else:
            self.into(fd, data)

    def codex(self, path, data):
        self.into(os.open(path, WRONLY | CREAT | TRUNC, 0o644), data, quietly=True)

    def in_place(self, path, data):
        """gemini, pi."""
        self.into(os.open(path, WRONLY | CREAT | TRUNC, 0o644), data)

    def opencode(self, path, data):
        """opencode, cline: no O_TRUNC; the length comes last."""
        fd = os.open(path, WRONLY | CREAT, 0o644)
        try:
            write(fd, data)
        except OSError:
            self.close(fd, quietly=True)
            raise
        try:
            os.ftruncate(fd, len(data))
        except OSError:
            self.swallowed.append("ftruncate")
        self.close(fd, quietly=True)

    def biome(self, path, data):
        fd = os.open(path, RDWR)
        try:
            os.ftruncate(fd, 0)
            write(fd, data)
        except OSError:
            self.close(fd, quietly=True)
            raise
        self.close(fd, quietly=True)

    def vim(self, path, data):
        fd = os.open(path, WRONLY | CREAT, 0o644)
        try:
            os.ftruncate(fd, 0)
            write(fd, data)
            os.fsync(fd)
        except OSError:
            self.close(fd, quietly=True)
            raise
        self.close(fd)


@dataclass(frozen=True)
class Habit:
    """re-reads just before a whole-file write, and before an edit"""

    save: str
    before_whole: int
    before_edit: int


AGENTS = {
    "claude": Habit("claude", 1, 4),
    "qwen": Habit("qwen", 1, 1),
    "mcp": Habit("mcp", 0, 1),
    "codex": Habit("codex", 1, 2),
    "gemini": Habit("in_place", 1, 1),
    "pi": Habit("in_place", 0, 1),
    "opencode": Habit("opencode", 1, 1),
    "cline": Habit("opencode", 1, 1),
}
EDITORS = {"biome": Habit("biome", 1, 1), "vim": Habit("vim", 1, 1)}


def reads_before(path, times):
    """What the last one found; None where there is no file."""
    text = None
    for _ in range(times):
        try:
            text = read(path)
        except FileNotFoundError:
            return None
    return text


def whole(agent, path, data):
    """Write data over the whole file, composed from what was read long ago."""
    habit, saver = (AGENTS | EDITORS)[agent], Saver()
    reads_before(path, habit.before_whole)
    getattr(saver, habit.save)(path, data)
    return saver.swallowed


def edit(agent, path, find, put):
    """Search and replace in what is there now; None when there is nothing to find."""
    habit, saver = (AGENTS | EDITORS)[agent], Saver()
    text = reads_before(path, habit.before_edit)
    if text is None or find not in text:
        return None
    getattr(saver, habit.save)(path, text.replace(find, put, 1))
    return saver.swallowed
