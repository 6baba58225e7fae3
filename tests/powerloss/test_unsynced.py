"""Nothing lasts but what was synced (V4): a few cuts of unsynced.py, which has many."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
]


def cut(tmp_path, *options):
    done = subprocess.run(
        [sys.executable, HERE / "unsynced.py", "--cuts", "6", "--seconds", "1.5", *options],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount failed" in done.stderr:
        pytest.skip(done.stderr)
    return done.returncode, done.stdout + done.stderr


def test_what_was_answered_for_is_there(tmp_path):
    code, said = cut(tmp_path)
    assert code == 0 and int(re.search(r"(\d+) acknowledged", said)[1]) > 10, said


def test_what_nobody_promised_is_not(tmp_path):
    """With the policy that promises nothing at a close, the cut takes what was closed: the
    questions above can be answered wrongly."""
    code, said = cut(tmp_path, "--policy", "c* durability=process\n")
    assert code == 1 and re.search(r"\bc\d+(alice|bob)\b", said), said
    assert not re.search(r": [nsir]\d", said), said
