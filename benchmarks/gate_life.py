"""How often the gate errs over the life of a model, and what it finds, by simulation through its own rules and ledger.

    python benchmarks/gate_life.py life                  # minutes on two cores
    python benchmarks/gate_life.py power                 # likewise
    python benchmarks/gate_life.py life --sequences 40   # quick

`life`: a champion and up to 20 challengers in a row on the same test images, each the outcome of a nested search
among five configurations, none better than the champion. A sequence counts when any of them is promoted. G2 is asked
first, at the level of the look; the other rules only where it passes, since all must.

`power`: a candidate against a baseline at the first look, through all rules; per rule who refuses a candidate that is
truly better, beside what `bus-mlops gate --power` says.

The world is that of `gate_world.py`. Limits are the defaults, as of the profiles `busi` and `paper`; bootstraps have
`--resamples`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from gate_world import World
from scipy import stats

import bus_mlops.gate.gate  # noqa: F401 - registers the rules
from bus_mlops.evaluation import choice
from bus_mlops.gate.comparison import compare
from bus_mlops.gate.gate import run_gate
from bus_mlops.gate.look import PastLook, next_look
from bus_mlops.gate.power import power_levels
from bus_mlops.gate.power_cohort import Cohort, Counts
from bus_mlops.gate.power_rules import Limits, chances
from bus_mlops.gate.power_scores import Pair
from bus_mlops.gate.rule import RULES

R = TypeVar("R")
LOOKS = 20
RULE_IDS = ("G1", "G2", "G3", "G4", "G5")
# Images, malignant, folds, seeds, areas of candidate and baseline.
DESIGNS = (
    (1200, 528, 5, 3, 0.94, 0.91),
    (647, 210, 3, 1, 0.94, 0.91),
    (647, 210, 5, 3, 0.94, 0.91),
    (1200, 528, 5, 3, 0.92, 0.91),
    (1200, 528, 5, 3, 0.93, 0.91),
    (647, 210, 5, 3, 0.966, 0.945),
    (1200, 528, 5, 1, 0.94, 0.91),
    (1805, 880, 5, 3, 0.93, 0.91),
)


def main() -> None:
    """One of the two simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("life", "power"))
    parser.add_argument("--sequences", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--images", type=int, default=647)
    parser.add_argument("--malignant", type=int, default=210)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--area", type=float, default=0.95, help="true, of the champion and all challengers of a life")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=20_000)
    arguments = parser.parse_args()
    started = time.monotonic()
    {"life": _life, "power": _power}[arguments.what](arguments)
    print(f"({time.monotonic() - started:.0f} s)")


def _life(arguments: argparse.Namespace) -> None:
    seeds = range(arguments.seed, arguments.seed + arguments.sequences)
    promoted = list(_each(arguments.workers, partial(sequence, arguments), seeds))
    wrong = [look for look in promoted if look]
    bound = stats.beta.ppf(0.95, len(wrong) + 1, len(promoted) - len(wrong)) if len(wrong) < len(promoted) else 1.0
    print(
        f"{LOOKS} challengers in a row, none better (true area {arguments.area:g}), {arguments.images} images, "
        f"{arguments.folds} folds x {arguments.seeds} seeds: {len(wrong)} of {len(promoted)} sequences ever "
        f"promote one ({len(wrong) / len(promoted):.1%}; one-sided 95 % bound {bound:.1%})"
    )
    print(f"promoted at the looks {sorted(wrong)}")


def sequence(arguments: argparse.Namespace, seed: int) -> int:
    """The look at which the first challenger of one life is promoted; 0: none is."""
    choice.RESAMPLES = arguments.resamples
    world = World(
        arguments.images,
        arguments.malignant / arguments.images,
        arguments.folds,
        arguments.seeds,
        np.random.default_rng(seed),
    )
    champion = world.model(arguments.area)
    reigning, best = world.predictions(champion, "champion"), world.seen_area(champion)
    past: list[PastLook] = []
    for _ in range(LOOKS):
        look = next_look(past, *power_levels({}))
        if look.level == 0:
            break
        challenger = world.searched(arguments.area)
        past.append(PastLook(look.level))
        # Whose area is not higher has a p of a half and more, far from any level.
        if world.seen_area(challenger) <= best:
            continue
        models = [world.predictions(challenger, "challenger"), reigning]
        found = compare(models, world.at(look), metric="roc_auc", resamples=arguments.resamples)
        superiority = RULES["G2"]
        if superiority.judge(found, superiority.limits_of({})).passed and run_gate(found, {}).passed:
            return look.number
    return 0


def _power(arguments: argparse.Namespace) -> None:
    print(f"{arguments.repeats} first looks a line; in %: found by the rules / said by `gate --power`")
    heads = ["images (malignant)", "folds x seeds", "areas", *RULE_IDS, "gate", "refused by one alone"]
    print(f"| {' | '.join(heads)} |")
    print("|" + "---|" * len(heads))
    deviations = []
    for number, design in enumerate(DESIGNS):
        images, malignant, folds, trainings, ours, theirs = design
        first = arguments.seed + 100_000 * (number + 1)
        seeds = range(first, first + arguments.repeats)
        passed = np.array(list(_each(arguments.workers, partial(first_look, design, arguments.resamples), seeds)))
        found = [*passed.mean(axis=0), passed.all(axis=1).mean()]
        said = _said(images, malignant, folds, trainings, Pair(ours, theirs))
        deviations += [(said[i] - found[i], found[i]) for i in range(len(found))]
        cells = " | ".join(f"{100 * f:.0f} / {100 * s:.0f}" for f, s in zip(found, said, strict=True))
        alone = ((passed.sum(axis=1) == len(RULE_IDS) - 1)[:, None] & ~passed).mean(axis=0)
        refused = ", ".join(f"{i} {100 * a:.0f}" for i, a in zip(RULE_IDS, alone, strict=True) if a > 0) or "none"
        print(
            f"| {images:,} ({malignant}) | {folds} x {trainings} | {ours:g}, {theirs:g} | {cells} | {refused} |",
            flush=True,
        )
    off = np.array([each for each, _ in deviations])
    noise = np.array([np.sqrt(f * (1 - f) / arguments.repeats) for _, f in deviations])
    print(
        f"deviation of what is said from what is found: mean {100 * off.mean():+.1f} points, largest "
        f"{100 * np.abs(off).max():.1f}; the simulation's own standard error is at most {100 * noise.max():.1f}"
    )


def first_look(design: tuple[Any, ...], resamples: int, seed: int) -> list[bool]:
    """Which of the rules pass the candidate."""
    choice.RESAMPLES = resamples
    images, malignant, folds, trainings, ours, theirs = design
    world = World(images, malignant / images, folds, trainings, np.random.default_rng(seed))
    models = [
        world.predictions(world.searched(ours), "candidate"),
        world.predictions(world.model(theirs), "baseline"),
    ]
    context = world.at(next_look([], *power_levels({})))
    report = run_gate(compare(models, context, metric="roc_auc", resamples=resamples), {})
    by_id = {rule.id: rule.passed for rule in report.rules}
    if not by_id["G0"]:
        raise RuntimeError(report.to_markdown())
    return [by_id[rule] for rule in RULE_IDS]


def _said(images: int, malignant: int, folds: int, seeds: int, pair: Pair) -> list[float]:
    counts = Counts(malignant, images - malignant, malignant, images - malignant)
    cohort = Cohort({"busi": counts}, folds, seeds, 0.2 * (1 - 1 / folds), group_size=1.2)
    found = chances(cohort, pair, Limits.of({}), next_look([], *power_levels({})).level)
    return [found.floors, found.superiority, found.lost_sensitivity, found.sources, found.calibration, found.gate]


def _each(workers: int, function: Callable[[int], R], seeds: Iterable[int]) -> Iterable[R]:
    if workers == 1:
        yield from map(function, seeds)
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(function, seeds, chunksize=4)


if __name__ == "__main__":
    main()
