"""MT-ESTAN with the loss that the search found: a table that comes with the search, not with `strategies`."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Config, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import Strategy

MT_ESTAN = "mt_estan"


def _tuned(config: Config, _: NetworkChoice) -> Iterator[Row]:
    """No row when the profile lacks the network; the spec holds the profile's loss until the search has run."""
    if MT_ESTAN not in config.networks:
        return
    row = make_row(make_spec(config, MT_ESTAN, "multitask"), "Multi", table=9)
    yield row.model_copy(update={"variant": row.variant.replace("Multi", "Multi, tuned", 1)})


TUNED = Strategy(
    name="tuned",
    order=10,
    title="MT-ESTAN after the search",
    explanation="MT-ESTAN with the loss that the search found on validation.",
    settings=NetworkChoice,
    make_rows=_tuned,
)
