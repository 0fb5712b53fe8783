"""Whether a model's answers are still spread as where it was judged: the population stability index, and a bet.

Pure judgement: scores in, numbers out. docs/explanation/drift.md says why these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bus_mlops.consumer.package_format import ScoreBins

ALPHA = 0.01
# Slopes of the bets on p-values: 1 + slope (p - 1/2), never negative.
SLOPES = np.array([-1.9, -1.0, 1.0, 1.9])
DRAWS = 2000
# Added to each count: a bin without an answer would make the index infinite.
SMOOTHING = 0.5

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stability:
    """The population stability index of a window, and what it is of answers that have not changed.

    Attributes:
        index: Sum over the bins of (share - share there) log(share / share there).
        expected: Its mean without any drift, for as many answers here and there.
        usual: What it stays below in 95 of 100 windows without drift.
    """

    index: float
    expected: float
    usual: float


@dataclass(frozen=True)
class Drift:
    """What a window of answers says.

    Attributes:
        answers: With a probability, in the window.
        counted: Of these, far enough apart to be of different patients.
        here: Those counted, by bin.
        stability: Of them; None where there are none.
        evidence: The bet's capital after each of them; 1 is where it began.
        alpha: The bet is won at 1 / alpha.
        noticed: At which of those counted it was won for the first time, from 1; None: never.
    """

    answers: int
    counted: int
    here: Counts
    stability: Stability | None
    evidence: Values
    alpha: float
    noticed: int | None


def compare(scores: npt.ArrayLike, reference: ScoreBins, alpha: float = ALPHA, answers: int | None = None) -> Drift:
    """Compare answers with those that were judged.

    Args:
        scores: Probabilities (N,), 0-1, in the order of time, of different patients.
        reference: Those that were judged.
        alpha: The chance of a false alarm, however often and for however long one looks.
        answers: Of how many these were taken; N by default.
    """
    values = np.asarray(scores, dtype=np.float64)
    bins = reference.place(values)
    here = np.bincount(bins, minlength=len(reference.counts))
    evidence = bet(bins, np.array(reference.counts))
    won = np.flatnonzero(evidence >= 1 / alpha)
    return Drift(
        answers=len(values) if answers is None else answers,
        counted=len(values),
        here=here,
        stability=stability(here, np.array(reference.counts)) if len(values) else None,
        evidence=evidence,
        alpha=alpha,
        noticed=int(won[0]) + 1 if len(won) else None,
    )


@dataclass(frozen=True)
class Refusals:
    """Whether more or fewer images are refused than of those that the rule was fitted to, held out.

    Attributes:
        counted: Images, far enough apart to be of different patients.
        refused: Of these, for their looks or because they could not be read.
        expected: The share (0-1) of images that the model knows.
        evidence: The bet's capital after each of those counted.
        noticed: At which of them it was won, from 1; None: never.
    """

    counted: int
    refused: int
    expected: float
    evidence: Values
    noticed: int | None


def refusals(refused: npt.ArrayLike, of: int, share: float, alpha: float = ALPHA) -> Refusals:
    """Compare refusals with those of images that the model knows.

    Args:
        refused: Whether each of (N,) images was, in the order of time.
        of: How many images the share is of.
        share: Refused of them (0-1).
        alpha: The chance of a false alarm, however often one looks.
    """
    events = np.asarray(refused, dtype=np.intp)
    there = round(share * of)
    evidence = bet(events, np.array([of - there, there]))
    won = np.flatnonzero(evidence >= 1 / alpha)
    return Refusals(len(events), int(events.sum()), share, evidence, int(won[0]) + 1 if len(won) else None)


def index_of(here: npt.ArrayLike, there: npt.ArrayLike) -> Values:
    """The population stability index of counts (..., bins).

    Example:
        >>> round(float(index_of([30, 10], [20, 20])), 3)
        0.26
    """
    a, b = (np.asarray(counts, dtype=np.float64) + SMOOTHING for counts in (here, there))
    a, b = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
    return np.asarray(((a - b) * np.log(a / b)).sum(axis=-1), dtype=np.float64)


def stability(here: Counts, there: Counts) -> Stability:
    """The index of counts (bins,), and of draws from what both have in common, as many here and there."""
    shares = (here + there + SMOOTHING) / (here + there + SMOOTHING).sum()
    rng = np.random.default_rng(0)
    drawn = index_of(rng.multinomial(here.sum(), shares, DRAWS), rng.multinomial(there.sum(), shares, DRAWS))
    return Stability(float(index_of(here, there)), float(drawn.mean()), float(np.quantile(drawn, 0.95)))


def bet(bins: npt.NDArray[np.intp], there: Counts) -> Values:
    """The capital, from 1, of a bet against "these come from where those came from", after each answer (N,).

    Each answer gets its rank among those that were judged and all before it (`p`, ties broken by a coin). Where all
    are exchangeable the ranks are independent and uniform, so that no bet gains on average: the capital exceeds
    1 / alpha, ever, with a chance of alpha at most (Ville). A share 1 / (s (s + 1)) of the capital begins to bet at
    answer s, so that a change that comes late is noticed, too.

    Args:
        bins: Of the answers, in order.
        there: How many were judged, by bin.
    """
    coins = np.random.default_rng(0).random(len(bins))
    counts = np.array(there, dtype=np.float64)
    capital = np.zeros((2, len(SLOPES)))
    evidence = np.empty(len(bins))
    for i, (k, coin) in enumerate(zip(bins, coins, strict=True)):
        counts[k] += 1
        p = (counts[k + 1 :].sum() + coin * counts[k]) / counts.sum()
        # Higher or lower than before, and farther from the middle or nearer to it.
        ranks = np.array([[p], [2 * abs(p - 0.5)]])
        capital += 1 / ((i + 1) * (i + 2)) / capital.size
        capital *= 1 + SLOPES * (ranks - 0.5)
        evidence[i] = capital.sum() + 1 / (i + 2)
    return evidence
