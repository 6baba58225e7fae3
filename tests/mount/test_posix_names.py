"""Names and folders: links, renames, listing, odd names."""

import os
import stat

import pytest

from stomplib.calls import (
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Dir,
    errno_of,
    renameat2,
)


def names(folder):
    return sorted(os.listdir(os.fsencode(folder)))


# ---------------------------------------------------------------- links


def test_hard_links_are_one_file(tree):
    (tree / "a").write_bytes(b"one")
    os.link(tree / "a", tree / "b")
    assert (tree / "a").stat().st_ino == (tree / "b").stat().st_ino
    assert (tree / "a").stat().st_nlink == 2
    (tree / "b").write_bytes(b"two")
    assert (tree / "a").read_bytes() == b"two"
    os.chmod(tree / "a", 0o600)
    assert stat.S_IMODE((tree / "b").stat().st_mode) == 0o600
    os.unlink(tree / "a")
    assert (tree / "b").read_bytes() == b"two"
    assert (tree / "b").stat().st_nlink == 1


def test_hard_link_errors(tree):
    (tree / "a").write_bytes(b"")
    (tree / "d").mkdir()
    assert errno_of(os.link, tree / "a", tree / "d") == "EEXIST"
    assert errno_of(os.link, tree / "no", tree / "b") == "ENOENT"
    assert errno_of(os.link, tree / "d", tree / "e") == "EPERM"


def test_renaming_a_link_onto_its_twin_changes_nothing(tree):
    (tree / "a").write_bytes(b"x")
    os.link(tree / "a", tree / "b")
    os.rename(tree / "a", tree / "b")
    assert names(tree) == [b"a", b"b"]


def test_symbolic_links(tree):
    (tree / "f").write_bytes(b"x")
    os.symlink("f", tree / "l")
    assert os.readlink(tree / "l") == "f"
    assert (tree / "l").read_bytes() == b"x"
    assert stat.S_ISLNK(os.lstat(tree / "l").st_mode)
    assert os.lstat(tree / "l").st_size == 1
    os.unlink(tree / "l")
    assert (tree / "f").exists()
    assert errno_of(os.readlink, tree / "f") == "EINVAL"


def test_long_and_odd_link_targets(tree):
    for target in (b"x" * 4000, b"\xff\n", b"../up/../there", b"/absolute"):
        os.symlink(target, os.fsencode(tree) + b"/l")
        assert os.readlink(os.fsencode(tree) + b"/l") == target
        os.unlink(tree / "l")


def test_dangling_and_looping_links(tree):
    os.symlink("nowhere", tree / "dangling")
    assert errno_of(os.open, tree / "dangling", os.O_RDONLY) == "ENOENT"
    os.symlink("loop2", tree / "loop1")
    os.symlink("loop1", tree / "loop2")
    assert errno_of(os.open, tree / "loop1", os.O_RDONLY) == "ELOOP"
    assert errno_of(os.open, tree / "dangling", os.O_RDONLY | os.O_NOFOLLOW) == "ELOOP"


# ---------------------------------------------------------------- renames


def test_rename_replaces(tree):
    (tree / "a").write_bytes(b"new")
    (tree / "b").write_bytes(b"old")
    number = (tree / "a").stat().st_ino
    os.rename(tree / "a", tree / "b")
    assert names(tree) == [b"b"]
    assert (tree / "b").read_bytes() == b"new"
    assert (tree / "b").stat().st_ino == number


def test_rename_across_folders_takes_the_tree_along(tree):
    (tree / "d" / "e").mkdir(parents=True)
    (tree / "d" / "e" / "f").write_bytes(b"deep")
    (tree / "t").mkdir()
    os.rename(tree / "d" / "e", tree / "t" / "E")
    assert (tree / "t" / "E" / "f").read_bytes() == b"deep"
    assert names(tree / "d") == []
    (tree / "t" / "E" / "f").write_bytes(b"changed")
    assert (tree / "t" / "E" / "f").read_bytes() == b"changed"


def test_rename_errors(tree):
    (tree / "d" / "sub").mkdir(parents=True)
    (tree / "e").mkdir()
    (tree / "f").write_bytes(b"")
    assert errno_of(os.rename, tree / "no", tree / "x") == "ENOENT"
    assert errno_of(os.rename, tree / "d", tree / "d" / "sub" / "x") == "EINVAL"
    assert errno_of(os.rename, tree / "f", tree / "e") == "EISDIR"
    assert errno_of(os.rename, tree / "e", tree / "f") == "ENOTDIR"
    assert errno_of(os.rename, tree / "e", tree / "d") == "ENOTEMPTY"
    os.rename(tree / "d" / "sub", tree / "e")
    assert names(tree) == [b"d", b"e", b"f"]


def test_rename_without_replacing(tree):
    (tree / "a").write_bytes(b"a")
    (tree / "b").write_bytes(b"b")
    assert errno_of(renameat2, tree / "a", tree / "b", RENAME_NOREPLACE) == "EEXIST"
    assert (tree / "b").read_bytes() == b"b"
    renameat2(tree / "a", tree / "c", RENAME_NOREPLACE)
    assert names(tree) == [b"b", b"c"]


