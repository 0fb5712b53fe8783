"""Making folds: grouped and stratified, by source or scanner, or at random over images; and the balance reached.

Every block of sources that share no group is split by itself, with its own random numbers: adding or removing
a source leaves the folds of the others as they were (but for folds by source, where it adds a fold).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bus_mlops.config import FoldsConfig
from bus_mlops.dataset.audit import components
from bus_mlops.dataset.folds.assignment import (
    EXTERNAL,
    LEADING,
    LOCKED,
    PARTS,
    SEALED,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    fold_columns,
)
from bus_mlops.dataset.folds.partition import group_features, partition
from bus_mlops.dataset.folds.sealed import choose_locked, require_judgeable
from bus_mlops.errors import DatasetError
from bus_mlops.files import replaced_folder, write_json

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Objects = NDArray[np.object_]


def make_folds(
    manifest: pd.DataFrame, groups: pd.DataFrame, config: FoldsConfig, seed: int, external: Collection[str] = ()
) -> pd.DataFrame:
    """Put every image into the test part of exactly one fold, but for those that no fold touches.

    With kind `source`, fold k tests the k-th source in alphabetical order, and a training image that shares a group
    with a tested one is `unused` in that fold; with `device` likewise the k-th scanner that the manifest names.
    Official and published folds are imported, not made.

    Args:
        manifest: The benchmark's images.
        groups: The audit's (image_id, group).
        config: `validation` is the fraction of a fold's training groups (image-level: images) that validate.
        seed: What the result depends on; the order of the rows does not matter.
        external: Sources whose images are in no fold, and on which nothing of the others depends.

    Returns:
        image_id, source, label, case_id, group, and the part of each image in each fold.

    Raises:
        DatasetError: An image has no group or, with `device`, no scanner; there are not so many scanners; a part of a
            fold, or what no fold touches, would lack one of the labels.
    """
    whole = joined(manifest, groups)
    sealed = np.where(whole["source"].isin(list(external)), EXTERNAL, "").astype(object)
    ours = whole[sealed == ""]
    sealed[ours.index[choose_locked(ours, _blocks(ours), config.locked, seed)]] = LOCKED
    frame = whole[sealed == ""].reset_index(drop=True)
    if config.kind == "source":
        parts = _by_source(frame, config.validation, seed)
    elif config.kind == "device":
        parts = _by_device(frame, manifest.set_index("image_id")["scanner"], config, seed)
    elif config.kind == "image-level":
        parts = _by_image(frame, config, seed)
    elif config.kind == "grouped":
        parts = _by_group(frame, config, seed)
    else:
        raise DatasetError(f"folds of kind {config.kind} are imported with `bus-mlops folds import`, not made.")
    for fold, column in enumerate(parts, start=1):
        assigned = sealed.copy()
        assigned[sealed == ""] = column
        whole[f"fold_{fold}"] = assigned.astype(str)
    less = " Or lock fewer cases (folds.locked)." if config.locked else ""
    require_both_labels(whole, f"Use fewer folds (folds.count in params.yaml) or more images.{less}")
    require_judgeable(whole, external)
    return whole


def _by_group(frame: pd.DataFrame, config: FoldsConfig, seed: int) -> list[Objects]:
    """Groups stay whole; sources and labels are balanced over the test parts, and within each training part."""
    columns = [np.full(len(frame), TRAIN, dtype=object) for _ in range(config.count)]
    for sources in _blocks(frame):
        rows = np.flatnonzero(frame["source"].isin(sources).to_numpy())
        features, of_row = group_features(frame.iloc[rows])
        rng = np.random.default_rng(_seed(seed, sources))
        tested = partition(features, [1 / config.count] * config.count, rng)
        for number, parts in enumerate(columns):
            training = np.flatnonzero(tested != number)
            kept = partition(features[training], [1 - config.validation, config.validation], rng)
            by_group = np.full(len(features), TEST, dtype=object)
            by_group[training] = np.where(kept == 1, VALIDATION, TRAIN)
            parts[rows] = by_group[of_row]
    return columns


def _by_image(frame: pd.DataFrame, config: FoldsConfig, seed: int) -> list[Objects]:
    """At random within each source, whatever case or cluster an image belongs to, and without stratification.

    The released multitask scripts shuffle all images together; here each source is dealt out by itself, so
    that adding a source leaves the others alone.
    """
    columns = [np.full(len(frame), TRAIN, dtype=object) for _ in range(config.count)]
    for source in sorted(frame["source"].unique()):
        rows = np.flatnonzero((frame["source"] == source).to_numpy())
        rng = np.random.default_rng(_seed(seed, (source, "image-level")))
        # the first folds would otherwise get the odd images of every source
        tested = (rng.permutation(len(rows)) + rng.integers(config.count)) % config.count
        for number, parts in enumerate(columns):
            training = rng.permutation(np.flatnonzero(tested != number))
            parts[rows[tested == number]] = TEST
            parts[rows[training[: round(config.validation * len(training))]]] = VALIDATION
    return columns


def _by_source(frame: pd.DataFrame, validation: float, seed: int) -> list[Objects]:
    """Each source is the test part of one fold; what shares a group with it is set aside there."""
    sources = sorted(frame["source"].unique())
    if len(sources) < 2:
        raise DatasetError(
            f"folds by source need at least two sources, and the benchmark holds only {', '.join(sources)}. Add "
            "another source to data.sources in params.yaml, or set folds.kind to grouped."
        )
    return [_leaving_out(frame, (frame["source"] == source).to_numpy(), source, validation, seed) for source in sources]


def _by_device(frame: pd.DataFrame, scanner: pd.Series[str], config: FoldsConfig, seed: int) -> list[Objects]:
    """Each scanner is the test part of one fold; what shares a group with it is set aside there."""
    made = frame["image_id"].map(scanner).to_numpy()
    nameless = sorted(frame.loc[made == "", "source"].unique())
    if nameless:
        raise DatasetError(
            f"folds by device need to know which scanner made each image, and {', '.join(nameless)} does not say it of "
            f"{np.sum(made == '')}. Take it off data.sources in params.yaml, or name it in cohorts.external."
        )
    scanners = sorted(set(made))
    if len(scanners) != config.count:
        raise DatasetError(
            f"folds.count is {config.count}, and the images were made by {len(scanners)} scanner(s): "
            f"{', '.join(scanners)}. Folds by device are as many: set folds.count to {len(scanners)}, or another "
            "kind if that is 1."
        )
    return [_leaving_out(frame, made == name, name, config.validation, seed) for name in scanners]


def _leaving_out(frame: pd.DataFrame, tested: NDArray[np.bool_], name: str, validation: float, seed: int) -> Objects:
    """The parts of the fold that tests some images; what touches them is unused, the rest trains and validates."""
    parts = np.full(len(frame), TRAIN, dtype=object)
    touching = frame["group"].isin(frame.loc[tested, "group"]).to_numpy()
    parts[touching], parts[tested] = UNUSED, TEST
    training = frame[~touching]
    for block in _blocks(training):
        rows = np.flatnonzero(frame["source"].isin(block).to_numpy() & ~touching)
        features, of_row = group_features(frame.iloc[rows])
        rng = np.random.default_rng(_seed(seed, (*block, f"without {name}")))
        kept = partition(features, [1 - validation, validation], rng)
        parts[rows] = np.where(kept[of_row] == 1, VALIDATION, TRAIN)
    return parts


def image_level_folds(folds: pd.DataFrame, config: FoldsConfig, seed: int) -> pd.DataFrame:
    """The same images as in other folds, at random over images: what those would be if groups were torn.

    What no fold touches stays so. Where the locked part is the configured one, these are the folds of `make_folds` with
    kind `image-level`.

    Args:
        folds: folds.csv of the others.
        config: Its count and validation fraction count.
        seed: Of the project.

    Raises:
        DatasetError: A part of a fold would lack one of the labels.
    """
    whole = folds.sort_values("image_id", kind="stable", ignore_index=True)[LEADING]
    first = folds.set_index("image_id").loc[whole["image_id"], fold_columns(folds)[0]]
    sealed = first.isin(SEALED).to_numpy()
    drawn = _by_image(whole[~sealed].reset_index(drop=True), config, seed)
    for fold, column in enumerate(drawn, start=1):
        assigned = first.to_numpy(dtype=object, copy=True)
        assigned[~sealed] = column
        whole[f"fold_{fold}"] = assigned.astype(str)
    require_both_labels(whole)
    return whole


def require_sources(manifest: pd.DataFrame, planned: Sequence[str]) -> None:
    """Raise DatasetError unless the benchmark holds exactly the sources whose folds are planned."""
    present = sorted(manifest["source"].unique())
    if present != sorted(planned):
        raise DatasetError(
            f"folds by source are planned for {', '.join(planned)}, the benchmark holds {', '.join(present)}. Set "
            "data.sources in params.yaml to the sources that are there."
        )


def require_both_labels(frame: pd.DataFrame, remedy: str = "") -> None:
    """Raise DatasetError where a train, validation or test part of a fold lacks one of the labels."""
    remedy = remedy or "Use fewer folds (folds.count in params.yaml) or more images."
    for column in fold_columns(frame):
        for part in PARTS:
            labels = frame.loc[frame[column] == part, "label"]
            if labels.nunique() < 2:
                raise DatasetError(
                    f"the {part} part of fold {column.removeprefix('fold_')} would hold {len(labels)} images of "
                    f"{labels.nunique()} of the 2 labels. {remedy}"
                )


def balance(frame: pd.DataFrame) -> pd.DataFrame:
    """What was reached: images and groups of each fold, part, source and label (0 benign, 1 malignant).

    `share` is the fraction of that source's images of that label that lie in the part; a test part's would be
    1 / folds if it could be met exactly.
    """
    import pandas as pd

    whole = frame.groupby(["source", "label"])["image_id"].size()
    counts = []
    for fold, column in enumerate(fold_columns(frame), start=1):
        found = frame.groupby([column, "source", "label"]).agg(images=("image_id", "size"), groups=("group", "nunique"))
        used = [part for part in (*PARTS, UNUSED, *SEALED) if part in PARTS or (frame[column] == part).any()]
        every = pd.MultiIndex.from_tuples([(part, *key) for part in used for key in whole.index])
        found = found.reindex(every, fill_value=0).rename_axis(["part", "source", "label"]).reset_index()
        found.insert(0, "fold", fold)
        counts.append(found)
    table = pd.concat(counts, ignore_index=True)
    of = whole.reindex(pd.MultiIndex.from_frame(table[["source", "label"]])).to_numpy()
    return table.assign(share=(table["images"] / of).round(4))


def write_folds(frame: pd.DataFrame, kind: str, folder: Path) -> pd.DataFrame:
    """Write folds.csv, its kind (folds.json) and the balance (balance.csv) into a folder.

    Returns:
        The balance.
    """
    reached = balance(frame)
    with replaced_folder(folder) as partial:
        frame.to_csv(partial / "folds.csv", index=False, lineterminator="\n")
        reached.to_csv(partial / "balance.csv", index=False, lineterminator="\n")
        write_json(partial / "folds.json", {"kind": kind, "count": len(fold_columns(frame))})
    return reached


def describe_balance(table: pd.DataFrame) -> str:
    """The departure of the test parts from equal shares, over all sources and labels, in one line for people."""
    tests = table[table["part"] == TEST].reset_index(drop=True)
    folds = tests["fold"].nunique()
    fair = tests.groupby(["source", "label"])["images"].transform("sum") / folds
    tests, fair = tests[fair > 0], fair[fair > 0]  # an external source is tested in no fold
    off = (tests["images"] - fair).abs()
    worst = tests.iloc[int(off.to_numpy().argmax())]
    where = f"{worst['source']} {('benign', 'malignant')[worst['label']]}, fold {worst['fold']}"
    return (
        "balance of the test parts by source and label: "
        f"{off.mean():.2f} images off an equal share on average, {off.max():.1f} at most ({where})"
    )


def joined(manifest: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """The leading columns of folds.csv, sorted by image id.

    Raises:
        DatasetError: An image has no group.
    """
    frame = manifest[LEADING[:-1]].merge(groups[["image_id", "group"]], on="image_id", how="left")
    bare = frame.loc[frame["group"].isna(), "image_id"]
    if len(bare) or len(frame) != len(manifest):
        what = f"{bare.iloc[0]} has no leakage group" if len(bare) else "an image has several leakage groups"
        raise DatasetError(f"{what}: the audit does not fit the benchmark. Run `dvc repro audit`.")
    return frame.sort_values("image_id", kind="stable", ignore_index=True)


def _blocks(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """Sources that share a group belong together; all others stand alone."""
    sources = sorted(frame["source"].unique())
    place = {source: i for i, source in enumerate(sources)}
    links = []
    for together in frame.groupby("group")["source"].unique():
        links += [(place[together[0]], place[other]) for other in together[1:]]
    roots = components(len(sources), links)
    return [tuple(s for s, r in zip(sources, roots, strict=True) if r == root) for root in np.unique(roots)]


def _seed(seed: int, sources: Sequence[str]) -> list[int]:
    digest = hashlib.sha256("+".join(sources).encode()).digest()
    return [seed, int.from_bytes(digest[:8], "big")]
