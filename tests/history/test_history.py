"""The history checker: it finds what is wrong in histories made by hand, and nothing in
those of a workspace under faults (V4, L1, L5, L7, S7).

STOMP_HISTORY_SECONDS: how long the run is (12). By hand: tests/history/checker.py.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "mount"), str(HERE.parent / "crash")]

from checker import Run  # noqa: E402
from history import epochs_go_back, problems_of  # noqa: E402

SECONDS = float(os.environ.get("STOMP_HISTORY_SECONDS", 12))


def op(kind, client, value, begin, end, outcome="ok", handle=None):
    return {
        "id": value,
        "kind": kind,
        "client": client,
        "value": value,
        "from": begin,
        "to": end,
        "outcome": outcome,
        "handle": handle or f"{client}-{value}",
    }


def read(client, value, begin, end):
    return op("read", client, value, begin, end)


def write(client, value, begin, end, outcome="ok", handle=None):
    return op("write", client, value, begin, end, outcome, handle)


GOOD = {
    "one after the other": [write("a", "1", 0, 1), read("b", "1", 2, 3)],
    "a read beside a write sees either": [
        write("a", "1", 0, 10),
        read("b", "0", 1, 2),
        read("c", "1", 3, 4),
    ],
    "unknown, and it happened later": [
        write("a", "1", 0, None, "unknown"),
        read("b", "0", 5, 6),
        read("b", "1", 7, 8),
    ],
    "unknown, and it never happened": [write("a", "1", 0, None, "unknown"), read("b", "0", 5, 6)],
    "refused, and not seen": [write("a", "1", 0, 1, "refused"), read("b", "0", 2, 3)],
    "two writes at once, in either order": [
        write("a", "1", 0, 10),
        write("b", "2", 0, 10),
        read("c", "2", 11, 12),
    ],
    "another handle after another's write": [
        write("a", "1", 0, 1, handle="h"),
        write("b", "2", 2, 3),
        write("a", "3", 4, 5, handle="i"),
    ],
}

BAD = {
    "an acknowledged write is lost": (
        [write("a", "1", 0, 1), read("b", "0", 2, 3)],
        "no place",
    ),
    "a read goes back": (
        [write("a", "1", 0, 10), read("b", "1", 1, 2), read("c", "0", 3, 4)],
        "no place",
    ),
    "two readers disagree about the order": (
        [
            write("a", "1", 0, 10),
            write("b", "2", 0, 10),
            read("c", "1", 11, 12),
            read("d", "2", 13, 14),
        ],
        "no place",
    ),
    "a refused write landed": (
        [write("a", "1", 0, 1, "refused"), read("b", "1", 2, 3)],
        "was refused",
    ),
    "a fenced handle wrote": (
        [
            write("a", "1", 0, 1, handle="h"),
            write("b", "2", 2, 3),
            write("a", "3", 4, 5, handle="h"),
        ],
        "through h although",
    ),
    "bytes from nowhere": ([read("a", "torn", 0, 1)], "nobody wrote"),
    "an unknown write happened before it began": (
        [read("b", "1", 0, 1), write("a", "1", 2, None, "unknown")],
        "no place",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass(name):
    assert problems_of(GOOD[name], "0") == []


@pytest.mark.parametrize("name", BAD)
def test_bad_histories_are_found(name):
    history, word = BAD[name]
    assert any(word in problem for problem in problems_of(history, "0"))


def test_epochs_only_rise():  # L1
    assert epochs_go_back([(1, None, 0), (2, "a", 5), (3, "a", 5), (4, "b", 6)]) == []
    assert epochs_go_back([(1, "a", 6), (2, "b", 5)])
    assert epochs_go_back([(1, "a", 6), (2, "b", 6)])


@pytest.mark.timeout(90 + 4 * SECONDS)
def test_nothing_is_wrong_under_faults(tmp_path):  # V4, L1, L5, L7, S7
    run = Run(tmp_path, seed=1, seconds=SECONDS)
    try:
        run.go(SECONDS)
    finally:
        run.workspace.close(bool(run.problems))
    assert not run.problems, run.summary() + "\n" + "\n".join(run.problems)
    outcomes = [o["outcome"] for ops in run.operations.values() for o in ops]
    assert outcomes.count("ok") > 5 * SECONDS and "refused" in outcomes, run.summary()
