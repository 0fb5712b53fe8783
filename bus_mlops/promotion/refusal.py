"""What a candidate's package knows of what it cannot answer, fitted to its images and calibrated on validation parts.

The oddity of a picture is a discriminant between looks at the training images (each as it is, and as another scanner
or hand might have given it) and pictures that a program draws. Its threshold is a conformal quantile of oddness over
such other looks at images that the discriminant was not fitted to: whole leakage groups are held out. What it
refuses is measured in the same way, and, where there are several sources, on each by a discriminant fitted to the
others: what a new scanner may cost.

Triage is calibrated on the validation parts, as the threshold is, and measured on the test parts. Both rules are
measured on a cohort that no fold touches where the gate reads one, in that reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from bus_mlops.consumer.local_statistics import share_of
from bus_mlops.consumer.local_triage import called_by, fit_rule
from bus_mlops.consumer.refusal import CLIP, HELD_OUT, Oddity, Refusal, Share, TriageRule, conformal_cut
from bus_mlops.images.contrast import require_contrast
from bus_mlops.images.geometry import prepare
from bus_mlops.images.picture_statistics import STATISTICS_VERSION, Floats, Pixels, picture_statistics
from bus_mlops.promotion.odd_pictures import drawn
from bus_mlops.promotion.perturbation import perturbed

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

# Log odds of 3 to 1: below them a picture is answered, however even the hand of the scanners that were learnt from.
LEAST_THRESHOLD = float(np.log(3))
# Share of a picture that may be coloured where the images are gray: marks and rulers are, of BUSI and BUS-BRA nothing.
MOST_COLOR = 0.05
# Fewer groups than this are no sample of what a scanner gives: nothing is fitted, and the package says so.
FEWEST_GROUPS = 20
# So many images, drawn evenly, describe a source; more only cost time.
MOST_IMAGES = 1500
COPIES = 2
PICTURES = 24
FRESH_PICTURES = 6
PARTS = 5
# Inverse strength of the penalty: of .0003, .001, .003 and .01 the one that refuses most other pictures, fitted to BUSI
# or to BUS-BRA alone (benchmarks/refusal.py).
INVERSE_PENALTY = 0.01


def fit_oddity(
    squares: Pixels, groups: npt.ArrayLike, sources: npt.ArrayLike, rate: float, *, seed: int = 0
) -> Oddity | None:
    """Fit and measure the rule that tells a model's kind of picture from others.

    Args:
        squares: The training images as the network gets them: (N, S, S) or (N, S, S, 3), 0-255.
        groups: What must be held out together, (N,).
        sources: Where each comes from, (N,).
        rate: Share of looks, held out, that may be refused.
        seed: Of copies and drawn pictures.

    Returns:
        None where there are fewer than 20 groups.
    """
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return None
    chosen = np.unique(np.linspace(0, len(squares) - 1, min(MOST_IMAGES, len(squares))).round().astype(int))
    looks = _looks(squares, chosen, seed)
    own_groups, own_sources = places[chosen], np.asarray(sources)[chosen]
    side = int(squares.shape[1])
    pictures, fresh = odd_statistics(side, PICTURES, seed), odd_statistics(side, FRESH_PICTURES, seed + 1)
    rule, held = _with_threshold(looks, own_groups, pictures, rate, seed)
    found = {HELD_OUT: _share(held[:, 0] > rule.threshold, own_groups)}
    for source in np.unique(own_sources):
        out = own_sources == source
        if min(len(np.unique(own_groups[each])) for each in (out, ~out)) >= FEWEST_GROUPS:
            other, _ = _with_threshold(looks[~out], own_groups[~out], pictures, rate, seed)
            found[f"{source}, when it was left out"] = _share(
                other.of(looks[out, 0]) > other.threshold, own_groups[out]
            )
    found["drawn pictures of other things"] = _share(rule.of(fresh) > rule.threshold, np.arange(len(fresh)) // 2)
    return rule.model_copy(update={"refused": found})


def _with_threshold(
    looks: Floats, groups: npt.NDArray[np.intp], pictures: Floats, rate: float, seed: int
) -> tuple[Oddity, Floats]:
    """The rule fitted to all looks (n, 1 + copies, 71), and their oddness (n, 1 + copies) where they are held out."""
    names, places = np.unique(groups, return_inverse=True)
    parts = (np.random.default_rng(seed).permutation(len(names)) % PARTS)[places]
    held = _held_out(looks, pictures, parts)
    cut = conformal_cut(-held[:, 1:].ravel(), rate)
    # So few looks that the rate allows none of them: all are answered.
    threshold = max(LEAST_THRESHOLD, float(held.max()) if cut is None else -cut)
    rule = _discriminant(looks, pictures)
    return rule.model_copy(update={"threshold": threshold, "rate": rate, "images": len(looks)}), held


def _looks(squares: Pixels, chosen: npt.NDArray[np.intp], seed: int) -> Floats:
    """The statistics (n, 1 + copies, 71) of images, first as they are, then of their copies."""
    side = squares.shape[1]

    def rows() -> Iterator[list[Floats]]:
        for i in chosen:
            gray = _gray(np.asarray(squares[i]))
            rng = np.random.default_rng((seed, int(i)))
            copies = (prepare(perturbed(gray, rng), side) for _ in range(COPIES))
            yield [picture_statistics(gray), *map(picture_statistics, copies)]

    return np.array(list(rows()))


@cache
def odd_statistics(side: int, count: int, seed: int) -> Floats:
    """The statistics (M, 71) of drawn pictures, `count` of a kind that show anything, each before a perturbed copy."""
    found: list[Floats] = []
    for _, _, pixels in drawn(count, seed):
        gray = _gray(pixels)
        if not _shows_anything(gray):
            continue
        square = prepare(gray, side)
        rng = np.random.default_rng((seed, len(found)))
        found += [picture_statistics(square), picture_statistics(prepare(perturbed(square, rng), side))]
    return np.array(found)


def _shows_anything(gray: Pixels) -> bool:
    from bus_mlops.errors import ImageError

    try:
        require_contrast(gray, "a drawn picture")
    except ImageError:
        return False
    return True


def _gray(pixels: Pixels) -> Pixels:
    from PIL import Image

    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))


# Threads of BLAS wait for each other longer than they compute here.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]  # it declares no types
def _discriminant(looks: Floats, pictures: Floats) -> Oddity:
    from sklearn.linear_model import LogisticRegression

    own = looks.reshape(-1, looks.shape[-1])
    center, scale = own.mean(axis=0), own.std(axis=0) + 1e-6
    both = np.clip((np.concatenate([own, pictures]) - center) / scale, -CLIP, CLIP)
    labels = np.repeat([0, 1], [len(own), len(pictures)])
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    model.fit(np.hstack([both, both**2 - 1]), labels)
    linear, square = np.split(model.coef_[0], 2)
    return Oddity(
        statistics_version=STATISTICS_VERSION,
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        linear=tuple(linear.tolist()),
        square=tuple(square.tolist()),
        bias=float(model.intercept_[0]),
        threshold=0.0,
        rate=0.0,
        images=len(looks),
    )


def _held_out(looks: Floats, pictures: Floats, parts: npt.NDArray[np.intp]) -> Floats:
    """The oddness (n, 1 + copies) of looks, each by a discriminant that saw none of its group."""
    held = np.empty(looks.shape[:2])
    for part in np.unique(parts):
        rule, own = _discriminant(looks[parts != part], pictures), looks[parts == part]
        held[parts == part] = rule.of(own.reshape(-1, own.shape[-1])).reshape(own.shape[:2])
    return held


def _share(events: npt.NDArray[np.bool_], groups: npt.NDArray[Any]) -> Share:
    if not len(events):
        return Share(of=0)
    found = share_of(events.astype(np.float64), groups)
    low, high = (None if np.isnan(x) else float(np.clip(x, 0, 1)) for x in (found.low, found.high))
    return Share(of=len(events), share=float(events.mean()), low=low, high=high)


def fit_triage(rows: pd.DataFrame, miss_rate: float, false_alarm_rate: float) -> TriageRule:
    """Class-conditional split conformal cuts, on one score a case: of its images the one that is easiest got wrong.

    A case is a leakage group where the rows have one. An image that several folds validate counts by its mean.

    Args:
        rows: Answers to images that calibrate: `image_id`, `case_id` or `group`, `label`, `probability` (0-1).
        miss_rate: Of malignant cases.
        false_alarm_rate: Of benign cases.
    """
    column = "group" if "group" in rows else "case_id"
    images = rows.groupby("image_id").agg({column: "first", "label": "first", "probability": "mean"})
    images = images[np.isfinite(images["probability"])]
    labels, probabilities = images["label"].to_numpy(), images["probability"].to_numpy(np.float64)
    return fit_rule(labels, probabilities, images[column].to_numpy(np.str_), miss_rate, false_alarm_rate)


def measured_triage(rule: TriageRule, rows: pd.DataFrame) -> Mapping[str, Share]:
    """What a rule does to answers that it was not calibrated on: shares with intervals over whole cases.

    Args:
        rule: The triage.
        rows: One an image: `case_id` or `group`, `label`, `probability`.
    """
    return _shares_of(called_by(rule, rows["probability"].to_numpy()), rows)


def measured_on_cohort(refusal: Refusal, rows: pd.DataFrame) -> dict[str, Share]:
    """What a package's rules do to images of another place, each by the first rule that decides; shares as above.

    Colour is not among the reasons: a cohort is judged as it was assembled, in the package's own colours.

    Args:
        refusal: The rules.
        rows: One an image: `group`, `label`, `probability`, `oddness` (NaN where the package cannot tell).
    """
    found: dict[str, Share] = {}
    is_odd = np.zeros(len(rows), np.bool_)
    if refusal.oddity is not None:
        is_odd = rows["oddness"].to_numpy() > refusal.oddity.threshold
        found["refused"] = _share(is_odd, rows["group"].to_numpy().astype(np.str_))
    if refusal.triage is not None:
        called = called_by(refusal.triage, rows["probability"].to_numpy())
        found |= _shares_of(np.where(is_odd, "refused", called), rows)
    return found


def _shares_of(said: npt.NDArray[np.str_], rows: pd.DataFrame) -> dict[str, Share]:
    """By what was said of each image."""
    labels = rows["label"].to_numpy()
    groups = rows["group" if "group" in rows else "case_id"].to_numpy().astype(np.str_)
    events = {
        "low": (said == "low", labels >= 0),
        "high": (said == "high", labels >= 0),
        "uncertain": (said == "uncertain", labels >= 0),
        "malignant called low": (said == "low", labels == 1),
        "benign called high": (said == "high", labels == 0),
        "benign among low": (labels == 0, said == "low"),
        "malignant among high": (labels == 1, said == "high"),
    }
    return {name: _share(event[among], groups[among]) for name, (event, among) in events.items()}
