"""stomp fsck: what is damaged costs what it held, not the workspace; nothing is guessed."""

import json
import os
import random
import sqlite3
import subprocess
import time

import pytest

LIMIT_S = 60
PAGE = 4096
BIG = bytes(random.Random(7).randbytes(300_000))  # an object file of its own


def fsck(workspace, *options, code=None):
    done = subprocess.run(
        [workspace.stomp, "fsck", *options, workspace.path],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
    )
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def history(unmounted):
    """Forty files of three versions, one of them large; not mounted any more."""
    unmounted.options = ["settle=0s"]
    unmounted.mount()
    for i in range(40):
        (unmounted / f"f{i:02}").write_text(f"first of {i}\n" + f"line {i}\n" * 40)
    for n in (2, 3):
        for i in range(40):
            path = unmounted / f"f{i:02}"
            path.write_text(path.read_text() + f"version {n}\n")
    (unmounted / "big").write_bytes(BIG)
    (unmounted / "big").write_bytes(BIG[::-1])
    unmounted.ctl("checkpoint")
    assert len(unmounted.log("f00")) == 3
    unmounted.umount()
    return unmounted


def database(workspace):
    return workspace.path / ".stomp" / "journal.db"


def query(workspace, sql):
    with sqlite3.connect(database(workspace)) as db:
        return db.execute(sql).fetchall()


