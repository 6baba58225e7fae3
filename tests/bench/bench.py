"""Side by side: the bare directory, stompfs and other FUSE file systems.

Systems are interleaved, group by group, and repeated; the order rotates. Ratios are to the
bare directory of the same round, medians with the smallest and the largest. Nothing is
asserted: machines are noisy. Started by scripts/bench, which builds what is needed.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
import requests
import systems as kinds
from fixtures import Fixtures
from workloads import GROUPS, ROWS, ROWS_OF, Sizes, Visit

ROOT = Path(__file__).resolve().parents[2]


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure stompfs beside the bare directory and its peers.")
    parser.add_argument("--quick", action="store_true", help="small sizes, two rounds")
    parser.add_argument("--tiny", action="store_true",
                        help="sizes that measure nothing, one round: does it run?")
    parser.add_argument("--systems", metavar="A,B", help="only these (native always)")
    parser.add_argument("--only", metavar="WORKLOAD", action="append",
                        help="only the groups with this name or with such a row")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="write bench.json, bench.md and bench.svg there")
    parser.add_argument("--requests", action="store_true",
                        help="count FUSE requests per operation instead (root)")
    parser.add_argument("--cpus", type=int, metavar="N",
                        help="client and daemons on the first N processors only; with 1 no "
                        "request has to wake another processor")
    parser.add_argument("--base", type=Path, help="measure in a folder below this one")
    parser.add_argument("--build", type=Path, default=ROOT / "build", help=argparse.SUPPRESS)
    parser.add_argument("--passthrough-hp", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--passthrough-hp-about", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    options.sizes = (Sizes.tiny() if options.tiny else
                     Sizes.quick() if options.quick else Sizes())
    if options.rounds is None:
        options.rounds = 1 if options.tiny else 2 if options.quick else 5
    options.build = options.build.resolve()
    options.argv = shown(argv)
    return options


def shown(argv):
    """The command line without what scripts/bench added to it."""
    ours = ("--build", "--passthrough-hp", "--passthrough-hp-about", "--base")
    kept, skip = [], False
    for word in argv:
        if not skip and word not in ours:
            kept.append(word)
        skip = not skip and word in ours
    return kept


def choose_groups(only):
    if not only:
        return dict(GROUPS)
    chosen = {}
    for word in only:
        rows = [row for row in ROWS if word in row]
        found = [g for g in GROUPS if g == word or set(rows) & set(ROWS_OF[g])]
        if not found:
            raise SystemExit(f"bench: no workload '{word}'. Groups: {', '.join(GROUPS)}; "
                             f"rows: {'; '.join(ROWS)}")
        chosen.update({g: GROUPS[g] for g in found})
    return chosen


def choose_systems(options, base):
    """Those that can be had here. Each is a function, as one holds a folder."""
    have = {
        "native": lambda: kinds.Native(base),
        "stompfs": lambda: kinds.Stompfs(base, options.build),
        "stompfs:pass": lambda: kinds.StompfsPass(base, options.build),
    }
    if kinds.StompfsUring.accepted(base, options.build):
        have["stompfs:uring"] = lambda: kinds.StompfsUring(base, options.build)
    if options.passthrough_hp:
        php = (base, options.passthrough_hp, options.passthrough_hp_about)
        have["passthrough_hp"] = lambda: kinds.PassthroughHp(*php)
        have["passthrough_hp:uring"] = lambda: kinds.PassthroughHpUring(*php)
    if shutil.which("bindfs"):
        have["bindfs"] = lambda: kinds.Bindfs(base)
    if shutil.which("fuse-overlayfs"):
        have["fuse-overlayfs"] = lambda: kinds.FuseOverlayfs(base)
    wanted = [n for n in have if n != "passthrough_hp:uring"]
    if options.systems:
        wanted = options.systems.split(",")
        for name in wanted:
            if name not in have:
                raise SystemExit(f"bench: no system '{name}' here. Here: {', '.join(have)}")
        wanted = ["native"] + [n for n in wanted if n != "native"]
    return [have[name]() for name in wanted]


def measure(options, groups, systems, fixtures, figures):
    client = options.build / "tests" / "bench" / "bench_client"
    for number in range(options.rounds):
        turn = number % len(systems)
        for name, group in groups.items():
            for system in systems[turn:] + systems[:turn]:
                begin = time.monotonic()
                kinds.run(["sync"])
                for row, value in group(Visit(system, client, fixtures), options.sizes):
                    figures.setdefault(row, {}).setdefault(system.name, []).append(value)
                print(f"round {number + 1}, {name}, {system.name}: "
                      f"{time.monotonic() - begin:.1f} s", file=sys.stderr)


def ordered(figures, only):
    """In the order of the table; of a group that ran for one of its rows, that row."""
    def wanted(row):
        return not only or any(w in row or row.removesuffix(": stored") in ROWS_OF.get(w, ())
                               for w in only)
    rows = [r for r in ROWS if r in figures] + [r for r in figures if r not in ROWS]
    rows = [r for r in rows if wanted(r)]
    return {row: figures[row] for row in rows}


def words(options, about, systems, figures):
    names = [s.name for s in systems]
    lines = [f"Command: `scripts/bench {' '.join(options.argv)}`".rstrip() + "  "]
    lines += [f"{key}: {value}  " for key, value in about.items()]
    lines += [f"{s.name}: {s.about}  " for s in systems if s.name != "native"]
    lines += ["", "Ratios to native of the same round: median (smallest–largest). Time: lower "
              "is better; bandwidth: higher is better.", "", report.table(figures, names)]
    more = report.stored_table(figures)
    if more:
        lines += ["", "What the journal stored:", "", more]
    return "\n".join(lines) + "\n"


def write_out(options, about, systems, figures):
    options.out.mkdir(parents=True, exist_ok=True)
    names = [s.name for s in systems]
    medians = {row: {s: statistics.median(v) for s, v in by.items()}
               for row, by in figures.items()}
    (options.out / "bench.json").write_text(json.dumps(
        {"machine": about, "systems": {s.name: s.about for s in systems},
         "units": {row: ROWS[row][0] if row in ROWS else "bytes" for row in figures},
         "sizes": vars(options.sizes), "rounds": options.rounds,
         "medians": medians, "values": figures}, indent=1, ensure_ascii=False) + "\n")
    (options.out / "bench.md").write_text(words(options, about, systems, figures))
    heading = (f"Times slower than the bare directory; {about['cpu']}, kernel "
               f"{about['kernel']}")
    (options.out / "bench.svg").write_text(report.svg(figures, names, heading))


def main(argv):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and clean up
    options = parse(argv)
    if options.cpus:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.cpus])
    groups = choose_groups(options.only)
    base = Path(tempfile.mkdtemp(prefix="stompfs-bench-", dir=options.base))
    up, figures = [], {}
    about = machine.describe(base, options.build)
    about["sizes"] = ", ".join(f"{k} {v:,}" for k, v in vars(options.sizes).items())
    about["processors used"] = str(len(os.sched_getaffinity(0)))
    about["load before"] = machine.load()
    try:
        systems = choose_systems(options, base)
        s = options.sizes
        fixtures = Fixtures(base, s.sources, s.others, s.packages)
        for system in systems:
            system.up()
            up.append(system)
        if options.requests:
            print(requests.count(options, systems))
            return 0
        measure(options, groups, systems, fixtures, figures)
    finally:
        for system in up:
            system.down()
        shutil.rmtree(base)
    about["load after"] = machine.load()
    figures = ordered(figures, options.only)
    print(words(options, about, systems, figures), end="")
    if options.out:
        write_out(options, about, systems, figures)
    return 0


if __name__ == "__main__":
    if os.environ.get("STOMP_AGENT") != "bench":
        # One writer, also across remounts; a process is known by what it began with.
        os.environ["STOMP_AGENT"] = "bench"
        os.execv(sys.executable, [sys.executable] + sys.argv)
    sys.exit(main(sys.argv[1:]))
