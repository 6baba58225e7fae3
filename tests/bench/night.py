#!/usr/bin/env python3
"""A night of small edits: what the history of it takes, and how quickly it is collected.

usage: night.py BUILD CORPUS [--edits N] [--files N] [--style rewrite|rename|inplace] [--keep N]

Takes FILES sources (*.c, *.h, *.py, *.md below CORPUS), mounts a folder with them, makes
EDITS edits of one to three lines at random places (seeded), each a save: by writing the
whole file anew, as editors and agents do, by a temporary file that is renamed over it, or by
writing what differs. Then the same history
as loose copies, as git packs it, and as one zstd stream; then `stomp gc` under keep=KEEP.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SUFFIXES = {".c", ".h", ".py", ".md"}


def sources(corpus, n):
    found = [
        p
        for p in sorted(Path(corpus).rglob("*"))
        if p.suffix in SUFFIXES and p.is_file() and 500 < p.stat().st_size < 60_000
        and "build" not in p.parts
    ]
    return random.Random(1).sample(found, min(n, len(found)))


def edit(rng, text):
    """Lines changed, added or dropped in one place; as somebody who works there would."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines) + 1)
    new = [
        b"\tint value_%d = compute(%d, state->field_%d);\n"
        % (rng.randrange(999), rng.randrange(99), rng.randrange(9))
        for _ in range(rng.randint(1, 3))
    ]
    lines[at : at + rng.randint(0, 2)] = new
    return b"".join(lines)


def save(path, old, new, style):
    if style == "rewrite":
        path.write_bytes(new)
        return
    if style == "rename":
        beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        beside.write_bytes(new)
        os.rename(beside, path)
        return
    common = len(os.path.commonprefix([old, new]))
    with open(path, "r+b", buffering=0) as f:
        f.seek(common)
        f.write(new[common:])
        f.truncate(len(new))


def journal_bytes(backing):
    total = sum(
        (backing / name).stat().st_size
        for name in ("journal.db", "journal.db-wal")
        if (backing / name).exists()
    )
    return total + sum(
        f.stat().st_blocks * 512 for f in (backing / "objects").rglob("*") if f.is_file()
    )


def git_bytes(folder, history):
    """As one commit per edit, packed with git's own search for deltas."""
    subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
    importer = subprocess.Popen(
        ["git", "-C", folder, "fast-import", "--quiet"], stdin=subprocess.PIPE
    )
    for i, (name, data) in enumerate(history):
        out = b"commit refs/heads/main\ncommitter a <a> %d +0000\ndata 1\nx\n" % (i + 1)
        out += b"M 644 inline %s\ndata %d\n" % (name.encode(), len(data))
        importer.stdin.write(out + data + b"\n")
    importer.stdin.close()
    assert importer.wait() == 0
    subprocess.run(["git", "-C", folder, "repack", "-adfq"], check=True)
    return sum(f.stat().st_size for f in Path(folder, "objects/pack").iterdir())


def zstd_bytes(history):
    packer = subprocess.Popen(
        ["zstd", "-3", "--long=27", "-qc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if not os.fork():
        packer.stdout.close()
        for _, data in history:
            packer.stdin.write(data)
        packer.stdin.close()
        os._exit(0)
    packer.stdin.close()
    total = 0
    while chunk := packer.stdout.read(1 << 16):
        total += len(chunk)
    packer.wait()
    os.wait()
    return total


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_s(root, names):
    """The median of reading one version in the middle of a file's history."""
    times = []
    for name in names:
        folder = root / ".stomp/history" / name
        numbers = sorted(int(n) for n in os.listdir(folder) if n.isdigit())
        began = time.monotonic()
        (folder / str(numbers[len(numbers) // 2])).read_bytes()
        times.append(time.monotonic() - began)
    return sorted(times)[len(times) // 2]


def collect(stomp, root, keep):
    (root / ".stomp-policy").write_text(f"* keep={keep}\n")
    deadline = time.monotonic() + 10
    while f"keep={keep}" not in (root / ".stomp/policy").read_text().rsplit("----", 1)[1]:
        assert time.monotonic() < deadline, "the policy is not in force"
        time.sleep(0.02)
    began = time.monotonic()
    done = subprocess.run([stomp, "gc", "--json", root], capture_output=True, check=True)
    return json.loads(done.stdout), time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("corpus")
    parser.add_argument("--edits", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--style", choices=["rewrite", "rename", "inplace"], default="rewrite")
    parser.add_argument("--keep", type=int, default=10)
    o = parser.parse_args()
    rng, history, texts = random.Random(2), [], {}
    stomp = o.build / "cli/stomp"

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "w")
        root.mkdir()
        for i, source in enumerate(sources(o.corpus, o.files)):
            name = f"{i:03}-{source.name}"
            texts[name] = source.read_bytes()
            (root / name).write_bytes(texts[name])
            history.append((name, texts[name]))
        subprocess.run([o.build / "fs/stompfs", root], check=True)
        try:
            began = time.monotonic()
            for _ in range(o.edits):
                name = rng.choice(list(texts))
                new = edit(rng, texts[name])
                save(root / name, texts[name], new, o.style)
                texts[name] = new
                history.append((name, new))
            took = time.monotonic() - began
            with open(root / ".stomp/ctl", "r+b", buffering=0) as ctl:
                ctl.write(b"checkpoint")
            status = json.loads((root / ".stomp/status.json").read_text())
            used = status["used_bytes"]
            cpu = cpu_s(status["pid"])
            old = read_s(root, list(texts))
            sums, gc_s = collect(stomp, root, o.keep)
            after = json.loads((root / ".stomp/status.json").read_text())["used_bytes"]
        finally:
            subprocess.run(["umount", root], check=True)
            for _ in range(200):  # the daemon checkpoints at its end
                if not (root / ".stomp/journal.db-wal").exists():
                    break
                time.sleep(0.05)
        n = o.edits + len(texts)  # of a save by rename the temporary file's are its own
        raw = sum(len(data) for _, data in history)
        rows = [
            ("history in use", used),
            ("stored contents", status["stored_bytes"]),
            ("loose copies", raw),
            ("git, packed", git_bytes(str(Path(scratch, "git")), history)),
            ("one zstd stream", zstd_bytes(history)),
        ]
        print(
            f"{o.edits} edits ({o.style}) of {len(texts)} files: {took:.1f} s, {n} versions; "
            f"daemon {1e6 * cpu / n:.0f} us CPU a version, reading an old one {1000 * old:.2f} ms"
        )
        for what, size in rows:
            print(f"{what:16} {size:>12} bytes {size / n:>9.0f} a version")
        print(
            f"gc keep={o.keep}: {sums['versions']} versions, {sums['contents']} contents in "
            f"{gc_s:.2f} s ({sums['versions'] / gc_s:.0f} versions/s), {sums['steps']} steps, "
            f"the longest {sums['step_max_us'] / 1000:.1f} ms; in use {used} → {after}; "
            f"files after umount {journal_bytes(root / '.stomp')}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
