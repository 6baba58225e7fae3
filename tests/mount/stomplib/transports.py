"""Which way requests come: /dev/fuse, or io_uring where kernel and build have it."""

import subprocess
from pathlib import Path

import pytest

SWITCH = Path("/sys/module/fuse/parameters/enable_uring")


def offered():
    return SWITCH.exists() and SWITCH.read_text().strip() == "Y"


def built(workspace):
    return b"liburing" in subprocess.run(
        ["ldd", workspace.stompfs], capture_output=True, check=True
    ).stdout


def transport(workspace):
    return workspace.json("status")["transport"]


needs_ring = pytest.mark.skipif(not offered(), reason="this kernel does not offer io_uring")

# For tests of what no transport may break; STOMPFS_TEST_OPTIONS=uring runs all over the ring.
over_both = pytest.mark.parametrize(
    "unmounted", ["fuse", pytest.param("uring", marks=needs_ring)], indirect=True
)
over_ring = pytest.mark.parametrize(
    "unmounted", [pytest.param("uring", marks=needs_ring)], indirect=True
)
