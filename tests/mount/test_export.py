"""History as git commits and as patches: stomp export (what .stomp/at/ shows, exactly)."""

import os
import random
import stat
import subprocess
import time

import pytest

from stomplib.chaos import Chaos, lay

pytestmark = pytest.mark.mount_options("settle=1ms", "wait=200ms")
SEEDS = int(os.environ.get("STOMP_SEEDS", 4))


class Repository:
    """A git repository that no configuration of this machine has a say in."""

    def __init__(self, path):
        self.path = path
        self.env = {
            **os.environ,
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(path.parent),
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
        }
        subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True, env=self.env)

    def git(self, *argv, check=True, **kwargs):
        done = subprocess.run(
            ["git", "-C", str(self.path), *argv], env=self.env, capture_output=True, **kwargs
        )
        if check:
            assert done.returncode == 0, (argv, done.stderr.decode())
        return done.stdout

    def files(self, commit):
        """What a commit holds: mode and content by path."""
        found = {}
        for row in self.git("ls-tree", "-r", "-z", commit).split(b"\0")[:-1]:
            what, name = row.split(b"\t", 1)
            mode, _, blob = what.split()
            found[os.fsdecode(name)] = (mode.decode(), self.git("cat-file", "blob", blob.decode()))
        return found

    def checkout(self, commit):
        self.git("checkout", "-q", "--detach", commit)
        return tell_as_git(self.path)

    def authors(self, rev):
        return self.git("log", "--reverse", "--format=%an", rev).decode().split()

    def paths_ever(self, rev):
        """Every path that any commit up to rev had."""
        names = self.git("log", "--no-renames", "--format=", "--name-only", "-z", rev)
        return {os.fsdecode(n) for n in names.split(b"\0") if n}


