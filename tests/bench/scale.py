"""What grows with what: memory by inode, handle and observation; time by history.

Started by scripts/bench --scale. Everything is measured on a mount of its own, below a
folder that is removed afterwards. Nothing is asserted.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import systems as kinds

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    def __init__(self, options, base):
        self.base = base
        self.tools = options.build / "tests" / "bench"
        self.stomp = options.build / "cli" / "stomp"
        self.options = options
        self.rows = []
        self.systems = []

    def row(self, what, figure):
        self.rows.append((what, figure))
        print(f"{what}: {figure}", file=sys.stderr)

    def mount(self, name):
        folder = self.base / name
        folder.mkdir()
        self.systems.append(kinds.Stompfs(folder, self.options.build))
        return self.systems[-1]

    def client(self, at, text):
        out = subprocess.run([self.tools / "bench_client", at, text], check=True,
                             stdout=subprocess.PIPE, text=True).stdout
        return [float(line.split()[1]) / int(line.split()[2]) for line in out.splitlines()]


def resident(pid):
    """Bytes of the daemon's own memory (not of the mapped database)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(machine.first_match(r"^RssAnon:\s+(\d+)", text, "0")) * 1024


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def timed(function, *args, **kw):
    begin = time.monotonic()
    function(*args, **kw)
    return time.monotonic() - begin


def quiet(args, **kw):
    kinds.run(args, **kw)


def tree(bench, files):
    """A tree that was there before the mount: what the kernel is told of, costs memory."""
    system = bench.mount("tree")
    bench.client(system.work, f"tree:n={files}:size=1")
    took = timed(system.up)
    bench.row(f"mount of {files:,} files", f"{took * 1e3:.0f} ms")
    before, fds = resident(system.pid), descriptors(system.pid)
    took = timed(quiet, ["find", system.work, "-size", "+9"])
    known = system.metrics()["inodes"]
    grown = resident(system.pid) - before
    bench.row(f"find -size, first, {files:,} files", f"{took:.1f} s")
    bench.row("memory per inode", f"{grown / known:.0f} bytes ({known:,.0f} inodes)")
    bench.row("descriptors of the daemon for them", f"{descriptors(system.pid) - fds:,}")
    bench.row("find -size, again",
              f"{timed(quiet, ['find', system.work, '-size', '+9']):.1f} s")
    bench.row("create+write+close beside them",
              f"{bench.client(system.work, 'create:n=500:as=x')[0] * 1e6:.0f} µs")
    bench.row(".stomp/status", f"{timed(system.read, 'status') * 1e3:.1f} ms")
    if os.getuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("2\n")
        kinds.wait_until(lambda: system.metrics()["inodes"] < known / 10, 120,
                         "the kernel does not forget")
        bench.row("memory left after drop_caches",
                  f"{(resident(system.pid) - before) / known:.0f} bytes per inode there was, "
                  f"{system.metrics()['inodes']:,.0f} inodes left")
    bench.row("umount", f"{timed(system.down):.1f} s")
    shutil.rmtree(system.path)


