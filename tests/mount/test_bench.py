"""The benchmark runs, so that it cannot rot. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path

from stomplib.workspace import find_build

BENCH = Path(__file__).resolve().parents[1] / "bench"


def run(tmp_path, program, *arguments):
    return subprocess.run(
        [sys.executable, BENCH / program, "--tiny", "--build", find_build(),
         "--base", tmp_path, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100, check=False)


def test_the_benchmark_measures_and_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    done = run(tmp_path, "bench.py", "--only", "create", "--systems", "native,stompfs",
               "--out", out)
    assert done.returncode == 0, done.stderr
    row = [line for line in done.stdout.splitlines() if line.startswith("| create")]
    assert len(row) == 1 and row[0].count("|") == 5
    figures = json.loads((out / "bench.json").read_text())["values"]
    for system in ("native", "stompfs"):
        assert figures["create+write+close 4 KiB"][system][0] > 0
    assert "create+write+close" in (out / "bench.svg").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_what_the_journal_stores_is_counted(tmp_path):  # V6
    done = run(tmp_path, "bench.py", "--only", "large", "--systems", "stompfs")
    assert done.returncode == 0, done.stderr
    assert "| appends of 100 B to one file | stompfs |" in done.stdout


def test_an_unknown_workload_is_named(tmp_path):
    done = run(tmp_path, "bench.py", "--only", "nonsense")
    assert done.returncode != 0
    assert "nonsense" in done.stderr and "rename" in done.stderr


def test_the_scale_measurements_run_and_leave_nothing(tmp_path):
    done = run(tmp_path, "scale.py")
    assert done.returncode == 0, done.stderr
    for what in ("memory per inode", "memory per open handle", "memory per observation",
                 "writers at once", "stomp log PATH"):
        assert what in done.stdout
    assert list(tmp_path.iterdir()) == []
