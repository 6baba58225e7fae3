"""What was measured on: said with every table, since figures are one machine's."""

import os
import platform
import re
import subprocess
from pathlib import Path


def first_match(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text, re.M)
    return found.group(1).strip() if found else otherwise


def version_of(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
    except FileNotFoundError:
        return "not there"
    return first_match(r"([0-9]+\.[0-9][0-9.]*)", done.stdout)


def filesystem_of(path):
    done = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", path],
                          stdout=subprocess.PIPE, text=True, check=False)
    return " ".join(done.stdout.split())


def uring_parameter():
    try:
        return Path("/sys/module/fuse/parameters/enable_uring").read_text().strip()
    except OSError:
        return "not there"


def describe(base, build):
    """An ordered dict of words."""
    cpu = first_match(r"^model name\s*:(.*)$", Path("/proc/cpuinfo").read_text())
    memory = int(first_match(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), "0"))
    return {
        "kernel": platform.release(),
        "cpu": f"{os.cpu_count()} × {cpu}",
        "memory": f"{memory >> 20} GiB",
        "file system": filesystem_of(base),
        "stompfs": version_of([build / "fs" / "stompfs", "--version"]),
        "libfuse": version_of(["pkg-config", "--modversion", "fuse3"]),
        "sqlite": version_of(["pkg-config", "--modversion", "sqlite3"]),
        "bindfs": version_of(["bindfs", "--version"]),
        "fuse-overlayfs": version_of(["dpkg-query", "-W", "fuse-overlayfs"]),
        "fuse.enable_uring": uring_parameter(),
        "user": "root" if os.getuid() == 0 else "not root",
    }


def load():
    return " ".join(f"{x:.2f}" for x in os.getloadavg())
