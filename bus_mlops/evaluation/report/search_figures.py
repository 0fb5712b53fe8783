"""Figures of a search as PNG bytes: Optuna's own plots over the trials of all test folds, a marker a fold.

They are drawn from the trials that a search has left, whichever library proposed them.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bus_mlops.evaluation.report.drawing import PALETTE, STYLE
from bus_mlops.evaluation.search_words import fold_words, labels, metric_of, shown
from bus_mlops.evaluation.searched import SearchResult, TrialRecord

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">")
# Enough for lines on white, at a third of the bytes; a page has up to a hundred of these.
_COLORS = 48
# Of a parameter that spans more than this factor, differences are seen on a logarithmic scale only.
_LOG_FACTOR = 50
_PRUNED = "#8A94A0"
# Points of letters; Optuna's own style makes them large.
_SMALL = 8


def search_figures(result: SearchResult, network: str) -> dict[str, bytes]:
    """The figures of one network, by title; none that its trials do not suffice for.

    `history`, `parallel coordinates`, `importances`, `slices`, and `Pareto front` where there are two objectives.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    trials = [trial for trial in result.trials if trial.network == network]
    complete = _varied([trial for trial in trials if _is_drawn(trial, result)])
    if not complete:
        return {}
    plt.switch_backend("agg")
    drawn: dict[str, Callable[[], Figure]] = {"history": lambda: _history(result, trials)}
    varied = {path for trial in complete for path in trial.parameters}
    if varied:
        drawn["parallel coordinates"] = lambda: _parallel(result, complete)
        if len(varied) > 1:  # of one alone it would be all
            drawn["importances"] = lambda: _importances(result, complete)
        drawn["slices"] = lambda: _slices(result, complete)
    if len(result.objective) > 1:
        drawn["Pareto front"] = lambda: _pareto(result, complete)
    figures = {}
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Optuna calls its plots experimental, and matplotlib says where its layout gives up.
        warnings.simplefilter("ignore")
        for title, draw in drawn.items():
            figures[title] = _png(draw())
            plt.close("all")
    return figures


def _png(figure: Figure) -> bytes:
    from PIL import Image

    drawn, reduced = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    image.save(reduced, "PNG", optimize=True)
    return reduced.getvalue()


def _is_drawn(trial: TrialRecord, result: SearchResult) -> bool:
    return (
        trial.state == "complete"
        and len(trial.values) == len(result.objective)
        and all(math.isfinite(value) for value in trial.values)
    )


def _varied(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The trials with those parameters that have more than one value, absence counted: no other shows anything."""
    paths = {path for trial in trials for path in trial.parameters}
    varied = {path for path in paths if len({str(trial.parameters.get(path)) for trial in trials}) > 1}
    return [
        trial.model_copy(
            update={"parameters": {path: trial.parameters[path] for path in trial.parameters if path in varied}}
        )
        for trial in trials
    ]


def _studies(result: SearchResult, trials: Sequence[TrialRecord]) -> dict[int, optuna.Study]:
    return {
        fold: _study(result, [trial for trial in trials if trial.fold == fold], trials)
        for fold in sorted({trial.fold for trial in trials})
    }


def _study(result: SearchResult, trials: Sequence[TrialRecord], all_trials: Sequence[TrialRecord]) -> optuna.Study:
    """A study in memory of some trials, over the space that all of them span."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions: list[Literal["minimize", "maximize"]] = [
        "maximize" if metric_of(name).direction > 0 else "minimize" for name in result.objective
    ]
    study = optuna.create_study(directions=directions)
    distributions = _distributions(all_trials)
    named = labels(distributions)
    # What a test fold's images are like moves the values of all its trials: importances are about the rest.
    mean = {
        fold: float(np.mean([trial.values[0] for trial in trials if trial.fold == fold]))
        for fold in {trial.fold for trial in trials}
    }
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params={named[path]: _plain(value, distributions[path]) for path, value in trial.parameters.items()},
                distributions={named[path]: distributions[path] for path in trial.parameters},
                values=list(trial.values),
                user_attrs={"to the fold's mean": trial.values[0] - mean[trial.fold]},
            )
        )
    return study