def overwrite(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def root_page(workspace, table):
    return query(workspace, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")[0][0]


def object_of(workspace, reverse):
    """The object file of one of the two large contents."""
    wanted = BIG[::-1] if reverse else BIG
    for path in (workspace.path / ".stomp" / "objects").rglob("*.*"):
        if path.read_bytes() == wanted:
            return path
    raise AssertionError("no such object")


def serves(workspace):
    """It mounts, every file is there as it was, and a change gets its version."""
    workspace.mount()
    for i in range(40):
        assert (workspace / f"f{i:02}").read_text().endswith("version 3\n")
    assert workspace.json("status")["health"] == "ok"
    (workspace / "f00").write_text("after all\n")
    newest = workspace.log("f00")[-1]
    assert newest["size"] == len("after all\n")
    return newest


def readable_versions(workspace):
    found = {}
    for i in range(40):
        name = f"f{i:02}"
        folder = workspace / ".stomp" / "history" / name
        for number in os.listdir(folder) if folder.exists() else ():
            if number.isdigit():
                try:
                    found[name, int(number)] = (folder / number).read_text()
                except OSError:
                    pass
    return found


def test_a_whole_history_is_sound(history):
    said = fsck(history, "--scrub", code=0)
    assert "122 versions" in said and "0 problems" in said
    assert fsck(history, "--repair", "--scrub", code=0).endswith("0 mended, 0 lost\n")
    assert json.loads(fsck(history, "--json", code=0))["sound"] is True
    serves(history)


def test_files_changed_round_the_mount_are_told_and_are_no_damage(history):
    (history.path / "f03").write_text("by somebody else\n")
    (history.path / "f04").unlink()
    said = fsck(history, code=0)
    assert "f03 has another size, unlike its newest version (@3)" in said
    assert "f04 is not there" in said
    assert "2 of 41 files are not as" in said


def test_without_repair_nothing_changes(history):
    overwrite(object_of(history, False), 1000, b"damage")
    overwrite(database(history), (root_page(history, "event") - 1) * PAGE, bytes(PAGE))
    before = snapshot(history.path / ".stomp")
    assert "problem" in fsck(history, "--scrub", code=1)
    assert snapshot(history.path / ".stomp") == before


def snapshot(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.endswith(("-shm", "-wal"))
    }


def test_a_damaged_object_costs_its_content_alone(history):
    path = object_of(history, False)
    os.chmod(path, 0o600)
    overwrite(path, 1000, b"damage")
    # Of a mount: the daemon serves, and never gives out what is not the content.
    history.mount()
    with pytest.raises(OSError):
        history.version("big", 1)
    assert history.version("big", 2) == BIG[::-1]
    said = fsck(history, "--scrub", code=1)
    assert "damaged" in said and "problem" in said
    assert "1 problems" in history.text("fsck")
    history.umount()
    assert "0 problems" in fsck(history, code=0), "it is there; only --scrub reads it"
    said = fsck(history, "--repair", "--scrub", code=1)
    assert "big@1: the content of this version is lost" in said
    assert "1 problem, 0 mended, 1 lost" in said
    assert fsck(history, "--scrub", code=0).endswith("0 problems\n")
    damaged = list((history.path / ".stomp" / "damaged").iterdir())
    assert len(damaged) == 1 and b"damage" in damaged[0].read_bytes()
    serves(history)
    assert [v["number"] for v in history.log("big")] == [1, 2]
    assert "is damaged and could not be had back" in history.text("log")
    assert history.version("big", 2) == BIG[::-1]


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_what_the_tree_still_has_is_stored_again(history, damage):
    path = object_of(history, True)  # the newest version
    os.chmod(path, 0o600)
    if damage == "gone":
        path.unlink()
        assert "missing" in fsck(history, code=1)
    else:
        overwrite(path, 77, b"damage")
    said = fsck(history, "--repair", "--scrub", code=0)
    assert "was stored again from the file that has it" in said
    fsck(history, "--scrub", code=0)
    serves(history)
    assert history.version("big", 2) == BIG[::-1]
    assert history.version("big", 1) == BIG


def test_contents_that_build_on_others_are_checked_and_mended_with_them(unmounted):  # V6
    """Patches, appends and truncations of a large file whose first content is damaged."""
    unmounted.options = ["settle=0s"]
    unmounted.mount()
    path = unmounted / "big"
    path.write_bytes(BIG)
    for i in range(3):
        with open(path, "r+b") as f:
            f.seek(50_000 * (i + 1))
            f.write(bytes([i]) * 4096)
        unmounted.ctl("checkpoint")
    with open(path, "ab") as f:
        f.write(b"appended")
    unmounted.ctl("checkpoint")  # else its release may come after the truncation
    os.truncate(path, 200_000)
    unmounted.ctl("checkpoint")
    wanted = {n: unmounted.version("big", n) for n in range(1, len(unmounted.log("big")) + 1)}
    assert len(wanted) == 6
    unmounted.umount()
    assert "0 problems" in fsck(unmounted, "--scrub", code=0)
    first = object_of(unmounted, False)
    os.chmod(first, 0o600)
    overwrite(first, 10_000, b"damage")
    said = fsck(unmounted, "--repair", "--scrub", code=1)
    assert "lost" in said and "stored again from the file" in said, said
    assert "0 problems" in fsck(unmounted, "--scrub", code=0)
    unmounted.mount()
    assert path.read_bytes() == wanted[6]
    assert unmounted.version("big", 6) == wanted[6]
    for n in range(1, 6):
        try:
            assert unmounted.version("big", n) == wanted[n], "not what it was"
        except OSError:
            continue
    path.write_bytes(b"after all\n")
    assert unmounted.json("status")["health"] == "ok"


def saved_anew(workspace, saves):
    """A file that is written anew each time: the contents build on each other."""
    rng, texts = random.Random(3), []
    lines = [f"line {i}: {rng.random()}\n" for i in range(200)]
    for i in range(saves):
        lines[rng.randrange(len(lines))] = f"changed {i}: {rng.random()}\n"
        texts.append("".join(lines).encode())
        (workspace / "text").write_bytes(texts[-1])
    workspace.ctl("checkpoint")
    assert [v["size"] for v in workspace.log("text")] == [len(t) for t in texts]
    return texts


def test_damage_to_a_version_costs_those_that_build_on_it(unmounted):  # V5
    unmounted.options = ["settle=0s"]
    unmounted.mount()
    texts = saved_anew(unmounted, 50)
    unmounted.umount()
    deltas = query(unmounted, "SELECT count(*) FROM v_contents WHERE codec = 'delta'")[0][0]
    assert deltas >= 40
    assert "0 problems" in fsck(unmounted, "--scrub", code=0)
    (content,) = query(unmounted, "SELECT content_id FROM version WHERE number = 20")[0]
    with sqlite3.connect(database(unmounted)) as db:
        db.execute("UPDATE content SET data = zeroblob(length(data)) WHERE id = ?", [content])
        builds_on_it = [
            n
            for (n,) in db.execute(
                "WITH RECURSIVE up(id) AS (SELECT ?1 UNION SELECT c.id FROM content c JOIN up"
                " ON c.base_id = up.id) SELECT number FROM version WHERE content_id IN up",
                [content],
            )
        ]
    assert 20 in builds_on_it and 19 not in builds_on_it and len(builds_on_it) < 33
    said = fsck(unmounted, "--scrub", code=1)
    assert all(f"text@{n}) is damaged" in said for n in builds_on_it), said
    assert f"{len(builds_on_it)} problems" in said
    said = fsck(unmounted, "--repair", "--scrub", code=1)
    assert all(f"text@{n}: the content of this version is lost" in said for n in builds_on_it)
    assert "0 problems" in fsck(unmounted, "--scrub", code=0)
    unmounted.mount()
    for n, text in enumerate(texts, 1):
        if n not in builds_on_it:
            assert unmounted.version("text", n) == text
        else:
            with pytest.raises(OSError):
                unmounted.version("text", n)
    (unmounted / "text").write_bytes(b"after all\n")
    assert unmounted.json("status")["health"] == "ok"


def test_a_whole_content_that_others_build_on_is_missing(unmounted):
    """Without --scrub too, what builds on it is told; what the tree has is had back."""
    unmounted.options = ["settle=0s"]
    unmounted.mount()
    (unmounted / "big").write_bytes(BIG)
    with open(unmounted / "big", "r+b") as f:
        f.write(b"another beginning")
    unmounted.ctl("checkpoint")
    newest = unmounted.version("big", 2)
    unmounted.umount()
    object_of(unmounted, False).unlink()
    said = fsck(unmounted, code=1)
    assert "big@1) is missing" in said and "big@2) is damaged" in said
    said = fsck(unmounted, "--repair", code=1)
    assert "big@1: the content of this version is lost" in said
    assert "was stored again from the file that has it" in said
    unmounted.mount()
    assert unmounted.version("big", 2) == newest


def test_a_damaged_content_row_costs_what_builds_on_it_alone(history):
    row = query(history, "SELECT id, data FROM content WHERE data IS NOT NULL ORDER BY id")[5]
    data = bytes(row[1])
    raw = database(history).read_bytes()
    at = raw.index(data)
    overwrite(database(history), at + len(data) // 2, b"\xff\x00\xff\x00")
    assert "problem" in fsck(history, "--scrub", code=1)
    said = fsck(history, "--repair", "--scrub", code=1)
    # f05@1; f05@2 builds on it, and so does f05@3, which the tree has
    assert "3 problems, 1 mended, 2 lost" in said
    serves(history)
    assert len(readable_versions(history)) == 40 * 3 + 1 - 2  # f00 has a fourth


def leaf_pages(workspace, table):
    """Pages of a table that hold rows."""
    try:
        rows = query(
            workspace,
            f"SELECT pageno FROM dbstat WHERE name = '{table}' AND pagetype = 'leaf'",
        )
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no dbstat")
    return [row[0] for row in rows]


@pytest.mark.parametrize("table", ["version", "content", "path", "author", "writer", "event",
                                   "sqlite_autoindex_version_1", "version_seq"])
@pytest.mark.parametrize("way", ["zero", "noise"])
def test_a_damaged_page_costs_what_it_held(history, table, way):
    pages = leaf_pages(history, table)
    page = pages[len(pages) // 2]
    junk = bytes(PAGE) if way == "zero" else random.Random(page).randbytes(PAGE)
    overwrite(database(history), (page - 1) * PAGE, junk)
    assert "journal.db" in fsck(history, code=1)
    said = fsck(history, "--repair", "--scrub")
    assert "set aside as .stomp/journal.db.damaged-1" in said, said
    assert (history.path / ".stomp" / "journal.db.damaged-1").exists()
    again = fsck(history, "--scrub", code=0)
    assert "0 problems" in again
    newest = serves(history)
    left = readable_versions(history)
    least = {"version": 30, "content": 30}.get(table, 120)
    assert len(left) >= least, (table, len(left), said)
    for (name, number), text in left.items():
        if (name, number) != ("f00", newest["number"]):
            assert text.startswith(f"first of {int(name[1:])}\n"), "another file's content"
            assert text.count("version") == min(number, 3) - 1


def test_epochs_go_on_after_the_counters_are_lost(history):  # L8
    highest = query(history, "SELECT max(epoch) FROM version")[0][0]
    numbers = query(history, "SELECT max(number) FROM version")[0][0]
    pages = leaf_pages(history, "counter")
    overwrite(database(history), (pages[0] - 1) * PAGE, bytes(PAGE))
    fsck(history, "--repair", code=0)
    newest = serves(history)
    assert newest["epoch"] > highest
    assert newest["number"] == numbers + 1


def test_the_list_of_tables_is_lost_and_taken_from_a_fresh_journal(history):
    overwrite(database(history), 0, bytes(PAGE))
    log = run_daemon(history)
    assert "`stomp fsck --repair` sets it aside" in log
    said = fsck(history, "--repair", "--scrub")
    assert "rows of it are in a fresh journal.db" in said, said
    assert "nothing of it can be read" not in said
    serves(history)
    assert len(readable_versions(history)) >= 120


def run_daemon(workspace):
    done = subprocess.run(
        [workspace.stompfs, workspace.path], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 4, done.stderr
    return done.stderr


def test_a_database_that_is_none_at_all_begins_anew_and_the_files_are_safe(history):
    size = database(history).stat().st_size
    database(history).write_bytes(random.Random(3).randbytes(size))
    run_daemon(history)
    said = fsck(history, "--repair", code=1)
    assert "the history begins anew" in said
    workspace = history
    workspace.mount()
    for i in range(40):
        assert (workspace / f"f{i:02}").read_text().endswith("version 3\n")
    (workspace / "f00").write_text("anew\n")
    assert workspace.version("f00", 1).endswith(b"version 3\n")


def test_damaged_intents_are_set_aside(history):
    overwrite(history.path / ".stomp" / "intents", 0, b"nonsense")
    assert "fsck --repair" in run_daemon(history)
    assert "unfinished changes" in fsck(history, code=1)
    assert "intents.damaged" in fsck(history, "--repair", code=0)
    serves(history)


def test_an_object_that_no_version_has_is_told_and_moved_aside(history):
    objects = history.path / ".stomp" / "objects"
    mine = {p for p in objects.rglob("*.*")}
    orphan = objects / "ab" / ("0123456789abcdef" * 2)[:30]
    orphan = orphan.with_name(orphan.name + ".0")
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"of nobody")
    foreign = orphan.with_name("not-ours.0")
    foreign.write_bytes(b"whose?")
    said = fsck(history, code=0)
    assert f"no version has the content in objects/ab/{orphan.name}" in said
    assert "1 object file without a version" in said and "0 problems" in said
    assert orphan.exists()
    assert "moved to .stomp/orphans" in fsck(history, "--repair", code=0)
    aside = list((history.path / ".stomp" / "orphans").iterdir())
    assert [p.read_bytes() for p in aside] == [b"of nobody"] and not orphan.exists()
    assert foreign.exists() and all(p.exists() for p in mine)
    assert "without a version" not in fsck(history, "--scrub", code=0)
    serves(history)
    assert history.version("big", 1) == BIG


@pytest.mark.parametrize("damage", ["magic", "short"])
def test_a_damaged_queue_is_set_aside(history, damage):
    queue = history.path / ".stomp" / "queue"
    if damage == "magic":
        overwrite(queue, 0, b"nonsense")
    else:
        os.truncate(queue, 10_000)
    assert "(.stomp/queue) is damaged" in fsck(history, code=1)
    assert "queue.damaged" in fsck(history, "--repair", code=0)
    assert queue.with_name("queue.damaged").exists() and not queue.exists()
    serves(history)
    assert history.backing(".stomp/queue").stat().st_size > 8 << 20, "a fresh one is used"


def test_a_queue_of_another_stompfs_is_left_alone(history):
    queue = history.path / ".stomp" / "queue"
    overwrite(queue, 8, (99).to_bytes(4, "little"))
    before = queue.read_bytes()
    assert "another stompfs wrote .stomp/queue" in fsck(history, "--repair", code=0)
    assert queue.read_bytes() == before


def killed_with_versions_in_the_queue(history):
    """No row can be written meanwhile: somebody else holds the database's write lock."""
    db = sqlite3.connect(database(history), isolation_level=None)
    assert db.execute("SELECT count(*) FROM version").fetchone() == (122,)
    history.mount()  # and now its name is another file's, but it is open
    (history / "known").write_text("the writer has a row\n")
    history.ctl("checkpoint")
    db.execute("BEGIN IMMEDIATE")
    for number in (4, 5, 6):
        for i in range(5):
            (history / f"f{i:02}").write_text(f"of {i}, version {number}\n")
    deadline = time.monotonic() + LIMIT_S  # the last release may be heard of after close
    while "\nstompfs_journal_queued 15\n" not in history.text("metrics"):
        assert time.monotonic() < deadline, history.text("metrics")
    history.kill_daemon()
    db.execute("ROLLBACK")
    db.close()


def test_a_damaged_record_of_the_queue_costs_its_version_alone(history):  # V4
    """Versions wait in .stomp/queue, and a letter of one of them changes."""
    killed_with_versions_in_the_queue(history)
    assert "15 versions wait in .stomp/queue" in fsck(history, code=0)
    queue = history.path / ".stomp" / "queue"
    overwrite(queue, queue.read_bytes().index(b"of 3, version 5\n"), b"O")
    assert "is damaged, which keeps back those behind it" in fsck(history, code=1)
    assert "1 lost" in fsck(history, "--repair", code=1)
    assert "damaged" not in fsck(history, code=0)
    history.mount()
    history.ctl("checkpoint")
    for i in range(5):
        name = f"f{i:02}"
        kept = [history.version(name, v["number"]) for v in history.log(name)[3:]]
        left = [n for n in (4, 5, 6) if (i, n) != (3, 5)]
        assert kept == [f"of {i}, version {n}\n".encode() for n in left]
        assert (history / name).read_text() == f"of {i}, version 6\n"


def test_a_mount_is_checked_while_it_is_used_and_not_mended(history):
    history.mount()
    assert "was not checked" in history.text("fsck")
    said = fsck(history, "--scrub", "--rate", "0", code=0)
    assert "0 problems" in said and "(0 read" not in said
    assert json.loads(fsck(history, "--json", code=0))["sound"] is True
    assert "is mounted" in fsck(history, "--repair", code=1)
    status = history.json("fsck")
    assert status["running"] is False and status["contents_read"] == 0


def test_a_slow_scrub_stops_nobody_and_ends_with_the_mount(history):
    history.mount()
    history.ctl("fsck scrub rate=1")
    with pytest.raises(OSError):  # one at a time
        while history.json("fsck")["running"]:
            history.ctl("fsck")
    assert (history / "f01").read_text()
    (history / "f01").write_text("meanwhile\n")
    assert history.log("f01")[-1]["size"] == len("meanwhile\n")
    history.ctl("ping")


def test_a_journal_that_gets_damaged_while_mounted_refuses_and_says_what_to_run(history):  # V7
    for page in leaf_pages(history, "version"):
        overwrite(history.path / ".stomp" / "journal.db", (page - 1) * PAGE, bytes(PAGE))
    history.mount()
    for i in range(40):
        assert (history / f"f{i:02}").read_text().endswith("version 3\n")
    with pytest.raises(OSError):
        (history / "f05").write_text("no version, no change\n")
    assert (history / "f05").read_text().endswith("version 3\n")
    history.umount()
    fsck(history, "--repair")
    serves(history)
