"""What changes round the mount: found, recorded as external, never anybody's own."""

import os

import pytest

pytestmark = pytest.mark.mount_options("settle=100ms", "wait=300ms")

WRONLY, RDONLY = os.O_WRONLY, os.O_RDONLY


def story(workspace, name):
    try:
        rows = workspace.log(name)
    except FileNotFoundError:
        return []
    return [(v["kind"], v["writer"]) for v in rows if v["path"] == name]


def round_the_mount(workspace, name):
    """The backing's own file, whether mounted over or not."""
    return os.path.join(workspace.backing(), name)


def put(path, data, mtime_ns=None):
    with open(path, "wb") as f:
        f.write(data)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture
def alice(workspace, writer):
    return writer("alice")


@pytest.fixture
def bob(workspace, writer):
    return writer("bob")


def between_mounts(workspace, act):
    workspace.umount()
    act()
    workspace.mount()


def test_a_change_between_mounts_is_recorded_at_the_next_open(unmounted, writer):
    unmounted.mount()
    unmounted.run_as("alice", "sh", "-c", "echo mine > f")
    between_mounts(unmounted, lambda: put(unmounted / "f", b"of nobody\n"))
    assert (unmounted / "f").read_bytes() == b"of nobody\n"
    assert story(unmounted, "f") == [("write", "alice"), ("external", None)]
    assert unmounted.version("f", 1) == b"mine\n"
    assert unmounted.version("f", 2) == b"of nobody\n"


def test_an_unread_change_is_recorded_before_the_next_one(unmounted):
    unmounted.mount()
    unmounted.run_as("alice", "sh", "-c", "echo mine > f")
    between_mounts(unmounted, lambda: put(unmounted / "f", b"of nobody\n"))
    unmounted.run_as("bob", "sh", "-c", "echo more >> f")
    assert story(unmounted, "f") == [
        ("write", "alice"), ("external", None), ("write", "bob"),
    ]
    assert unmounted.version("f", 2) == b"of nobody\n"
    assert unmounted.version("f", 3) == b"of nobody\nmore\n"


def test_the_same_size_is_no_disguise(unmounted):
    unmounted.mount()
    unmounted.run_as("alice", "sh", "-c", "echo mine > f")
    between_mounts(unmounted, lambda: put(unmounted / "f", b"yours"[:4] + b"\n"))
    assert (unmounted / "f").read_bytes() == b"your\n"
    assert story(unmounted, "f")[-1] == ("external", None)


def test_touch_is_no_change(unmounted):  # V1
    unmounted.mount()
    unmounted.run_as("alice", "sh", "-c", "echo mine > f; echo mine > g")
    os.utime(unmounted / "g", ns=(10**18, 10**18))  # through the mount
    between_mounts(unmounted, lambda: os.utime(unmounted / "f", ns=(10**18, 10**18)))
    for name in "fg":
        assert (unmounted / name).read_bytes() == b"mine\n"
        assert story(unmounted, name) == [("write", "alice")]


def test_a_blind_overwrite_of_it_is_stale(workspace, writer):  # S2, S3, S6
    workspace.run_as("alice", "sh", "-c", "echo mine > f")
    between_mounts(workspace, lambda: put(workspace / "f", b"of nobody\n"))
    alice = writer("alice")
    assert alice.errno("writefile", "f", b"again mine\n") == "ESTALE"
    assert (workspace / "f").read_bytes() == b"of nobody\n"
    why = workspace.why(alice)[0]
    assert "outside the mount" in why["text"] and why["current_writer"] is None
    alice.readfile("f")
    workspace.settle()
    alice.writefile("f", b"again mine\n")
    assert (workspace / "f").read_bytes() == b"again mine\n"


def test_who_read_before_is_stale_against_it(workspace, alice):  # S2
    workspace.run_as("bob", "sh", "-c", "echo one > f")
    alice.readfile("f")
    workspace.settle()
    put(round_the_mount(workspace, "f"), b"of nobody\n")
    assert alice.errno("writefile", "f", b"one, and two\n") == "ESTALE"
    assert story(workspace, "f") == [("write", "bob"), ("external", None)]


def test_a_reader_sees_it_at_once_and_knows_it(workspace, alice):  # S2
    alice.writefile("f", b"mine\n")
    assert alice.readfile("f") == b"mine\n"
    put(round_the_mount(workspace, "f"), b"of nobody\n")
    assert alice.readfile("f") == b"of nobody\n"
    workspace.settle()
    alice.writefile("f", b"mine again\n")
    assert story(workspace, "f")[:2] == [("write", "alice"), ("external", None)]


def test_a_file_put_in_its_place_is_found(workspace, alice, bob):
    alice.writefile("f", b"mine\n")
    fd = alice.open("f", RDONLY)
    put(round_the_mount(workspace, "f.new"), b"of nobody\n")
    os.rename(round_the_mount(workspace, "f.new"), round_the_mount(workspace, "f"))
    assert bob.readfile("f") == b"of nobody\n"
    assert alice.read(fd) == b"mine\n"
    assert story(workspace, "f") == [("write", "alice"), ("external", None)]
    bob.append("f", b"and more\n")
    assert story(workspace, "f")[-1] == ("write", "bob")
    assert [v["number"] for v in workspace.log("f")] == [1, 2, 3]


def test_what_is_being_written_there_stays_the_writers(workspace, alice, bob):
    # The name goes to another file in the middle of a session: both are kept.
    fd = alice.open("f", WRONLY | os.O_CREAT)
    alice.write(fd, b"half ")
    put(round_the_mount(workspace, "g"), b"of nobody\n")
    os.rename(round_the_mount(workspace, "g"), round_the_mount(workspace, "f"))
    assert bob.readfile("f") == b"of nobody\n"
    assert story(workspace, "f") == [("write", "alice"), ("external", None)]
    assert workspace.version("f", 1) == b"half "
    assert alice.errno("write", fd, b"done") == "ESTALE"
    assert (workspace / "f").read_bytes() == b"of nobody\n"


