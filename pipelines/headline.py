"""DVC stage `headline`: results/headline.json, what `dvc metrics` and `dvc exp show` print."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.files import write_json
from bus_mlops.paragraphs import tell


def main(_: Config) -> None:
    from bus_mlops.evaluation.headline import headline

    write_json(paths.HEADLINE, headline(paths.RESULTS))
    tell("headline", str(paths.HEADLINE))


if __name__ == "__main__":
    run_stage(main)
