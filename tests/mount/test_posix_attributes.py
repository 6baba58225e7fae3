"""Modes, owners, times, extended attributes, special files, other users."""

import os
import socket
import stat
import subprocess

import pytest

from stomplib.calls import errno_of, in_child, needs_root

ALICE, BOB, TEAM = 12001, 12002, 12100


def with_others(test):
    """Made by root, on a mount that others may enter."""
    return needs_root(pytest.mark.mount_options("allow_other")(test))


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def open_tree(tree):
    """A folder where everybody may write."""
    os.chmod(tree, 0o1777)
    return tree


# ---------------------------------------------------------------- modes, owners, times


def test_chmod(tree):
    f = tree / "f"
    f.write_bytes(b"")
    for mode in (0o600, 0o755, 0o4711, 0o444):
        os.chmod(f, mode)
        assert mode_of(f) == mode
    fd = os.open(f, os.O_RDONLY)
    os.fchmod(fd, 0o640)
    os.close(fd)
    assert mode_of(f) == 0o640
    assert errno_of(os.chmod, tree / "no", 0o600) == "ENOENT"


def test_umask(tree):
    before = os.umask(0o027)
    try:
        (tree / "f").write_bytes(b"")
        os.mkdir(tree / "d")
        os.mkfifo(tree / "p", 0o666)
    finally:
        os.umask(before)
    assert (mode_of(tree / "f"), mode_of(tree / "d"), mode_of(tree / "p")) == (
        0o640,
        0o750,
        0o640,
    )


@needs_root
def test_chown(tree):
    f = tree / "f"
    f.write_bytes(b"")
    os.chmod(f, 0o6755)
    os.chown(f, ALICE, TEAM)
    st = f.stat()
    assert (st.st_uid, st.st_gid) == (ALICE, TEAM)
    assert mode_of(f) == 0o755  # the kernel takes setuid and setgid away
    os.chown(f, -1, BOB)
    assert (f.stat().st_uid, f.stat().st_gid) == (ALICE, BOB)
    os.symlink("f", tree / "l")
    os.lchown(tree / "l", BOB, BOB)
    assert os.lstat(tree / "l").st_uid == BOB
    assert f.stat().st_uid == ALICE


@needs_root
def test_new_files_in_a_setgid_folder_have_its_group(tree):
    os.mkdir(tree / "d")
    os.chown(tree / "d", 0, TEAM)
    os.chmod(tree / "d", 0o2775)
    (tree / "d" / "f").write_bytes(b"")
    os.mkdir(tree / "d" / "sub")
    assert (tree / "d" / "f").stat().st_gid == TEAM
    assert (tree / "d" / "sub").stat().st_gid == TEAM
    assert mode_of(tree / "d" / "sub") & stat.S_ISGID


def test_times_to_the_nanosecond(tree):
    f = tree / "f"
    f.write_bytes(b"")
    os.utime(f, ns=(1_234_567_890_123_456_789, 2_000_000_000_987_654_321))
    st = f.stat()
    assert st.st_atime_ns == 1_234_567_890_123_456_789
    assert st.st_mtime_ns == 2_000_000_000_987_654_321
    os.mkdir(tree / "d")
    os.utime(tree / "d", ns=(1, 1_000_000_000_000_000_001))
    assert (tree / "d").stat().st_mtime_ns == 1_000_000_000_000_000_001
    os.symlink("nowhere", tree / "l")
    os.utime(tree / "l", ns=(5, 6), follow_symlinks=False)
    assert os.lstat(tree / "l").st_mtime_ns == 6


def test_times_of_an_open_file_hold_after_close(tree):
    """What rsync -a and tar do to a file they have just made."""
    fd = os.open(tree / "f", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, b"x")
    os.utime(fd, ns=(7, 1_111_111_111_222_222_222))
    os.close(fd)
    assert (tree / "f").stat().st_mtime_ns == 1_111_111_111_222_222_222


def test_a_write_moves_mtime_and_ctime(tree):
    f = tree / "f"
    f.write_bytes(b"one")
    os.utime(f, ns=(0, 1_000_000_000))
    before = f.stat()
    fd = os.open(f, os.O_WRONLY)
    os.write(fd, b"two")
    during = os.fstat(fd)
    os.close(fd)
    after = f.stat()
    assert during.st_mtime_ns > before.st_mtime_ns
    assert after.st_mtime_ns >= during.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