def handles(bench, count):
    system = bench.mount("handles")
    bench.client(system.work, "create:n=1000")
    system.up()
    bench.client(system.work, "read:n=1000")
    before = resident(system.pid)
    holder = subprocess.Popen([bench.tools / "bench_holders", system.work, "handles",
                               str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"ready\n", "bench_holders does not hold"
    grown = resident(system.pid) - before
    bench.row("memory per open handle", f"{grown / count:.0f} bytes ({count:,} handles of "
              f"1,000 files)")
    bench.row("create+write+close beside them",
              f"{bench.client(system.path, 'create:n=200:as=x')[0] * 1e6:.0f} µs")
    holder.stdin.close()
    holder.wait()
    system.down()
    shutil.rmtree(system.path)


def observations(bench, readers):
    """Each reader is a writer of its own that reads the same files."""
    system = bench.mount("readers")
    files = 1000
    bench.client(system.work, f"create:n={files}")
    system.up()

    def read_as(name):
        subprocess.run([bench.tools / "bench_client", system.work, f"read:n={files}"],
                       check=True, env={**os.environ, "STOMP_AGENT": name})

    read_as("first")
    before = resident(system.pid)
    for i in range(readers):
        read_as(f"reader-{i}")
    grown = resident(system.pid) - before
    bench.row("memory per observation", f"{grown / (files * readers):.0f} bytes "
              f"({readers} readers of {files:,} files)")
    system.down()
    shutil.rmtree(system.path)


def writers(bench, count, ops):
    system = bench.mount("writers")
    system.up()
    before = resident(system.pid)
    done = subprocess.run([bench.tools / "bench_holders", system.work, "writers", str(count),
                           str(ops)], check=True, stdout=subprocess.PIPE, text=True)
    seconds, refused = done.stdout.split()
    bench.row(f"{count} writers at once, {ops} saves of an own file and {ops} appends to one "
              "shared file each",
              f"{float(seconds):.1f} s, {2 * count * ops / float(seconds):,.0f} changes/s, "
              f"{refused} refused, {(resident(system.pid) - before) / 1024 / count:.0f} KiB "
              "per writer")
    system.idle()
    system.down()
    shutil.rmtree(system.path)


def history(bench, sizes, paths):
    """The same operations as the journal grows."""
    system = bench.mount("history")
    made = 0
    shutil.rmtree(system.work)
    for size in sizes:
        out = subprocess.run([bench.tools / "bench_history", system.path,
                              str(size - made), str(paths)],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
        database = system.journal_bytes()
        bench.row(f"journal of {size:,} versions",
                  f"{database / 1e6:,.0f} MB, {database / size:.0f} bytes per version, "
                  f"{(size - made) / float(out):,.0f} versions/s made")
        made = size
        bench.row("  start", f"{timed(system.up) * 1e3:.0f} ms, "
                  f"{resident(system.pid) / 1e6:.1f} MB resident")
        work = system.path / f"new-{size}"
        work.mkdir()
        took = bench.client(work, "create:n=500:as=x")[0]
        again = bench.client(work, "overwrite:n=500:as=x")[0]
        bench.row("  create, overwrite", f"{took * 1e6:.0f} µs, {again * 1e6:.0f} µs")
        hot = f"{size // 100:,}"
        for name, args in (
                ("stomp log PATH (1 version)", ["log", f"new-{size}/f000000"]),
                (f"stomp log PATH ({hot} versions), newest 20", ["log", "-n", "20", "h/hot"]),
                ("stomp log", ["log"])):
            took = timed(quiet, [bench.stomp, *args], cwd=system.path)
            bench.row(f"  {name}", f"{took * 1e3:.0f} ms")
        for name in ("status", "metrics", "log"):
            bench.row(f"  .stomp/{name}", f"{timed(system.read, name) * 1e3:.1f} ms")
        took = timed(os.listdir, system.path / ".stomp" / "history")
        bench.row("  ls .stomp/history", f"{took * 1e3:.1f} ms")
        system.idle()
        bench.row("  umount", f"{timed(system.down) * 1e3:.0f} ms")
    shutil.rmtree(system.path)


def main(argv):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and clean up
    parser = argparse.ArgumentParser(prog="bench --scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--tiny", action="store_true", help="does it run?")
    parser.add_argument("--only", action="append", metavar="PART",
                        help="tree, handles, observations, writers or history")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write scale.md there")
    parser.add_argument("--base", type=Path, help="measure in a folder below this one")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.build = options.build.resolve()
    less = 1000 if options.tiny else 10 if options.quick else 1
    base = Path(tempfile.mkdtemp(prefix="stompfs-scale-", dir=options.base))
    about = machine.describe(base, options.build)
    about["load before"] = machine.load()
    bench = Bench(options, base)
    parts = {
        "tree": lambda: tree(bench, 1_000_000 // less),
        "handles": lambda: handles(bench, 10_000 // less),
        "observations": lambda: observations(bench, max(2, 100 // less)),
        "writers": lambda: writers(bench, max(4, 200 // less), 3 if options.tiny else 20),
        "history": lambda: history(
            bench, [n // less for n in (100_000, 1_000_000, 10_000_000)],
            max(10, 100_000 // less)),
    }
    for name in options.only or parts:
        if name not in parts:
            raise SystemExit(f"bench: no part '{name}'. Parts: {', '.join(parts)}")
    try:
        for name in options.only or parts:
            parts[name]()
    finally:
        for system in bench.systems:
            if system.pid:
                system.down()
        shutil.rmtree(base)
    lines = [f"{key}: {value}  " for key, value in about.items()]
    lines += ["", "| what | figure |", "| --- | --- |"]
    lines += [f"| {what} | {figure} |" for what, figure in bench.rows]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "scale.md").write_text(text)
    return 0


if __name__ == "__main__":
    if os.environ.get("STOMP_AGENT") != "bench":
        os.environ["STOMP_AGENT"] = "bench"  # see bench.py
        os.execv(sys.executable, [sys.executable] + sys.argv)
    sys.exit(main(sys.argv[1:]))
