"""Processes that stand still, and those that keep a mount."""

import os
import signal
import time


def states_of(pid):
    """Of each thread: R, S, T…"""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as f:
            yield f.read().rpartition(")")[2].split()[0]


def stop_process(pid):
    """SIGSTOP, and every thread has stopped: until the first of them has had its turn, others
    still answer."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while set(states_of(pid)) != {"T"}:
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.005)
