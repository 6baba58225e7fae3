"""stomp report: one page with all that happened, complete, alone, and drawn in a browser."""

import json
import random
import re
import subprocess
import time

import pytest

from stomplib.browser import MISSING, Browser
from stomplib.workspace import find_build
from stomplib.writer import clean_environment

STOMP = find_build() / "cli" / "stomp"
KINDS = VERSION, MERGE, UNDO, REFUSAL, CONFLICT, EVENT = range(6)
in_browser = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def stomp(cwd, *args, code=0):
    done = subprocess.run(
        [STOMP, *args], cwd=cwd, env=clean_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, timeout=60, check=False,
    )
    assert done.returncode == code, (args, done)
    return done


def data_of(page):
    """The data of a page as rows, one for each event, oldest first."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1]
    data = json.loads(text)
    columns = {}
    for name in ("time kind writer path number what command text set size from_path "
                 "from_number refusals resolved seq").split():
        total, columns[name] = 0, []
        for more in data[name]:
            total += more
            columns[name].append(total)
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    for row in rows:
        for name in ("writer", "path", "what", "command", "text", "from_path"):
            row[name + "_id"], row[name] = row[name], data["names"][row[name]]
    data["rows"] = rows
    return data


BASE = b"".join(b"line %d\n" % i for i in range(1, 11))


@pytest.fixture
def night(unmounted, writer):
    """Three writers: versions, odd names, a merge, a conflict, a deletion, an undo."""
    (unmounted / ".stomp-policy").write_text("merged.txt strategy=merge\n")
    (unmounted / "merged.txt").write_bytes(BASE)
    unmounted.mount()
    alice, bob, carol = writer("alice"), writer("bob"), writer("carol")
    alice.writefile("f", BASE)
    alice.writefile("tag.html", b"<p>one</p>\n")
    alice.writefile("tag.html", b"<p>two</p></script><!-- <script>\x01\xff\n")
    for name in ("f", "merged.txt"):
        assert bob.readfile(name) == BASE
    unmounted.settle(3)
    alice.writefile("f", BASE.replace(b"line 1\n", b"alice\n"))
    assert bob.errno("save_by_rename", "f", BASE.replace(b"line 10\n", b"bob\n")) == "ESTALE"
    alice.writefile("merged.txt", BASE.replace(b"line 3\n", b"alice\n"))
    bob.save_by_rename("merged.txt", BASE.replace(b"line 8\n", b"bob\n"))
    carol.writefile(b"odd\xff\nname", b"1\n")
    carol.writefile("gone", b"1\n")
    carol.unlink("gone")
    carol.writefile("gone", b"again\n")
    carol.writefile("wrong", b"1\n")
    stomp(unmounted.path, "undo", "carol")
    return unmounted


def test_a_page_that_stands_alone_has_every_row_of_the_tables(night, tmp_path):
    out = tmp_path / "night.html"
    said = stomp(night.path, "report", "--since", "1h", "-o", str(out)).stdout.decode()
    page = out.read_text()
    data = data_of(page)
    rows = data["rows"]
    assert said.startswith(f"{out}: {len(rows)} events")
    assert not re.search(r"https?://|\bsrc=|@import|url\(", page)
    assert page.count("<script") == 2 and page.count("</script") == 2

    told = {v["seq"]: v for v in night.json("log")["versions"] if v["kind"] != "initial"}
    mine = {r["seq"]: r for r in rows if r["seq"]}
    assert mine.keys() == told.keys() and len(told) < 200
    for seq, v in told.items():
        r = mine[seq]
        assert (r["path"], r["number"], r["writer"], r["set"], r["command"]) == (
            v["path"], v["number"], v["writer"] or "", v["set"], v["command"] or "")
        assert r["kind"] == MERGE if "merged" in v["flags"] else r["kind"] in (VERSION, UNDO)
    refused = {r["number"] for r in rows if r["kind"] in (REFUSAL, CONFLICT)}
    assert refused == {r["id"] for r in night.json("refusals")["refusals"]}
    kept = {r["number"] for r in rows if r["kind"] == CONFLICT}
    assert kept == {c["id"] for c in night.json("conflicts")["conflicts"]} and kept
    undos = {s["id"] for s in night.json("sets/log")["sets"] if s["undo"]}
    assert undos and {r["set"] for r in rows if r["kind"] == UNDO} == undos
    assert {r["kind"] for r in rows} >= {VERSION, MERGE, UNDO, CONFLICT}
    assert [r["time"] for r in rows] == sorted(r["time"] for r in rows)
    assert "odd\\xff\nname" in {r["path"] for r in rows}


def test_the_diff_of_each_version_is_in_the_page(night):
    data = data_of(stomp(night.path, "report", "-o", "-").stdout.decode())
    at = {(r["path"], r["number"]): f"{r['path_id']}@{r['number']}" for r in data["rows"]}
    lines = data["diffs"][at["tag.html", 2]].splitlines()
    assert lines[3:] == ["-<p>one</p>", "+<p>two</p></script><!-- <script>\x01\\xff"]
    assert "+1\n" in data["diffs"][at["odd\\xff\nname", 1]]
    assert "+alice\n" in data["diffs"][at["merged.txt", 2]]
    assert "-1\n" in data["diffs"][at["gone", 2]]
    assert "--- /dev/null" in data["diffs"][at["gone", 3]], "made anew, not changed"


def test_since_and_until_choose(night):
    all_of_it = data_of(stomp(night.path, "report", "-o", "-").stdout.decode())["rows"]
    assert len(all_of_it) > 5
    none = data_of(stomp(night.path, "report", "--until", "1h", "-o", "-").stdout.decode())
    assert none["rows"] == [] and none["diffs"] == {}
    said = stomp(night.path, "report", "-s", "1h", "-u", "2h", "-o", "-", code=2).stderr
    assert b"--since is later than --until" in said
    stomp(night.path, "report", "--since", "nonsense", code=2)


def test_a_file_that_is_there_is_replaced_by_force_alone(night, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("mine")
    assert b"--force" in stomp(night.path, "report", "-o", str(out), code=1).stderr
    assert out.read_text() == "mine"
    stomp(night.path, "report", "-o", str(out), "--force")
    assert out.read_text().startswith("<!DOCTYPE html>")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stomp(elsewhere, "report", str(night.path))
    assert (elsewhere / "stomp-report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_long_night_is_whole(unmounted, writer):
    """More refusals and versions than the tables hold, conflicts, and a folder's new name."""
    refused, saved = 260, 230
    (unmounted / "f").write_text("of nobody\n")
    unmounted.mount()
    alice, bob = writer("alice"), writer("bob")
    bob.readfile("f")
    unmounted.settle()
    alice.writefile("f", b"one\n")
    unmounted.ctl("checkpoint")
    for _ in range(refused):
        assert bob.errno("writefile", "f", b"stale\n") == "ESTALE"
    assert bob.errno("save_by_rename", "f", b"kept\n") == "ESTALE"
    for i in range(saved):
        alice.writefile("g", b"%d\n" % i)
    alice.mkdir("d")
    alice.writefile("d/x", b"1\n")
    alice.rename("d", "e")
    unmounted.ctl("checkpoint")
    assert len(unmounted.json("refusals")["refusals"]) == 200
    data = data_of(stomp(unmounted.path, "report", "-o", "-").stdout.decode())
    rows = data["rows"]
    told = {r["number"]: r for r in rows if r["kind"] in (REFUSAL, CONFLICT)}
    assert len(told) == sum(r["kind"] in (REFUSAL, CONFLICT) for r in rows), "each once"
    assert len(told) >= refused + 1
    assert {r["writer"] for r in told.values()} == {"bob"}
    assert all(r["text"].startswith("f: ") for r in told.values()), told
    kept = {c["id"] for c in unmounted.json("conflicts")["conflicts"]}
    assert {n for n, r in told.items() if r["kind"] == CONFLICT} == kept
    numbers = [r["number"] for r in rows if r["kind"] == VERSION and r["path"] == "g"]
    assert numbers == list(range(1, saved + 1))
    assert [r["path"] for r in rows if r["what"] == "rename"] == ["e"]
    assert data["notes"] == ""

    # From the middle of it on: no more, no less. (A time stands for the end of what it names.)
    middle = rows[len(rows) // 2]["time"]
    day = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle // 1000))
    since = f"{day}.{middle % 1000:03}Z"
    later = data_of(stomp(unmounted.path, "report", "-s", since, "-o", "-").stdout.decode())
    assert later["since"] in (middle, middle + 1)
    wanted = [r["number"] for r in rows if r["time"] >= later["since"]]
    assert wanted and [r["number"] for r in later["rows"]] == wanted


# ---------------------------------------------------------------- in a browser


def lay(root, n, stream):
    """A .stomp folder as of a mount where 12 writers made n versions, and were refused.

    stream: as it is where events/ can be opened. Then there are 1 + n // 10 refusals, of which
    the tables hold 199. Returns how many of each kind a report has to have.
    """
    random.seed(n)
    stomp_folder = root / ".stomp"
    (stomp_folder / "sets").mkdir(parents=True)
    rows = []

    def table(name, schema, **content):
        text = json.dumps({"schema": f"stompfs/{schema}/1", **content})
        (stomp_folder / f"{name}.json").write_text(text)

    def when(i):
        s = 28800 * i // n
        return f"2001-02-03T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}.{i % 1000:03}Z"

    newest = []
    sets, per_set = [], min(500, n // 24)
    for first in range(0, n, per_set):
        number, writer = len(sets) + 1, f"agent-{len(sets) % 12}"
        span = range(first, min(first + per_set, n))
        one = {"id": number, "writer": writer, "from": when(span[0]), "to": when(span[-1]),
               "undo": "done" if number % 17 == 1 else None, "what": "set 1", "commands": ["sh"]}
        versions = [{
            "seq": i + 1, "time": when(i), "path": f"src/part{random.randrange(40)}/file{i % 9}.c",
            "number": i // 360 + 1, "kind": "write", "writer": random.choice([writer, "agent-3"]),
            "size": 100, "content": "0" * 32, "set": number, "command": f"cc -c {i % 50}",
            "flags": ["merged"] if i % 97 == 0 else [],
        } for i in span]
        if not stream:
            table(f"sets/{number}", "log", versions=versions)
        rows += [{**v, "what": "version"} for v in versions]
        newest = (newest + versions)[-200:]
        sets.append(one)
    table("sets/log", "sets", sets=sets)
    table("status", "status", version="0", mountpoint=str(root), pid=1, health="ok")
    table("log", "log", versions=newest[::-1], events=[])
    many = 1 + n // 10 if stream else 199
    refusals = [{"id": i + 1, "time": when(i * n // (many + 1)),
                 "path": f"src/part{i % 7}/file1.c", "asked": "open", "reason": "stale",
                 "writer": f"agent-{i % 5}", "text": "no"} for i in range(many)]
    kept = refusals[-199::10]
    settled = refusals[: max(0, many - 199) : 5]  # so long ago that no table has them
    table("refusals", "refusals", refusals=refusals[-199:])
    table("conflicts", "conflicts", conflicts=kept, resolved=[])
    if stream:
        rows += [{"seq": n + 2 * r["id"], "time": r["time"], "kind": "refuse",
                  "path": r["path"], "writer": r["writer"], "number": r["id"], "text": "no",
                  "what": "event"} for r in refusals]
        rows += [{"seq": n + 2 * r["id"] + 1, "time": r["time"], "kind": "resolve",
                  "path": r["path"], "writer": "agent-1", "number": r["id"],
                  "text": "theirs", "what": "event"} for r in settled]
        rows.sort(key=lambda row: row["time"])
        (stomp_folder / "events").mkdir()
        (stomp_folder / "events/0.json").write_text(
            "".join(json.dumps({**row, "cursor": "0-0-0"}) + "\n" for row in rows))
    else:
        settled = []
    merged = sum(1 for i in range(n) if i % 97 == 0)
    undone = sum(1 for i in range(n) if (i // per_set + 1) % 17 == 1)
    both = sum(1 for i in range(n) if i % 97 == 0 and (i // per_set + 1) % 17 == 1)
    return {
        VERSION: n - merged - undone + both, MERGE: merged - both, UNDO: undone,
        REFUSAL: many - len(kept) - len(settled), CONFLICT: len(kept) + len(settled),
        EVENT: len(settled),
    }


@pytest.fixture
def browser(tmp_path):
    folder = tmp_path / "browser"
    folder.mkdir()
    made = Browser(folder)
    yield made
    made.close()


def open_page(browser, page):
    browser.open(page)
    browser.after_frame()
    assert browser.run("return window.__report && __report.ready") is True
    assert browser.said() == []


def place(browser, which):
    """Where the first event of that kind is drawn, and its number."""
    return browser.run("""
        document.getElementById("lanes").scrollIntoView();
        const i = __report.columns.kind.lastIndexOf(arguments[0]), p = __report.place(i);
        return [i, p.x, p.y];""", which)


def back_colour(browser):
    """How bright the page and the middle of a lane are, 0 to 255."""
    return browser.run("""
        const bright = (c) => (Number(c[0]) + Number(c[1]) + Number(c[2])) / 3;
        const page = getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g);
        const g = document.getElementById("canvas").getContext("2d");
        return [bright(page), bright(g.getImageData(3, 40, 1, 1).data)];""")


@in_browser
def test_hover_and_click_tell_of_an_event(night, tmp_path, browser):
    page = tmp_path / "night.html"
    stomp(night.path, "report", "-o", str(page))
    open_page(browser, page)
    assert set(browser.run("return __report.lanes")) >= {"alice", "bob", "carol"}
    assert browser.run("return __report.bins()") > 0
    _, x, y = place(browser, CONFLICT)
    browser.move(x, y)
    tip = browser.run("return document.getElementById('tip').innerText")
    assert "conflict" in tip and "bob" in tip
    browser.click(x, y)
    panel = browser.run("return document.getElementById('detail').innerText")
    assert "stomp conflicts show" in panel and "bob" in panel
    browser.press("\ue00c")  # Escape
    assert browser.run("return document.getElementById('panel').hidden")

    # By keyboard: the row of the table that stands for the version.
    browser.run("""[...document.querySelectorAll("#events button")].find(
        (b) => b.textContent === "tag.html@2").focus()""")
    browser.press("\ue007")  # Enter
    panel = browser.run("return document.getElementById('detail').innerText")
    assert "+<p>two</p></script><!-- <script>" in panel
    assert browser.run("return document.querySelector('pre .d').textContent") == "-<p>one</p>"
    browser.screenshot(tmp_path / "night-light.png")
    browser.prefer("dark")
    browser.screenshot(tmp_path / "night-dark.png")
    assert browser.run("return document.querySelector('#files td').textContent") == "f"
    assert browser.said() == []


@in_browser
@pytest.mark.parametrize(
    "n,stream", [(1000, True), (100000, True), (1000, False)],
    ids=["1000", "100000", "1000-from-tables"])
def test_many_events_are_drawn_in_light_and_dark(tmp_path, browser, n, stream):
    root = tmp_path / "laid"
    counts = lay(root, n, stream)
    page = tmp_path / "page.html"
    stomp(root, "report", "-o", str(page))
    kinds = [row["kind"] for row in data_of(page.read_text())["rows"]]
    assert {kind: kinds.count(kind) for kind in KINDS} == counts, "all of it, whatever n is"
    total = sum(counts.values())
    browser.prefer("light")
    open_page(browser, page)
    assert browser.run("return __report.events") == total
    assert len(browser.run("return __report.lanes")) == 12
    notes = browser.run("return document.getElementById('notes').textContent")
    assert ("newest 200 versions" in notes) is not stream, "it says what the tables do not hold"
    assert 100 < browser.run("return __report.bins()") < 5000, "marks are put together"
    assert min(back_colour(browser)) > 230
    browser.screenshot(tmp_path / "light.png")
    browser.prefer("dark")
    assert max(back_colour(browser)) < 50
    browser.screenshot(tmp_path / "dark.png")
    browser.run("document.getElementById('theme').click()")
    assert min(back_colour(browser)) > 230, "the button decides over what is preferred"

    _, x, y = place(browser, CONFLICT)
    span = "const v = __report.view(); return [v.from, v.to];"
    before = browser.run(span)
    browser.wheel(x, y, -400)
    near = browser.run(span)
    assert before[0] < near[0] < near[1] < before[1], "the wheel zooms"
    browser.drag(x, y, -60)
    moved = browser.run(span)
    assert moved[0] > near[0] and abs((moved[1] - moved[0]) - (near[1] - near[0])) < 1
    browser.run("document.getElementById('canvas').focus()")
    browser.press("\ue011")  # Home
    assert browser.run(span) == before
    assert browser.said() == []
