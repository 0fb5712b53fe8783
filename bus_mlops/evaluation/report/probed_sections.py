"""Sections of the report on probed networks: where they look, their worst failures, what they bear, what they cost."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bus_mlops.evaluation.cells import ROW
from bus_mlops.evaluation.metrics import METRICS
from bus_mlops.evaluation.report.drawing import data_address
from bus_mlops.evaluation.report.probed_figures import cost_figure, robustness_figure
from bus_mlops.evaluation.report.tabled import Section, render

if TYPE_CHECKING:
    import pandas as pd

Pixels = npt.NDArray[np.uint8]

# Beside the tables lies what they were made of.
PICTURES = "probes/pictures.npz"
# Each picture has a few kilobytes: with more failures the page would be slow.
MOST_PICTURES = 64
JPEG_QUALITY = 80
OUTLINE, HEAT = (0, 208, 132), (255, 80, 0)


def failures_section(tables: Path) -> Section | None:
    """Where the probed networks look, and the images on which they were most surely wrong."""
    explained, failures = _table(tables, "explanations"), _table(tables, "failures")
    if explained is None and failures is None:
        return None
    rows = [] if explained is None else [_looked(row, own) for row, own in _by_row(explained)]
    pictures = _pictures(tables.parent / PICTURES, 0 if failures is None else len(failures))
    groups = [] if failures is None else [_failed(row, own, pictures) for row, own in _by_row(failures)]
    html = render("failures", rows=rows, groups=groups, own_mask=any(row["own"] for row in rows))
    lead = "The images on which the candidate and its rival were most surely wrong, and what their answers rest on."
    return Section("failures", "Worst failures, and where the networks look", html, lead, ("failures", "explanations"))


def robustness_section(tables: Path) -> Section | None:
    """What gain, contrast, speckle, blur, compression, crop, marks and an attack do to the probed networks."""
    table = _table(tables, "robustness")
    if table is None:
        return None
    drops = table[table["what"] == "drop"]
    strongest = drops[drops["strength"] == drops["strength"].max()]
    rows = [(row, _fallen(own)) for row, own in _by_row(strongest)]
    figure = robustness_figure(table)
    images = int(table["images"].max())
    html = render("robustness", rows=rows, figure=figure, images=images)
    lead = "What gain, contrast, speckle, blur, compression, crop, marks and an attack do to the probed networks."
    return Section("robustness", "Robustness", html, lead)


def cost_section(tables: Path) -> Section | None:
    """What the network of each row costs, and what it reaches for that."""
    table = _table(tables, "cost")
    if table is None:
        return None
    wide = table.pivot_table(index=["architecture", "network"], columns="metric", values="estimate", sort=False)
    wide = wide.reset_index().sort_values("multiply_accumulates")
    rows = [
        {
            "architecture": each["architecture"],
            "parameters": f"{each['parameters'] / 1e6:.2f}",
            "gmac": f"{each['multiply_accumulates'] / 1e9:.3g}",
            "latency": _number(each.get("latency_ms"), "{:.1f}"),
            "memory": _number(each.get("peak_memory_mb"), "{:.0f}"),
        }
        for each in wide.to_dict("records")
    ]
    threads = table["threads"].dropna()
    areas = _areas(tables, table)
    return Section(
        "cost",
        "Cost",
        render(
            "cost",
            rows=rows,
            figure=cost_figure(areas) if len(areas) else "",
            machine=str(table["machine"].iloc[0]),
            threads=int(threads.max()) if len(threads) else 0,
        ),
        "Parameters, multiply-accumulates, latency and memory of every network, and what it reaches for them.",
    )


def _areas(tables: Path, costs: pd.DataFrame) -> pd.DataFrame:
    """ROC area and multiply-accumulates of each row that has both."""
    import pandas as pd

    found = []
    for strategy in costs["strategy"].unique():
        results = _table(tables, str(strategy))
        if results is not None and "roc_auc_mean" in results.columns:
            found.append(results[["model", "variant", "roc_auc_mean"]].assign(strategy=strategy))
    macs = costs[costs["metric"] == "multiply_accumulates"]
    if not found:
        return macs.iloc[:0]
    merged = pd.concat(found, ignore_index=True).dropna(subset=["roc_auc_mean"]).merge(macs, on=list(ROW))
    return merged.assign(gmac=merged["estimate"] / 1e9)


def _fallen(own: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "corruption": corruption,
            "parameter": part["parameter"].iloc[0],
            "cells": [_cell(part, metric, signed=True) for metric in ("roc_auc", "sensitivity")],
        }
        for corruption, part in own.groupby("corruption", sort=False)
    ]


def _looked(row: str, own: pd.DataFrame) -> dict[str, Any]:
    return {
        "row": row,
        "images": int(own["images"].iloc[0]),
        "pointing": _cell(own, "pointing"),
        "energy": _cell(own, "energy"),
        "chance": _cell(own, "chance"),
        "centre": _cell(own, "centre"),
        "above": _cell(own, "pointing_above_chance", signed=True),
        "own": _cell(own, "pointing_own_mask"),
        "area": _cell(own, "roc_auc"),
    }


def _failed(row: str, own: pd.DataFrame, pictures: list[tuple[str, str]]) -> dict[str, Any]:
    lines = []
    for index, line in zip(own.index, own.to_dict("records"), strict=True):
        image, neighbour = pictures[index] if index < len(pictures) else ("", "")
        lines.append({**line, "picture": image, "neighbour_picture": neighbour})
    kinds = {
        "false negative": "called benign, malignant in truth",
        "false positive": "called malignant, benign in truth",
    }
    return {
        "row": row,
        "kinds": [(kind, words, [line for line in lines if line["kind"] == kind]) for kind, words in kinds.items()],
    }


def _pictures(path: Path, count: int) -> list[tuple[str, str]]:
    """Each failure with outline and heat, and its nearest training neighbour, as addresses."""
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name][: min(count, MOST_PICTURES)] for name in ("image", "neighbour", "mask", "heat")}
    return [
        (data_address(_jpeg(_drawn(image, mask, heat))), data_address(_jpeg(neighbour)))
        for image, neighbour, mask, heat in zip(*arrays.values(), strict=True)
    ]


def _drawn(image: Pixels, mask: Pixels, heat: Pixels) -> Pixels:
    """The image in colour, what speaks for the answer laid over it, the lesion outlined."""
    colour = np.repeat(image[..., np.newaxis], 3, axis=-1).astype(np.float64)
    opacity = 0.55 * heat[..., np.newaxis] / 255
    colour = colour * (1 - opacity) + np.array(HEAT) * opacity
    inside = np.pad(mask >= 128, 1)
    core = inside[1:-1, 1:-1]
    edge = core & ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])
    colour[edge] = OUTLINE
    return np.rint(colour).astype(np.uint8)


def _jpeg(pixels: Pixels) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _by_row(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(f"{key[1]} {key[2]} ({key[0]})", own) for key, own in frame.groupby(list(ROW), sort=False)]


def _cell(own: pd.DataFrame, metric: str, *, signed: bool = False) -> str:
    """An estimate with its interval: an area as a fraction, everything else in percent."""
    found = own[own["metric"] == metric]
    if found.empty:
        return ""
    fraction = metric in METRICS and METRICS[metric].unit == "fraction"
    values = [float(found[name].iloc[0]) for name in ("estimate", "low", "high")]
    if signed:
        said = [f"{each:+.3f}" if fraction else f"{100 * each:+.1f}" for each in values]
    else:
        said = [f"{each:.3f}" if fraction else f"{100 * each:.1f}" for each in values]
    return said[0] if np.isnan(values[1]) else f"{said[0]} ({said[1]} to {said[2]})"


def _number(value: Any, form: str) -> str:
    return "" if value is None or np.isnan(value) else form.format(value)


def _table(tables: Path, name: str) -> pd.DataFrame | None:
    """A table that has rows."""
    import pandas as pd

    path = tables / f"{name}.csv"
    frame = pd.read_csv(path) if path.is_file() else None
    return None if frame is None or frame.empty else frame
