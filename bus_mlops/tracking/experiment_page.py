"""What people find when they open an experiment in MLflow: its note, and views to begin with.

Written by the stage `promote` and by `bus-mlops ui`, from what is in the store alone: whoever writes writes the same,
what is there already is not written again, and what somebody else has written stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bus_mlops.tracking.kinds import NOTE, SEARCH
from bus_mlops.tracking.row_page import may_write, signed
from bus_mlops.tracking.search import search_all
from bus_mlops.tracking.trial_runs import WHERE
from bus_mlops.tracking.views import View, views

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SPACE = "space "


def write_page(client: MlflowClient, name: str, note: str, wanted: Iterable[View]) -> bool:
    """Write the note of an experiment and its views, where they differ from what is there.

    Args:
        client: Of the store.
        name: The experiment's; nothing is written where there is none.
        note: Markdown, without the line that says who has written it.
        wanted: The views.

    Returns:
        Whether anything was written.

    Raises:
        MlflowException: This account may not write.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return False
    present = experiment.tags
    new = {view.tag: value for view in wanted if (value := view.value(present.get(view.tag))) is not None}
    if may_write(present.get(NOTE)) and present.get(NOTE) != signed(note):
        new[NOTE] = signed(note)
    for tag, value in new.items():
        client.set_experiment_tag(experiment.experiment_id, tag, value)
    return bool(new)


def benchmark_views(client: MlflowClient, experiment: str) -> list[View]:
    """The views of the experiment of trainings, given by its id: those of every store, and one for each search."""
    rows = search_all(client, experiment, "tags.kind = 'spec'")
    measured = {key.split("/")[1] for row in rows for key in row.data.metrics if key.startswith("source/")}
    return views(_searches(search_all(client, experiment, f"tags.kind = '{SEARCH}'")), sorted(measured))


def benchmark_note(experiment: str, found: Iterable[View]) -> str:
    """What the experiment of trainings holds, with links to its views."""
    links = "\n".join(f"- [{view.name}]({view.link('', experiment).lstrip('/')})" for view in found)
    return f"""Every training of the benchmark, and the searches.

{links}

| `kind` | what the run is |
|---|---|
| `spec` | a row of a table: the mean over its folds (`test/...`, 95 % intervals), each fold as a step (`folds/...`), \
each source (`source/...`) |
| `fold` | one training, below its row: learning curves, predictions, the network |
| `search`, `trial`, `tuned` | a search, what it tried, and the row that was trained with its choice |
| `tried` | a training of a trial, which has seen no test image |

All numbers are fractions, of test images at threshold 0.5 unless they are called `validation/...`. What is registered \
and decided is in the experiment `promotions` and under [Models](#/models)."""


def _searches(runs: Iterable[Run]) -> Mapping[str, tuple[list[str], list[str]]]:
    """Parameters and objectives of the searches of a store by name, those of all their networks together.

    Without parameters that have a condition: the interface draws no trial that lacks one of those that it draws. And
    without searches whose space is one point, which name a variant: there is nothing to compare.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for run in runs:
        spaces = [said.partition(WHERE)[0] for key, said in run.data.params.items() if key.startswith(_SPACE)]
        if spaces and not any(", " in said or " to " in said for said in spaces):
            continue
        parameters, objectives = found.setdefault(run.data.tags.get("search.name", ""), ([], []))
        own = run.data.params
        parameters += [
            key.removeprefix(_SPACE) for key, said in own.items() if key.startswith(_SPACE) and WHERE not in said
        ]
        objectives += own.get("objective", "roc_auc").split(", ")
    return {name: (sorted(set(p)), list(dict.fromkeys(o))) for name, (p, o) in found.items() if name}
