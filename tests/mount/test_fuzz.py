"""A short run of tests/fuzz/fuzz_mount.py, which is a command of its own."""

import importlib.util
from pathlib import Path

import pytest

FUZZER = Path(__file__).resolve().parents[1] / "fuzz" / "fuzz_mount.py"


@pytest.mark.parametrize("seed", [1, 2])
def test_nonsense_through_the_kernel_neither_crashes_nor_blocks(tmp_path, seed):
    spec = importlib.util.spec_from_file_location("fuzz_mount", FUZZER)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    problems, answers = fuzz.run(tmp_path, seed, seconds=4, workers=2)
    assert not problems, "\n".join(problems)
    assert answers > 0