def test_making_and_removing_moves_the_folders_mtime(tree):
    os.mkdir(tree / "d")
    os.utime(tree / "d", ns=(0, 1_000_000_000))
    (tree / "d" / "f").write_bytes(b"")
    made = (tree / "d").stat().st_mtime_ns
    assert made > 1_000_000_000
    os.utime(tree / "d", ns=(0, 1_000_000_000))
    os.unlink(tree / "d" / "f")
    assert (tree / "d").stat().st_mtime_ns > 1_000_000_000


def test_access(tree):
    f = tree / "f"
    f.write_bytes(b"")
    os.chmod(f, 0o700)
    assert os.access(f, os.R_OK | os.W_OK | os.X_OK)
    assert not os.access(tree / "no", os.F_OK)
    os.chmod(f, 0o600)
    assert not os.access(f, os.X_OK)


def test_statfs(tree, tmp_path):
    here, bare = os.statvfs(tree), os.statvfs(tmp_path)
    assert here.f_namemax == bare.f_namemax == 255
    assert here.f_blocks * here.f_frsize == bare.f_blocks * bare.f_frsize
    assert here.f_files == bare.f_files
    assert here.f_bavail > 0


def test_inode_numbers_stay(tree):
    f = tree / "f"
    f.write_bytes(b"x")
    number = f.stat().st_ino
    f.write_bytes(b"y")
    os.rename(f, tree / "g")
    assert (tree / "g").stat().st_ino == number
    with open(tree / "g", "rb") as opened:
        assert os.fstat(opened.fileno()).st_ino == number


# ---------------------------------------------------------------- extended attributes


def test_extended_attributes(tree, tmp_path):
    (tmp_path / "probe").write_bytes(b"")
    if errno_of(os.setxattr, tmp_path / "probe", "user.a", b"1"):
        pytest.skip("the file system here has no user attributes")
    f = tree / "f"
    f.write_bytes(b"")
    assert os.listxattr(f) == []
    os.setxattr(f, "user.a", b"1\0\xff")
    os.setxattr(f, "user.empty", b"")
    assert os.getxattr(f, "user.a") == b"1\0\xff"
    assert os.getxattr(f, "user.empty") == b""
    assert sorted(os.listxattr(f)) == ["user.a", "user.empty"]
    assert errno_of(os.setxattr, f, "user.a", b"2", os.XATTR_CREATE) == "EEXIST"
    assert errno_of(os.setxattr, f, "user.b", b"2", os.XATTR_REPLACE) == "ENODATA"
    os.setxattr(f, "user.a", b"2", os.XATTR_REPLACE)
    assert os.getxattr(f, "user.a") == b"2"
    os.removexattr(f, "user.a")
    assert errno_of(os.getxattr, f, "user.a") == "ENODATA"
    assert errno_of(os.removexattr, f, "user.a") == "ENODATA"
    os.setxattr(tree, "user.folder", b"f" * 2000)
    assert os.getxattr(tree, "user.folder") == b"f" * 2000
    fd = os.open(f, os.O_RDONLY)
    os.setxattr(fd, "user.fd", b"3")
    os.unlink(f)
    assert os.getxattr(fd, "user.fd") == b"3"
    os.close(fd)


# ---------------------------------------------------------------- special files


def test_fifo_carries_bytes(tree):
    os.mkfifo(tree / "p", 0o600)
    assert stat.S_ISFIFO(os.stat(tree / "p").st_mode)
    fd = os.open(tree / "p", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"through")
    assert os.read(fd, 100) == b"through"
    os.close(fd)


def test_socket_accepts(tree, monkeypatch):
    monkeypatch.chdir(tree)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen(1)
        assert stat.S_ISSOCK(os.stat("s").st_mode)
        client.connect("s")
        client.sendall(b"hello")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"
    os.unlink("s")
    monkeypatch.undo()


@needs_root
@pytest.mark.mount_options("dev")
def test_device_files(tree, tmp_path):
    if errno_of(os.mknod, tmp_path / "probe", stat.S_IFCHR | 0o600, os.makedev(1, 3)):
        pytest.skip("no device files may be made here")
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    st = os.stat(tree / "null")
    assert stat.S_ISCHR(st.st_mode)
    assert st.st_rdev == os.makedev(1, 3)


def test_mknod_makes_plain_files(tree):
    os.mknod(tree / "f", stat.S_IFREG | 0o640)
    assert stat.S_ISREG(os.stat(tree / "f").st_mode)
    assert errno_of(os.mknod, tree / "f", stat.S_IFREG | 0o640) == "EEXIST"


# ---------------------------------------------------------------- other users


