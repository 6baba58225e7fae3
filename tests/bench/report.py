"""Figures to words and pictures: a table in Markdown, a plot in SVG."""

import html
import math
import statistics

from workloads import BANDWIDTH, HALF_OF_PEER, ROWS

COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00", "#555555")


def ratios(figures, row, system):
    """One ratio to native a round (they were measured next to each other), or none."""
    mine, native = figures[row].get(system), figures[row].get("native")
    if not mine or not native:
        return []
    return [a / b for a, b in zip(mine, native)]


def number(x):
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def cell(values):
    if not values:
        return "–"
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))}–{number(max(values))})"


def plain(value, unit):
    if unit == BANDWIDTH:
        return f"{value / 1e6:,.0f} MB/s"
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.0f} ns"


def reach(row, figures):
    """(limit of stompfs, limit of its pass files), None where the issue has none."""
    unit, limit, limit_pass = ROWS[row]
    if row in HALF_OF_PEER:
        peer = ratios(figures, row, "passthrough_hp")
        if peer:
            limit = 1 + (statistics.median(peer) - 1) / 2
    return unit, limit, limit_pass


def met(values, unit, limit):
    middle = statistics.median(values)
    return middle >= limit if unit == BANDWIDTH else middle <= limit


def goal(row, figures):
    unit, limit, limit_pass = reach(row, figures)
    words = []
    for system, bound, label in (("stompfs", limit, ""), ("stompfs:pass", limit_pass, "pass ")):
        values = ratios(figures, row, system)
        if bound is None:
            continue
        sign = "≥" if unit == BANDWIDTH else "≤"
        mark = "" if not values else " ✓" if met(values, unit, bound) else " ✗"
        words.append(f"{label}{sign} {number(bound)}{mark}")
    return ", ".join(words) or "–"


def table(figures, systems):
    """Ratios: median (smallest–largest of the rounds)."""
    names = [s for s in systems if s != "native"]
    lines = ["| workload | native | " + " | ".join(names) + " | to reach |",
             "| --- |" + " --- |" * (len(names) + 2)]
    for row, by_system in figures.items():
        if row not in ROWS:
            continue
        unit = ROWS[row][0]
        native = by_system.get("native")
        absolute = plain(statistics.median(native), unit) if native else "–"
        cells = [cell(ratios(figures, row, s)) for s in names]
        label = f"{row} (bandwidth)" if unit == BANDWIDTH else row
        lines.append(f"| {label} | {absolute} | " + " | ".join(cells)
                     + f" | {goal(row, figures)} |")
    return "\n".join(lines)


def stored_table(figures):
    """What the journal's folder grew by, with the time of the step itself."""
    lines = []
    for row, by_system in figures.items():
        if row in ROWS:
            continue
        step = row.removesuffix(": stored")
        for system, values in by_system.items():
            times = figures[step]
            mine, native = times[system], times["native"]
            beyond = statistics.median(a - b for a, b in zip(mine, native))
            lines.append(f"| {step} | {system} | {statistics.median(values) / 1024:,.0f} KiB | "
                         f"{plain(statistics.median(mine), 'time')} | "
                         f"{plain(statistics.median(native), 'time')} | "
                         f"{beyond * 1e3:.3f} ms |")
    if not lines:
        return ""
    head = ["| change | system | stored | time per change | native | beyond native |",
            "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join(head + lines)


# ---- the plot: how many times slower than native, on a logarithmic scale ----

ROW_PX, LEFT_PX, WIDTH_PX, TOP_PX = 24, 220, 900, 64


def slowness(figures, row, system):
    values = ratios(figures, row, system)
    if ROWS[row][0] == BANDWIDTH:
        values = [1 / v for v in values]
    return values


def svg(figures, systems, heading):
    rows = [r for r in figures if r in ROWS]
    names = [s for s in systems if s != "native"]
    everything = [v for r in rows for s in names for v in slowness(figures, r, s)]
    low = min([0.5] + everything)
    high = max([10] + everything)
    span = math.log(high / low)

    def x(value):
        return LEFT_PX + (WIDTH_PX - LEFT_PX - 20) * math.log(value / low) / span

    height = TOP_PX + ROW_PX * len(rows) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
           f'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="10" y="18" font-size="13">{html.escape(heading)}</text>']
    for i, name in enumerate(names):
        at = LEFT_PX + i * (WIDTH_PX - LEFT_PX) // max(len(names), 1)
        out.append(f'<circle cx="{at}" cy="40" r="5" fill="{COLOURS[i % 7]}"/>'
                   f'<text x="{at + 9}" y="44">{html.escape(name)}</text>')
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if low <= tick <= high:
            stroke = "#000" if tick == 1 else "#ddd"
            out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP_PX - 8}" '
                       f'y2="{height - 26}" stroke="{stroke}"/>'
                       f'<text x="{x(tick):.1f}" y="{height - 10}" text-anchor="middle">'
                       f"{tick:g}×</text>")
    for k, row in enumerate(rows):
        y = TOP_PX + k * ROW_PX + 6
        out.append(f'<text x="{LEFT_PX - 10}" y="{y + 4}" text-anchor="end">'
                   f"{html.escape(row)}</text>")
        for i, name in enumerate(names):
            values = slowness(figures, row, name)
            if not values:
                continue
            yi = y + (i - len(names) / 2) * 2.4
            out.append(f'<line x1="{x(min(values)):.1f}" x2="{x(max(values)):.1f}" '
                       f'y1="{yi:.1f}" y2="{yi:.1f}" stroke="{COLOURS[i % 7]}"/>'
                       f'<circle cx="{x(statistics.median(values)):.1f}" cy="{yi:.1f}" r="4" '
                       f'fill="{COLOURS[i % 7]}" fill-opacity="0.85"/>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
