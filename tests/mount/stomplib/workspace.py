"""A private directory with stompfs mounted over it.

The daemon runs in the foreground as our child. Nothing here waits without a bound: a
watchdog kills the daemon when the workspace has lived too long, which aborts the mount
and turns every hanging system call into an error, so that a hung mount fails its test.
"""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

READY_TIMEOUT_S = 30
EXIT_TIMEOUT_S = 30

# What must never appear in the daemon's messages, however the test ended.
BAD_WORDS = re.compile(r"assert|Sanitizer|runtime error|dumped core|stack smashing")


def find_build():
    """The meson build directory under test: $STOMPFS_BUILD, else build/ at the root."""
    root = Path(__file__).resolve().parents[3]
    return Path(os.environ.get("STOMPFS_BUILD") or root / "build").absolute()


def given_options():
    """Options for every mount of this run: STOMPFS_TEST_OPTIONS=uring scripts/test"""
    return [o for o in os.environ.get("STOMPFS_TEST_OPTIONS", "").split(",") if o]


def octal_word(name):
    """A word of a .stomp/ctl line (docs/STOMP-FOLDER.md)."""
    plain = range(0x21, 0x7F)
    return "".join(
        chr(b) if b in plain and b != ord("\\") else f"\\{b:03o}"
        for b in os.fsencode(name)
    )


