"""The pages of MLflow's interface to begin with, in the order in which people ask: what is best, why, what is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bus_mlops.config import TrackingConfig
from bus_mlops.promotion.records import EXPERIMENT
from bus_mlops.tracking.experiment_page import benchmark_note, benchmark_views, write_page
from bus_mlops.tracking.ledger import Ledger
from bus_mlops.tracking.outlines import show_outlines
from bus_mlops.tracking.views import decisions_view

if TYPE_CHECKING:
    from bus_mlops.dataset.benchmark import Benchmark
    from bus_mlops.tracking.views import View

DECISIONS_NOTE = """Every decision about a registered model: promotions, refusals, rollbacks, and looks at the test \
images. Nothing is changed in a record once it is closed: `bus-mlops verify` notices where somebody has.

| what | where |
|---|---|
| the verdict of each rule, with its numbers | the note of the record, and `gate/gate.md` among its artifacts |
| what was judged: runs, predictions, folds, terms | `gate/evidence.json` |
| what was decided, by whom, when and why | `decision.json`, and the tags |
| the model itself | [Models](#/models): alias `champion` is what consumers get |

`bus-mlops promote` decides, `bus-mlops history` lists, `bus-mlops rollback` takes back; records and aliases that are \
changed here, by hand, are noticed and trusted by nobody."""


@dataclass(frozen=True)
class Pages:
    """Titles and links of pages, below a server's address, and why something could not be written ("" if all was)."""

    pages: tuple[tuple[str, str], ...]
    unwritten: str = ""

    def lines(self, address: str) -> list[str]:
        """A line a page, for a terminal."""
        width = max(len(title) for title, _ in self.pages)
        return [f"{title:<{width}}  {address}{link}" for title, link in self.pages]


def write_pages(tracking: TrackingConfig, benchmark: Benchmark | None = None) -> Pages:
    """Write the notes and views that a store lacks, outlines, and on rows of earlier versions what rows show now.

    An account that may only read gets the pages as they are.

    Args:
        tracking: The store.
        benchmark: The assembled images; None where they are not there, so that no outline can be drawn.

    Raises:
        LedgerError: The store cannot be reached.
    """
    ledger = Ledger(tracking)
    client = ledger.client
    shown = benchmark_views(client, ledger.experiment)
    decided = client.get_experiment_by_name(EXPERIMENT)

    def write() -> None:
        ledger.parents.show_earlier(ledger.predictions)
        views = benchmark_views(client, ledger.experiment)  # which draw what earlier rows show now
        write_page(client, tracking.experiment, benchmark_note(ledger.experiment, views), views)
        write_page(client, EXPERIMENT, DECISIONS_NOTE, [decisions_view()])
        if benchmark is not None:
            show_outlines(ledger, benchmark)

    pages = [(view.name, view.link("", ledger.experiment)) for view in _in_order(shown)]
    pages.append(("Registered models", "/#/models"))
    if decided is not None:
        pages.append(("Decisions", decisions_view().link("", decided.experiment_id)))
    return Pages(tuple(pages), _refusal(write))


def _in_order(shown: list[View]) -> list[View]:
    """Without a search's view for each of many: they are listed in the interface, and the first is linked."""
    first = [view for view in shown if view.key.startswith("search-")][:3]
    return [view for view in shown if not view.key.startswith("search-") or view in first]


def _refusal(write: Callable[[], None]) -> str:
    """Why this account could not write; "" if it could."""
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED" and "readonly database" not in str(error):
            raise
        return f"{str(error).strip().splitlines()[0][:200]}"
    return ""
