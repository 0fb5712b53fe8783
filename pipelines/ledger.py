"""DVC stage `ledger`: ask, at every `dvc repro`, whether the store still holds what the results rest on."""

from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.files import write_json
from bus_mlops.paths import LEDGER
from bus_mlops.tracking.holdings import require_held


def main(config: Config) -> None:
    require_held(config.tracking)
    if not LEDGER.exists():
        write_json(LEDGER, {"renewed": ""})


if __name__ == "__main__":
    run_stage(main)
