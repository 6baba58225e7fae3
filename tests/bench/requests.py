"""FUSE requests per operation, by opcode, as the kernel's own tracepoint counts them."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import systems as kinds

TRACING = Path("/sys/kernel/tracing")
BUFFER_KIB = 32768
N = 200

# what: (prepared before it is counted, counted, operations)
STEPS = {
    "create+write+close 4 KiB": (None, f"create:n={N}", N),
    "open+read+close, first": ("REMOUNT", f"read:n={N}", N),
    "open+read+close, again": (f"read:n={N}", f"read:n={N}", N),
    "stat after a read": (None, f"stat:n={N}", N),
    "stat, warm": (None, f"stat:n={N}", N),
    "missing name, first": (None, f"missing:n={N}", N),
    "missing name, warm": (None, f"missing:n={N}", N),
    "append 64 B": (None, f"append:n={N}:size=64:block={N}", N),
    "append 64 B, to one file": (None, f"append:n={N}:size=64:block=1", N),
    "overwrite 4 KiB": (None, f"overwrite:n={N}", N),
    "rename": (None, f"rename:n={N}", N),
    "unlink": (None, f"unlink:n={N}", N),
    "sequential write 4 KiB": (None, f"seqwrite:size={N * 4096}:block=4096", N),
    "sequential write 1 MiB": (None, "seqwrite:size=33554432:block=1048576", 32),
    "sequential read 1 MiB": ("REMOUNT", "seqread:size=33554432:block=1048576", 32),
}


class Trace:
    """An instance of its own, so that nobody else's tracing is disturbed."""

    def __enter__(self):
        if not (TRACING / "instances").is_dir():
            kinds.run(["mount", "-t", "tracefs", "none", TRACING])
        self.at = TRACING / "instances" / f"stompfs-bench-{os.getpid()}"
        self.at.mkdir()
        (self.at / "buffer_size_kb").write_text(str(BUFFER_KIB))
        return self

    def __exit__(self, *_):
        (self.at / "tracing_on").write_text("0")
        self.at.rmdir()

    def start(self, connection):
        event = self.at / "events" / "fuse" / "fuse_request_send"
        (event / "filter").write_text(f"connection == {connection}")
        (event / "enable").write_text("1")
        (self.at / "trace").write_text("")

    def stop(self):
        """Requests by opcode since start()."""
        (self.at / "events" / "fuse" / "fuse_request_send" / "enable").write_text("0")
        text = (self.at / "trace").read_text()
        return Counter(op for op in re.findall(r"opcode \d+ \(FUSE_(\w+)\)", text))


def connection_of(path):
    return os.minor(os.stat(path).st_dev)


def count_at(trace, client, system):
    at = system.work / "requests"
    at.mkdir()
    found = {}
    for what, (before, step, ops) in STEPS.items():
        system.idle()
        if before == "REMOUNT":
            system.down()
            system.up()
        elif before:
            subprocess.run([client, at, before], check=True)
        system.idle()
        os.stat(at)  # the way to the folder is known
        trace.start(connection_of(system.path))
        subprocess.run([client, at, step], check=True)
        found[what] = (trace.stop(), ops)
    return found


def count(options, systems):
    client = options.build / "tests" / "bench" / "bench_client"
    lines = []
    with Trace() as trace:
        for system in systems:
            if not system.has_daemon:
                continue
            lines += [f"{system.name}:", "", "| operation | requests | by opcode |",
                      "| --- | --- | --- |"]
            for what, (by_opcode, ops) in count_at(trace, client, system).items():
                each = ", ".join(f"{op} {n / ops:.2f}" for op, n in by_opcode.most_common()
                                 if n / ops >= 0.02)
                lines.append(f"| {what} | {sum(by_opcode.values()) / ops:.2f} | {each} |")
            lines.append("")
    return "\n".join(lines)