class Workspace:
    def __init__(self, path, scratch, options=(), build=None, deadline_s=60):
        """Make path the workspace; scratch is a folder outside it for our own files."""
        self.path = Path(path)
        self.scratch = Path(scratch)
        self.options = list(options)
        self.given = given_options()
        self.build = Path(build) if build else find_build()
        self.deadline_s = deadline_s
        self.daemon = None
        self.overdue = False
        self.log_path = self.scratch / "stompfs.log"
        self._watchdog = None
        self._log_checked = 0
        self._backing_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    # ------------------------------------------------------------ life

    @property
    def stompfs(self):
        return self.build / "fs" / "stompfs"

    @property
    def stomp(self):
        return self.build / "cli" / "stomp"

    def mount(self, options=None, **popen):
        """Start the daemon and return once the mount answers."""
        assert self.daemon is None, "mounted already"
        if options is not None:
            self.options = list(options)
        assert self.stompfs.exists(), f"{self.stompfs} is not built"
        argv = [str(self.stompfs), str(self.path), "-f"]
        given = self.given  # the test's own come last: those count
        if "supervise" in self.options:
            given = [o for o in given if o.partition("=")[0] != "uring"]
        if given + self.options:
            argv += ["-o", ",".join(given + self.options)]
        with open(self.log_path, "ab") as log:
            self.daemon = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen
            )
        self._watchdog = threading.Timer(self.deadline_s, self._too_long)
        self._watchdog.daemon = True
        self._watchdog.start()
        try:
            self._wait_ready()
        except BaseException:
            self.destroy()
            raise

    def _wait_ready(self):
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                os.stat(self.path / ".stomp" / "status")
                return
            except OSError as error:
                reason = error
            status = self.daemon.poll()
            if status is not None:
                raise AssertionError(f"stompfs ended with {status}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready ({reason}):\n{self.tail()}")
            time.sleep(0.01)

    def _too_long(self):
        self.overdue = True
        self.abort()

    def abort(self):
        """Kill this daemon and make every call on the mount end with an error."""
        daemon = self.daemon
        if daemon is None:
            return
        # MNT_FORCE aborts the connection, also where a thread of the daemon is stuck.
        subprocess.run(
            ["umount", "-f", "-l", str(self.path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
        daemon.kill()

    def mounted(self):
        return bool(mounts_on(self.path))

    def kill_daemon(self):
        """kill -9 of the daemon, and the dead mount taken away (V4, L8)."""
        assert self.daemon is not None, "not mounted"
        self.daemon.kill()
        self.daemon.wait(timeout=EXIT_TIMEOUT_S)
        self._stop_watchdog()
        self.daemon = None
        self._lazy_umount()

    def umount(self):
        """The regular end: the mount goes and the daemon exits by itself with 0."""
        assert self.daemon is not None, "not mounted"
        problem = self._umount_command()
        status = None
        if not problem:
            try:
                status = self.daemon.wait(timeout=EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                problem = (f"the daemon did not end within {EXIT_TIMEOUT_S} s of umount; a copy"
                           f" of the mount is in the mount namespace of: {self.keepers()}")
        if problem:
            self.destroy()
            raise AssertionError(f"{problem}\n{self.tail()}")
        self._stop_watchdog()
        self.daemon = None
        assert status == 0, f"the daemon ended with {status}:\n{self.tail()}"

    def _umount_command(self):
        """None when done, else what went wrong."""
        if os.geteuid() == 0:
            argv = ["umount", str(self.path)]
        else:
            argv = ["fusermount3", "-u", str(self.path)]
        text = ""
        for pause in (0, 0.2, 0.5, 1, 2):  # a reaped child may hold it a moment longer
            time.sleep(pause)
            try:
                done = subprocess.run(
                    argv, capture_output=True, text=True, timeout=EXIT_TIMEOUT_S
                )
            except subprocess.TimeoutExpired:
                return f"{argv[0]} hangs"
            if done.returncode == 0:
                return None
            text = done.stderr.strip()
            if "busy" not in text:
                break
        return f"{argv[0]} failed: {text}\nusers: {self.users()}"

    def _lazy_umount(self):
        tool = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        for _ in range(4):
            if not self.mounted():
                return
            subprocess.run(
                tool + [str(self.path)], stderr=subprocess.DEVNULL, timeout=20, check=False
            )

    def _stop_watchdog(self):
        if self._watchdog:
            self._watchdog.cancel()
            self._watchdog = None

    def remount(self, options=None):
        self.umount()
        self.mount(options)

    def destroy(self):
        """Take everything away, by force; complains about nothing."""
        self._stop_watchdog()
        if self.daemon:
            self.abort()
            self._lazy_umount()
            try:
                self.daemon.wait(timeout=EXIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                pass
            self.daemon = None
        self._lazy_umount()

    def close(self, failed=False):
        """End of the test: unmount where mounted, then look at what the daemon said.
        A test that failed has left files open: there the mount goes by force."""
        try:
            assert not self.overdue, (
                f"the mount was aborted after {self.deadline_s} s\n{self.tail()}"
            )
            if self.daemon:
                status = self.daemon.poll()
                assert status is None, f"the daemon died ({status}):\n{self.tail()}"
                if not failed:
                    self.umount()
            self.check_log()
        finally:
            self.destroy()
            if self._backing_fd >= 0:
                os.close(self._backing_fd)
                self._backing_fd = -1

    # ------------------------------------------------------------ what it says

    def daemon_log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self, lines=40):
        return "\n".join(self.daemon_log().splitlines()[-lines:]) or "(no messages)"

    def check_log(self):
        text = self.daemon_log()
        bad = [line for line in text.splitlines() if BAD_WORDS.search(line)]
        assert not bad, "the daemon complained:\n" + "\n".join(bad) + "\n" + self.tail()

    def users(self):
        """Processes with a file, folder or mapping on the mount, for a busy umount."""
        found = []
        prefix = str(self.path)
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                links = [f"/proc/{entry}/cwd"]
                links += [f"/proc/{entry}/fd/{n}" for n in os.listdir(f"/proc/{entry}/fd")]
                if any(os.readlink(link).startswith(prefix) for link in links):
                    command = Path(f"/proc/{entry}/cmdline").read_bytes()
                    found.append(f"{entry} {command.replace(bytes(1), b' ').decode()}")
            except OSError:
                continue
        return found or "none seen"

    def keepers(self):
        """Processes whose mount namespace has the mount, which keep its daemon."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                if f" {self.path} " in Path(f"/proc/{entry}/mountinfo").read_text():
                    command = Path(f"/proc/{entry}/cmdline").read_bytes()
                    found.append(f"{entry} {command.replace(bytes(1), b' ').decode()}")
            except (OSError, UnicodeDecodeError):
                continue
        return found or "none seen"

    # ------------------------------------------------------------ paths and tables

    def __truediv__(self, name):
        return self.path / os.fsdecode(name)

    def backing(self, name="."):
        """The same path below the mount: what is really stored."""
        return Path(f"/proc/{os.getpid()}/fd/{self._backing_fd}") / os.fsdecode(name)

    def json(self, name):
        """A table of .stomp: json('leases'), json('refusals'), json('status')…"""
        data = json.loads((self.path / ".stomp" / f"{name}.json").read_text())
        assert data["schema"].startswith("stompfs/"), data
        return data

    def text(self, name):
        return (self.path / ".stomp" / name).read_text()

    def log(self, name=None):
        """Versions of a path, oldest first; without one, the newest of the tree."""
        table = self.path / ".stomp"
        table = table / "history" / os.fsdecode(name) / "log.json" if name else table / "log.json"
        return json.loads(table.read_text())["versions"][::-1]

    def version(self, name, number):
        """Content of version `number` of a path."""
        return (self.path / ".stomp" / "history" / os.fsdecode(name) / str(number)).read_bytes()

    def refusals(self, writer=None):
        """Everybody's refusals, or those of one writer (its name), oldest first."""
        rows = self.json("refusals")["refusals"][::-1]
        return [r for r in rows if writer is None or r["writer"] == getattr(writer, "name", writer)]

    def why(self, writer):
        """The last refusals as the writer itself reads them, newest first."""
        return json.loads(writer.readfile(".stomp/why.json"))["refusals"]

    def leases(self, name=None):
        rows = self.json("leases")["leases"]
        return [r for r in rows if name is None or r["path"] == name]

    def ctl(self, line, writer=None):
        """One command to .stomp/ctl, by us or by a writer; the parsed answer."""
        if writer is not None:
            return json.loads(writer.call("ctl", line=line))
        fd = os.open(self.path / ".stomp" / "ctl", os.O_RDWR)
        try:
            os.write(fd, line.encode())
            return json.loads(os.read(fd, 1 << 20))
        finally:
            os.close(fd)

    def settle(self, times=1.6):
        """Let more than `settle` pass (S1): reads made before now count as known."""
        time.sleep(times * self.option_s("settle", 0.25))

    def option_s(self, name, default):
        """A mount option that is a span, in seconds."""
        for option in reversed(self.options):  # the last one counts
            key, _, value = option.partition("=")
            if key == name:
                number, unit = re.fullmatch(r"([\d.]+)(ms|s|m|h)?", value).groups()
                return float(number) * {"ms": 0.001, "m": 60, "h": 3600}.get(unit, 1)
        return default

    # ------------------------------------------------------------ programs

    def run(self, *argv, timeout=30, check=True, **kwargs):
        """A program with the workspace as its folder; its end is awaited."""
        kwargs.setdefault("cwd", self.path)
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [os.fsencode(a) for a in argv], capture_output=True, timeout=timeout, **kwargs
        )
        if check:
            assert done.returncode == 0, f"{argv} → {done.returncode}\n{done.stderr.decode()}"
        return done

    def run_as(self, name, *argv, **kwargs):
        """A program of the writer `name`: stomp run NAME -- ARGV."""
        return self.run(self.stomp, "run", name, "--", *argv, **kwargs)


def mounts_on(path):
    """Types of the file systems mounted on path, from /proc/self/mountinfo."""
    wanted = os.path.realpath(path)
    types = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split()
            point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
            if point == wanted:
                types.append(fields[fields.index("-") + 1])
    return types