def tell_as_git(root, only=None):
    """The files below a folder as git knows them: mode and content by path."""
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f != ".git"]
        for name in files + [f for f in folders if os.path.islink(os.path.join(folder, f))]:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if stat.S_ISLNK(st.st_mode):
                what = ("120000", os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = ("100755" if st.st_mode & 0o100 else "100644", f.read())
            else:
                continue
            found[os.path.relpath(path, root)] = what
    if only is not None:
        found = {k: v for k, v in found.items() if k in only}
    return found


def export(workspace, *argv, check=True, **kwargs):
    return workspace.run(workspace.stomp, "export", *argv, check=check, **kwargs)


def know(writer, *paths):
    """Read, and let that count (S1)."""
    for path in paths:
        writer.readfile(path)
    time.sleep(0.005)


def seq_of(workspace):
    """The last seq, with everything closed before it recorded."""
    return workspace.ctl("moment")["last"]


def at(workspace, seq):
    return workspace / f".stomp/at/seq:{seq}"


def last_seq(done):
    """The moment that the export says its last commit is."""
    return int(done.stderr.split(b".stomp/at/seq:")[-1].split()[0])


def import_stream(repository, stream):
    repository.git("fast-import", "--quiet", "--done", "--date-format=raw", input=stream)
    return "stomp"


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repo")


@pytest.fixture
def alice(workspace, writer):
    return writer("alice")


@pytest.fixture
def bob(workspace, writer):
    return writer("bob")


def tricky(workspace, writers):
    """Renames, deletions, modes, links, names with blanks, newlines and odd bytes."""
    alice, bob = writers
    alice.mkdir("src")
    alice.writefile("src/a b.txt", b"1\n2\n3\n")
    bob.writefile("src/new\nline", b"no end of line")
    alice.writefile("src/odd\udcff\"\\\t", b"x\n")
    alice.writefile("bin", bytes(range(256)) * 20)
    bob.writefile("dos", b"one\r\ntwo\r\n")
    bob.symlink("src/a b.txt", "li nk")
    bob.chmod("bin", 0o755)
    alice.writefile("empty", b"")
    bob.append("src/a b.txt", b"4 by bob\n")
    alice.rename("src", "lib")
    alice.append("lib/a b.txt", b"5\n")
    know(bob, "lib/odd\udcff\"\\\t")
    bob.rename("lib/new\nline", "lib/From me")
    bob.unlink("lib/odd\udcff\"\\\t")
    alice.append("dos", b"three\r\n")
    alice.writefile("folder", b"a file first\n")
    alice.unlink("folder")
    alice.mkdir("folder")
    alice.writefile("folder/in", b"From here on\n---\ndiff --git a/x b/x\n-- \n")
    bob.writefile("utf-\u00fc", "\u00fcml\u00e4ut\n".encode())


# ---------------------------------------------------------------- into git


def test_all_of_it_is_what_at_shows(workspace, alice, bob, repository):
    (workspace.backing("before")).write_bytes(b"from before the mount\n")
    tricky(workspace, (alice, bob))
    seq = seq_of(workspace)
    done = export(workspace, ".", "--git", repository.path)
    assert last_seq(done) == seq
    assert repository.checkout("stomp") == tell_as_git(at(workspace, seq))
    assert repository.authors("stomp")[0] == "stompfs"  # what was there before
    assert set(repository.authors("stomp")[1:]) == {"alice", "bob"}


def test_the_stream_gives_the_same_commits_each_time(workspace, alice, bob, tmp_path):
    tricky(workspace, (alice, bob))
    seq_of(workspace)
    ids = []
    for name in ("one", "two"):
        made = Repository(tmp_path / name)
        import_stream(made, export(workspace, ".").stdout)
        ids.append(made.git("rev-parse", "stomp"))
    made = Repository(tmp_path / "three")
    export(workspace, ".", "--git", made.path)
    assert ids[0] == ids[1] == made.git("rev-parse", "stomp")


def test_every_version_is_a_commit_with_author_date_command(workspace, alice, bob, repository):
    alice.writefile("f", b"1\n")
    alice.writefile("f", b"1\n2\n")
    bob.append("f", b"3\n")
    bob.sh("echo 4 >>f")
    seq_of(workspace)
    export(workspace, "f", "--git", repository.path)
    assert repository.authors("stomp") == ["alice", "alice", "bob", "bob"]
    for n, version in enumerate(workspace.log("f")):
        commit = f"stomp~{3 - n}"
        assert repository.files(commit) == {"f": ("100644", workspace.version("f", n + 1))}
        said = repository.git("log", "-1", "--format=%ae%n%aI%n%B", commit).decode()
        email, date, message = said.split("\n", 2)
        assert email == f"{version['writer']}@stompfs.invalid"
        assert date[:19] == version["time"][:19]
        assert f"Stomp-Set: {version['set']}\n" in message
        assert f"Stomp-Seq: {version['seq']}\n" in message
    assert "echo 4 >>f" in message


def test_a_set_alone_and_what_others_did_in_between(workspace, alice, bob, repository):
    bob.writefile("f", b"bob 1\n")
    bob.writefile("other", b"not of it\n")
    alice.append("f", b"alice 1\n")
    seq_of(workspace)
    bob.append("f", b"bob 2\n")
    bob.append("other", b"nor this\n")
    seq_of(workspace)
    alice.append("f", b"alice 2\n")
    seq_of(workspace)
    bob.append("f", b"after it\n")
    seq_of(workspace)
    sets = {s["writer"]: s["id"] for s in workspace.json("sets/log")["sets"]}
    done = export(workspace, str(sets["alice"]), "--git", repository.path)
    assert repository.authors("stomp") == ["stompfs", "alice", "bob", "alice"]
    assert b"1 of them others'" in done.stderr
    assert repository.files("stomp~3") == {"f": ("100644", b"bob 1\n")}
    assert repository.checkout("stomp") == tell_as_git(at(workspace, last_seq(done)), {"f"})
    show = repository.git("show", "--format=", "stomp")
    assert b"+alice 2\n" in show and b"+bob" not in show  # each commit is its author's


def test_a_writers_work_since_and_paths(workspace, alice, bob, repository):
    alice.mkdir("d")
    alice.writefile("d/early", b"1\n")
    seq_of(workspace)
    epoch = workspace.log("d/early")[-1]["epoch"]
    alice.writefile("d/late", b"1\n")
    alice.writefile("late", b"1\n")
    bob.writefile("d/bob", b"1\n")
    seq_of(workspace)
    export(workspace, "alice", "d", "--since", str(epoch), "--git", repository.path)
    assert set(repository.files("stomp")) == {"d/late"}
    export(workspace, "alice", "--since", "1h", "--git", repository.path, "--branch", "two")
    assert set(repository.files("two")) == {"d/early", "d/late", "late"}
    none = export(workspace, "alice", "--since", "now", check=False)
    assert none.returncode == 1 and b"nothing of alice" in none.stderr


def test_files_are_followed_through_renames(workspace, alice, bob, repository):
    alice.writefile("first", b"1\n")
    bob.append("first", b"2\n")
    know(alice, "first")
    alice.rename("first", "second")
    know(bob, "second")
    bob.rename("second", "third")
    alice.mkdir("away")
    seq_of(workspace)
    export(workspace, "third", "--git", repository.path)
    assert repository.authors("stomp") == ["alice", "bob", "alice", "bob"]
    assert repository.files("stomp~2") == {"first": ("100644", b"1\n2\n")}
    assert repository.files("stomp~1") == {"second": ("100644", b"1\n2\n")}
    assert repository.files("stomp") == {"third": ("100644", b"1\n2\n")}
    alice.append("third", b"3\n")
    seq_of(workspace)
    done = export(workspace, "alice", "--git", repository.path, "--branch", "hers")
    paths = repository.paths_ever("hers")
    assert repository.files("hers") == tell_as_git(at(workspace, last_seq(done)), paths)
    assert repository.files("hers")["third"] == ("100644", b"1\n2\n3\n")


def test_a_renamed_folder_takes_along_what_nobody_touched(workspace, alice, repository):
    os.makedirs(workspace.backing("src/deep"))
    for name in ("src/one", "src/deep/two"):
        workspace.backing(name).write_bytes(name.encode())
    alice.rename("src", "lib")
    alice.append("lib/one", b"more")
    done = export(workspace, "alice", "--git", repository.path)
    assert set(repository.files("stomp~2")) == {"src/one", "src/deep/two"}
    assert repository.files("stomp") == tell_as_git(at(workspace, last_seq(done)))
    assert b"rename src to lib" in repository.git("log", "--format=%s", "stomp")


def test_on_the_tip_of_a_branch(workspace, alice, repository):
    """The state before goes in only where the branch differs from it."""
    workspace.backing("same").write_bytes(b"1\n")
    workspace.backing("unlike").write_bytes(b"not committed\n")
    for name, content in (("same", "1\n"), ("unlike", "committed\n"), ("aside", "kept\n")):
        (repository.path / name).write_text(content)
    repository.git("add", ".")
    repository.git("commit", "-q", "-m", "theirs")
    alice.append("same", b"2\n")
    export(workspace, "alice", "--git", repository.path)
    assert repository.authors("stomp") == ["t", "alice"]
    assert repository.files("stomp")["aside"] == ("100644", b"kept\n")
    alice.append("unlike", b"2\n")
    export(workspace, "unlike", "--git", repository.path)
    assert repository.authors("stomp") == ["t", "alice", "stompfs", "alice"]
    assert repository.files("stomp~1")["unlike"] == ("100644", b"not committed\n")
    main = export(workspace, "alice", "--git", repository.path, "--branch", "main", check=False)
    assert main.returncode == 1 and b"main is checked out" in main.stderr


# ---------------------------------------------------------------- as patches


def base_of(repository, tree):
    """A commit of what a folder holds."""
    subprocess.run(["cp", "-a", f"{tree}/.", repository.path], check=True)
    repository.git("add", "-A", "-f", ".")
    repository.git("commit", "-q", "--allow-empty", "-m", "base")


def apply_series(repository, folder):
    series = sorted(str(p) for p in folder.iterdir())
    assert [os.path.basename(p)[:4] for p in series] == [f"{i:04}" for i in range(1, len(series) + 1)]
    repository.git("am", "-q", *series)
    return series


def test_a_series_on_the_base_is_the_same_tree(workspace, alice, bob, repository, tmp_path):
    alice.writefile("earlier", b"1\n2\n3\n")
    since = seq_of(workspace)
    alice.append("earlier", b"4\n")
    tricky(workspace, (alice, bob))
    seq = seq_of(workspace)
    done = export(workspace, ".", "--since", f"seq:{since}", "--patches", tmp_path / "p")
    assert b"binary" in done.stderr
    base_of(repository, at(workspace, since))
    apply_series(repository, tmp_path / "p")
    assert repository.files("HEAD") == tell_as_git(at(workspace, seq))
    assert repository.authors("HEAD")[1:] == Repository.authors(
        imported(workspace, tmp_path, since), "stomp"
    )[1:]
    assert "alice@stompfs.invalid" in repository.git("log", "--format=%ae").decode()


def imported(workspace, tmp_path, since):
    other = Repository(tmp_path / "other")
    export(workspace, ".", "--since", f"seq:{since}", "--git", other.path)
    return other


def test_git_apply_and_patch_take_text(workspace, alice, bob, repository, tmp_path):
    alice.writefile("f", b"".join(b"%d\n" % i for i in range(30)))
    alice.writefile("gone", b"1\n")
    since = seq_of(workspace)
    alice.writefile("f", b"".join(b"%d\n" % i for i in range(31) if i != 12))
    know(bob, "f", "gone")
    bob.rename("f", "g")
    bob.append("g", b"x")
    bob.chmod("g", 0o755)
    bob.unlink("gone")
    bob.writefile("new file", b"2\n")
    seq = seq_of(workspace)
    export(workspace, ".", "--since", f"seq:{since}", "--patches", tmp_path / "p")
    series = sorted((tmp_path / "p").iterdir())
    for name, argv in (("patch", ["patch", "-s", "-p1", "-i"]), ("apply", ["git", "apply"])):
        tree = tmp_path / name
        subprocess.run(["cp", "-a", at(workspace, since), tree], check=True)
        for one in series:
            subprocess.run([*argv, str(one)], cwd=tree, check=True, timeout=30)
        assert tell_as_git(tree) == tell_as_git(at(workspace, seq)), name


# ---------------------------------------------------------------- against what at/ shows


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_changes_come_out_as_they_were(unmounted, writer, tmp_path, seed):
    lay(unmounted.path, random.Random(seed))
    unmounted.mount()
    chaos = Chaos(unmounted, [writer("alice"), writer("bob")], seed)
    seqs = []
    for _ in range(4):
        for _ in range(25):
            chaos.step()
        seqs.append(seq_of(unmounted))
    made = Repository(tmp_path / "all")
    export(unmounted, ".", "--git", made.path)
    assert made.files("stomp") == tell_as_git(at(unmounted, seqs[-1]))
    export(unmounted, ".", "--at", f"seq:{seqs[1]}", "--git", made.path, "--branch", "half")
    assert made.files("half") == tell_as_git(at(unmounted, seqs[1]))
    for who in ("alice", "bob"):
        done = export(unmounted, who, "--git", made.path, "--branch", who)
        paths = made.paths_ever(who)
        assert made.files(who) == tell_as_git(at(unmounted, last_seq(done)), paths), (seed, who)
    export(unmounted, ".", "--since", f"seq:{seqs[0]}", "--patches", tmp_path / "p")
    made = Repository(tmp_path / "am")
    base_of(made, at(unmounted, seqs[0]))
    apply_series(made, tmp_path / "p")
    assert made.files("HEAD") == tell_as_git(at(unmounted, seqs[-1])), seed


# ---------------------------------------------------------------- what is refused


def test_errors_name_the_remedy(workspace, alice, repository, tmp_path):
    alice.writefile("f", b"1\n")
    seq_of(workspace)

    def failing(code, *argv):
        done = export(workspace, *argv, check=False)
        assert done.returncode == code, done.stderr
        return done.stderr

    assert b"no change set 99" in failing(1, "99")
    assert b"no change at nobody" in failing(1, "nobody")
    assert b"failed to resolve path" in failing(4, "f", "--git", tmp_path / "none")
    assert b"no name for a branch" in failing(2, "f", "--git", repository.path, "--branch", "a..b")
    assert b"--git REPO" in failing(2, "f", "--branch", "b")
    assert b"two exports" in failing(2, "f", "--git", ".", "--patches", "p")
    assert b"not yesterday" in failing(2, "f", "--since", "yesterday")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/0001-old.patch").write_text("")
    assert b"has patches in it already" in failing(1, "f", "--patches", tmp_path / "p")
    assert os.listdir(tmp_path / "p") == ["0001-old.patch"]


def test_nothing_is_written_into_the_tree(workspace, alice, repository, tmp_path):
    alice.writefile("f", b"1\n")
    seq = seq_of(workspace)
    before = sorted(os.listdir(workspace.path))
    export(workspace, "f")
    export(workspace, "f", "--git", repository.path)
    export(workspace, "f", "--patches", tmp_path / "p")
    assert sorted(os.listdir(workspace.path)) == before and seq_of(workspace) == seq


def test_what_the_policy_passes_and_git_itself_are_left_out(workspace, alice, repository):
    alice.mkdir("p")
    alice.sh("cd p && git init -q . && mkdir node_modules && echo 1 > node_modules/m && echo 1 > f")
    alice.rename("p", "q")
    seq_of(workspace)
    done = export(workspace, ".", "--git", repository.path)
    assert set(repository.files("stomp")) == {"q/f"}
    assert b"left out" in done.stderr
