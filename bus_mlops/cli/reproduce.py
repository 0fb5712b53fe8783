"""`bus-mlops profile`, `plan`, `train`, `summary` and what belongs to them: reproducing the benchmark.

Heavy imports happen inside the commands.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bus_mlops.cli import completion
from bus_mlops.error_messages import readable_errors
from bus_mlops.paragraphs import say

if TYPE_CHECKING:
    from bus_mlops.config import TrackingConfig

LOG = logging.getLogger(__name__)
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.")]
_LINE = "{:<25}{:<15}{:>11}{:>7}{:>8}  {}"


def profile(
    name: Annotated[
        str | None,
        typer.Argument(
            help="demo, busi, study, paper or official-code; none lists them.", autocompletion=completion.profiles
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Explain the profiles.")] = False,
    data_root: Annotated[Path | None, typer.Option(help="Folder with one folder per source.")] = None,
    weights_folder: Annotated[Path | None, typer.Option(help="Folder with ImageNet weights.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a params.yaml that you changed.")] = False,
    differences: Annotated[
        bool, typer.Option("--differences", help="Print what differs from the paper and from its code.")
    ] = False,
) -> None:
    """Write a whole parameter set to params.yaml."""
    from bus_mlops import profiles
    from bus_mlops.errors import ConfigError
    from bus_mlops.files import replacing
    from bus_mlops.paths import PARAMS
    from bus_mlops.project import parse_config

    if differences:
        from bus_mlops.experiments.differences_page import render
        from bus_mlops.project import profile_config

        print(render(profile_config("paper"), profile_config("official-code")), end="")
        return
    if list_ or name is None:
        for each in profiles.NAMES:
            print(f"{each}\n    {profiles.explanation(each)}\n")
        return
    import yaml

    wanted = profiles.customised(name, data_root=data_root, weights_folder=weights_folder)
    parse_config(yaml.safe_load(wanted), f"profile {name}")
    if PARAMS.exists() and not force:
        present = PARAMS.read_text(encoding="utf-8", errors="replace")
        if present != wanted and not _is_profile(present):
            raise ConfigError(
                f"{PARAMS} differs from every profile, so you seem to have changed it. Keep a copy, or add --force."
            )
    with replacing(PARAMS) as path:
        path.write_text(wanted, encoding="utf-8")
    LOG.info("params.yaml now holds the profile %s. Next: dvc repro", name)


def _is_profile(present: str) -> bool:
    """Whether a text is a profile but for the folders that `profile` itself fills in."""
    import re

    from bus_mlops import profiles

    def bare(text: str) -> str:
        return re.sub(r"(?m)^(  root|weights_folder): .*$", "", text)

    return any(bare(present) == bare(profiles.text(name)) for name in profiles.NAMES)


def plan(as_json: AsJson = False) -> None:
    """Show what params.yaml asks for, what is done, and the time left.

    A spec is a network with all its settings; a cell is one spec trained on one fold.
    """
    import json

    from rich.console import Console

    from bus_mlops.dataset.folds.assignment import Folds
    from bus_mlops.experiments.plan import make_plans
    from bus_mlops.experiments.plan_status import read_plan_status, render
    from bus_mlops.paths import FOLDS
    from bus_mlops.project import load_config
    from bus_mlops.promotion.cohort import power_notes
    from bus_mlops.promotion.prerequisites import nothing_to_judge

    config = load_config()
    status = read_plan_status(config)
    path = FOLDS / "folds.csv"
    seen = power_notes(config, Folds.open(path)) if path.exists() else ()
    notes = [*filter(None, (nothing_to_judge(config, make_plans(config)), *seen, *status.notes))]
    if as_json:
        print(json.dumps({**status.to_dict(), "notes": notes}, indent=2))
        return
    Console().print(render(status))
    for note in notes:
        say(note)


def train(
    strategy: Annotated[
        str, typer.Argument(help="A strategy of params.yaml, or all.", autocompletion=completion.strategies)
    ] = "all",
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Repeat the runs that failed before, and nothing else.")
    ] = False,
) -> None:
    """Train the missing runs of a strategy, without DVC.

    Data and folds must be there: `dvc repro leakage` makes them.
    """
    from bus_mlops.errors import ConfigError
    from bus_mlops.experiments.driver import open_runner
    from bus_mlops.experiments.left_out import planned
    from bus_mlops.experiments.runner import plan_cells
    from bus_mlops.project import load_config

    config = load_config()
    found = planned(config)
    plans = {name: plan for name, plan in found.plans.items() if name in config.strategies}
    for row in found.left_out:
        LOG.warning(row.sentence)
    if strategy != "all" and strategy not in plans:
        raise ConfigError(f"strategy {strategy!r} is not in params.yaml; it has: {', '.join(plans)}")
    # Inside, since typer would turn Ctrl-C into a silent exit.
    with readable_errors(), open_runner(config) as runner:
        cells = [c for name, plan in plans.items() if strategy in ("all", name) for c in plan_cells(runner, plan)]
        if only_failed:
            cells = runner.failed_before(cells)
            if not cells:
                LOG.info(
                    "no run of this plan failed: nothing to repeat. (A changed parameter or network makes other runs; "
                    "they are trained without --only-failed.)"
                )
                return
        runner.run(cells, strategy)


def reconcile() -> None:
    """Close runs that dead processes left open.

    Done by itself at the start of every training.
    """
    from bus_mlops.project import load_config
    from bus_mlops.tracking.ledger import Ledger

    ledger = Ledger(load_config().tracking)
    closed = ledger.reconcile()
    for name in closed:
        print(f"closed {name}")
    alive = ledger.elsewhere(driver="")
    print(f"{len(closed)} runs closed; {len(alive)} runs are at work" + "".join(f"\n  {w}" for w in alive.values()))


def summary(as_json: AsJson = False) -> None:
    """Print the verdict, a ranking, findings, and what to do next."""
    import json

    from rich.console import Console

    from bus_mlops.cli.summary import example_image, read_summary
    from bus_mlops.cli.summary_view import show_summary
    from bus_mlops.experiments.paper_gap import left_to_paper
    from bus_mlops.paths import BENCHMARK, FOLDS, RESULTS
    from bus_mlops.project import load_config, profile_config

    config = load_config()
    image = example_image(config, BENCHMARK / "manifest.csv", FOLDS / "folds.csv")
    found = read_summary(RESULTS, config, left_to_paper(config, profile_config("paper")), image)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    show_summary(found, Console(highlight=False))


def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port on this machine; else tracking.ui_port of params.yaml.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allowed_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="HOST[:PORT],...",
            help="Names by which other machines call this one; MLflow answers 403 to others than localhost and private "
            "addresses. * allows all.",
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the leaderboard, where there is a screen.")
    ] = True,
) -> None:
    """Open the MLflow UI on the store of params.yaml.

    There is no password: everybody who can reach it can delete.
    """
    import webbrowser

    from bus_mlops.project import load_config
    from bus_mlops.promotion.inputs import assembled
    from bus_mlops.promotion.mlflow_pages import write_pages
    from bus_mlops.tracking.ui import address_of, has_screen, server_of

    tracking = load_config().tracking
    served = server_of(tracking.uri)
    port = port or tracking.ui_port
    _require_startable(tracking, host, None if served else port)
    written = write_pages(tracking, assembled())
    address = served or address_of(host, port)
    print("\n".join(written.lines(address)), flush=True)
    if written.unwritten:
        LOG.warning("This account may only read, so views and notes were left as they are: %s", written.unwritten)
    first = f"{address}{written.pages[0][1]}" if browser and has_screen() else None
    if not served:
        _serve_ui(tracking, host, port, allowed_hosts, first)
    LOG.info("The runs are on a server already: nothing is started here.")
    if first:
        webbrowser.open(first)


def _require_startable(tracking: TrackingConfig, host: str, port: int | None) -> None:
    """Refuse, before anything is written, where there are no runs or no server can start; without a port none shall."""
    import importlib.util

    from bus_mlops.errors import LedgerError
    from bus_mlops.files import sqlite_file
    from bus_mlops.tracking.store import check_database
    from bus_mlops.tracking.ui import require_free

    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        raise LedgerError(f"{file} is not there yet: `make reproduce` (or `dvc repro`) records runs in it first.")
    if port is None:
        return
    if importlib.util.find_spec("flask") is None:  # of MLflow's server, which its base install lacks
        raise ModuleNotFoundError("No module named 'flask'", name="flask")
    if file is not None:
        check_database(file, tracking.artifacts)
    require_free(host, port)


def _serve_ui(tracking: TrackingConfig, host: str, port: int, allowed_hosts: str | None, first: str | None) -> NoReturn:
    """Become MLflow's server; a browser opens the first page, if one is given, as soon as it answers."""
    import os
    import subprocess
    import sys

    from bus_mlops.tracking.ui import address_of, opening, ui_arguments

    address = address_of(host, port)
    LOG.info("MLflow UI: %s (Ctrl-C to stop)", address)
    if port != tracking.ui_port:
        LOG.info(
            "The report links to port %d. `tracking.ui_port: %d` in params.yaml and `dvc repro report` change that.",
            tracking.ui_port,
            port,
        )
    if first:
        subprocess.Popen(opening(address, first), start_new_session=True)
    variables = {
        # Background jobs would double the memory and are of no use here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Of a library of MLflow's: nothing that who reads it could do anything about.
        "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",
        **os.environ,
    }
    arguments = ui_arguments(tracking.uri, host, port, allowed_hosts)
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *arguments], variables)  # noqa: S606 - nothing of it is a user's


