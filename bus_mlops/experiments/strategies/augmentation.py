"""Table 5: without against with the paper's four augmentations; and single ones, which it does not print."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from bus_mlops.config import Augmentation, Config, NetworkChoice
from bus_mlops.experiments.strategies.rows import Row, classifiers_of, make_row, make_spec
from bus_mlops.experiments.strategies.strategy import strategy

# How a single augmentation is named, with its amount.
SINGLES = {
    "horizontal_flip": "Flip",
    "height_shift": "Height shift {:g}",
    "width_shift": "Width shift {:g}",
    "zoom": "Zoom {:g}",
    "shear": "Shear {:g} degrees",
    "rotation": "Rotation {:g} degrees",
}


class AugmentationSettings(NetworkChoice):
    """Beside none and all of `training.augmentation`, one row for each change named here, alone."""

    singles: Augmentation = Field(
        default=Augmentation(horizontal_flip=True, height_shift=0.2, width_shift=0.2, zoom=0.2, shear=20, rotation=20),
        description="changes that make a row each, alone",
    )


@strategy(
    order=5,
    title="Augmentation",
    explanation="None, each of six alone, and the combination of four: the paper's Table 5.",
    settings=AugmentationSettings,
)
def augmentation(config: Config, settings: AugmentationSettings) -> Iterator[Row]:
    """None, all of `training.augmentation`, and each change of the settings alone, of each classifier."""
    for name, _ in classifiers_of(config, "augmentation", settings):
        yield make_row(make_spec(config, name, "all", augmentation=Augmentation()), "No Aug", table=5)
        yield make_row(make_spec(config, name, "all", augmentation=config.training.augmentation), "Aug", table=5)
        for field, amount in settings.singles:
            if amount:
                single = Augmentation.model_validate({field: amount})
                spec = make_spec(config, name, "all", augmentation=single)
                yield make_row(spec, SINGLES[field].format(amount), table=5)
