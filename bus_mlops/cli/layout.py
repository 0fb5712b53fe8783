"""How `--help` looks: flags without a type, paragraphs without the line breaks of the source, an example each."""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup

# A line that works, for each command; of those that have several, the one that is typed first.
EXAMPLES = {
    "init": "bus-mlops init my-project --profile busi --data-root ../shared/data",
    "profile": "bus-mlops profile busi --data-root ../shared/data",
    "plan": "bus-mlops plan --json",
    "train": "bus-mlops train losses --only-failed",
    "search list": "bus-mlops search list",
    "search status": "bus-mlops search status mt_estan_loss",
    "summary": "bus-mlops summary --json",
    "ui": "bus-mlops ui --port 5050",
    "models": "bus-mlops models --json",
    "reconcile": "bus-mlops reconcile",
    "repair": "bus-mlops repair --dry-run",
    "relocate": "bus-mlops relocate --dry-run",
    "export-runs": "bus-mlops export-runs study.zip --finished",
    "import-runs": "bus-mlops import-runs study.zip",
    "audit": "bus-mlops audit --contact-sheets sheets",
    "sources verify": "bus-mlops sources verify --root data/raw",
    "sources fetch": "bus-mlops sources fetch thammasat --metadata my-copy-of-the-table.csv",
    "folds show": "bus-mlops folds show --json",
    "folds import": "bus-mlops folds import ~/Downloads/folds.zip",
    "gate": "bus-mlops gate --power --images 1875 --malignant 794 --folds 5 --seeds 1",
    "promote": 'bus-mlops promote --force --reason "the baseline is not to be had any more"',
    "history": "bus-mlops history --json",
    "protocol": "bus-mlops protocol --json",
    "rollback": 'bus-mlops rollback --reason "misses small tumours at the clinic"',
    "verify": "bus-mlops verify 3 --full",
    "predict": "bus-mlops predict --model models:/bus-mt-estan@champion scan.png --mask-dir masks",
    "watch": "bus-mlops watch --dicomweb http://localhost:8042/dicom-web --model models:/bus-mt-estan@champion",
    "accept": "bus-mlops accept models:/bus-mt-estan@champion our-cases --k 20 --k 50",
    "serve": "bus-mlops serve models:/bus-mt-estan@champion --port 8080",
    "drift": "bus-mlops drift answers.jsonl --model models:/bus-mt-estan@champion --svg drift.svg",
    "export": "bus-mlops export models:/bus-mt-estan@champion model",
    "pull": "bus-mlops pull models:/bus-mt-estan@champion",
    "sign": "bus-mlops sign bus-mt-estan --key ~/keys/clinic.key",
    "keys new": "bus-mlops keys new clinic --folder ~/keys",
    "keys list": "bus-mlops keys list --json",
    "completion": 'eval "$(bus-mlops completion bash)"',
}
EXIT_CODES = "Exit codes: 0 done, 1 an error or a refusal, 2 wrong usage, 130 stopped (Ctrl-C)."


def paragraphs(text: str | None) -> str:
    r"""A docstring with a line for each of its paragraphs, since `--help` keeps line breaks of all but the first.

    >>> paragraphs("One.\n\n    Two\n    goes on.")
    'One.\n\nTwo goes on.'
    """
    return "\n\n".join(" ".join(each.split()) for each in inspect.cleandoc(text or "").split("\n\n"))


def _without_types(params: list[Any]) -> list[Any]:
    """Parameters whose flags show no type: what a switch takes is nothing."""
    for each in params:
        if getattr(each, "is_flag", False) and each.metavar is None:
            each.metavar = ""
    return params


class Command(TyperCommand):
    """A command as it is shown here."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Options and arguments, of which flags show no type."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands as it is shown here."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Options of the group, of which flags show no type."""
        return _without_types(super().get_params(ctx))
