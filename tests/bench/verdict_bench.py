"""What a fresh change and a stale verdict cost (S3, S4).

fresh   open O_TRUNC, write, close by the file's own author: on a guarded file, on one with
        mode=track and on one with mode=pass in the same mount, in turns. Guarding must not
        be measurable above the noise of track.
stale   the same by another writer who has just re-read the file, of text that takes the
        author's line back (refused) and of text that has it (lands after the test); beside
        it the author's own save of as many bytes (fresh), in turns, a file for each.

Prints medians, the quartiles around them and ratios; asserts nothing: machines are noisy.

    tests/bench/verdict_bench.py [--build DIR] [--rounds N] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODES = ("guard", "track", "pass")
SIZES = {"1 KB": 1 << 10, "100 KB": 100 << 10, "10 MB": 10 << 20}
SETTLE_S = 0.5  # above what a re-read of 10 MB takes
PAUSE_S = 0.02  # for what goes on behind a close: it is not what is measured


# ---- a writer: obeys one JSON line at a time, tells seconds ----


def save(path, data):
    """Seconds, and whether it was refused."""
    refused = False
    begin = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:] if done else data)
    except OSError:
        refused = True
    try:
        os.close(fd)
    except OSError:
        refused = True
    return time.perf_counter() - begin, refused


def save_in_turns(paths, rounds, size):
    """Seconds of each save of each path; no content twice in a row."""
    contents = [os.urandom(size // 2).hex().encode() for _ in range(2)]
    took = {path: [] for path in paths}
    for n in range(rounds):
        first = n % len(paths)  # nobody is always the one after another
        for path in paths[first:] + paths[:first]:
            took[path].append(save(path, contents[n % 2])[0])
    return took


def read(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


def serve():
    for line in sys.stdin:
        ask = json.loads(line)
        if ask["do"] == "turns":
            answer = save_in_turns(ask["paths"], ask["rounds"], ask["size"])
        elif ask["do"] == "read":
            answer = len(read(ask["path"]))
        else:
            data = read(ask["source"])
            if ask.get("reread"):
                read(ask["path"])
            answer = save(ask["path"], data)
        print(json.dumps(answer), flush=True)


class Writer:
    def __init__(self, stomp, name, folder):
        argv = [stomp, "run", name, "--", sys.executable, __file__, "--serve"]
        self.process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do, **words):
        print(json.dumps({"do": do, **words}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


# ---- the two measurements ----


def measure_fresh(alice, rounds):
    paths = [f"{mode}/f" for mode in MODES]
    alice.ask("turns", paths=paths, rounds=rounds // 10 + 1, size=4096)  # to warm up
    took = alice.ask("turns", paths=paths, rounds=rounds, size=4096)
    return {mode: took[f"{mode}/f"] for mode in MODES}


def text_of(size, *changes):
    """Lines of 47 bytes and what is left over; changes: (which of ten parts, word)."""
    count = max(size // 47, 11)
    lines = [f"line {i} of some text ".ljust(46, ".") for i in range(count)]
    for part, word in changes:
        lines[count * part // 10] = f"changed by {word} ".ljust(46, ".")
    return ("\n".join(lines) + "\n").encode()


def measure_stale(alice, bob, folder, size, rounds):
    """Seconds of bob's refused and landed saves, and of alice's own."""
    contents = {
        "base": text_of(size),
        "current": text_of(size, (3, "alice")),
        "refused": text_of(size, (9, "bob")),
        "landed": text_of(size, (3, "alice"), (9, "bob")),
        "fresh": text_of(size, (3, "alice"), (9, "alice")),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    took = {"fresh": [], "landed": [], "refused": []}
    files = [(kind, f"guard/{size}-{kind}-{n}") for n in range(rounds) for kind in took]
    for _, path in files:
        alice.ask("save", path=path, source=str(folder / "base"))
        bob.ask("read", path=path)
    time.sleep(1.5 * SETTLE_S)
    for kind, path in files:
        alice.ask("save", path=path, source=str(folder / "current"))
        who = alice if kind == "fresh" else bob
        source = str(folder / kind)
        time.sleep(PAUSE_S)
        seconds, refused = who.ask("save", path=path, source=source, reread=True)
        if refused != (kind == "refused"):
            raise RuntimeError(f"{path} was{'' if refused else ' not'} refused")
        took[kind].append(seconds)
    return took


# ---- the mount, the table ----


def mounted(build, work):
    tree = work / "tree"
    tree.mkdir()
    for mode in MODES:
        (tree / mode).mkdir()
    rules = "".join(f"/{mode}/ mode={mode}\n" for mode in MODES)
    (tree / ".stomp-policy").write_text(rules)
    options = f"settle={int(SETTLE_S * 1000)}ms"
    subprocess.run([build / "fs" / "stompfs", tree, "-o", options], check=True)
    return tree


def row(name, seconds, beside=None):
    low, middle, high = (q * 1e6 for q in statistics.quantiles(seconds, n=4))
    ratio = ""
    if beside is not None:
        ratio = f"{statistics.median(seconds) / statistics.median(beside):8.2f}x"
    print(f"{name:26}{middle:12.1f} us{low:12.1f}{high:12.1f}{ratio}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=2000, help="of the fresh path")
    parser.add_argument("--json", type=Path, help="all samples, in seconds")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve()
    samples = {}
    build = args.build.absolute()
    with tempfile.TemporaryDirectory(prefix="stomp-verdict.") as work:
        work = Path(work)
        tree = mounted(build, work)
        writers = []
        try:
            writers += [Writer(build / "cli" / "stomp", n, tree) for n in ("alice", "bob")]
            print(f"{'':26}{'median':>15}{'quartiles':>24}   ratio")
            fresh = samples["fresh 4 KB"] = measure_fresh(writers[0], args.rounds)
            for mode in MODES:
                row(f"fresh, 4 KB, {mode}", fresh[mode], fresh["track"])
            for name, size in SIZES.items():
                rounds = 30 if size < 1 << 20 else 7
                took = samples[f"stale {name}"] = measure_stale(*writers, work, size, rounds)
                row(f"author's own, {name}", took["fresh"], took["fresh"])
                row(f"tested and landed, {name}", took["landed"], took["fresh"])
                row(f"tested and refused, {name}", took["refused"], took["fresh"])
        finally:
            for writer in writers:
                writer.end()
            subprocess.run(["umount", tree], check=True)
    if args.json:
        args.json.write_text(json.dumps(samples, indent=1))
    return None


if __name__ == "__main__":
    main()
