"""Stage `assemble`: every image, cropped, padded and resized for the sizes that the plan needs."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.dataset.assemble import assemble, describe
from bus_mlops.entry import run_stage
from bus_mlops.files import read_json
from bus_mlops.paragraphs import tell


def main(config: Config) -> None:
    sizes = read_json(paths.PLAN / "sizes.json")["sizes"]
    tell("assemble", describe(assemble(config, sizes, paths.BENCHMARK)))


if __name__ == "__main__":
    run_stage(main)
