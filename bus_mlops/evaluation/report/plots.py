"""Figures of a strategy's rows: ROC and calibration, learning curves, and test images with outlined lesions."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from bus_mlops.evaluation.cells import CELL
from bus_mlops.evaluation.report.drawing import data_address
from bus_mlops.evaluation.report.svg import DASHES, PALETTE, SOFT, Key, Panel, figure
from bus_mlops.evaluation.roc import evenly, roc_curve
from bus_mlops.evaluation.samples import Samples

if TYPE_CHECKING:
    import pandas as pd

Rows = Mapping[tuple[str, str], "pd.DataFrame"]

TRUE_MASK, PREDICTED_MASK = (0, 208, 132), (255, 149, 0)
SAMPLE_SIDE = 176
# More curves than this in one diagram cannot be told apart: then each model gets its own.
MOST_CURVES = 6
UNIT = (-0.01, 1.01)


def roc_figure(rows: Rows, areas: Mapping[tuple[str, str], str], alt: str) -> Markup:
    """ROC curves of the pooled test predictions of each (model, variant); a panel a model when many.

    `areas` are printed beside: those of the table, since the area of pooled predictions is another number.
    """

    def draw(panel: Panel, part: pd.DataFrame, key: Key) -> None:
        x, y, _ = roc_curve(part["label"].to_numpy(), part["probability"].to_numpy())
        kept = evenly(len(x))
        panel.line(x[kept], y[kept], key.color, dash=key.dash)

    return figure(
        [*_squares(rows, draw, "false positive rate", "true positive rate", areas)],
        alt,
    )


def calibration_figure(rows: Rows, alt: str) -> Markup:
    """Observed share of malignant images against the mean probability, in eight bins of equal counts."""

    def draw(panel: Panel, part: pd.DataFrame, key: Key) -> None:
        ordered = np.sort(part[["probability", "label"]].to_records(index=False), order="probability")
        edges = np.linspace(0, len(ordered), min(8, len(ordered)) + 1).astype(int)
        x, y = ([float(ordered[column][a:b].mean()) for a, b in pairwise(edges)] for column in ("probability", "label"))
        panel.line(x, y, key.color, 1.2, key.dash)
        panel.dots(x, y, key.color)

    return figure([*_squares(rows, draw, "mean predicted probability", "share malignant", {})], alt)


def learning_figure(curves: pd.DataFrame, alt: str) -> Markup:
    """Of each row a panel of losses and one of the validation ROC AUC; means, each fold thin behind them."""
    loss, validation, area = PALETTE[0], PALETTE[1], PALETTE[2]
    panels = []
    for (model, variant), group in curves.groupby(["model", "variant"], sort=False):
        ends = float(group["epoch"].min()), float(group["epoch"].max())
        ends = ends if ends[0] < ends[1] else (ends[0] - 1, ends[1])
        top = float(np.nanquantile(group[["loss", "validation_loss"]].to_numpy(), 0.99))
        title = f"{model}\n{variant}"
        upper = Panel(ends, (0, 1.05 * top if top > 0 else 1), title, "epoch", "loss", 200, 96)
        _fold_lines(upper, group, "loss", loss)
        _fold_lines(upper, group, "validation_loss", validation)
        panels.append(upper)
        if group["validation_roc_auc"].notna().any():  # else a network that does not classify
            lower = Panel(ends, (0, 1.02), title, "epoch", "validation ROC AUC", 200, 96)
            _fold_lines(lower, group, "validation_roc_auc", area)
            panels.append(lower)
    key = [Key("training loss", loss), Key("validation loss", validation), Key("validation ROC AUC", area)]
    return figure(panels, alt, key)


def outlined(samples: Samples) -> list[tuple[str, list[dict[str, Any]]]]:
    """Of each row (model and variant) its pictures: address, image, words on truth and answer, whether it is wrong."""
    shown: dict[str, list[dict[str, Any]]] = {}
    for i, model in enumerate(samples.model):
        p, truth = samples.probability[i], "malignant" if samples.label[i] else "benign"
        known = not np.isnan(p)
        picture = {
            "address": data_address(outlined_picture(samples, i)),
            "image_id": samples.image_id[i],
            "words": f"{truth}, p = {p:.2f}" if known else truth,
            "wrong": known and (p >= 0.5) != bool(samples.label[i]),
        }
        shown.setdefault(model, []).append(picture)
    return list(shown.items())


def outlined_picture(samples: Samples, index: int) -> bytes:
    """A sample (JPEG) with the true lesion outlined in green and the predicted one, broken, in orange."""
    from PIL import Image

    size = SAMPLE_SIDE, SAMPLE_SIDE
    grey = Image.fromarray(samples.image[index]).resize(size, Image.Resampling.BICUBIC)
    colour = np.repeat(np.asarray(grey)[..., np.newaxis], 3, axis=-1)
    across = np.add.outer(np.arange(SAMPLE_SIDE), np.arange(SAMPLE_SIDE)) // 5 % 2 == 0
    masks = (samples.mask_true[index], TRUE_MASK, True), (samples.mask_predicted[index], PREDICTED_MASK, across)
    for mask, ink, shown in masks:
        soft = Image.fromarray(mask * np.uint8(255)).resize(size, Image.Resampling.BICUBIC)
        colour[rim(np.asarray(soft) >= 128) & shown] = ink
    stream = io.BytesIO()
    Image.fromarray(colour).save(stream, format="JPEG", quality=82, subsampling=0)
    return stream.getvalue()


def rim(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The two outermost rings of pixels of a region, closed where it touches the edge of the picture."""
    core = inside
    for _ in range(2):
        wide = np.pad(core, 1)
        core = core & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inside & ~core


def _squares(rows: Rows, draw: Any, xlabel: str, ylabel: str, said: Mapping[tuple[str, str], str]) -> Iterable[Panel]:
    """Diagrams of two shares with their diagonal: all rows in one, or a model's in each when there are many."""
    for keys in _panels(rows):
        alone = len(keys) == len(rows)
        panel = Panel(UNIT, UNIT, "" if alone else keys[0][0], xlabel, ylabel, *((330, 270) if alone else (236, 190)))
        panel.line([0, 1], [0, 1], SOFT, 0.8, "1.5 3")
        for number, row in enumerate(keys):
            name = " ".join(row) if alone else row[1]
            label = f"{name}: {said[row]}" if row in said else name
            key = Key(label, PALETTE[number % 8], DASHES[number // 8 % 4])
            draw(panel, rows[row], key)
            panel.key.append(key)
        yield panel


def _panels(keys: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    every = list(keys)
    if len(every) <= MOST_CURVES:
        return [every]
    models = dict.fromkeys(model for model, _ in every)
    return [[key for key in every if key[0] == model] for model in models]


def _fold_lines(panel: Panel, group: pd.DataFrame, column: str, color: str) -> None:
    for _, fold in group.groupby(CELL):
        panel.line(fold["epoch"], fold[column], color, 0.6, opacity=0.4)
    mean = group.groupby("epoch")[column].mean()
    panel.line(mean.index, mean.to_numpy(), color, 1.8)