@with_others
def test_files_belong_to_whoever_makes_them(open_tree):
    def make():
        open("f", "wb").close()
        os.mkdir("d")
        os.symlink("f", "l")
        os.mkfifo("p")

    in_child(open_tree, make, uid=ALICE, gid=TEAM)
    for name in "fdlp":
        st = os.lstat(open_tree / name)
        assert (st.st_uid, st.st_gid) == (ALICE, TEAM), name


@with_others
def test_permissions_are_the_callers(open_tree):
    f = open_tree / "f"
    f.write_bytes(b"secret")
    os.chown(f, ALICE, TEAM)
    os.chmod(f, 0o640)

    def read():
        with open("f", "rb") as opened:
            return opened.read()

    def write():
        os.close(os.open("f", os.O_WRONLY))

    assert in_child(open_tree, read, uid=ALICE) == b"secret"
    assert in_child(open_tree, write, uid=ALICE) is None
    assert in_child(open_tree, read, uid=BOB) == "EACCES"
    assert in_child(open_tree, read, uid=BOB, groups=[TEAM]) == b"secret"
    assert in_child(open_tree, write, uid=BOB, groups=[TEAM]) == "EACCES"
    assert in_child(open_tree, lambda: os.access("f", os.R_OK), uid=BOB) is False
    assert in_child(open_tree, lambda: os.chmod("f", 0o666), uid=BOB) == "EPERM"
    assert in_child(open_tree, lambda: os.chown("f", BOB, BOB), uid=ALICE) == "EPERM"


@with_others
def test_supplementary_groups_count_for_making_files(open_tree):
    d = open_tree / "d"
    d.mkdir()
    os.chown(d, 0, TEAM)
    os.chmod(d, 0o770)

    def make():
        open("d/f", "wb").close()

    assert in_child(open_tree, make, uid=BOB) == "EACCES"
    assert in_child(open_tree, make, uid=BOB, groups=[TEAM]) is None
    assert (d / "f").stat().st_uid == BOB


@with_others
def test_sticky_folder_protects_others_files(open_tree):
    f = open_tree / "f"
    f.write_bytes(b"")
    os.chown(f, ALICE, ALICE)
    assert in_child(open_tree, lambda: os.unlink("f"), uid=BOB) == "EPERM"
    assert in_child(open_tree, lambda: os.rename("f", "g"), uid=BOB) == "EPERM"
    assert in_child(open_tree, lambda: os.unlink("f"), uid=ALICE) is None


@with_others
def test_a_write_by_another_user_takes_setuid_away(open_tree):
    f = open_tree / "f"
    f.write_bytes(b"program")
    os.chmod(f, 0o4777)

    def write():
        fd = os.open("f", os.O_WRONLY)
        os.write(fd, b"P")
        os.close(fd)

    assert in_child(open_tree, write, uid=BOB) is None
    assert mode_of(f) == 0o777


@with_others
def test_a_file_made_read_only_can_still_be_filled(open_tree):
    """install -m 0444, git's objects: the mode binds later opens, not this one."""

    def make():
        fd = os.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        os.write(fd, b"filled")
        os.ftruncate(fd, 3)
        os.close(fd)
        return errno_of(os.open, "f", os.O_WRONLY)

    assert in_child(open_tree, make, uid=ALICE) == "EACCES"
    assert (open_tree / "f").read_bytes() == b"fil"


def changes_by_bob():
    """Each way to change what a file holds, for who may write it but is not root."""

    def opened(flags, change):
        def run():
            fd = os.open("f", flags)
            try:
                change(fd)
            finally:
                os.close(fd)

        return run

    def copy(fd):
        with open("source", "rb") as source:
            os.copy_file_range(source.fileno(), fd, 4, 0, 0)

    return {
        "write": opened(os.O_RDWR, lambda fd: os.pwrite(fd, b"P", 0)),
        "append": opened(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"P")),
        "ftruncate": opened(os.O_RDWR, lambda fd: os.ftruncate(fd, 2)),
        "truncate": lambda: os.truncate("f", 2),
        "O_TRUNC": opened(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
        "fallocate": opened(os.O_WRONLY, lambda fd: os.posix_fallocate(fd, 0, 8192)),
        "copy": opened(os.O_WRONLY, copy),
    }


