"""The command line `bus-mlops`: everything that is not a DVC stage. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bus_mlops import __version__
from bus_mlops.cli.audit import audit
from bus_mlops.cli.copies import export, pull
from bus_mlops.cli.folds import folds_app
from bus_mlops.cli.models import models
from bus_mlops.cli.predict import predict
from bus_mlops.cli.registry import gate, history, promote, rollback, verify
from bus_mlops.cli.serve import serve
from bus_mlops.cli.sources import sources_app
from bus_mlops.cli.train import reconcile, train
from bus_mlops.error_messages import readable_errors

app = typer.Typer(
    name="bus-mlops",
    help="The breast ultrasound classification benchmark: reproduce it, compare runs, use what was promoted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_debug = False


def main() -> None:
    """Entry point: errors that a user can mend are one line and exit code 1."""
    import sys

    with readable_errors(debug="--debug" in sys.argv):
        app()


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Options of every command."""
    if version:
        print(f"bus-mlops {__version__}")
        raise typer.Exit


@app.command()
def profile(
    name: Annotated[str | None, typer.Argument(help="demo, busi, paper or official-code")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Explain the profiles.")] = False,
    data_root: Annotated[Path | None, typer.Option(help="Folder with one folder per source.")] = None,
    weights_folder: Annotated[Path | None, typer.Option(help="Folder with ImageNet weights.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a params.yaml that you changed.")] = False,
) -> None:
    """Write a whole parameter set to params.yaml."""
    from bus_mlops import profiles
    from bus_mlops.errors import ConfigError
    from bus_mlops.files import replacing
    from bus_mlops.paths import PARAMS
    from bus_mlops.project import parse_config

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
    print(f"params.yaml now holds the profile {name}. Next: dvc repro")


def _is_profile(present: str) -> bool:
    """Whether a text is a profile but for the folders that `profile` itself fills in."""
    import re

    from bus_mlops import profiles

    def bare(text: str) -> str:
        return re.sub(r"(?m)^(  root|weights_folder): .*$", "", text)

    return any(bare(present) == bare(profiles.text(name)) for name in profiles.NAMES)


@app.command()
def plan() -> None:
    """Show what params.yaml asks for: strategies, specs and cells, what is done, and the time for the rest."""
    from bus_mlops.experiments.plan import make_plans
    from bus_mlops.experiments.plan_status import show_plan
    from bus_mlops.project import load_config
    from bus_mlops.promotion.prerequisites import nothing_to_judge

    config = load_config()
    reason = nothing_to_judge(config, make_plans(config))
    show_plan(config, [reason] if reason else [])


@app.command()
def summary() -> None:
    """Print the results, where the report is, the gate's verdict, and what to try next."""
    import yaml
    from rich.console import Console

    from bus_mlops import profiles
    from bus_mlops.evaluation.report.summary import render_summary
    from bus_mlops.experiments.paper_gap import left_to_paper
    from bus_mlops.paths import RESULTS
    from bus_mlops.project import load_config, parse_config

    config = load_config()
    paper = parse_config(yaml.safe_load(profiles.text("paper")), "profile paper")
    Console().print(render_summary(RESULTS, config.data.kind == "phantom", left_to_paper(config, paper)))


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open the MLflow UI on the store of params.yaml."""
    import os
    import sys

    from bus_mlops.errors import LedgerError
    from bus_mlops.files import sqlite_file
    from bus_mlops.project import load_config

    tracking = load_config().tracking
    if tracking.uri.startswith(("http://", "https://")):
        print(f"The runs are on a server already: {tracking.uri}")
        return
    file = sqlite_file(tracking.uri)
    if file is not None and not file.exists():
        raise LedgerError(f"{file} is not there yet: `make reproduce` (or `dvc repro`) records runs in it first.")
    print(f"MLflow UI: http://{host}:{port} (Ctrl-C to stop)", flush=True)
    # Background jobs would double the memory and are of no use here.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    arguments = ["--backend-store-uri", tracking.uri, "--host", host, "--port", str(port), "--workers", "1"]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "ui", *arguments], variables)


app.command()(train)
app.command()(reconcile)
app.command()(predict)
for _command in (gate, promote, history, rollback, verify):
    app.command()(_command)
app.command()(export)
app.command()(pull)
app.command()(serve)
app.add_typer(folds_app, name="folds")
app.add_typer(sources_app, name="sources")
app.command()(audit)
app.command()(models)
