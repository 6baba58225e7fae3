#!/usr/bin/python3
"""Clients with leases read and write registers under random faults; the history is judged.

    tests/history/checker.py [--minutes 1] [--seed 1] [--clients 5] [--registers 3]

Faults: SIGSTOP of clients for longer than the ttl, SIGSTOP and SIGKILL of the daemon
(then `stomp mount`), SIGKILL of clients, leases broken by a person. What is judged is in
history.py: no acknowledged write is lost, no refused or fenced one landed, reads agree
with one order, epochs only rise. Exits 1 and keeps the folder when something is wrong.
The build is $STOMPFS_BUILD, else build/.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount"), str(HERE.parent / "crash")]

from crash import Crashable  # noqa: E402
from history import epochs_go_back, problems_of  # noqa: E402
from stomplib.writer import clean_environment  # noqa: E402

SETTLE_S, TTL_S = 0.03, 0.5
INITIAL = "initial"
OPTIONS = [f"settle={int(SETTLE_S * 1000)}ms", f"ttl={int(TTL_S * 1000)}ms", "wait=200ms"]


class Run:
    def __init__(self, folder, seed, n_clients=5, n_registers=3, seconds=60):
        self.random = random.Random(seed)
        self.seed = seed
        self.registers = [f"r{i}" for i in range(n_registers)]
        path = Path(folder) / "w"
        path.mkdir()
        for name in self.registers:
            (path / name).write_bytes(INITIAL.ljust(63).encode() + b"\n")
        self.workspace = Crashable(path, folder, OPTIONS, deadline_s=seconds + 300)
        self.names = [f"c{i}" for i in range(n_clients)]
        self.clients = {}
        self.faults = Counter()
        self.operations = defaultdict(list)
        self.initial = dict.fromkeys(self.registers, INITIAL)
        self.problems = []

    # ---- clients

    def start(self, name):
        ws = self.workspace
        argv = [ws.stomp, "run", name, "--", "/usr/bin/python3", HERE / "client.py"]
        argv += [ws.path, name, self.seed, self.notes_of(name), SETTLE_S, TTL_S]
        with open(ws.scratch / f"client-{name}.err", "ab") as said:
            self.clients[name] = subprocess.Popen(
                [str(a) for a in argv],
                env=clean_environment(),
                stdin=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def notes_of(self, name):
        return self.workspace.scratch / f"notes-{name}"

    def signal(self, name, number):
        """To the client and to what launched it."""
        try:
            os.killpg(self.clients[name].pid, number)
        except ProcessLookupError:
            pass

    # ---- faults

    def pause_client(self):
        name = self.random.choice(self.names)
        self.signal(name, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.1, 3 * TTL_S))
        self.signal(name, signal.SIGCONT)

    def kill_client(self):
        name = self.random.choice(self.names)
        self.signal(name, signal.SIGKILL)
        self.clients[name].wait(timeout=30)
        self.start(name)

    def pause_daemon(self):
        os.kill(self.workspace.daemon_pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.05, 2 * TTL_S))
        os.kill(self.workspace.daemon_pid, signal.SIGCONT)

    def kill_daemon(self):
        self.workspace.kill()
        time.sleep(self.random.uniform(0, 0.2))
        self.workspace.mount()

    def break_lease(self):
        path = self.workspace.path / self.random.choice(self.registers)
        argv = [self.workspace.stomp, "lease", "break", path, "--force"]
        subprocess.run(argv, capture_output=True, timeout=30, env=clean_environment())

    def go(self, seconds):
        self.workspace.mount()
        self.disturb(seconds)
        self.judge()
        self.workspace.umount()

    def disturb(self, seconds, kills=True):
        """The clients at work, and the faults; kills: the daemon's too."""
        faults = [self.pause_client, self.kill_client, self.pause_daemon, self.break_lease]
        faults = faults * 3 + [self.kill_daemon] * kills
        for name in self.names:
            self.start(name)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                time.sleep(self.random.uniform(0.02, 0.4))
                fault = self.random.choice(faults)
                fault()
                self.faults[fault.__name__] += 1
        finally:
            for name in self.names:
                self.signal(name, signal.SIGKILL)
                self.clients[name].wait(timeout=30)

    # ---- judging

    def gather(self):
        for name in self.names:
            rows = {}
            with open(self.notes_of(name), encoding="utf-8") as notes:
                for line in notes:
                    if not line.endswith("\n"):
                        break  # it died while it wrote this
                    row = json.loads(line)
                    rows.setdefault(row["id"], {"to": None, "outcome": "unknown"}).update(row)
            for row in rows.values():
                if row["kind"] == "write":
                    row.setdefault("value", row["id"])
                row.setdefault("value", None)
                self.operations[row["path"]].append(row)

    def judge(self):
        self.gather()
        for path in self.registers:
            now = time.monotonic_ns()
            last = (self.workspace.path / path).read_bytes().decode().strip()
            final = {"id": "last", "client": "judge", "kind": "read", "path": path,
                     "value": last, "from": now, "to": time.monotonic_ns(), "outcome": "ok"}
            told = problems_of(self.operations[path] + [final], self.initial[path])
            self.initial[path] = last
            rows = self.workspace.log(path)
            told += epochs_go_back([(r["number"], r["writer"], r["epoch"]) for r in rows])
            refused = {o["value"] for o in self.operations[path] if o["outcome"] == "refused"}
            for row in rows:
                content = self.workspace.version(path, row["number"]).decode().strip()
                if content in refused:
                    told.append(f"version {row['number']} holds the refused {content!r}")
            self.problems += [f"{path}: {problem}" for problem in told]

    def summary(self):
        done = Counter(
            f"{op['kind']} {op['outcome']}" for ops in self.operations.values() for op in ops
        )
        return f"seed {self.seed}: {dict(done)}, faults {dict(self.faults)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--registers", type=int, default=3)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stomp-history."))
    run = Run(folder, args.seed, args.clients, args.registers, args.minutes * 60)
    try:
        run.go(args.minutes * 60)
    finally:
        run.workspace.close(True)
    print(run.summary())
    if run.problems:
        print(f"{len(run.problems)} problems; the folder is kept: {folder}")
        print("\n".join(run.problems[:20]))
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