def models(as_json: AsJson = False) -> None:
    """List the networks: size, cost, input, source, and options.

    Parameters and GMAC (10^9 multiply-accumulates an image) are those at the input size, with default options.
    """
    import json

    from bus_mlops.extensions import load_extensions
    from bus_mlops.models.zoo import NETWORKS
    from bus_mlops.paths import EXTENSIONS

    load_extensions(EXTENSIONS)
    found = [
        {
            "name": each.name,
            "title": each.title({}),
            "task": each.task,
            "parameters": each.parameters or None,
            "gmac": each.gmac or None,
            "input_size": each.input_size,
            "scaling": each.scaling,
            "source": each.source,
            "options": {name: rule.in_words for name, rule in each.options.items()},
        }
        for each in NETWORKS.values()
    ]
    print(json.dumps(found, indent=2) if as_json else _model_lines(found))


def _model_lines(found: list[dict[str, Any]]) -> str:
    """A line of numbers for each network, and below it what is said of it, as wide as the terminal."""
    import shutil
    import textwrap

    width = min(120, shutil.get_terminal_size().columns)
    lines = [_LINE.format("name", "task", "parameters", "GMAC", "input", "scaling")]
    for each in found:
        parameters = f"{each['parameters']:,}" if each["parameters"] else "-"
        cost = f"{each['gmac']:.2f}" if each["gmac"] else "-"
        size = f"{each['input_size']} px"
        lines.append(_LINE.format(each["name"], each["task"], parameters, cost, size, each["scaling"]))
        said = [f"{each['title']}: {each['source']}"]
        if each["options"]:
            said.append(f"options: {'; '.join(f'{name} {words}' for name, words in each['options'].items())}")
        for text in said:
            lines += textwrap.wrap(text, width, initial_indent=" " * 4, subsequent_indent=" " * 6)
    unit = "Parameters and GMAC (10^9 multiply-accumulates an image): at that input size, with default options."
    return "\n".join([*lines, "", *textwrap.wrap(unit, width)])
