"""Storage that fails at some calls (V7); faults.py fails every one of them."""

import errno
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from faults import Rig  # noqa: E402

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("mode", ["once", "stays"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("where, step", [("journal", 23), ("backing", 5), ("both", 29)])
def test_what_was_acknowledged_outlives_failing_storage(tmp_path, where, step, error, mode):
    rig = Rig(tmp_path)
    try:
        calls, problems = rig.every(where, error, mode, step=step, first=2)
    finally:
        rig.close()
    assert not problems, "\n".join(problems)
    assert calls > 2, "no call ever failed"
