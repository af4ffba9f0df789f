"""The tables of compare.py, as Markdown."""

from dataclasses import dataclass, field
from datetime import date
from statistics import median


@dataclass
class Result:
    """What one peer did with one case."""

    ms: list = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    failure: str | None = None


def duration(ms):
    return f"{ms / 1e3:.2f} s" if ms >= 1e3 else f"{ms:.3g} ms" if ms < 100 else f"{ms:.0f} ms"


def time_cell(result):
    if result.failure:
        return result.failure
    return f"{duration(median(result.ms))} ({duration(min(result.ms))})"


def ratio_cell(ours, theirs):
    """Their time over ours, by the medians and by the best; at least so much where they ran out of time."""
    if ours.failure:
        return ""
    if theirs.failure:
        limit = theirs.failure.removeprefix("> ").removesuffix(" s")
        return f"> {1e3 * float(limit) / median(ours.ms):.0f}" if limit != theirs.failure else ""
    return f"{median(theirs.ms) / median(ours.ms):.2f} ({min(theirs.ms) / min(ours.ms):.2f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def times(names, wanted, results):
    others = names[1:]
    rows = []
    for case in wanted:
        found = {name: results[name, case.name, case.detail] for name in names}
        ratios = [ratio_cell(found[names[0]], found[name]) for name in others]
        rows.append([case.title, *(time_cell(found[name]) for name in names), *ratios])
    head = ["median (best)", *names, *(f"{name} / {names[0]}" for name in others)]
    return table(head, rows)


def mib(facts, key):
    return f"{facts[key]:.0f}" if facts.get(key) is not None else ""


def starts(names, edges, results):
    rows = []
    for edge in edges:
        for name in names:
            result = results[name, "start", str(edge)]
            facts = result.facts
            start = result.failure or duration(result.ms[0])
            sizes = [mib(facts, key) for key in ("planned_mib", "device_mib", "resident_mib")]
            rows.append([f"{name}, {edge}^3", str(facts.get("parameters", "")), start, *sizes])
    head = ["", "parameters", "start to first step", "planned MiB", "device peak MiB", "resident growth MiB"]
    return table(head, rows)


def report(abouts, wanted, edges, results, options):
    names = list(abouts)
    lines = [f"{date.today()}, {options.turns} turns, {options.limit:.0f} s for an answer.", ""]
    lines += [f"- {name}: {about['version']}; {about['device']}" for name, about in abouts.items()]
    lines += ["", f"Ratios are the peer's time over {names[0]}'s: above 1, {names[0]} is the faster one.", ""]
    lines += [times(names, wanted, results), ""]
    return "\n".join(lines + ([starts(names, edges, results)] if edges else []))