def test_exchange(tree):
    (tree / "a").write_bytes(b"a")
    (tree / "d").mkdir()
    (tree / "d" / "in").write_bytes(b"in")
    renameat2(tree / "a", tree / "d", RENAME_EXCHANGE)
    assert (tree / "d").read_bytes() == b"a"
    assert (tree / "a" / "in").read_bytes() == b"in"
    (tree / "x").write_bytes(b"x")
    (tree / "y").write_bytes(b"y")
    fd = os.open(tree / "x", os.O_RDONLY)
    renameat2(tree / "x", tree / "y", RENAME_EXCHANGE)
    assert (tree / "x").read_bytes() == b"y"
    assert (tree / "y").read_bytes() == b"x"
    assert os.fstat(fd).st_ino == (tree / "y").stat().st_ino
    os.close(fd)
    assert errno_of(renameat2, tree / "x", tree / "no", RENAME_EXCHANGE) == "ENOENT"


def test_open_file_follows_its_rename(tree):
    (tree / "d").mkdir()
    fd = os.open(tree / "a", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"one ")
    os.rename(tree / "a", tree / "d" / "b")
    os.write(fd, b"two")
    os.close(fd)
    assert (tree / "d" / "b").read_bytes() == b"one two"
    assert names(tree) == [b"d"]


# ---------------------------------------------------------------- folders


def test_make_and_remove_folders(tree):
    os.mkdir(tree / "d", 0o750)
    assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o750
    assert (tree / "d").stat().st_nlink == 2
    assert errno_of(os.mkdir, tree / "d") == "EEXIST"
    assert errno_of(os.mkdir, tree / "no" / "d") == "ENOENT"
    (tree / "d" / "f").write_bytes(b"")
    assert errno_of(os.rmdir, tree / "d") == "ENOTEMPTY"
    assert errno_of(os.unlink, tree / "d") == "EISDIR"
    assert errno_of(os.rmdir, tree / "d" / "f") == "ENOTDIR"
    os.unlink(tree / "d" / "f")
    os.rmdir(tree / "d")
    assert errno_of(os.rmdir, tree / "d") == "ENOENT"


def test_removed_folder_that_is_still_open(tree):
    os.mkdir(tree / "d")
    fd = os.open(tree / "d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(tree / "d")
    assert os.listdir(fd) == []
    assert errno_of(os.open, "f", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd) == "ENOENT"
    os.close(fd)


def test_links_of_folders_count_their_children(tree, tmp_path):
    bare = tmp_path / "bare"
    for base in (bare, tree / "d"):
        (base / "one").mkdir(parents=True)
        (base / "two").mkdir()
    assert (tree / "d").stat().st_nlink == bare.stat().st_nlink


def test_listing_has_types_numbers_and_dots(tree):
    (tree / "f").write_bytes(b"")
    (tree / "d").mkdir()
    os.symlink("f", tree / "l")
    os.mkfifo(tree / "p")
    with os.scandir(tree) as entries:
        found = {e.name: e for e in entries}
    assert set(found) == {"f", "d", "l", "p"}
    assert found["d"].is_dir(follow_symlinks=False)
    assert found["l"].is_symlink()
    assert found["f"].is_file(follow_symlinks=False)
    for name, entry in found.items():
        assert entry.inode() == os.lstat(tree / name).st_ino
    folder = Dir(tree)
    assert {b".", b".."} <= set(folder.read())
    folder.close()


def test_parent_of_folders(tree):
    (tree / "d" / "e").mkdir(parents=True)
    assert (tree / "d" / "e" / "..").stat().st_ino == (tree / "d").stat().st_ino
    assert (tree / "d" / "..").stat().st_ino == tree.stat().st_ino


@pytest.mark.timeout(120)
def test_ten_thousand_entries_are_listed_once_each(tree):
    expected = set()
    for i in range(10_000):
        name = f"entry-{i:05}"
        if i % 100 == 0:
            os.mkdir(tree / name)
        else:
            os.close(os.open(tree / name, os.O_WRONLY | os.O_CREAT, 0o644))
        expected.add(name)
    found = os.listdir(tree)
    assert len(found) == len(expected)
    assert set(found) == expected


@pytest.mark.timeout(120)
def test_positions_in_a_folder_stay_good_under_change(tree):
    for i in range(3000):
        os.symlink("x", tree / f"n{i}")
    folder = Dir(tree)
    seen = folder.read(1200)
    position = folder.tell()
    ahead = folder.read(500)
    rest = folder.read()
    for name in seen[2:200]:
        if name not in (b".", b".."):
            os.unlink(os.fsencode(tree) + b"/" + name)
    for i in range(200):
        os.symlink("x", tree / f"later{i}")
    folder.seek(position)
    again = [n for n in folder.read() if not n.startswith(b"later")]
    assert again[:500] == ahead
    assert sorted(again) == sorted(ahead + rest)
    folder.rewind()
    whole = folder.read()
    assert len(whole) == len(set(whole))
    assert {n for n in whole if n.startswith(b"n")} == set(names(tree)) - {
        f"later{i}".encode() for i in range(200)
    }
    folder.close()


def test_removing_while_listing_removes_all(tree):
    for i in range(2000):
        os.symlink("x", tree / f"n{i}")
    rounds = 0
    with os.scandir(tree) as entries:
        for entry in entries:
            os.unlink(entry.path)
            rounds += 1
    assert rounds == 2000
    assert os.listdir(tree) == []


# ---------------------------------------------------------------- names

ODD = [
    b"new\nline",
    b"\xff\xfe not utf-8",
    b" leading and trailing ",
    b"quote\"'`$()",
    b"back\\slash",
    b"-rf",
    b"*?[",
    b"tab\t",
    b"\x01\x7f",
    b"%s%n",
    "größe".encode(),
    "e\u0301".encode(),
    "\u00e9".encode(),
    b"...",
    b".stompx",
    b"n" * 255,
]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_names(tree, name):
    base = os.fsencode(tree) + b"/"
    with open(base + name, "wb") as f:
        f.write(name)
    assert os.listdir(base) == [name]
    with open(base + name, "rb") as f:
        assert f.read() == name
    os.rename(base + name, base + b"plain")
    os.rename(base + b"plain", base + name)
    os.unlink(base + name)
    os.mkdir(base + name)
    os.symlink(name, base + name + b"/l" if len(name) < 255 else base + b"l")
    assert name in os.listdir(base)


def test_names_that_are_too_long(tree):
    base = os.fsencode(tree) + b"/"
    assert errno_of(os.mkdir, base + b"n" * 256) == "ENAMETOOLONG"
    assert errno_of(os.stat, base + b"n" * 256) == "ENAMETOOLONG"
    assert errno_of(os.symlink, b"x", base + b"n" * 256) == "ENAMETOOLONG"


def test_a_path_deeper_than_path_max(tree):
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    out = os.open("f", os.O_RDWR | os.O_CREAT, 0o644, dir_fd=fd)
    os.write(out, b"deep")
    assert os.pread(out, 10, 0) == b"deep"
    os.close(out)
    assert os.listdir(fd) == ["f"]
    os.unlink("f", dir_fd=fd)
    os.close(fd)


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: os.mknod(p, stat.S_IFSOCK | 0o600)])
def test_a_file_renamed_onto_a_pipe_or_socket_goes_on(tree, make):  # V3
    a, b = tree / "a", tree / "b"
    for text in ("first", "second"):
        a.write_text(text)
        os.rename(a, b)
        os.rename(b, a)
        make(b)
        os.rename(a, b)
        assert b.read_text() == text
        os.rename(b, a)
        assert not b.exists() and a.read_text() == text
        os.unlink(a)


