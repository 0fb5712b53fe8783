"""Stage `phantom`: draw the synthetic images, in their own folder, never in a user's."""

from bus_mlops import paths
from bus_mlops.config import Config
from bus_mlops.entry import run_stage
from bus_mlops.paragraphs import tell
from bus_mlops.sources.phantoms.write import write_phantoms


def main(config: Config) -> None:
    counts = write_phantoms(config, paths.PHANTOM)
    listed = ", ".join(f"{source} {count}" for source, count in counts.items()) or "none asked for"
    tell("phantom", f"{sum(counts.values())} synthetic images in {paths.PHANTOM} ({listed})")


if __name__ == "__main__":
    run_stage(main)
