"""DVC stage `promote`: the gate's verdict on the candidate, its version in the registry, and the alias if it passed.

Then the same for each of `promotion.challengers`, against whoever is champion by then. In an experiment of DVC the
candidate's verdict alone: a version for each try would bury those that somebody wanted.
"""

import os

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.errors import NothingToJudgeError
from bus_mlops.files import write_json
from bus_mlops.paths import PROMOTION
from bus_mlops.promotion.inputs import PromotionInputs, assembled
from bus_mlops.promotion.mlflow_pages import write_pages
from bus_mlops.promotion.promote import look, promote, write_challenge, write_look, write_outcome


def main(config: Config) -> None:
    decide(config)
    if refused := write_pages(config.tracking, assembled()).unwritten:
        print(f"[promote] this account may not write notes and views into MLflow: {refused}")


def decide(config: Config) -> None:
    """Judge, register and move the alias, or say why there is nothing to judge."""
    try:
        inputs = PromotionInputs.open(config)
        if experiment := os.environ.get("DVC_EXP_NAME"):
            report = look(inputs)
            write_look(PROMOTION, report, experiment)
            for line in report.to_lines():
                print(f"[promote] {line}")
            return
        outcome = promote(inputs)
    except NothingToJudgeError as error:
        # A profile may well train no candidate, or no rival: the report is made all the same, and says so.
        print(f"[promote] skipped: {error}")
        write_json(PROMOTION / "promotion.json", {"passed": None, "note": f"No promotion: {error}"})
        return
    write_outcome(PROMOTION, outcome, inputs.example)
    for line in outcome.lines():
        print(f"[promote] {line}")
    for name in config.promotion.challengers:
        outcome = promote(inputs, challenger=name)
        write_challenge(PROMOTION, name, outcome, inputs.example)
        for line in outcome.lines():
            print(f"[promote] challenger {name}: {line}")


if __name__ == "__main__":
    run_stage(main)
