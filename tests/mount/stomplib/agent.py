"""A writer process that obeys: one JSON object per line in, one per line out.

Stands alone (standard library only), so that it can run under any launcher. Bytes
travel as latin-1 text. A failing system call is answered with its errno; nothing ends
this process but `stop`, end of input, or a signal.
"""

import ctypes
import errno
import json
import mmap
import os
import select
import socket
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)


def to_bytes(text):
    return text.encode("latin-1")


def to_text(data):
    return bytes(data).decode("latin-1")


def libc(name, *args):
    if getattr(LIBC, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Agent:
    def __init__(self):
        self.maps = {}
        self.children = {}
        self.pipe = os.pipe()

    # ---- descriptors: the id of an open file is its descriptor number

    def open(self, path, flags, mode=0o644):
        return os.open(path, flags, mode)

    def close(self, fd):
        os.close(fd)

    def dup(self, fd):
        return os.dup(fd)

    def reopen(self, fd, flags):
        """Through /proc/self/fd: another open file description of the same file."""
        return os.open(f"/proc/self/fd/{fd}", flags)

    def read(self, fd, size):
        return to_text(os.read(fd, size))

    def pread(self, fd, size, offset):
        return to_text(os.pread(fd, size, offset))

    def write(self, fd, data):
        return os.write(fd, to_bytes(data))

    def pwrite(self, fd, data, offset):
        return os.pwrite(fd, to_bytes(data), offset)

    def forget_pages(self, fd):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def lseek(self, fd, offset, whence=os.SEEK_SET):
        return os.lseek(fd, offset, whence)

    def ftruncate(self, fd, size):
        os.ftruncate(fd, size)

    def fallocate(self, fd, mode, offset, size):
        libc("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(size))

    def copy_range(self, source, target, size, source_offset=None, target_offset=None):
        return os.copy_file_range(source, target, size, source_offset, target_offset)

    def fsync(self, fd):
        os.fsync(fd)

    def fchmod(self, fd, mode):
        os.fchmod(fd, mode)

    def fstat(self, fd):
        return self.as_stat(os.fstat(fd))

    # ---- mappings

    def mmap(self, fd, size, offset=0, shared=True, write=True):
        flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
        number = len(self.maps) + 1
        self.maps[number] = mmap.mmap(fd, size, flags, prot, offset=offset)
        return number

    def store(self, map_id, offset, data):
        """Through read(2) into the mapping: a page that cannot be had is EFAULT here,
        where a plain store would end us with SIGBUS."""
        data = to_bytes(data)
        view = memoryview(self.maps[map_id])
        for start in range(0, len(data), 4096):
            piece = data[start : start + 4096]
            os.write(self.pipe[1], piece)
            part = view[offset + start : offset + start + len(piece)]
            try:
                os.readv(self.pipe[0], [part])
            except OSError:
                self.drain()
                raise

    def drain(self):
        while select.select([self.pipe[0]], [], [], 0)[0]:
            os.read(self.pipe[0], 65536)

    def load(self, map_id, offset, size):
        view = memoryview(self.maps[map_id])
        os.writev(self.pipe[1], [view[offset : offset + size]])
        return to_text(os.read(self.pipe[0], size))

    def msync(self, map_id):
        self.maps[map_id].flush()

    def munmap(self, map_id):
        self.maps.pop(map_id).close()

    # ---- names

    def rename(self, source, target, flags=0):
        if flags:
            args = (-100, os.fsencode(source), -100, os.fsencode(target), flags)
            libc("renameat2", *args)
        else:
            os.rename(source, target)

    def unlink(self, path):
        os.unlink(path)

    def link(self, source, target):
        os.link(source, target)

    def symlink(self, target, path):
        os.symlink(target, path)

    def mkdir(self, path, mode=0o755):
        os.mkdir(path, mode)

    def rmdir(self, path):
        os.rmdir(path)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def truncate(self, path, size):
        os.truncate(path, size)

    def utime(self, path, ns=None):
        os.utime(path, **({"ns": tuple(ns)} if ns else {}))

    def listdir(self, path="."):
        return os.listdir(path)

    def stat(self, path):
        return self.as_stat(os.lstat(path))

    def as_stat(self, st):
        fields = ("mode", "ino", "nlink", "uid", "gid", "size", "blocks", "mtime_ns")
        return {f: getattr(st, "st_" + f) for f in fields}

    # ---- whole files

    def readfile(self, path):
        with open(path, "rb", buffering=0) as f:
            return to_text(f.readall())

    def writefile(self, path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o644):
        fd = os.open(path, flags, mode)
        try:
            self.write_all(fd, to_bytes(data))
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        os.close(fd)

    def append(self, path, data):
        self.writefile(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def save_by_rename(self, path, data, temporary=None):
        """Temporary, write, fsync, rename onto; the temporary goes when refused."""
        temporary = temporary or f"{path}.tmp.{os.getpid()}"
        self.writefile(temporary, data, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise

    def write_all(self, fd, data):
        while data:
            data = data[os.write(fd, data) :]

    def peek(self, path):
        """Read it all, say only how much that was."""
        with open(path, "rb", buffering=0) as f:
            return len(f.readall())

    def save_whole(self, agent, path, source):
        """As that agent writes a whole file: the content of the file source (saves.py)."""
        import saves

        return saves.whole(agent, path, saves.read(source))

    def save_edit(self, agent, path, find, put):
        import saves

        return saves.edit(agent, path, to_bytes(find), to_bytes(put))

    # ---- .stomp

    def ctl(self, line):
        fd = os.open(".stomp/ctl", os.O_RDWR)
        try:
            os.write(fd, os.fsencode(line))
            return to_text(os.read(fd, 1 << 20))
        finally:
            os.close(fd)

    # ---- processes

    def spawn(self, argv, stdin="", limit=30):
        """A child program; its end is awaited."""
        done = subprocess.run(argv, input=to_bytes(stdin), capture_output=True, timeout=limit)
        return [done.returncode, to_text(done.stdout), to_text(done.stderr)]

    def fork(self, detach=False):
        """A child that inherits every descriptor and mapping and obeys through `child`.
        detach: forked twice, in a session of its own, with init as its parent."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            if detach:
                os.setsid()
                if os.fork():
                    os._exit(0)
            try:
                self.children = {}
                self.pipe = os.pipe()
                with theirs.makefile("r") as lines, theirs.makefile("w") as answers:
                    self.serve(lines, answers)
            finally:
                os._exit(0)
        theirs.close()
        if detach:
            os.waitpid(pid, 0)
        number = len(self.children) + 1
        self.children[number] = (ours, ours.makefile("r"), ours.makefile("w"))
        return number

    def child(self, child_id, what, args):
        _, answers, lines = self.children[child_id]
        json.dump({"op": what, "args": args}, lines)
        lines.write("\n")
        lines.flush()
        answer = json.loads(answers.readline())
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return answer["ok"]

    def getpid(self):
        return os.getpid()

    def chdir(self, path):
        os.chdir(path)

    def sleep(self, seconds):
        time.sleep(seconds)

    # ---- the loop

    def obey(self, request):
        try:
            method = getattr(self, request["op"])
            return {"ok": method(**request["args"])}
        except subprocess.TimeoutExpired as error:
            return {"errno": errno.ETIMEDOUT, "text": str(error)}
        except OSError as error:
            return {"errno": error.errno, "text": str(error)}
        except Exception as error:  # our own mistake: told to the test, never hidden
            return {"wrong": f"{type(error).__name__}: {error}"}

    def serve(self, lines, answers):
        for line in iter(lines.readline, ""):
            request = json.loads(line)
            if request["op"] == "stop":
                return
            json.dump(self.obey(request), answers)
            answers.write("\n")
            answers.flush()


if __name__ == "__main__":
    # The pipe to the test is kept away from the programs spawned here.
    lines = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w")
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    print(json.dumps({"ok": os.getpid()}), file=answers, flush=True)
    Agent().serve(lines, answers)
    sys.exit(0)
