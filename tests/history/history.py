"""Is a recorded history one of a register with fencing? Pure functions on notes.

An operation is a dict:

    {"id": 7, "client": "c1", "kind": "write", "value": "c1.7", "handle": "c1.3",
     "from": NS, "to": NS or None, "outcome": "ok" | "refused" | "unknown"}

A read has the value it saw. `unknown`: whoever asked died, or the mount did; it may have
happened, at any time after `from`, or not. Values are written once in the world. One
register is judged at a time; the problems found are sentences.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict

FOREVER = float("inf")
MAX_CONFIGURATIONS = 20000


def problems_of(operations, initial):
    """Everything that is wrong with the history of one register."""
    return (
        invented(operations, initial)
        + refused_but_seen(operations)
        + fenced_but_written(operations)
        + not_linear(operations, initial)
    )


def end_of(op):
    return FOREVER if op["outcome"] == "unknown" or op["to"] is None else op["to"]


def invented(operations, initial):
    known = {op["value"] for op in operations if op["kind"] == "write"} | {initial}
    return [
        f"{op['client']} read {op['value']!r}, which nobody wrote"
        for op in operations
        if op["kind"] == "read" and op["outcome"] == "ok" and op["value"] not in known
    ]


def refused_but_seen(operations):
    """A refused write has not happened (S7)."""
    refused = {
        op["value"]: op
        for op in operations
        if op["kind"] == "write" and op["outcome"] == "refused"
    }
    return [
        f"{op['client']} read {op['value']!r}, whose write was refused"
        for op in operations
        if op["kind"] == "read" and op["value"] in refused
    ]


def fenced_but_written(operations):
    """L5: a handle that has written is fenced for ever by another's write."""
    writes = sorted(
        (op for op in operations if op["kind"] == "write" and op["outcome"] == "ok"),
        key=lambda op: op["from"],
    )
    begun = [op["from"] for op in writes]
    by_handle = defaultdict(list)
    for op in writes:
        by_handle[op["handle"]].append(op)
    found = []
    for handle, mine in by_handle.items():
        for before, after in zip(mine, mine[1:]):
            since = bisect_right(begun, before["to"])  # an hour has very many writes
            between = [
                op
                for op in writes[since : bisect_left(begun, after["from"])]
                if op["client"] != before["client"] and op["to"] < after["from"]
            ]
            if between:
                found.append(
                    f"{after['client']} wrote {after['value']!r} through {handle} although "
                    f"{between[0]['client']} had written {between[0]['value']!r} since"
                )
    return found


def not_linear(operations, initial):
    """Is there an order of the operations, each at one moment between its begin and its
    end, in which every read sees the last write? (Wing and Gong, as Lowe does it: a set
    of configurations is carried along the events.)"""
    seen = {op["value"] for op in operations if op["kind"] == "read"}
    events = []
    for n, op in enumerate(operations):
        if op["outcome"] == "refused" or (op["kind"] == "read" and op["outcome"] != "ok"):
            continue
        if op["outcome"] == "unknown" and op["value"] not in seen:
            continue  # whether it happened makes no difference to anybody
        events.append((op["from"], 0, n))
        if end_of(op) != FOREVER:
            events.append((op["to"], 1, n))
    events.sort()
    configurations = {(initial, frozenset())}
    pending = set()
    for _, ends, n in events:
        if not ends:
            pending.add(n)
            continue
        reached = linearize(operations, pending, configurations, n)
        pending.discard(n)
        if not reached:
            return [not_linear_text(operations, n, configurations)]
        configurations = {(value, done - {n}) for value, done in reached}
        always = frozenset.intersection(*(done for _, done in configurations))
        # Nothing ends those: they are done with when they have happened in every order.
        always = {m for m in always if operations[m]["outcome"] == "unknown"}
        pending -= always
        configurations = {(value, done - always) for value, done in configurations}
        if len(configurations) > MAX_CONFIGURATIONS:
            return [f"too many orders are possible to judge at operation {n}"]
    return []


def linearize(operations, pending, configurations, n):
    """Every configuration in which n has happened, that those can come to."""
    reached, todo = set(), list(configurations)
    visited = set(todo)
    while todo:
        value, done = todo.pop()
        if n in done:
            reached.add((value, done))
            continue
        for m in pending - done:
            op = operations[m]
            if op["kind"] == "read" and op["value"] != value:
                continue
            after = (op["value"] if op["kind"] == "write" else value, done | {m})
            if after not in visited:
                visited.add(after)
                todo.append(after)
    return reached


def not_linear_text(operations, n, configurations):
    op = operations[n]
    could = sorted({str(value) for value, _ in configurations})
    return (
        f"{op['client']}'s {op['kind']} of {op['value']!r} has no place in any order: the "
        f"register could hold {', '.join(could[:5])}"
    )


def epochs_go_back(versions):
    """versions: (number, writer, epoch) of one path, oldest first. L1, L5."""
    found = []
    highest, holder = 0, None
    for number, writer, epoch in versions:
        if not epoch:
            continue
        if epoch < highest or (epoch == highest and writer != holder):
            found.append(f"version {number} of {writer} has epoch {epoch} after {highest}")
        if epoch >= highest:
            highest, holder = epoch, writer
    return found
