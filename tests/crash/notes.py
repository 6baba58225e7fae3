"""What the workers noted (worker.py), held against the histories of a workspace."""

import errno
import json
import re
from collections import defaultdict
from datetime import datetime

# Ended by the death of the daemon: nobody knows whether it was done.
UNKNOWN = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
CLOCK_SLACK_S = 0.01  # times of versions are rounded
TOKEN = re.compile(rb"^[a-z]+\d*\.\d+\.\d+$", re.M)


def read_notes(path):
    """The changes of one worker, in order: dicts with op, path, token, and `done`, which
    is missing for a change that was never answered."""
    changes = {}
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the worker was killed in the middle of it
        changes.setdefault(row["n"], {}).update(row)
    return list(changes.values())


class History:
    """Every version of every file named, and the files as they are, read once."""

    def __init__(self, workspace, names, before=None, contents=None):
        """contents: of versions that were read before and need not be read again."""
        self.before = before  # content of files that lay there before the mount
        self.versions, self.content, self.now = {}, dict(contents or {}), {}
        for name in names:
            try:
                rows = workspace.log(name)
            except FileNotFoundError:
                rows = []
            self.versions[name] = [v for v in rows if v["path"] == name]
            for v in self.versions[name]:
                number = v["number"]
                if v["content"] and (name, number) not in self.content:
                    self.content[name, number] = workspace.version(name, number)
            try:
                self.now[name] = (workspace / name).read_bytes()
            except FileNotFoundError:
                self.now[name] = None
        self.made = defaultdict(set)  # (path, token): who made versions with it first
        for name, rows in self.versions.items():
            seen = set()
            for v in rows:
                tokens = set(TOKEN.findall(self.content.get((name, v["number"]), b"")))
                for token in tokens - seen:
                    self.made[name, token.decode()].add(v["writer"])
                seen |= tokens

    def story(self, name, notes):
        """Everything known of one path, in order of time, for whoever has to find out."""
        told = []
        for writer, changes in notes.items():
            for c in changes:
                if c["path"] == name:
                    told.append((c["at"], f"{c['at']:.3f} {writer} {c['op']} {c['token']}"
                                          f" → {c.get('done', 'no answer')}"))
        lines = [text for _, text in sorted(told)]
        for v in self.versions[name][-20:]:
            head = self.content.get((name, v["number"]), b"")[:30]
            lines.append(f"@{v['number']} {v['time']} {v['kind']} {v['writer']} "
                         f"epoch {v['epoch']} {v['flags']} {head}")
        return "\n".join(lines)

    def problems(self):
        """What contradicts V1, L1 or the file itself, as sentences."""
        found = []
        for name, rows in self.versions.items():
            found += self.wrong_numbers(name, rows) + self.wrong_epochs(name, rows)
            found += self.wrong_end(name, rows)
        return found

    def wrong_numbers(self, name, rows):
        numbers = [v["number"] for v in rows]
        if numbers != list(range(1, len(rows) + 1)):
            return [f"{name}: versions are numbered {numbers}"]
        return []

    def wrong_epochs(self, name, rows):
        found = []
        led = [v for v in rows if v["epoch"]]
        for a, b in zip(led, led[1:]):
            same = a["writer"] == b["writer"]
            if b["epoch"] < a["epoch"] or (b["epoch"] == a["epoch"] and not same):
                found.append(
                    f"{name}@{b['number']} of {b['writer']} has epoch {b['epoch']}"
                    f" after {a['epoch']} of {a['writer']}"
                )
        return found

    def wrong_end(self, name, rows):
        if not rows:
            wrong = self.now[name] not in (None, self.before)
            return [f"{name}: changed without a history"] if wrong else []
        last = rows[-1]
        expected = self.content.get((name, last["number"]))
        if last["kind"] == "delete":
            expected = None
        if self.now[name] != expected:
            brief = [x if x is None else x[:40] for x in (self.now[name], expected)]
            return [f"{name}: is {brief[0]}, its version {last['number']} ({last['kind']}"
                    f" of {last['writer']}) {brief[1]}"]
        return []

    def missing(self, writer, changes):
        """Acknowledged changes that no version tells of, and refused ones that are there."""
        found = []
        for c in changes:
            made = self.made.get((c["path"], c["token"]), set())
            if c.get("done", errno.ENOTCONN) in UNKNOWN:
                continue
            what = f"{c['op']} of {c['token']} to {c['path']}"
            if c["op"] == "sed" and not made and self.had_no_line(writer, c):
                continue  # sed -i 1i adds nothing to a file without a line
            if c["done"] is None and made != {writer}:
                found.append(f"{what} was acknowledged; versions with it are by {made}")
            if c["done"] is not None and made:
                found.append(f"{what} failed with {c['done']}, but {made} made it")
        return found

    def had_no_line(self, writer, change):
        """Was the file empty for the sed that this change is: it was so all the time, or
        sed put an empty file where there was an empty one or none?"""
        before = None
        for v in self.versions[change["path"]]:
            at = datetime.fromisoformat(v["time"]).timestamp()
            nothing_there = before is None or not before["size"]
            if at >= change["at"] - CLOCK_SLACK_S:
                if at > change["until"] + CLOCK_SLACK_S:
                    break
                if v["writer"] == writer and not v["size"] and v["kind"] != "delete":
                    return nothing_there
            before = v
        return before is not None and before["kind"] != "delete" and not before["size"]