def _distributions(trials: Sequence[TrialRecord]) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    paths = dict.fromkeys(path for trial in trials for path in trial.parameters)
    found: dict[str, BaseDistribution] = {}
    for path in paths:
        values = [trial.parameters[path] for trial in trials if path in trial.parameters]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            found[path] = CategoricalDistribution(sorted({shown(value) for value in values}))
            continue
        low, high = min(values), max(values)
        log = low > 0 and high / low > _LOG_FACTOR
        whole = all(isinstance(value, int) for value in values)
        found[path] = IntDistribution(low, high, log=log) if whole else FloatDistribution(low, high, log=log)
    return found


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution

    return shown(value) if isinstance(distribution, CategoricalDistribution) else value


def _history(result: SearchResult, trials: Sequence[TrialRecord]) -> Figure:
    from optuna.visualization.matplotlib import plot_optimization_history

    complete = [trial for trial in trials if _is_drawn(trial, result)]
    studies = _studies(result, complete)
    target = _first_value if len(result.objective) > 1 else None
    axis: Any = plot_optimization_history(list(studies.values()), target=target, target_name=_objective(result))
    # Of each study Optuna draws the trials, then those that violate a constraint, of which these have none.
    points = [each for each in axis.collections if len(each.get_offsets())]
    for number, fold in enumerate(studies):
        own = [trial.number for trial in complete if trial.fold == fold]
        points[number].set_offsets(np.column_stack([own, points[number].get_offsets()[:, 1]]))
        _mark(points[number], [number] * len(own))
        points[number].set_color(PALETTE[number % len(PALETTE)])
        points[number].set_label(fold_words(fold))
        if axis.lines:
            line = axis.lines[number]
            line.set(xdata=own, color=PALETTE[number % len(PALETTE)], drawstyle="steps-post", label="_")
    pruned = [trial for trial in trials if trial.state == "pruned" and trial.values]
    if pruned:
        values = [trial.values[0] for trial in pruned]
        axis.scatter([t.number for t in pruned], values, marker="x", s=18, color=_PRUNED, label="pruned")
    axis.set(xlabel="trial", xlim=(-0.5, max(trial.number for trial in trials) + 0.5))
    axis.autoscale(axis="y")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if axis.get_legend() is not None:
        axis.get_legend().remove()
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _finished(axis, (5.4, 3.1))


def _parallel(result: SearchResult, trials: Sequence[TrialRecord]) -> Figure:
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    study = _study(result, trials, trials)
    target = _first_value if len(result.objective) > 1 else None
    axis: Any = plot_parallel_coordinate(study, target=target, target_name=_objective(result))
    figure = axis.figure
    # Dark is good, whatever Optuna makes of a target.
    axis.collections[0].set_cmap("Blues" if metric_of(result.objective[0]).direction > 0 else "Blues_r")
    axis.set_xticks(axis.get_xticks(), [each.get_text() for each in axis.get_xticklabels()], rotation=18, ha="right")
    for each in figure.axes:
        each.grid(visible=False)
    return _finished(axis, (max(5.4, 1.25 * len(axis.get_xticks())), 3.3), figure.axes)


def _importances(result: SearchResult, trials: Sequence[TrialRecord]) -> Figure:
    from optuna.visualization.matplotlib import plot_param_importances

    study = _study(result, trials, trials)
    direction = metric_of(result.objective[0]).direction

    def target(trial: FrozenTrial) -> float:
        # With a target of its own, Optuna takes the lowest values for the best.
        return -direction * float(trial.user_attrs["to the fold's mean"])

    axis: Any = plot_param_importances(study, target=target, target_name=_objective(result))
    if axis.get_legend() is not None:
        axis.get_legend().remove()
    for bar in axis.patches:
        bar.set_facecolor(PALETTE[0])
    # Optuna's PED-ANOVA asks what tells the best tenth of the trials from the rest.
    axis.set(xlabel=f"share in reaching the best tenth in {_objective(result)}", ylabel="")
    return _finished(axis, (5.4, 1.3 + 0.28 * len(axis.get_yticks())))


