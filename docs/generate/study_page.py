"""`docs/study/index.md`, its figures and the README's part, from the tables in `docs/study/` alone.

python docs/generate/study_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from bus_mlops.evaluation.comparison import holm
from bus_mlops.evaluation.paper.sentences import ALPHA
from bus_mlops.files import read_json
from bus_mlops.gate.gate import in_order
from bus_mlops.project import profile_config

ROOT = Path(__file__).parents[2]
FOLDER, README = ROOT / "docs" / "study", ROOT / "README.md"
TEMPLATE = Path(__file__).with_name("study_page.txt")
MARKS = re.compile(r"(<!-- study -->\n).*?(<!-- /study -->\n)", re.DOTALL)
TABLES = ("rows", "findings", "across", "leak", "cells", "curves")
# The README leads with the study as soon as it has the first finding of a trained network.
LEADING = (("transfer_learning", "MobileNet", "TL"), ("transfer_learning", "MobileNet", "S"))
NAMES = {"busi": "BUSI", "busbra": "BUS-BRA"}
# Seconds of one core for an epoch of 1,007 images at 96 pixels: two epochs of 256 images, the second counts.
COST = (
    ("MobileNet", 14, "measured"),
    ("MobileNet with its decoder", 37, "measured"),
    ("MT-ESTAN, MobileNet's encoder, width 0.25", 46, "measured"),
    ("EMT-Net", 30, "measured"),
    ("DenseNet121", 55, "measured"),
    ("SHA-MTL", 74, "measured"),
    ("DenseNet121 with its decoder", 95, "estimated"),
    ("Vakanski, as published", 500, "estimated"),
)


def read() -> dict[str, pd.DataFrame]:
    """The tables; one that is not there yet is empty."""
    paths = {name: FOLDER / f"{name}.csv" for name in TABLES}
    return {name: pd.read_csv(path) if path.is_file() else pd.DataFrame() for name, path in paths.items()}


def write() -> None:
    """Page, figures, and the README's part."""
    tables, about = read(), read_json(FOLDER / "about.json")
    draw(tables)
    (FOLDER / "index.md").write_text(page(tables, about), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(MARKS.sub(lambda marks: f"{marks[1]}{lead(tables, about)}{marks[2]}", text), encoding="utf-8")


def page(tables: dict[str, pd.DataFrame], about: dict[str, Any]) -> str:
    """The whole page: `study_page.txt`, filled."""
    done, cells, promotion = finished(tables["rows"]), tables["cells"], profile_config("study").promotion.model_dump()
    counts = (
        f"{NAMES[name]} {count:,} ({about['malignant'][name]} malignant)" for name, count in about["images"].items()
    )
    blocks = {
        "results": _results(done),
        "missing": _missing(tables["rows"]),
        "findings": _findings(tables["findings"]),
        "leak": _leak(tables["leak"]),
        "across": _across(tables["across"]),
        "curves": _curves(tables["curves"]),
        "gate": _gate(about["gate"], tables["rows"]),
        "cost": _cost(done),
    }
    found = about["audit"]
    clusters, parts = found["clusters"], found["clusters"]["images_per_source"]
    shares = " and ".join(
        f"{parts.get(name, 0)} of {count} in {NAMES[name]}" for name, count in about["images"].items()
    )
    words = {
        "audit": f"{clusters['count']} clusters of near-duplicates, which hold {clusters['images']} images ({shares}), "
        f"{found['exact_duplicate_pairs']} identical pair, and {found['conflicts']} clusters with both labels",
        "standing": _standing(tables["rows"], about),
        "images": f"{sum(about['images'].values()):,}",
        "groups": f"{about['groups']:,}",
        "sources": ", ".join(counts),
        "sensitivity": promotion["minimum_sensitivity"],
        "specificity": promotion["minimum_specificity"],
        "seed": about["seed"],
        "data": about["data_digest"],
        "folds": about["folds_digest"],
        "versions": ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
        "trainings": f"{len(cells)} trainings{'' if cells.empty else _clean(cells)}",
    }
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(words, **{name: "\n".join(lines) for name, lines in blocks.items()})


def lead(tables: dict[str, pd.DataFrame], about: Mapping[str, Any]) -> str:
    """What the README says of the study; nothing until the rows of `LEADING` are there."""
    done = finished(tables["rows"])
    there = [
        ((done["strategy"] == s) & (done["model"].str.startswith(m)) & (done["variant"].str.startswith(v))).any()
        for s, m, v in LEADING
    ]
    if not all(there):
        return ""
    lines = [
        "## On real images",
        "",
        _standing(tables["rows"], about),
        "Five grouped folds of BUSI and BUS-BRA, with 95 % intervals: [the study](docs/study/index.md).",
        "",
        # Tables that share trainings, such as those without augmentation, share the row.
        *_rows_table(done.drop_duplicates(["roc_auc", "sensitivity"]), ("roc_auc", "sensitivity", "specificity")),
        "",
        *_outlook(tables),
        *_verdict(about["gate"]),
        "![Areas under the ROC curve with 95 % intervals](docs/study/areas.svg)",
        "",
    ]
    return "\n".join(lines) + "\n"


def _outlook(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """What leaks add to the leading row, and what it does on a source that it has not seen, where that is known."""
    _, model, variant = LEADING[0]
    said = []
    for name, chosen in (("leak", {"metric": "roc_auc"}), ("across", {"unit": "image"})):
        table = tables.get(name, pd.DataFrame())
        for column, value in {"model": model, "variant": variant, **chosen}.items():
            table = table[table[column] == value] if column in table else table.iloc[:0]
        for row in table.to_dict("records"):
            if name == "leak":
                numbers = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
                said.append(f"On folds that leak, the area of {model} {variant} is {numbers} higher.")
            else:
                ends = [NAMES.get(row[end], row[end]) for end in ("trained_on", "tested_on")]
                said.append(f"Trained on {ends[0]} and tested on {ends[1]} its area is {_interval(row, 'roc_auc')}.")
    if said:
        yield " ".join(said)
        yield ""


def _verdict(decision: str) -> Iterator[str]:
    """What the gate said of MT-ESTAN, once it has."""
    if found := re.match(r"# Gate of (\S+): (.+)", decision):
        titles = {rule.id: rule.title for rule in in_order()}
        verdict = re.sub(r"\bG\d\b", lambda each: titles.get(each[0], each[0]), found[2])
        yield f"The gate on MT-ESTAN (`{found[1]}`): **{verdict}**, [number by number](docs/study/index.md#the-gate)."
        yield ""


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have all folds of a seed."""
    return rows[rows["seeds"] > 0]


def _results(done: pd.DataFrame) -> Iterator[str]:
    if done.empty:
        yield "No row is finished yet."
        return
    yield from _rows_table(done, ("roc_auc", "balanced_accuracy", "sensitivity", "specificity", "dice"))
    yield from ("", "![Areas under the ROC curve with 95 % intervals](areas.svg)")


def _standing(rows: pd.DataFrame, about: Mapping[str, Any]) -> str:
    if (rows["seeds"] == rows["seeds_planned"]).all():
        return f"Complete: all {len(rows)} rows with all of their seeds."
    return (
        f"Partial: {len(finished(rows))} of {len(rows)} rows have all folds of a seed, {about['trainings']} of "
        f"{about['trainings_planned']} trainings are finished; the others are to come."
    )


def _rows_table(done: pd.DataFrame, metrics: Iterable[str]) -> Iterator[str]:
    titles = {"roc_auc": "ROC AUC", "balanced_accuracy": "balanced accuracy", "dice": "Dice"}
    shown = [metric for metric in metrics if metric in done and done[metric].notna().any()]
    yield _line(["table", "row", "seeds", *(titles.get(metric, metric) for metric in shown)])
    yield _line(["---"] * 3 + ["---:"] * len(shown))
    for row in done.to_dict("records"):
        numbers = [_interval(row, metric) for metric in shown]
        yield _line([row["strategy"].replace("_", " "), f"{row['model']} {row['variant']}", row["seeds"], *numbers])


def _missing(rows: pd.DataFrame) -> Iterator[str]:
    left = rows[rows["seeds"] < rows["seeds_planned"]]
    if left.empty:
        yield "Nothing: all rows have all of their seeds."
        return
    yield _line(["table", "row", "trainings finished"])
    yield _line(["---", "---", "---:"])
    for row in left.to_dict("records"):
        title = f"{row['model']} {row['variant']}"
        yield _line([row["strategy"].replace("_", " "), title, f"{row['cells']} of {row['cells_planned']}"])


def _findings(findings: pd.DataFrame) -> Iterator[str]:
    yield _line(["claim", "difference", "p", "p (Holm)", "here"])
    yield _line(["---", "---:", "---:", "---:", "---"])
    # Claims that are still to be tested belong to the family: no verdict is taken back when they are.
    adjusted = holm(findings["p"].fillna(1.0).tolist())
    for row, p in zip(findings.to_dict("records"), adjusted, strict=True):
        if pd.isna(row["difference"]):
            yield _line([row["claim"], "", "", "", "not trained yet"])
            continue
        verdict = "undecided" if p >= ALPHA else "yes" if row["difference"] > 0 else "the other way round"
        numbers = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        yield _line([row["claim"], numbers, f"{row['p']:.2g}", f"{p:.2g}", verdict])


def _leak(leak: pd.DataFrame) -> Iterator[str]:
    if leak.empty:
        yield "Not trained yet."
        return
    yield _line(["row", "metric", "leaking minus grouped", "p"])
    yield _line(["---", "---", "---:", "---:"])
    for row in leak.to_dict("records"):
        numbers = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
        yield _line([f"{row['model']} {row['variant']}", row["metric"], numbers, f"{row['p']:.2g}"])


def _across(across: pd.DataFrame) -> Iterator[str]:
    if across.empty:
        yield "Not trained yet."
        return
    yield _line(["row", "trained on", "tested on", "per", "n", "ROC AUC", "sensitivity", "specificity"])
    yield _line(["---"] * 4 + ["---:"] * 4)
    # Tables that share trainings, such as those without augmentation, share the row.
    once = across.drop_duplicates(["trained_on", "tested_on", "unit", "roc_auc", "sensitivity"])
    for row in once.to_dict("records"):
        numbers = [_interval(row, metric) for metric in ("roc_auc", "sensitivity", "specificity")]
        ends = [NAMES.get(row[end], row[end]) for end in ("trained_on", "tested_on")]
        yield _line([f"{row['model']} {row['variant']}", *ends, row["unit"], row["count"], *numbers])


def _curves(curves: pd.DataFrame) -> Iterator[str]:
    if curves.empty:
        yield "No row that is trained by epochs is finished yet."
        return
    yield "![Validation loss and validation ROC AUC by epoch](curves.svg)"
    yield ""
    yield _line(["row", "lowest validation loss at epoch", "gain in validation ROC AUC of the last 5 epochs"])
    yield _line(["---", "---:", "---:"])
    for key, curve in curves.groupby(["strategy", "model", "variant"], sort=False):
        strategy, model, variant = map(str, key)
        area = curve["validation_roc_auc"].to_numpy()
        gain = area[-5:].mean() - area[-10:-5].mean()
        best = curve["epoch"].to_numpy()[curve["validation_loss"].to_numpy().argmin()]
        yield _line([f"{strategy.replace('_', ' ')}: {model} {variant}", best, f"{gain:+.3f}"])


def _gate(decision: str, rows: pd.DataFrame) -> Iterator[str]:
    if not decision:
        yield "**Not judged yet**: MT-ESTAN and what it is compared with are not trained with all folds and seeds."
        return
    compared = rows[rows["strategy"].isin(("approaches", "multitask"))]
    late = compared[compared["seeds"] < compared["seeds_planned"]]
    if not late.empty:
        seeds = zip(late["model"], late["variant"], late["seeds"], late["seeds_planned"], strict=True)
        rest = ", ".join(f"{model} {variant} {done} of {planned}" for model, variant, done, planned in seeds)
        yield "**An early look**, taken before all planned seeds are trained. Seeds that have all folds by now: "
        yield f"{rest}; all others are complete." if len(late) < len(compared) else f"{rest}."
        yield "A look takes its share of alpha whatever it sees, so that the next one must meet a lower p."
        yield ""
    # Its own headings stand below the page's.
    yield re.sub(r"^#+ ", "### ", decision.strip(), flags=re.MULTILINE)


def _cost(done: pd.DataFrame) -> Iterator[str]:
    yield _line(["network", "CPU seconds of an epoch", "core hours of a row and seed", ""])
    yield _line(["---", "---:", "---:", "---"])
    for name, seconds, how in COST:
        yield _line([name, seconds, f"{seconds * 100 / 3600:.1f}", how])
    if not done.empty:
        yield ""
        hours = done["seconds"].sum() / 3600
        yield f"The finished rows took {hours:.1f} hours by the clock, on a core that other work shared."


def _clean(cells: pd.DataFrame) -> str:
    return ", all by committed code" if (cells["clean"] == "yes").all() else ", not all by committed code"


def _interval(row: Mapping[Any, Any], metric: str) -> str:
    if pd.isna(row.get(metric)):
        return ""
    return f"{row[metric]:.3f} ({row[f'{metric}_low']:.3f} to {row[f'{metric}_high']:.3f})"


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def draw(tables: dict[str, pd.DataFrame]) -> None:
    """`areas.svg` of the finished rows, `curves.svg` of those that are trained by epochs; the same bytes each time."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    fixed: Any = {
        "svg.hashsalt": "study",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "axes.spines.top": False,
    }
    done, curves = finished(tables["rows"]), tables["curves"]
    with plt.rc_context({**fixed, "axes.spines.right": False}):
        if not done.empty:
            figure, axes = plt.subplots(figsize=(7, 0.9 + 0.32 * len(done)), layout="constrained")
            places = range(len(done), 0, -1)
            reach = [done["roc_auc"] - done["roc_auc_low"], done["roc_auc_high"] - done["roc_auc"]]
            axes.errorbar(done["roc_auc"], places, xerr=reach, fmt="o", color="#00695c", capsize=3)
            labels = done["strategy"].str.replace("_", " ") + ": " + done["model"] + " " + done["variant"]
            axes.set_yticks(list(places), list(labels))
            axes.set_xlabel("ROC AUC, mean over folds")
            axes.grid(axis="x", alpha=0.3)
            figure.savefig(FOLDER / "areas.svg", metadata={"Date": None})
            plt.close(figure)
        if not curves.empty:
            figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
            for (_, model, variant), curve in curves.groupby(["strategy", "model", "variant"], sort=False):
                for axes, column in zip(panels, ("validation_loss", "validation_roc_auc"), strict=True):
                    axes.plot(curve["epoch"], curve[column], label=f"{model} {variant}")
            for axes, title in zip(panels, ("validation loss", "validation ROC AUC"), strict=True):
                axes.set_xlabel("epoch")
                axes.set_title(title)
                axes.grid(alpha=0.3)
            panels[0].legend(fontsize="small")
            figure.savefig(FOLDER / "curves.svg", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    write()
