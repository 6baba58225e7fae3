"""What the kernel keeps, and that it is exact: every change passes the gate.

Each saving is proven by the requests that did not come (.stomp/metrics), beside the rule
that it might break.
"""

import os
import re
import subprocess

import pytest

from stomplib.calls import elsewhere, needs_root

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


@pytest.mark.skipif("selinuxfs" in open("/proc/filesystems").read(), reason="has labels")
def test_a_long_listing_again_asks_nothing_of_each_file(tree_of):
    """The kernel keeps the access lists; ls(1) takes one answer for the want of labels."""

    def listing():
        subprocess.run(["ls", "-lR", "."], cwd=tree_of.path, check=True, stdout=subprocess.DEVNULL)

    listing()
    cost = caused(tree_of, listing)
    assert sum(cost.values()) < len(NAMES) // 10, cost  # the folders, and one file


def test_a_label_that_was_set_is_told_all_the_same(tree_of):
    label = "security.selinux"
    name = tree_of / "d1/f1"
    try:
        os.setxattr(name, label, b"user_u:object_r:user_t:s0")
    except OSError:
        pytest.skip("labels cannot be set here")
    assert os.getxattr(name, label) == b"user_u:object_r:user_t:s0"
    os.removexattr(name, label)
    with pytest.raises(OSError):
        os.getxattr(name, label)


def readers_in_the_backing(workspace, name):
    """Descriptors of the daemon that can read the file: those that are no O_PATH."""
    found = 0
    for fd in os.listdir(f"/proc/{workspace.daemon.pid}/fd"):
        try:
            leads_to = os.readlink(f"/proc/{workspace.daemon.pid}/fd/{fd}")
            with open(f"/proc/{workspace.daemon.pid}/fdinfo/{fd}", encoding="ascii") as f:
                flags = int(re.search(r"flags:\s+(\d+)", f.read()).group(1), 8)
        except OSError:
            continue
        found += leads_to.endswith(name) and not flags & os.O_PATH
    return found


@needs_root
def test_what_the_page_cache_has_is_not_opened_in_the_backing(tree_of, writer):
    alice = writer("alice")
    alice.readfile("d1/f7")
    os.stat(tree_of / "d1/f7")

    def again():
        again.fd = alice.open("d1/f7")
        assert alice.pread(again.fd, 1000, 0) == b"x" * 1000

    cost = caused(tree_of, again)
    assert cost == {"open": 1}, cost
    assert readers_in_the_backing(tree_of, "d1/f7") == 0
    # What is no longer there, by any name, is read all the same once it has to be.
    tree_of.maker.unlink("d1/f7")
    alice.forget_pages(again.fd)
    assert "read" in caused(tree_of, lambda: alice.pread(again.fd, 1000, 0))
    assert readers_in_the_backing(tree_of, "d1/f7 (deleted)") == 1
    assert alice.pread(again.fd, 1000, 0) == b"x" * 1000
    alice.close(again.fd)


def test_a_default_acl_counts_from_the_moment_it_is_set(tree_of):
    """Whether a folder has one is asked once."""
    folder = tree_of / "d1"
    old = os.umask(0o027)
    try:

        def mode_of_new(name):
            with open(folder / name, "wb", opener=lambda p, f: os.open(p, f, 0o666)):
                pass
            return os.stat(folder / name).st_mode & 0o777

        assert mode_of_new("n1") == 0o640
        assert mode_of_new("n2") == 0o640
        done = subprocess.run(["setfacl", "-d", "-m", "u::rw,g::rw,o::rw", folder])
        if done.returncode:
            pytest.skip("no ACLs here")
        assert mode_of_new("n3") == 0o666
        subprocess.run(["setfacl", "-k", folder], check=True)
        assert mode_of_new("n4") == 0o640
    finally:
        os.umask(old)


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
        elsewhere(tree_of.path, "sh", "-c", 'while read -r n; do stat -c %s "$n" 2>&1; done'),
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