def _slices(result: SearchResult, trials: Sequence[TrialRecord]) -> Figure:
    from optuna.visualization.matplotlib import plot_slice

    study = _study(result, trials, trials)
    folds = sorted({trial.fold for trial in trials})
    target = _first_value if len(result.objective) > 1 else None
    drawn: Any = plot_slice(study, target=target, target_name=_objective(result))
    axes = list(np.atleast_1d(drawn))
    named = labels(path for trial in trials for path in trial.parameters)
    for axis in axes:
        # Optuna leaves out the trials that a number does not apply to, and names a choice "None" there.
        path = next(path for path, name in named.items() if name == axis.get_xlabel())
        own = [trial for trial in trials if path in trial.parameters]
        for points in axis.collections:
            if len(points.get_offsets()) not in (len(own), len(trials)):
                continue
            shown_trials = own if len(points.get_offsets()) == len(own) else trials
            _mark(points, [folds.index(trial.fold) for trial in shown_trials])
            points.set(linewidth=0.4, edgecolor="#5b6672")
            points.set_array(np.array([trial.number for trial in shown_trials]))
            points.set_clim(0, max(trial.number for trial in trials))
        if any(not isinstance(trial.parameters[path], int | float) for trial in own):
            axis.set_xticks(axis.get_xticks(), [each.get_text().strip("'") for each in axis.get_xticklabels()])
            axis.tick_params(axis="x", rotation=18)
    axes[0].figure.suptitle("")
    figure = axes[0].figure
    for axis in axes:
        axis.set_ylabel(_objective(result) if axis is axes[0] else "")
    return _finished(axes[0], (max(5.4, 2.1 * len(axes) + 0.8), 2.9), figure.axes)


def _pareto(result: SearchResult, trials: Sequence[TrialRecord]) -> Figure:
    """The first two objectives of all trials; filled are those that no trial of the same fold beats in both."""
    import matplotlib.pyplot as plt

    _, axis = plt.subplots()
    metrics = [metric_of(name) for name in result.objective[:2]]
    chosen = {(choice.network, choice.fold): choice.trial for choice in result.choices}
    for number, (fold, study) in enumerate(_studies(result, trials).items()):
        front = {trial.number for trial in study.best_trials}
        own = [trial for trial in trials if trial.fold == fold]
        color = PALETTE[number % len(PALETTE)]
        for place, trial in enumerate(own):
            on_front = place in front
            axis.plot(
                *([value] for value in trial.values[:2]),
                marker=MARKERS[number % len(MARKERS)],
                linestyle="",
                color=color,
                markerfacecolor=color if on_front else "none",
                markersize=6 if on_front else 4,
                label=fold_words(fold) if place == min(front) else "_",
            )
            if chosen.get((trial.network, fold)) == trial.number:
                axis.plot(*([value] for value in trial.values[:2]), marker="o", color=color, fillstyle="none", ms=13)
    for name, limit in result.constraint.items():
        for objective, line in zip(result.objective, (axis.axvline, axis.axhline), strict=False):
            if name == objective:
                line(limit, color=_PRUNED, linestyle=":", label="constraint")
    shapes: list[tuple[str, dict[str, Any]]] = [
        ("on the front", {"ms": 6}),
        ("beaten", {"ms": 4, "fillstyle": "none"}),
        ("chosen", {"ms": 13, "fillstyle": "none"}),
    ]
    for label, shape in shapes:
        axis.plot([], [], marker="o", linestyle="", color=_PRUNED, label=label, **shape)
    axis.set(xlabel=metrics[0].heading, ylabel=metrics[1].heading)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _finished(axis, (5.4, 3.4))


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _objective(result: SearchResult) -> str:
    return f"validation {metric_of(result.objective[0]).heading}"


def _mark(points: Any, numbers: Sequence[int]) -> None:
    """Give each point the marker of its number."""
    from matplotlib.markers import MarkerStyle

    styles = [MarkerStyle(MARKERS[number % len(MARKERS)]) for number in numbers]
    points.set_paths([style.get_path().transformed(style.get_transform()) for style in styles])
    points.set_sizes([22.0])


def _finished(axis: Axes, size: tuple[float, float], axes: Sequence[Axes] = ()) -> Figure:
    """The axis's figure in the page's style instead of Optuna's."""
    figure: Any = axis.figure
    for each in axes or (axis,):
        each.set_title("")
        each.set_title("", loc="left")
        if each.patch.get_visible():  # not an axis that lies upon another
            each.set_facecolor("white")
        each.tick_params(labelsize=_SMALL)
        for label in (each.xaxis.label, each.yaxis.label):
            label.set_fontsize(_SMALL + 1)
        each.spines[:].set_color("#8A94A0")
    figure.set_size_inches(*size)
    # Optuna's axes beside axes and colour bars are more than the constrained layout can place.
    figure.set_layout_engine("none")
    return figure  # type: ignore[no-any-return]
