"""What history costs to look at: .stomp/at on 100,000 files, blame, log, since.

usage: travel_bench.py BUILD FOLDER     FOLDER is made, and removed in the end
"""

import os
import random
import subprocess
import sys
import time

BUILD, FOLDER = map(os.path.abspath, sys.argv[1:3])
TREE, STOMP = f"{FOLDER}/w", f"{BUILD}/cli/stomp"
NULL = subprocess.DEVNULL


def lay():
    os.makedirs(TREE)
    for d in range(1000):
        os.mkdir(f"{TREE}/d{d:03}")
        for i in range(100):
            with open(f"{TREE}/d{d:03}/f{i:02}", "w", encoding="ascii") as f:
                f.write(f"{d} {i}\n")


def change():
    """500 versions of a file of 5,000 lines, 10,000 of a small one."""
    rng = random.Random(1)
    lines = [f"line {i} {rng.random()}\n" for i in range(5000)]
    for v in range(500):
        for _ in range(5):
            lines[rng.randrange(len(lines))] = f"v{v} {rng.random()}\n"
        lines.insert(rng.randrange(len(lines)), f"new {v}\n")
        with open("big.c", "w", encoding="ascii") as f:
            f.writelines(lines)
    for v in range(10000):
        with open("many", "w", encoding="ascii") as f:
            f.write(f"{v}\n")
    fd = os.open(".stomp/ctl", os.O_RDWR)
    os.write(fd, b"checkpoint")
    os.close(fd)


def moments():
    """Each is another one, of a minute ago."""
    then = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 60))
    n = 0
    while True:
        n += 1
        yield f".stomp/at/{then}.{n:09}Z"


def timed(name, do, n=1):
    spans = []
    for _ in range(n):
        began = time.perf_counter()
        do()
        spans.append(time.perf_counter() - began)
    print(f"{name}: {sorted(spans)[n // 2] * 1000:.2f} ms (median of {n})", flush=True)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def measure():
    at = moments()
    timed("open at/TIME", lambda: os.stat(next(at)), 21)
    timed("list at/TIME, 1,000 folders", lambda: os.listdir(next(at)), 11)
    timed("list a folder of it, 100 files", lambda: os.listdir(next(at) + "/d500"), 21)
    timed("read a file of it", lambda: read(next(at) + "/d500/f50"), 21)
    for what, argv in {"find": ("find", "-newer", "/"), "grep -r": ("grep", "-rqs", "x")}.items():
        tool, *rest = argv
        for where in (next(at), "."):
            line = [tool, where, *rest] if tool == "find" else [tool, *rest, where]
            timed(f"{what} {where}", lambda line=line: subprocess.run(line, stdout=NULL, check=False))
    timed("blame, 5,000 lines, 500 versions",
          lambda: subprocess.run([STOMP, "blame", "big.c"], stdout=NULL, check=True), 3)
    timed("log.json of 10,000 versions", lambda: read(".stomp/history/many/log.json"), 3)
    timed("stomp log of 10,000 versions",
          lambda: subprocess.run([STOMP, "log", "many"], stdout=NULL, check=True), 3)
    timed("since/-10m, 10,500 versions", lambda: read(".stomp/since/-10m"), 3)


def main():
    lay()
    daemon = subprocess.Popen([f"{BUILD}/fs/stompfs", TREE, "-f"])
    try:
        while not os.path.exists(f"{TREE}/.stomp/status"):
            assert daemon.poll() is None, "stompfs ended"
            time.sleep(0.05)
        os.chdir(TREE)
        change()
        measure()
    finally:
        os.chdir("/")
        subprocess.run(["umount", TREE], check=False)
        daemon.wait(30)
        subprocess.run(["rm", "-rf", FOLDER], check=True)


if __name__ == "__main__":
    main()
