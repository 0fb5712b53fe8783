"""What a profile leaves to the profile `paper`: networks and searches by name, and how many rows of each strategy."""

from __future__ import annotations

from bus_mlops.config import Config
from bus_mlops.experiments.plan import make_plans
from bus_mlops.models.zoo import entry
from bus_mlops.spec import Task

_KINDS = {
    Task.CLASSIFICATION: "as classifiers",
    Task.MULTITASK: "as multitask networks",
    Task.SEGMENTATION: "for masks only",
}


def left_to_paper(config: Config, paper: Config) -> list[str]:
    """Such as `ResNet50 as classifiers`, last `all but 5 of 98 rows of losses`; empty when nothing is left out.

    Rows are counted, not compared: a row of another size or number of epochs counts as the paper's.
    """
    missing: dict[str, list[str]] = {}
    for name in paper.networks:
        if name not in config.networks:
            network = entry(name)
            missing.setdefault(_KINDS[network.task], []).append(network.label)
    lines = [f"{', '.join(labels)} {kind}" for kind, labels in missing.items()]
    plans, complete = make_plans(config), make_plans(paper)
    fewer = []
    for strategy in paper.strategies:
        rows, whole = (len(each[strategy].rows) if strategy in each else 0 for each in (plans, complete))
        if rows < whole:
            fewer.append(f"{rows} of {whole} rows of {strategy}")
    searches = [name for name in paper.searches if name not in config.searches]
    if searches:
        lines.append(f"the search{'es' if len(searches) > 1 else ''} {', '.join(searches)}")
    return [*lines, f"all but {', '.join(fewer)}"] if fewer else lines