@pytest.mark.parametrize("mounted", [True, False])
def test_a_removal_is_recorded_when_the_path_is_used_again(workspace, mounted):  # V3
    workspace.run_as("alice", "sh", "-c", "echo mine > f")
    remove = lambda: os.unlink(round_the_mount(workspace, "f"))  # noqa: E731
    remove() if mounted else between_mounts(workspace, remove)
    workspace.run_as("bob", "sh", "-c", "echo new > f")
    rows = workspace.log("f")
    assert [(v["kind"], v["writer"]) for v in rows] == [
        ("write", "alice"), ("delete", None), ("write", "bob"),
    ]
    assert "outside" in rows[1]["flags"]
    assert [v["number"] for v in rows] == [1, 2, 3]
    assert workspace.version("f", 1) == b"mine\n"


def test_what_comes_back_after_a_removal_is_external(workspace):
    workspace.run_as("alice", "sh", "-c", "echo mine > f; rm f")
    between_mounts(workspace, lambda: put(workspace / "f", b"of nobody\n"))
    assert (workspace / "f").read_bytes() == b"of nobody\n"
    assert story(workspace, "f")[-2:] == [("delete", "alice"), ("external", None)]


def test_a_mode_changed_outside_is_nobodys(workspace):  # V3
    workspace.run_as("alice", "sh", "-c", "echo mine > f")
    between_mounts(workspace, lambda: os.chmod(workspace / "f", 0o755))
    workspace.run_as("bob", "chmod", "600", "f")
    rows = workspace.log("f")
    assert [(v["kind"], v["writer"]) for v in rows] == [
        ("write", "alice"), ("mode", None), ("mode", "bob"),
    ]
    assert "outside" in rows[1]["flags"]


@pytest.mark.parametrize("how", ["rename", "unlink", "symlink"])
def test_what_replaces_or_removes_it_records_it_first(workspace, how):  # V2, S10
    workspace.run_as("alice", "sh", "-c", "echo mine > f; ln -s one l")
    name = "l" if how == "symlink" else "f"

    def change():
        if how == "symlink":
            os.unlink(workspace / "l")
            os.symlink("two", workspace / "l")
        else:
            put(workspace / "f", b"of nobody\n")

    between_mounts(workspace, change)
    script = {
        "rename": "cat f > /dev/null; sleep 0.2; echo bob > t; mv -f t f",
        "unlink": "cat f > /dev/null; sleep 0.2; rm f",
        "symlink": "rm -f l; echo file > l",
    }[how]
    workspace.run_as("bob", "sh", "-c", script, check=how != "symlink")
    kinds = story(workspace, name)
    assert kinds[1] == ("external", None), kinds


def test_a_large_file_is_not_read_for_a_reader(workspace, alice, bob):  # S2
    size = 6 << 20
    alice.sh(f"head -c {size} /dev/zero > big")
    workspace.settle()
    put(round_the_mount(workspace, "big"), b"x" * size)
    assert bob.pread(bob.open("big"), 4, 0) == b"xxxx"
    assert story(workspace, "big") == [("write", "alice")], "recorded for a mere reader"
    workspace.settle()
    fd = bob.open("big", os.O_RDWR)
    bob.pwrite(fd, b"bob", 0)  # he has read what is there: fresh
    bob.close(fd)
    assert story(workspace, "big")[1] == ("external", None)
    assert workspace.version("big", 2) == b"x" * size


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_what_was_changed_after_a_crash_is_nobodys(workspace, recorded, replaced):  # V4
    workspace.run_as("alice", "sh", "-c", "echo mine > f")
    if recorded:
        workspace.ctl("checkpoint")
    workspace.kill_daemon()
    put(workspace / "g", b"of nobody\n")
    if replaced:
        os.rename(workspace / "g", workspace / "f")
    else:
        put(workspace / "f", b"of nobody\n")
    workspace.mount()
    assert (workspace / "f").read_bytes() == b"of nobody\n"
    kinds = story(workspace, "f")
    assert kinds.count(("external", None)) == 1
    # Where the kill left only the intent, the bytes it spoke of are gone with it.
    assert kinds == [("write", "alice"), ("external", None)][-len(kinds):]
    assert ("write", "alice") in kinds or not recorded


def test_hard_links_are_not_mistaken(workspace):  # L10
    workspace.run_as("alice", "sh", "-c", "echo one > a; ln a b; echo two > b")
    workspace.remount()
    assert (workspace / "a").read_bytes() == (workspace / "b").read_bytes() == b"two\n"
    for name in "ab":
        assert "external" not in [k for k, _ in story(workspace, name)]


def test_what_no_rule_guards_is_not_looked_at(workspace):  # P2
    workspace.run_as("alice", "sh", "-c", "mkdir target; echo one > target/f")
    between_mounts(workspace, lambda: put(workspace / "target" / "f", b"two\n"))
    assert (workspace / "target" / "f").read_bytes() == b"two\n"
    assert story(workspace, "target/f") == []


def test_a_folder_renamed_between_mounts_has_its_files_found(workspace):
    workspace.run_as("alice", "sh", "-c", "mkdir d; echo one > d/f")
    between_mounts(workspace, lambda: os.rename(workspace / "d", workspace / "e"))
    workspace.run_as("bob", "sh", "-c", "mkdir d; echo two > d/f; echo more >> e/f")
    assert story(workspace, "d/f") == [("write", "alice"), ("delete", None), ("write", "bob")]
    assert story(workspace, "e/f") == [("initial", None), ("write", "bob")]
