"""The commands `bus-mlops train` and `bus-mlops reconcile`."""

from __future__ import annotations

from typing import Annotated

import typer

from bus_mlops.error_messages import readable_errors


def train(
    strategy: Annotated[str, typer.Argument(help="a strategy of params.yaml, or 'all'")] = "all",
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Repeat the runs that failed before, and nothing else.")
    ] = False,
) -> None:
    """Train the missing runs of a strategy without DVC (data and folds must be there)."""
    from bus_mlops.errors import ConfigError
    from bus_mlops.experiments.driver import open_runner
    from bus_mlops.experiments.plan import make_plans
    from bus_mlops.experiments.runner import plan_cells
    from bus_mlops.project import load_config

    config = load_config()
    plans = make_plans(config)
    plans.pop("tuned")
    if strategy != "all" and strategy not in plans:
        raise ConfigError(f"strategy {strategy!r} is not in params.yaml; it has: {', '.join(plans)}")
    # Inside, since typer would turn Ctrl-C into a silent exit.
    with readable_errors(), open_runner(config) as runner:
        cells = [c for name, plan in plans.items() if strategy in ("all", name) for c in plan_cells(runner, plan)]
        if only_failed:
            cells = runner.failed_before(cells)
            if not cells:
                print(
                    "no run of this plan failed: nothing to repeat. (A changed parameter or network makes other runs; "
                    "they are trained without --only-failed.)"
                )
                return
        runner.run(cells, strategy)


def reconcile() -> None:
    """Close runs that dead processes left RUNNING; done by itself at the start of every training."""
    from bus_mlops.project import load_config
    from bus_mlops.tracking.ledger import Ledger

    ledger = Ledger(load_config().tracking)
    closed = ledger.reconcile()
    for name in closed:
        print(f"closed {name}")
    alive = ledger.elsewhere(driver="")
    print(f"{len(closed)} runs closed; {len(alive)} runs are at work" + "".join(f"\n  {w}" for w in alive.values()))
