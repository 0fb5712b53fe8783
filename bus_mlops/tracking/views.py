"""Saved views of MLflow's user interface: leaderboard, learning curves, searches, outlines, decisions.

A view is a tag of an experiment that MLflow 3 lists under "Views" and opens by its key. What is in one follows from
this file and from the names of the searches in the store, so that several writers agree on it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PREFIX = "mlflow.sharedViewState."
# Raised when a view of this file changes: one of a later version stays.
REVISION = 2
# MLflow keeps forty of them; a user has some too.
MOST_SEARCHES = 20
LEADERBOARD, CURVES, OUTLINES, DECISIONS = "leaderboard", "curves", "outlines", "decisions"
# In pixels: "MT-ESTAN (mobilenet, alpha 0.25, width 0.125) Multi, from scratch" has room.
NAME_WIDTH = 450
# Artifacts and their steps: the same image of the same test part at each step.
OUTLINED = "outlines/test"
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class View:
    """A view by its key, with the name that the list shows; `charts` says that it opens on them, not on the table."""

    key: str
    name: str
    state: Mapping[str, Any]
    charts: bool = False

    @property
    def tag(self) -> str:
        """Its tag of the experiment."""
        return f"{PREFIX}{self.key}"

    def link(self, address: str, experiment: str) -> str:
        """Where a browser opens it: on what is trained, not on traces of language models."""
        mode = "&compareRunsMode=CHART" if self.charts else ""
        page = f"{address}/#/experiments/{experiment}/runs"
        return f"{page}?workflowType=machine_learning&viewStateShareKey={self.key}{mode}"

    def value(self, present: str | None) -> str | None:
        """What the tag is to hold; None where it may stay as it is: the same, a later version's, or a user's own."""
        state = json.dumps(self.state)
        digest = hashlib.sha256(state.encode()).hexdigest()[:16]
        then = _read(present)
        begun = int(time.time() * 1000)
        if then is not None:
            ours = then.get("bus_mlops")
            if not isinstance(ours, dict) or ours.get("digest") != _digest(then.get("state")):
                return None
            if int(ours.get("revision", 0)) > REVISION or ours["digest"] == digest:
                return None
            begun = int(then.get("createdAt", begun))
        made = {"revision": REVISION, "digest": digest}
        about = {"name": self.name, "createdAt": begun, "updatedAt": int(time.time() * 1000)}
        return json.dumps({**about, "state": state, "bus_mlops": made})


def page_of(experiment: str, run_id: str) -> str:
    """A link from a note to the page of a run."""
    return f"#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"


def _read(value: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or "")
    except ValueError:  # of nobody that the interface could show
        return None
    return found if isinstance(found, dict) else None


def _digest(state: Any) -> str:
    return hashlib.sha256(str(state).encode()).hexdigest()[:16]


def views(searches: Mapping[str, tuple[Sequence[str], Sequence[str]]], sources: Sequence[str] = ()) -> list[View]:
    """The views of the experiment of trainings.

    Args:
        searches: Name of each search -> the parameters that all its trials have, and their objectives.
        sources: Those by which rows were measured apart.
    """
    named = sorted(searches.items())[:MOST_SEARCHES]
    return [_leaderboard(sources), _curves(), *(_search(name, *about) for name, about in named), _outlines()]


def search_key(name: str) -> str:
    """The key of a search's view."""
    return f"search-{name}"


def decisions_view() -> View:
    """The view of the experiment of decisions, the latest first."""
    columns = ["decision", "model", "version", "candidate", "baseline", "why", "who"]
    widths = {"tags.`why`": 260, "tags.`candidate`": 220, "tags.`baseline`": 220}
    state = {
        **_table("tags.decision LIKE '%'", "attributes.`start_time`", [f"tags.`{each}`" for each in columns], widths),
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    return View(DECISIONS, "Decisions", state)


def _leaderboard(sources: Sequence[str]) -> View:
    """Every row of the benchmark, the best first: rows of trials and of leaking folds have no such tag."""
    measured = ["roc_auc", "sensitivity", "specificity", "f1", "balanced_accuracy", "dice"]
    columns = [f"metrics.`test/roc_auc{end}`" for end in _ENDS]
    columns += [f"metrics.`test/{name}`" for name in measured[1:]]
    columns += ["params.`seed`", "params.`training.weights`", "params.`training.input_size`"]
    columns += ["tags.`strategy`", "tags.`network`"]
    widths = {"tags.`strategy`": 150, "tags.`network`": 140, "params.`seed`": 70}
    widths |= {each: 118 if each.startswith("metrics") else 130 for each in columns if each not in widths}
    sections = [
        ("Test images, mean over folds", [_bar(f"test/{name}", _title(name)) for name in measured]),
        (
            "Fold by fold",
            [_line(f"folds/{name}", f"{_title(name)} by fold") for name in ("roc_auc", "sensitivity", "specificity")],
        ),
        (
            "Sensitivity against specificity",
            [_scatter("test/specificity", "test/sensitivity"), _scatter("training/seconds", "test/roc_auc")],
        ),
        ("Source by source", [_bar(f"source/{each}/roc_auc", f"ROC AUC on {each}") for each in sources]),
    ]
    state = {
        **_table("tags.strategy LIKE '%' and metrics.`test/folds` > 0", "metrics.`test/roc_auc`", columns, widths),
        **_charts(sections),
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    return View(LEADERBOARD, "Leaderboard", state)


def _curves() -> View:
    """Learning curves, each the mean of a row's folds with a band."""
    columns = ["metrics.`validation_roc_auc`", "metrics.`validation_loss`", "metrics.`loss`"]
    sections = [
        (
            "Epoch by epoch, mean and band over the folds",
            [
                _line("validation_roc_auc", "ROC AUC, validation part"),
                _line("validation_loss", "Loss, validation part"),
                _line("loss", "Loss, training part"),
            ],
        )
    ]
    state = {
        **_table("tags.kind = 'fold' and tags.row LIKE '%'", "metrics.`validation_roc_auc`", columns, {}),
        **_charts(sections, columns=2, height=400),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "row"}]},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    return View(CURVES, "Learning curves", state, charts=True)


