"""What the kernel keeps, and that it is exact: every change passes the gate.

Each saving is proven by the requests that did not come (.stomp/metrics), beside the rule
that it might break.
"""

import os
import re
import subprocess

import pytest

NAMES = [f"d{i}/f{j}" for i in range(4) for j in range(30)]


@pytest.fixture
def tree_of(workspace, writer):
    maker = writer("maker")
    for name in NAMES:
        if not (workspace / name).parent.exists():
            maker.mkdir(os.path.dirname(name))
        maker.writefile(name, b"x" * 1000)
    workspace.maker = maker
    os.listdir(workspace.path)  # from now on the kernel knows how folders are read
    return workspace


def requests(workspace):
    """By opcode; those that reading the figures itself causes are known to the caller."""
    found = re.findall(
        r'stompfs_requests_total\{opcode="(\w+)"\} (\d+)', workspace.text("metrics")
    )
    return {name: int(n) for name, n in found}


def caused(workspace, act):
    """Requests of act, without those of .stomp/metrics."""
    first = requests(workspace)
    idle = requests(workspace)
    act()
    then = requests(workspace)
    cost = {}
    for name in then:
        n = then[name] - idle.get(name, 0) - (idle.get(name, 0) - first.get(name, 0))
        if n:
            cost[name] = n
    return cost


def walk(workspace):
    return sorted(
        os.path.join(top, name)
        for top, _, names in os.walk(workspace.path)
        for name in names
        if os.lstat(os.path.join(top, name)).st_size == 1000
    )


def test_a_tree_walked_again_costs_no_request(tree_of):
    assert len(walk(tree_of)) == len(NAMES)
    walk(tree_of)
    cost = caused(tree_of, lambda: walk(tree_of))
    assert not cost, cost


def test_folders_are_not_opened(tree_of):
    cost = caused(tree_of, lambda: os.listdir(tree_of / "d1"))
    assert "opendir" not in cost and "releasedir" not in cost, cost


def test_a_listing_shows_every_change_at_once(tree_of, writer):
    alice = writer("alice")
    folder = tree_of / "d1"
    names = set(os.listdir(folder))
    alice.writefile("d1/new", b"1")
    names.add("new")
    assert set(os.listdir(folder)) == names
    alice.rename("d1/new", "d1/newer")
    names = names - {"new"} | {"newer"}
    assert set(os.listdir(folder)) == names
    alice.unlink("d1/newer")
    alice.mkdir("d1/sub")
    names = names - {"newer"} | {"sub"}
    assert set(os.listdir(folder)) == names
    alice.rename("d1/sub", "d2/sub")
    assert set(os.listdir(folder)) == names - {"sub"}
    assert "sub" in os.listdir(tree_of / "d2")


def test_a_large_folder_is_listed_whole_while_names_go(workspace, writer):
    """Several requests, unlinks between them, and a second reader beside."""
    maker = writer("maker")
    maker.mkdir("d")
    count = 3000
    for i in range(count):
        (workspace / f"d/name-{i:05}").touch()
    assert len(os.listdir(workspace / "d")) == count
    seen = set()
    with os.scandir(workspace / "d") as one, os.scandir(workspace / "d") as two:
        for entry in one:
            assert entry.name not in seen
            seen.add(entry.name)
            other = next(two, None)
            assert other is None or other.name.startswith("name-")
            os.unlink(entry.path)
    assert len(seen) == count
    assert not os.listdir(workspace / "d")


def test_stomps_own_folders_are_listed_anew(tree_of, writer):  # D
    top = set(os.listdir(tree_of / ".stomp/history"))
    writer("alice").mkdir("fresh")
    writer("bob").writefile("fresh/f", b"1")
    assert set(os.listdir(tree_of / ".stomp/history")) == top | {"fresh"}
    assert "f" in os.listdir(tree_of / ".stomp/history/fresh")


def test_a_missing_name_is_remembered_until_it_is_there(tree_of, writer):
    missing = tree_of / "d1/missing"
    assert not missing.exists()
    assert not caused(tree_of, missing.exists)
    alice = writer("alice")
    alice.writefile("d1/missing", b"1")
    assert missing.exists()
    tree_of.maker.rename("d1/f0", "d1/missing.too")
    assert not (tree_of / "d1/f0").exists()
    alice.unlink("d1/missing")
    assert not missing.exists()
    assert not missing.exists()


def test_attributes_are_kept_and_exact(tree_of):
    alice = tree_of.maker
    name = tree_of / "d2/f5"
    os.stat(name)
    assert not caused(tree_of, lambda: os.stat(name))
    for size in (10, 5000, 0, 77):
        alice.writefile("d2/f5", b"y" * size)
        assert os.stat(name).st_size == size
    alice.chmod("d2/f5", 0o600)
    assert os.stat(name).st_mode & 0o777 == 0o600


def test_another_mount_namespace_sees_a_change_at_once(tree_of):
    """A container's view of the workspace is the same file system."""
    inside = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", 'while read -r n; do stat -c %s "$n" 2>&1; done'],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tree_of.path, text=True,
    )  # fmt: skip
    try:

        def size_inside():
            inside.stdin.write("d3/f1\n")
            inside.stdin.flush()
            return inside.stdout.readline().strip()

        if size_inside() != "1000":
            pytest.skip("no mount namespaces here")
        for size in (5, 12345, 1):
            tree_of.maker.writefile("d3/f1", b"z" * size)
            assert size_inside() == str(size)
    finally:
        inside.stdin.close()
        inside.wait(10)
