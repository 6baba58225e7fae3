#!/usr/bin/python3
"""Fail the Nth call that stores, for every N until a run completes (V4, V7).

    tests/faults/faults.py [--errno ENOSPC|EDQUOT|EIO] [--where journal|backing|both]
                           [--mode once|stays] [--step K] [--from N]

For each N the same changes are made by two writers in a new folder; the Nth call of the
daemon that changes storage at that place fails, once or until the script is over (stays).
What was acknowledged must be there, recorded and by its author; what was refused must not
have happened; nobody else's file is touched; the daemon lives, says what is wrong in
.stomp/status and recovers by itself. The build is $STOMPFS_BUILD, else build/.

Without --errno, --where or --mode: each of them. Exits 1 when something was found.
"""

import argparse
import errno
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from rig import FOR_EVER, Failing, trial  # noqa: E402

LIMIT = 2000


class Rig:
    def __init__(self, folder, build=None):
        self.workspace = Failing(folder, build)
        self.workspace.mount()
        self.alice = self.workspace.writer("alice")
        self.bob = self.workspace.writer("bob")
        self.trials = 0

    def every(self, where, error, mode, step=1, first=1, say=print):
        """(calls until a run completed, problems)."""
        problems, n = [], first
        while n < LIMIT:
            self.trials += 1
            last = n if mode == "once" else FOR_EVER
            failed, found, what = trial(
                self.workspace, self.alice, self.bob, self.trials, where, error, n, last
            )
            problems += [f"{where} {errno.errorcode[error]} {mode} at {n} ({what}): {p}"
                         for p in found]
            for p in problems[-len(found):] if found else ():
                say(p)
            if not failed:
                break
            n += step
        return n, problems

    def close(self):
        self.workspace.control.heal()
        for writer in (self.alice, self.bob):
            writer.stop()
        if self.workspace.daemon and self.workspace.daemon.poll() is None:
            self.workspace.umount()
        self.workspace.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--errno", choices=("ENOSPC", "EDQUOT", "EIO"))
    parser.add_argument("--where", choices=("journal", "backing", "both"))
    parser.add_argument("--mode", choices=("once", "stays"))
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--from", type=int, default=1, dest="first")
    given = parser.parse_args()
    folder, total = Path(tempfile.mkdtemp(prefix="stomp-faults.")), 0
    rig = Rig(folder)
    try:
        for where in [given.where] if given.where else ("journal", "backing", "both"):
            for name in [given.errno] if given.errno else ("ENOSPC", "EDQUOT", "EIO"):
                for mode in [given.mode] if given.mode else ("once", "stays"):
                    n, problems = rig.every(
                        where, getattr(errno, name), mode, given.step, given.first
                    )
                    total += len(problems)
                    print(f"{where} {name} {mode}: {n} calls, {len(problems)} problems",
                          flush=True)
    finally:
        rig.close()
    print(f"{rig.trials} runs, {total} problems")
    if total:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
