"""A program on a pseudo-terminal, and what its screen shows: the part of a VT100/xterm
that curses uses, as a grid of characters."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

CSI = re.compile(r"\x1b\[([?>]?)([0-9;]*)([@-~])")
OTHER = re.compile(r"\x1b[()][0-9A-B]|\x1b[=>78M]")


class Grid:
    def __init__(self, rows, columns):
        self.y = self.x = 0
        self.last = " "
        self.resize(rows, columns)

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.top, self.bottom = 0, rows - 1
        self.cells = [[" "] * columns for _ in range(rows)]
        self.y, self.x = min(self.y, rows - 1), min(self.x, columns - 1)

    def text(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def scroll(self, first, by):
        for _ in range(abs(by)):
            if by > 0:
                del self.cells[first]
                self.cells.insert(self.bottom, [" "] * self.columns)
            else:
                del self.cells[self.bottom]
                self.cells.insert(first, [" "] * self.columns)

    def put(self, char):
        if self.x >= self.columns:
            self.x = 0
            self.line_feed()
        self.cells[self.y][self.x] = self.last = char
        self.x += 1

    def line_feed(self):
        if self.y == self.bottom:
            self.scroll(self.top, 1)
        else:
            self.y = min(self.y + 1, self.rows - 1)

    def csi(self, private, given, final):
        if given == "1049" and final in "hl":  # the other screen, and back: both empty
            self.resize(self.rows, self.columns)
        if private or final in "mhltn":
            return
        numbers = [int(n or 0) for n in given.split(";")]
        n = numbers[0] or 1
        row, blank = self.cells[self.y], " "
        if final in "Hf":
            self.y, self.x = n - 1, (numbers[1] if len(numbers) > 1 else 1) - 1
        elif final == "d":
            self.y = n - 1
        elif final in "G`":
            self.x = n - 1
        elif final == "A":
            self.y -= n
        elif final == "B":
            self.y += n
        elif final == "C":
            self.x += n
        elif final == "D":
            self.x -= n
        elif final == "X":
            row[self.x:self.x + n] = [blank] * min(n, self.columns - self.x)
        elif final == "P":
            row[self.x:] = (row[self.x + n:] + [blank] * self.columns)[:self.columns - self.x]
        elif final == "@":
            row[self.x:] = ([blank] * n + row[self.x:])[:self.columns - self.x]
        elif final == "b":
            for _ in range(n):
                self.put(self.last)
        elif final == "K":
            begin, end = [(self.x, self.columns), (0, self.x + 1), (0, self.columns)][numbers[0]]
            row[begin:end] = [blank] * (min(end, self.columns) - begin)
        elif final == "J":
            assert numbers[0] in (0, 2), "an erasure that is not known here"
            if numbers[0] == 0:
                row[self.x:] = [blank] * (self.columns - self.x)
            for y in range(0 if numbers[0] == 2 else self.y + 1, self.rows):
                self.cells[y] = [blank] * self.columns
        elif final == "r":
            self.top = n - 1
            self.bottom = (numbers[1] if len(numbers) > 1 else self.rows) - 1
            # It may be meant for the size that the terminal had a moment before.
            self.top = min(self.top, self.rows - 1)
            self.bottom = min(self.bottom, self.rows - 1)
            self.y = self.x = 0
        elif final in "LM":
            self.scroll(self.y, n if final == "M" else -n)
        elif final in "ST":
            self.scroll(self.top, n if final == "S" else -n)
        else:
            raise AssertionError(f"CSI {given}{final} is not known here")
        self.y = max(0, min(self.y, self.rows - 1))
        self.x = max(0, min(self.x, self.columns - 1))

    def feed(self, text):
        """Returns what is not whole yet."""
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\x1b":
                match = CSI.match(text, at) or OTHER.match(text, at)
                if not match:
                    return text[at:]
                if match.re is CSI:
                    self.csi(*match.groups())
                elif match.group() == "\x1bM":
                    if self.y == self.top:
                        self.scroll(self.top, -1)
                    else:
                        self.y -= 1
                at = match.end()
                continue
            if char == "\r":
                self.x = 0
            elif char == "\n":
                self.line_feed()
            elif char == "\b":
                self.x = max(0, min(self.x, self.columns - 1) - 1)
            elif char == "\t":
                self.x = min((self.x // 8 + 1) * 8, self.columns - 1)
            elif char >= " ":
                self.put(char)
            at += 1
        return ""


class Terminal:
    """A program on a terminal of its own; text() is what it shows."""

    def __init__(self, argv, cwd, env, rows=24, columns=80):
        self.raw, self.rest = b"", ""
        self.grid = Grid(rows, columns)
        self.master, self.slave = pty.openpty()
        self.size(rows, columns, tell=False)
        self.before = termios.tcgetattr(self.slave)
        self.status = None
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.master)
                self._login()
                os.chdir(cwd)
                os.execve(argv[0], [os.fsencode(a) for a in argv], env)
            finally:
                os._exit(99)

    def _login(self):
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(self.slave, fd)
        if self.slave > 2:
            os.close(self.slave)

    def size(self, rows, columns, tell=True):
        if tell:
            self.pump(0)
            self.grid.resize(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pump(self, timeout):
        while select.select([self.master], [], [], timeout)[0]:
            try:
                piece = os.read(self.master, 65536)
            except OSError:
                return
            self.raw += piece
            self.rest = self.grid.feed(self.rest + piece.decode("utf-8", "replace"))
            timeout = 0

    def text(self):
        return self.grid.text()

    def wait_for(self, wanted, timeout=20):
        """Until the screen has a text, or makes a function true; the screen then."""
        good = wanted if callable(wanted) else lambda text: wanted in text
        deadline = time.monotonic() + timeout
        while not good(self.text()):
            left = deadline - time.monotonic()
            assert left > 0, f"no {wanted!r} on the screen:\n{self.text()}"
            self.pump(min(left, 0.2))
        return self.text()

    def keys(self, text):
        os.write(self.master, text.encode())

    def end(self, timeout=20):
        """Wait for its end: the exit code, or -signal."""
        deadline = time.monotonic() + timeout
        while self.status is None and time.monotonic() < deadline:
            self.pump(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        assert self.status is not None, f"it does not end:\n{self.text()}"
        self.pump(0.05)
        return self.status

    def restored(self):
        """The terminal is as it was: its attributes, and the other screen left last."""
        assert termios.tcgetattr(self.slave) == self.before
        assert self.raw.rfind(b"\x1b[?1049l") > self.raw.rfind(b"\x1b[?1049h") > -1
        assert self.raw.rfind(b"\x1b[?25h") > self.raw.rfind(b"\x1b[?25l"), "the cursor"
        return True

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)
        os.close(self.slave)
