"""Side by side: the bare directory, stompfs, and libfuse's passthrough_hp.

Systems are interleaved and repeated, figures are medians, ratios are to the bare
directory of the same run. Nothing is asserted: machines are noisy.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(args, **kw):
    return subprocess.run(args, check=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, **kw)


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


# ---- systems: where to work, and how it gets there ----


class Native:
    name = "native"

    def __init__(self, base):
        self.path = base / self.name
        self.path.mkdir()

    def up(self):
        pass

    def down(self):
        pass


class Stompfs(Native):
    name = "stompfs"

    def __init__(self, base, build):
        super().__init__(base)
        self.program = Path(build) / "fs" / "stompfs"

    def up(self):
        run([self.program, self.path])

    def down(self):
        run(["umount", self.path])


class PassthroughHp(Native):
    name = "passthrough_hp"

    def __init__(self, base, program):
        self.backing = base / "passthrough_hp_backing"
        self.backing.mkdir()
        super().__init__(base)
        self.program = program
        self.process = None

    def up(self):
        self.process = subprocess.Popen(
            [self.program, "--foreground", self.backing, self.path],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            if os.path.ismount(self.path):
                return
            time.sleep(0.01)  # it tells nobody when it is ready
        raise RuntimeError("passthrough_hp does not mount")

    def down(self):
        run(["umount", self.path])
        self.process.wait(30)


# ---- workloads: each returns seconds; smaller is better ----

BLOCK = os.urandom(4096)


def create(at, n):
    os.mkdir(at / "create")
    for i in range(n):
        fd = os.open(at / f"create/{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, BLOCK)
        os.close(fd)


def read_all(at, n):
    for i in range(n):
        fd = os.open(at / f"create/{i}", os.O_RDONLY)
        os.read(fd, 8192)
        os.close(fd)


def append(at, n):
    for _ in range(n):
        fd = os.open(at / "create/0", os.O_WRONLY | os.O_APPEND)
        os.write(fd, BLOCK[:64])
        os.close(fd)


def overwrite(at, n):
    for i in range(n):
        fd = os.open(at / f"create/{i}", os.O_WRONLY | os.O_TRUNC)
        os.write(fd, BLOCK[::-1])
        os.close(fd)


def stat_all(at, n):
    for i in range(n):
        os.stat(at / f"create/{i}")


def rename_all(at, n):
    for i in range(n):
        os.rename(at / f"create/{i}", at / f"create/r{i}")


def unlink_all(at, n):
    for i in range(n):
        os.unlink(at / f"create/r{i}")


def fio(at, mode, block, size):
    out = subprocess.run(
        ["fio", "--name=x", f"--rw={mode}", f"--bs={block}", f"--size={size}",
         f"--filename={at}/fio", "--ioengine=psync", "--output-format=json",
         "--end_fsync=0", "--fallocate=none"],
        check=True, capture_output=True, text=True)
    job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]
    side = "read" if "read" in mode else "write"
    return 1 / max(job[side]["bw_bytes"], 1)


def make_source(base):
    """A git repository of small C files and a program to build, made once."""
    source = base / "source"
    source.mkdir()
    for i in range(300):
        text = "".join(f"int f{i}_{k}(int x)\n{{\n\treturn x * {k} + {i};\n}}\n"
                       for k in range(40))
        (source / f"f{i}.c").write_text(text)
    (source / "main.c").write_text("int main(void)\n{\n\treturn 0;\n}\n")
    (source / "Makefile").write_text(
        "objs = $(patsubst %.c,%.o,$(wildcard f?.c f1?.c) main.c)\n"
        "prog: $(objs)\n\t$(CC) -o $@ $(objs)\n")
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    run(git + ["init", "-q"], cwd=source)
    run(git + ["add", "."], cwd=source)
    run(git + ["commit", "-qm", "all"], cwd=source)
    run(["tar", "cf", base / "source.tar", "--exclude=.git", "-C", source, "."])
    return source


def untar(at, base):
    os.mkdir(at / "tar")
    run(["tar", "xf", base / "source.tar", "-C", at / "tar"])


def rows(base, source, n, big):
    """(name, what to do, how often within one visit)"""
    return [
        ("create+write+close 4 KiB", lambda at: timed(lambda: create(at, n))),
        ("open+read+close, first", lambda at: timed(lambda: read_all(at, n))),
        ("open+read+close, again", lambda at: timed(lambda: read_all(at, n))),
        ("stat, warm", lambda at: timed(lambda: stat_all(at, n))),
        ("append 64 B", lambda at: timed(lambda: append(at, n // 4))),
        ("overwrite 4 KiB", lambda at: timed(lambda: overwrite(at, n))),
        ("rename", lambda at: timed(lambda: rename_all(at, n))),
        ("unlink", lambda at: timed(lambda: unlink_all(at, n))),
        ("sequential write 1 MiB", lambda at: fio(at, "write", "1M", big)),
        ("sequential read 1 MiB", lambda at: fio(at, "read", "1M", big)),
        ("random read 4 KiB", lambda at: fio(at, "randread", "4k", "32M")),
        ("random write 4 KiB", lambda at: fio(at, "randwrite", "4k", "16M")),
        ("git clone", lambda at: timed(
            lambda: run(["git", "clone", "-q", source, at / "clone"]))),
        ("git status", lambda at: timed(
            lambda: run(["git", "-C", at / "clone", "status"]))),
        ("grep -r", lambda at: timed(
            lambda: run(["grep", "-r", "f1_39", at / "clone"]))),
        ("build -j2", lambda at: timed(
            lambda: run(["make", "-sj2", "-C", at / "clone"]))),
        ("untar", lambda at: timed(lambda: untar(at, base))),
    ]


def clean(at):
    for name in ("create", "clone", "tar"):
        shutil.rmtree(at / name, ignore_errors=True)
    if (at / "fio").exists():
        os.unlink(at / "fio")


def visit(system, base, source, options, figures):
    system.up()
    try:
        for name, work in rows(base, source, options.files, options.big):
            figures.setdefault(name, {}).setdefault(system.name, []).append(
                work(system.path))
        clean(system.path)
    finally:
        system.down()


def table(figures, systems):
    lines = ["| workload | " + " | ".join(s.name for s in systems) + " |",
             "| --- |" + " --- |" * len(systems)]
    for name, by_system in figures.items():
        native = statistics.median(by_system["native"])
        cells = []
        for s in systems:
            values = by_system[s.name]
            spread = f"{min(values) / native:.2f}-{max(values) / native:.2f}"
            cells.append(f"{statistics.median(values) / native:.2f} ({spread})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=ROOT / "build")
    parser.add_argument("--passthrough-hp", help="the program, where it was built")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--out", type=Path, help="folder for the figures as JSON")
    options = parser.parse_args()
    options.files = 1000 if options.quick else 10000
    options.big = "64M" if options.quick else "512M"
    if options.quick:
        options.rounds = 1
    base = Path(tempfile.mkdtemp(prefix="stompfs-bench-"))
    systems = [Native(base), Stompfs(base, options.build)]
    if options.passthrough_hp:
        systems.append(PassthroughHp(base, options.passthrough_hp))
    figures = {}
    try:
        source = make_source(base)
        for _ in range(options.rounds):
            for system in systems:
                visit(system, base, source, options, figures)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    machine = f"{platform.release()}, {os.cpu_count()} cores"
    print(f"Time in multiples of the bare directory's (median, range); {machine}.\n")
    print(table(figures, systems))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "bench.json").write_text(
            json.dumps({"machine": machine, "seconds": figures}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