@with_others
@pytest.mark.parametrize("folder", [".", ".git"], ids=["guarded", "passed"])
@pytest.mark.parametrize("change", changes_by_bob())
def test_a_change_by_another_user_takes_setuid_away_at_once(open_tree, change, folder):
    home = open_tree / folder
    home.mkdir(exist_ok=True)
    os.chmod(home, 0o1777)
    f = home / "f"
    f.write_bytes(b"program")
    (home / "source").write_bytes(b"copied")
    for group, before, after in (
        (BOB, 0o6777, 0o777),
        (BOB, 0o6767, 0o2767),
        (TEAM, 0o6767, 0o767),
    ):
        os.chown(f, BOB, group)
        os.chmod(f, before)
        assert in_child(home, changes_by_bob()[change], uid=BOB) is None
        # stat(1) of the mode alone may be answered from what the kernel remembers
        seen = subprocess.run(["stat", "-c", "%a", f], capture_output=True, check=True)
        assert int(seen.stdout, 8) == after, seen


# ---------------------------------------------------------------- ACLs


def acl(*words):
    subprocess.run(["setfacl", *map(str, words)], check=True)


@pytest.fixture
def acl_tree(open_tree, tmp_path):
    probe = tmp_path / "probe"
    probe.write_bytes(b"")
    if subprocess.run(["setfacl", "-m", "u:12001:r", probe], capture_output=True).returncode:
        pytest.skip("the backing has no ACLs")
    return open_tree


@with_others
def test_an_acl_decides_who_reads_and_writes(acl_tree):
    f = acl_tree / "f"
    f.write_bytes(b"text")
    os.chmod(f, 0o600)
    acl("-m", f"u:{BOB}:r", "-m", f"g:{TEAM}:rw", f)

    def read():
        os.close(os.open("f", os.O_RDONLY))

    def write():
        os.close(os.open("f", os.O_WRONLY))

    assert in_child(acl_tree, read, uid=BOB) is None
    assert in_child(acl_tree, write, uid=BOB) == "EACCES"
    assert in_child(acl_tree, read, uid=ALICE) == "EACCES"
    assert in_child(acl_tree, write, uid=ALICE, groups=[TEAM]) is None
    acl("-m", f"u:{BOB}:-", f)
    assert in_child(acl_tree, read, uid=BOB) == "EACCES"


@with_others
def test_a_default_acl_replaces_the_umask(acl_tree):
    d = acl_tree / "d"
    d.mkdir()
    acl("-d", "-m", "u::rwx,g::rwx,o::rx", d)

    def make():
        os.umask(0o077)
        os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("d/d", 0o777)
        os.mkfifo("d/p", 0o666)
        os.close(os.open("plain", os.O_CREAT | os.O_WRONLY, 0o666))

    assert in_child(acl_tree, make) is None
    assert [mode_of(d / name) for name in "fdp"] == [0o664, 0o775, 0o664]
    assert mode_of(acl_tree / "plain") == 0o600


@with_others
def test_an_acl_shows_in_the_mode_at_once(acl_tree):
    f = acl_tree / "f"
    f.write_bytes(b"")
    os.chmod(f, 0o640)
    acl("-m", "g::rw", f)
    assert mode_of(f) == 0o660


@needs_root
def test_symbolic_links_carry_trusted_attributes(tree, tmp_path):
    link = tree / "l"
    link.symlink_to("nowhere")
    os.setxattr(link, "trusted.a", b"1", follow_symlinks=False)
    assert os.getxattr(link, "trusted.a", follow_symlinks=False) == b"1"
    assert os.listxattr(link, follow_symlinks=False) == ["trusted.a"]
    os.removexattr(link, "trusted.a", follow_symlinks=False)
    assert errno_of(os.getxattr, link, "trusted.a", follow_symlinks=False) == "ENODATA"
    assert errno_of(os.setxattr, link, "user.a", b"1", follow_symlinks=False) == "EPERM"


@pytest.mark.mount_options("noatime")
@needs_root
def test_noatime_keeps_the_backings_access_times_too(workspace):
    f, d = workspace / "f", workspace / "d"
    f.write_bytes(b"x" * (2 << 20))  # large enough for the kernel to read it by itself
    d.mkdir()
    for path in (f, d):
        os.utime(path, ns=(10**18, os.stat(path).st_mtime_ns))
    assert len(f.read_bytes()) == 2 << 20
    assert os.listdir(d) == []
    assert os.stat(f).st_atime_ns == os.stat(d).st_atime_ns == 10**18


def test_recording_a_version_is_no_access(workspace):
    """The mount reads what was written, and nobody is to notice: is there new mail?"""
    f = workspace / "f"
    f.write_bytes(b"mail\n")
    written = f.stat()
    with open(f, "ab") as box:
        box.write(b"more\n")
    os.rename(f, workspace / "g")
    assert (workspace / "g").stat().st_atime_ns == written.st_atime_ns
    assert (workspace / "g").read_bytes() == b"mail\nmore\n"
    assert (workspace / "g").stat().st_atime_ns > written.st_atime_ns
