"""Findings in words: one sentence on our rows, one on what the paper's own table says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.paper.claims import Comparison
from bus_mlops.evaluation.paper.contrasts import Contrast
from bus_mlops.evaluation.paper.published import contradictions, paper_sizes, paper_table

ALPHA = 0.05
# Where the paper prints the rows of other strategies than a finding's own.
_TABLES = {"transfer_learning": 4, "augmentation": 5, "losses": 6, "optimizers": 7, "multitask": 8}
_NOT_TESTED = {True: "Not tested: this run has no rows to compare.", False: "Not tested: one fold allows no test"}


def statement(
    comparison: Comparison,
    verdict: str,
    tests: Sequence[Contrast],
    overall: Contrast | None,
    choices: Sequence[tuple[str, str, str]],
    extreme: tuple[str, float] | None,
) -> str:
    """The finding as a sentence or two: whether it shows, for how many, how much, and how sure."""
    if comparison.kind == "choice":
        return _choice(comparison, overall, choices)
    if not tests:
        return _NOT_TESTED[True] + (f" {_furthest(comparison, extreme)}" if extreme else "")
    lead = _NOT_TESTED[False] if verdict == "not tested" else _lead(comparison, verdict)
    if comparison.kind == "each":
        return f"{lead}: {_which(comparison, tests)}."
    if comparison.kind == "all":
        return f"{lead}: {_others(comparison, tests)}. {_furthest(comparison, extreme)}"
    if comparison.kind == "factors":
        return f"{lead}: {_listed([f'{test.name} by {_sized(test)} more' for test in tests])}."
    if comparison.kind == "size":
        return f"{lead}: over {tests[0].name}, the gain changes by {_sized(tests[0], ' per tenfold parameters')}."
    per = " per unit of weight" if comparison.kind == "trend" else ""
    average = "" if overall is None else f"; on average {_sized(overall, per)}"
    return f"{lead}: {_count(comparison, tests, 'network')}{average}."


def unit(comparison: Comparison) -> str:
    """In what the differences of a finding are given."""
    by_kind = {"trend": "points per unit of weight", "size": "points per tenfold parameters"}
    return by_kind.get(comparison.kind, "points")


def points(fraction: float) -> str:
    """A difference in percentage points, signed.

    >>> points(-0.0149)
    '−1.5'
    """
    return f"{100 * fraction:+.1f}".replace("-", "−")


def probability(p: float) -> str:
    """A p value for people.

    >>> probability(0.0004), probability(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def printed(comparison: Comparison, table: int) -> str:
    """What the paper's own numbers say to the comparison, counted from its table; empty where it prints none."""
    if comparison.kind == "factors":
        return _printed_ranges(comparison)
    if comparison.paper is None:
        return ""
    rows = paper_table(table)
    if comparison.kind == "all":
        return _printed_extreme(comparison, table)
    if comparison.kind == "within":
        return _printed_within(comparison, table)
    if comparison.kind == "size":
        return _printed_size(comparison, table)
    first, second = comparison.paper
    found, flagged = {}, []
    for model in dict.fromkeys(model for model, _ in rows):
        sides = [next(v for m, v in rows if m == model and v.startswith(start)) for start in (first, second)]
        treated, baseline = (rows[model, variant][comparison.metric] for variant in sides)
        found[model] = round(treated - baseline, 6)
        if any(contradictions(table, model, variant) for variant in sides):
            flagged.append(model)
    against = [f"{model} ({points(value)})" for model, value in found.items() if comparison.direction * value <= 0]
    text = f"Table {table}: {_word(comparison)} for {len(found) - len(against)} of {len(found)} networks"
    text += f", not for {_listed(against)}" if against else ""
    return text + (f"; rows of {_listed(flagged)} contradict themselves" if flagged else "")


def _printed_extreme(comparison: Comparison, table: int) -> str:
    rows = {" ".join(key): row[comparison.metric] for key, row in paper_table(table).items()}
    own = " ".join(comparison.paper or ())
    if comparison.elsewhere:
        (table,) = (_TABLES[name] for name in comparison.elsewhere)
        others = {" ".join(key): row[comparison.metric] for key, row in paper_table(table).items()}
        rows = {own: rows[own], **others}
    beaten = [name for name, value in rows.items() if comparison.direction * (rows[own] - value) > 0]
    top = max(rows, key=lambda name: comparison.direction * rows[name])
    most = METRICS[comparison.metric].format_with_unit(rows[top])
    text = f"Table {table}: {_word(comparison)} than {len(beaten)} of {len(rows) - 1} others"
    return text + ("" if top == own else f"; {_superlative(comparison)} is {top} ({most})")


def _printed_within(comparison: Comparison, table: int) -> str:
    start = comparison.paper[0] if comparison.paper else ""
    rows = {model: row for (model, variant), row in paper_table(table).items() if variant.startswith(start)}
    found = {model: round(row[comparison.metric] - row[comparison.minus], 6) for model, row in rows.items()}
    against = [f"{model} ({points(value)})" for model, value in found.items() if comparison.direction * value <= 0]
    text = f"Table {table}: so for {len(found) - len(against)} of {len(found)} networks"
    return text + (f", not for {_listed(against)}" if against else "")


def _printed_size(comparison: Comparison, table: int) -> str:
    """The gains of the paper's three smallest and three largest networks."""
    rows, (treated, baseline) = paper_table(table), comparison.paper or ("", "")
    sizes = sorted(paper_sizes().values(), key=lambda each: each.parameters_millions)
    gains = {
        each.model: rows[each.model, treated][comparison.metric] - rows[each.model, baseline][comparison.metric]
        for each in sizes
        if (each.model, treated) in rows
    }
    words = [f"{model} {points(gain)}" for model, gain in gains.items()]
    return f"Table {table}: the smallest networks gain {_listed(words[:3])}, the largest {_listed(words[-3:])}"


def _printed_ranges(comparison: Comparison) -> str:
    """By how much each of the paper's tables changes a network, best minus worst row, the mean over networks."""
    said = []
    for strategy in (*comparison.elsewhere, comparison.strategy):
        rows = paper_table(_TABLES[strategy])
        by_model: dict[str, list[float]] = {}
        for (model, _), row in rows.items():
            by_model.setdefault(model, []).append(row[comparison.metric])
        mean = sum(max(values) - min(values) for values in by_model.values()) / len(by_model)
        said.append(f"{100 * mean:.1f} points in Table {_TABLES[strategy]}")
    return f"The best row of a network lies above its worst by {_listed(said)}, on average"


def _lead(comparison: Comparison, verdict: str) -> str:
    sides = comparison.sides
    rises = comparison.direction > 0 if verdict != "opposite" else comparison.direction < 0
    metric = METRICS[comparison.metric].phrase
    if comparison.kind == "all":
        what = f"{metric} of {sides.subject} is {'higher' if rises else 'lower'} than that of {sides.against}"
    elif comparison.kind == "within":
        what = f"{sides.subject} {'exceeds' if rises else 'falls below'} {sides.against}"
    elif comparison.kind == "size":
        what = f"{'larger' if rises else 'smaller'} networks gain more from {sides.subject}"
    elif comparison.kind == "factors":
        what = f"{sides.subject} changes {metric} {'more' if rises else 'less'} than {sides.against}"
    else:
        what = f"{sides.subject} {'raises' if rises else 'lowers'} {metric} against {sides.against}"
    if verdict == "shown":
        return what[0].upper() + what[1:]
    return f"The opposite shows: {what}" if verdict == "opposite" else f"It does not show that {what}"


def _count(comparison: Comparison, tests: Sequence[Contrast], noun: str) -> str:
    expected = [test for test in tests if comparison.direction * test.difference > 0]
    text = f"{_word(comparison)} for {len(expected)} of {len(tests)} {noun}{'' if len(tests) == 1 else 's'}"
    if tests[0].p != tests[0].p:
        return text
    sure = [test for test in tests if test.p_adjusted < ALPHA]
    reverse = sum(test not in expected for test in sure)
    text += f", significantly for {len(sure) - reverse}"
    return text + (f" and significantly the other way for {reverse}" if reverse else "")


def _which(comparison: Comparison, tests: Sequence[Contrast]) -> str:
    best = max(tests, key=lambda test: comparison.direction * test.difference)
    named = f"the largest gain is that of {best.name}, {points(best.difference)} points"
    if best.p != best.p:
        return f"{_count(comparison, tests, 'augmentation')}; {named}"
    sure = [t.name for t in tests if t.p_adjusted < ALPHA and comparison.direction * t.difference > 0]
    text = f"{_count(comparison, tests, 'augmentation')}{' (' + _listed(sure) + ')' if sure else ''}"
    return f"{text}; {named} ({probability(best.p_adjusted)} after Holm)"


def _others(comparison: Comparison, tests: Sequence[Contrast]) -> str:
    expected = [test for test in tests if comparison.direction * test.difference > 0]
    closest = min(tests, key=lambda test: comparison.direction * test.difference)
    text = f"{_word(comparison)} than {len(expected)} of {len(tests)} others"
    if closest.p == closest.p:
        text += f", significantly than {sum(test.p < ALPHA for test in expected)}"
    return f"{text}; against {closest.name} {_sized(closest)}"


def _choice(
    comparison: Comparison,
    overall: Contrast | None,
    choices: Sequence[tuple[str, str, str]],
) -> str:
    if not choices:
        return _NOT_TESTED[True]
    other = [
        f"{name}: {_parameters(ours)} instead of {_parameters(theirs)}"
        for name, ours, theirs in choices
        if ours != theirs
    ]
    same = f"The choice is the paper's for {len(choices) - len(other)} of {len(choices)} networks"
    if not other or overall is None:
        return f"{same}."
    metric = METRICS[comparison.metric].phrase
    return f"{same} ({'; '.join(other)}). On test images {metric} of ours differs by {_sized(overall)}."


def _parameters(variant: str) -> str:
    """`w_z=3` of `WBCE(w_z=3), from scratch`."""
    found = re.search(r"\((\w+=.*)\)", variant)
    return found.group(1) if found else variant


def _furthest(comparison: Comparison, extreme: tuple[str, float] | None) -> str:
    if extreme is None:
        return ""
    title, value = extreme
    return f"Of all rows, {_superlative(comparison)} is {title} ({METRICS[comparison.metric].format_with_unit(value)})."


def _sized(test: Contrast, per: str = "") -> str:
    size = f"{points(test.difference)} points{per}"
    if test.p != test.p:
        return size
    return f"{size} (95 % interval {points(test.low)} to {points(test.high)}, {probability(test.p)})"


def _word(comparison: Comparison) -> str:
    return "higher" if comparison.direction > 0 else "lower"


def _superlative(comparison: Comparison) -> str:
    return "the highest" if comparison.direction > 0 else "the lowest"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
