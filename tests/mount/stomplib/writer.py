"""A writer as a test drives it: a process under `stomp run NAME`, commanded by calls.

A call either returns, or raises OSError with the errno of the system call that failed
in the writer, as if the test itself had made it. A call that takes longer than its
timeout raises WriterHung, after the writer was killed: it never blocks the test.
"""

import errno as errno_table
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

PYTHON = "/usr/bin/python3"
AGENT = Path(__file__).with_name("agent.py")
CALL_TIMEOUT_S = 30

# Variables that would make a writer out of whatever runs the tests (W1d).
SCRUB = ("STOMP_", "CLAUDE", "CODEX_", "OPENCODE", "QWEN_", "GEMINI_", "PI_CODING_AGENT")

RDONLY, WRONLY, RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR

# Arguments that carry data: latin-1 text on the way (agent.py).
DATA = ("data", "stdin", "find", "put")


class WriterHung(AssertionError):
    pass


class WriterDied(AssertionError):
    pass


def clean_environment(extra=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(SCRUB)}
    env.update(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1", GIT_CONFIG_NOSYSTEM="1")
    env.update(extra or {})
    return env


def name_of(number):
    return errno_table.errorcode.get(number, str(number))


class Call:
    """A call under way; result() waits for it."""

    def __init__(self, writer, op):
        self.writer, self.op, self.began = writer, op, time.monotonic()

    def done(self):
        return self.writer._readable(0)

    def result(self, timeout=CALL_TIMEOUT_S):
        answer = self.writer._answer(self.op, timeout)
        self.writer._call = None
        if "wrong" in answer:
            raise TypeError(f"{self.writer.name}: {self.op}: {answer['wrong']}")
        if "errno" in answer:
            number = answer["errno"]
            raise OSError(number, os.strerror(number), f"{self.writer.name}: {self.op}")
        return answer["ok"]

    def errno(self, timeout=CALL_TIMEOUT_S):
        try:
            self.result(timeout)
        except OSError as error:
            return name_of(error.errno)
        return None


class Writer:
    """Open files are known by their descriptor number in the writer; paths are relative
    to the workspace; data are bytes."""

    def __init__(self, name, argv, cwd, env=None, log=None, **popen):
        self.name = name
        self._call = None
        self._buffer = b""
        self.process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=clean_environment(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            **popen,
        )
        self.pid = self._answer("start", CALL_TIMEOUT_S)["ok"]

    # ------------------------------------------------------------ calls

    def start(self, op, **args):
        """Begin a call without waiting for it, for what may park (L3)."""
        assert self._call is None, f"{self.name} is still in {self._call.op}"
        args = encode(args)
        line = json.dumps({"op": op, "args": args}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            self._died(op)
        self._call = Call(self, op)
        return self._call

    def call(self, op, timeout=CALL_TIMEOUT_S, **args):
        return self.start(op, **args).result(timeout)

    def errno(self, op, *args, **kwargs):
        """Name of the errno that a method fails with, or None: w.errno('open', 'a', 1)."""
        try:
            getattr(self, op)(*args, **kwargs)
        except OSError as error:
            return name_of(error.errno)
        return None

    def _readable(self, timeout):
        if b"\n" in self._buffer:
            return True
        return bool(select.select([self.process.stdout], [], [], max(0, timeout))[0])

    def _answer(self, op, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            if not self._readable(deadline - time.monotonic()):
                self.kill()
                raise WriterHung(f"{self.name}: {op} took longer than {timeout} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                self._died(op)
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _died(self, op):
        try:
            status = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            status = "no status"
        raise WriterDied(f"{self.name} ended ({status}) in {op}")

    # ------------------------------------------------------------ descriptors

    def open(self, path, flags=RDONLY, mode=0o644, **kw):
        return self.call("open", path=path, flags=flags, mode=mode, **kw)

    def close(self, fd):
        return self.call("close", fd=fd)

    def dup(self, fd):
        return self.call("dup", fd=fd)

    def reopen(self, fd, flags):
        return self.call("reopen", fd=fd, flags=flags)

    def read(self, fd, size=1 << 16):
        return decode(self.call("read", fd=fd, size=size))

    def pread(self, fd, size, offset):
        return decode(self.call("pread", fd=fd, size=size, offset=offset))

    def write(self, fd, data, **kw):
        return self.call("write", fd=fd, data=data, **kw)

    def pwrite(self, fd, data, offset):
        return self.call("pwrite", fd=fd, data=data, offset=offset)

    def forget_pages(self, fd):
        return self.call("forget_pages", fd=fd)

    def lseek(self, fd, offset, whence=os.SEEK_SET):
        return self.call("lseek", fd=fd, offset=offset, whence=whence)

    def ftruncate(self, fd, size):
        return self.call("ftruncate", fd=fd, size=size)

    def fallocate(self, fd, mode, offset, size):
        return self.call("fallocate", fd=fd, mode=mode, offset=offset, size=size)

    def copy_range(self, source, target, size, source_offset=None, target_offset=None):
        args = {"source_offset": source_offset, "target_offset": target_offset}
        return self.call("copy_range", source=source, target=target, size=size, **args)

    def fsync(self, fd):
        return self.call("fsync", fd=fd)

    def fchmod(self, fd, mode):
        return self.call("fchmod", fd=fd, mode=mode)

    def fstat(self, fd):
        return self.call("fstat", fd=fd)

    def mmap(self, fd, size, offset=0, shared=True, write=True):
        args = {"offset": offset, "shared": shared, "write": write}
        return self.call("mmap", fd=fd, size=size, **args)

    def store(self, map_id, offset, data):
        return self.call("store", map_id=map_id, offset=offset, data=data)

    def load(self, map_id, offset, size):
        return decode(self.call("load", map_id=map_id, offset=offset, size=size))

    def msync(self, map_id):
        return self.call("msync", map_id=map_id)

    def munmap(self, map_id):
        return self.call("munmap", map_id=map_id)

    # ------------------------------------------------------------ names

    def rename(self, source, target, flags=0, **kw):
        return self.call("rename", source=source, target=target, flags=flags, **kw)

    def unlink(self, path, **kw):
        return self.call("unlink", path=path, **kw)

    def link(self, source, target):
        return self.call("link", source=source, target=target)

    def symlink(self, target, path):
        return self.call("symlink", target=target, path=path)

    def mkdir(self, path, mode=0o755):
        return self.call("mkdir", path=path, mode=mode)

    def rmdir(self, path):
        return self.call("rmdir", path=path)

    def chmod(self, path, mode):
        return self.call("chmod", path=path, mode=mode)

    def truncate(self, path, size):
        return self.call("truncate", path=path, size=size)

    def utime(self, path, ns=None):
        return self.call("utime", path=path, ns=ns)

    def listdir(self, path="."):
        return self.call("listdir", path=path)

    def stat(self, path):
        return self.call("stat", path=path)

    # ------------------------------------------------------------ whole files

    def readfile(self, path, **kw):
        return decode(self.call("readfile", path=path, **kw))

    def writefile(self, path, data, mode=0o644, flags=None, **kw):
        if flags is not None:
            kw["flags"] = flags
        return self.call("writefile", path=path, data=data, mode=mode, **kw)

    def append(self, path, data):
        return self.call("append", path=path, data=data)

    def save_by_rename(self, path, data, **kw):
        return self.call("save_by_rename", path=path, data=data, **kw)

    # ------------------------------------------------------------ processes

    def spawn(self, *argv, stdin=b"", timeout=30):
        """A child program of the writer: (rc, out, err)."""
        argv = [os.fsdecode(a) for a in argv]
        args = {"argv": argv, "stdin": stdin, "limit": timeout}
        rc, out, err = self.call("spawn", timeout=timeout + 5, **args)
        return rc, decode(out), decode(err)

    def sh(self, script, timeout=30):
        """sh -c as a child of the writer: (rc, out, err)."""
        return self.spawn("sh", "-c", script, timeout=timeout)

    def fork(self, detach=False):
        """A child with all descriptors inherited; call it through child()."""
        return self.call("fork", detach=detach)

    def child(self, child_id, op, **args):
        result = self.call("child", child_id=child_id, what=op, args=encode(args))
        return decode(result) if isinstance(result, str) else result

    def sleep(self, seconds):
        return self.call("sleep", seconds=seconds)

    def signal(self, number):
        """To the obeying process itself, not to its launcher."""
        os.kill(self.pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL: the writer's process is gone when this returns; its launcher too."""
        pid = getattr(self, "pid", None)
        if pid and self.process.poll() is None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._end(kill_after=5)

    def stop(self):
        """The regular end: every descriptor is closed, the process exits."""
        if self.process.poll() is None and self._call is None:
            try:
                self.process.stdin.write(b'{"op": "stop"}\n')
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError):
                pass
        self._end(kill_after=10)

    def _end(self, kill_after):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            for pid in {self.process.pid, getattr(self, "pid", self.process.pid)}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass  # in an uninterruptible wait; the mount's watchdog ends that
        self.process.stdout.close()


def encode(args):
    """Data travel as latin-1 text (agent.py), names as text with surrogates."""

    def one(key, value):
        if isinstance(value, (bytes, bytearray)) and key in DATA:
            return value.decode("latin-1")
        if isinstance(value, (bytes, os.PathLike)):
            return os.fsdecode(value)
        return value

    return {key: one(key, value) for key, value in args.items()}


def decode(text):
    return text.encode("latin-1")
