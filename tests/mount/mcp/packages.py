"""Programs from npm, installed once, outside the tree, by whichever test asks first.

package.json pins them. They go into test-npm/ of the build directory, in a folder named
after what is pinned. Where there is no npm, or it cannot reach its registry, the tests
that need them are skipped and say so.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stomplib.workspace import find_build
from stomplib.writer import clean_environment

PINNED = Path(__file__).with_name("package.json")
INSTALL_LIMIT_S = 45


def node_package(name):
    """The folder of an installed package; skips the test where that cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder, problem = installed()
    if problem:
        pytest.skip(f"npm could not install {name}: {problem}")
    return folder / "node_modules" / name


@functools.lru_cache(maxsize=1)
def installed():
    """(folder, None), or (None, why not)."""
    cache = find_build() / "test-npm"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / hashlib.sha256(PINNED.read_bytes()).hexdigest()[:16]
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        failed = cache / f"{folder.name}.failed"
        if folder.is_dir():
            return folder, None
        if failed.exists() and run_of(failed) == os.getppid():
            return None, failed.read_text().partition("\n")[2]
        problem = install(folder)
        if problem:
            failed.write_text(f"{os.getppid()}\n{problem}")
        return (None, problem) if problem else (folder, None)


def run_of(failed):
    """The run that has found it failing: its workers need not wait for that again."""
    return int(failed.read_text().partition("\n")[0])


def install(folder):
    """None when done, else one line."""
    work = folder.with_name(folder.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shutil.copyfile(PINNED, work / "package.json")
    quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefer-offline"]
    try:
        done = subprocess.run(
            ["npm", "install", "--prefix", str(work), "--fetch-retries=1", *quiet],
            cwd=work,
            env=clean_environment({"NO_UPDATE_NOTIFIER": "1"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {INSTALL_LIMIT_S} s"
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if "npm" in line] or ["it says nothing"]
        return said[0]
    work.rename(folder)
    return None
