"""fsx-like: random operations through several handles and mappings, byte by byte.

STOMP_FSX_SEEDS: how many seeds (4), STOMP_FSX_STEPS: how many steps each (1500),
STOMP_FSX_SEED: the first (1). By hand: BUILD/tests/conformance/fsx-like DIR --seed N
--steps N --log FILE --shrink
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mount"))

from stomplib.workspace import Workspace, find_build  # noqa: E402

FIRST = int(os.environ.get("STOMP_FSX_SEED", 1))
SEEDS = range(FIRST, FIRST + int(os.environ.get("STOMP_FSX_SEEDS", 4)))
STEPS = os.environ.get("STOMP_FSX_STEPS", "1500")

pytestmark = pytest.mark.timeout(60 + int(STEPS) // 50)


def fsx(folder, log, *args):
    program = find_build() / "tests" / "conformance" / "fsx-like"
    assert program.exists(), f"{program} is not built"
    return subprocess.run(
        [program, folder, "--log", log, *args], capture_output=True, text=True
    )


@pytest.fixture(params=["guarded", "passed", "no_passthrough", "no_dio_mmap", "native"])
def folder(request, tmp_path):
    path = tmp_path / "w"
    place = path / ".git" if request.param == "passed" else path
    place.mkdir(parents=True)
    if request.param == "native":
        yield place
        return
    options = [request.param] if request.param.startswith("no_") else []
    workspace = Workspace(path, tmp_path, options, deadline_s=50 + int(STEPS) / 50)
    workspace.mount()
    yield place
    workspace.close(False)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_byte_is_as_written(folder, tmp_path, seed):
    log = tmp_path / "steps"
    done = fsx(folder, log, "--seed", str(seed), "--steps", STEPS)
    assert done.returncode == 0, f"{done.stderr}\nall steps: {log}"


def test_a_failing_step_is_found(tmp_path):
    """What fails is told, and cut down to the step that matters."""
    (tmp_path / "n").mkdir()
    log = tmp_path / "steps"
    log.write_text("1 write 0 0 0 100 1\n2 save 0 0 0 50 2\n3 read 0 0 0 60 0\n")
    assert fsx(tmp_path / "n", log, "--replay", log).returncode == 0
    log.write_text("1 write 0 0 0 100 1\n2 nonsense 0 0 0 50 2\n")
    assert fsx(tmp_path / "n", log, "--replay", log).returncode == 2
    (tmp_path / "n" / "other0").mkdir()  # the second name cannot be had
    log.write_text("1 write 0 0 0 100 1\n2 rename 0 0 0 0 0\n3 sync 0 0 0 0 0\n")
    shrunk = tmp_path / "shrunk"
    done = fsx(tmp_path / "n", shrunk, "--replay", log, "--shrink")
    assert done.returncode == 1 and "rename" in done.stderr
    assert [line.split()[1] for line in shrunk.read_text().splitlines()] == ["rename"]