def _search(name: str, parameters: Sequence[str], objectives: Sequence[str]) -> View:
    """The trials of a search over its parameters, and their values one after the other."""
    values = [f"validation/{each}" for each in objectives]
    columns = [*(f"metrics.`{each}`" for each in values), *(f"params.`{each}`" for each in parameters)]
    sections = [
        ("What was tried", [_parallel(parameters, values)]),
        ("One by one", [_bar(each, f"{_title(each.partition('/')[2])}, validation part") for each in values]),
    ]
    state = {
        **_table(f"tags.kind = 'trial' and tags.`search.name` = '{name}'", columns[0], columns, {}),
        **_charts(sections, columns=1, height=420),
        "runsHiddenMode": "SHOW_ALL",
    }
    return View(search_key(name), f"Search {name}", state, charts=True)


def _outlines() -> View:
    """The same test images, model by model, with the true and the predicted outline."""
    images = {
        **_chart("IMAGE", OUTLINED, "Outlines: true green, predicted red"),
        **{"imageKeys": [OUTLINED], "step": 0, "showRunParams": False, "height": 560},
    }
    state = {
        **_table(
            "tags.outlines LIKE '%'", "metrics.`test/dice`", ["metrics.`test/dice`", "metrics.`test/roc_auc`"], {}
        ),
        **_charts([("The same test images", [images])], columns=1, height=560),
        "isAccordionReordered": True,
        "runsHiddenMode": "FIRST_20_RUNS",
    }
    return View(OUTLINES, "Outlines", state, charts=True)


def _table(query: str, order: str, columns: Sequence[str], widths: Mapping[str, int]) -> dict[str, Any]:
    """What all views have: which runs, in which order, with which columns and widths in pixels."""
    name = "attributes.`Run Name`"
    return {
        "searchFilter": query,
        "orderByKey": order,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [name, *columns],
        "columnWidths": {name: NAME_WIDTH, **widths},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "groupBy": None,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": False,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": False,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _charts(
    sections: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], columns: int = 3, height: int = 360
) -> dict[str, Any]:
    """Sections with their charts; further ones that the interface makes itself stay closed."""
    found = [
        {
            "uuid": f"section-{number}",
            "name": name,
            "display": True,
            "isReordered": True,
            "deleted": False,
            "isGenerated": False,
            "cardHeight": height,
            "columns": columns,
        }
        for number, (name, _) in enumerate(sections)
    ]
    charts = [
        {**chart, "uuid": f"chart-{number}-{place}", "metricSectionId": f"section-{number}"}
        for number, (_, listed) in enumerate(sections)
        for place, chart in enumerate(listed)
    ]
    return {"compareRunSections": found, "compareRunCharts": charts, "isAccordionReordered": True}


def _chart(kind: str, metric: str, title: str) -> dict[str, Any]:
    return {
        "type": kind,
        "metricKey": metric,
        "displayName": title,
        "runsCountToCompare": 20,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(metric: str, title: str) -> dict[str, Any]:
    return _chart("BAR", metric, title)


def _line(metric: str, title: str) -> dict[str, Any]:
    return {
        **_chart("LINE", metric, title),
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": True,
        "useGlobalXaxisKey": True,
        "range": {},
        "ignoreOutliers": False,
    }


def _scatter(horizontal: str, vertical: str) -> dict[str, Any]:
    return {
        **_chart("SCATTER", vertical, f"{vertical} against {horizontal}"),
        "xaxis": {"key": horizontal, "type": "METRIC"},
        "yaxis": {"key": vertical, "type": "METRIC"},
    }


def _parallel(parameters: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    return {
        **_chart("PARALLEL", metrics[0], "Each line is a trial"),
        "selectedParams": list(parameters),
        "selectedMetrics": list(metrics),
        "showAllRuns": True,
    }


def _title(metric: str) -> str:
    from bus_mlops.evaluation.metrics import METRICS

    return METRICS[metric].title if metric in METRICS else metric