@pytest.mark.parametrize("make", [os.mkfifo, lambda p: os.mknod(p, stat.S_IFSOCK | 0o600)])
def test_a_pipe_or_socket_renamed_onto_a_file_is_a_removal(workspace, writer, make):
    """V1, S6: with its lease, its base and its history."""
    alice, bob = writer("alice"), writer("bob")
    alice.writefile("f", b"alice's\n")
    make(workspace / "p")
    assert bob.errno("rename", "p", "f") == "ESTALE"
    assert (workspace / "f").read_bytes() == b"alice's\n"
    alice.rename("p", "f")
    assert not stat.S_ISREG(os.lstat(workspace / "f").st_mode)
    assert [r["kind"] for r in workspace.log("f")] == ["write", "delete"]
    assert (workspace / ".stomp/history/f/1").read_bytes() == b"alice's\n"
    alice.unlink("f")
    alice.writefile("f", b"again")
    assert (workspace / "f").read_bytes() == b"again"


def test_a_file_and_a_pipe_change_places(workspace, writer):  # V3, S6, S10
    alice = writer("alice")
    alice.writefile("f", b"the file\n")
    os.mkfifo(workspace / "p")
    refused = errno_of(renameat2, workspace / "p", workspace / "f", RENAME_EXCHANGE)
    assert refused == "ESTALE"
    alice.rename("p", "f", RENAME_EXCHANGE)
    assert (workspace / "p").read_bytes() == b"the file\n"
    assert stat.S_ISFIFO(os.lstat(workspace / "f").st_mode)
    alice.writefile("p", b"changed\n")
    assert not workspace.refusals(alice)
    assert any(r["kind"] == "delete" for r in workspace.log("f"))


def test_a_link_goes_on_when_another_name_is_gone(workspace, writer):  # L10, V3
    """What was changed under the name that goes is no change round the mount."""
    alice = writer("alice")
    for gone in (lambda: alice.unlink("a"), lambda: alice.rename("new", "a")):
        alice.writefile("new", b"another")
        alice.writefile("a", b"one")
        alice.link("a", "b")
        alice.writefile("a", b"one and more")
        gone()
        newest = workspace.log("b")[-1]
        assert newest["kind"] == "link", newest
        assert (workspace / "b").read_bytes() == b"one and more"
        kinds = [r["kind"] for r in workspace.log("b")]
        assert "external" not in kinds, kinds
        alice.unlink("b")
