"""Tables 4 to 7: what transfer learning, augmentation, losses and optimizers do to the classifiers."""

from __future__ import annotations

from collections.abc import Iterator

from bus_mlops.config import Augmentation, Config, Loss
from bus_mlops.experiments.strategies.rows import Row, make_row, make_spec, networks_of
from bus_mlops.models.entry import NetworkEntry
from bus_mlops.spec import Task

NO_AUGMENTATION = Augmentation()
# The weights that the paper chose on validation for its Tables 6 and 7 [section 5.1]; others use 3.
WEIGHTED_CROSS_ENTROPY = {"densenet121": 4.0}
# How a single augmentation is named, with its amount.
SINGLES = {
    "horizontal_flip": "Flip",
    "height_shift": "Height shift {:g}",
    "width_shift": "Width shift {:g}",
    "zoom": "Zoom {:g}",
    "shear": "Shear {:g} degrees",
    "rotation": "Rotation {:g} degrees",
}


def transfer_learning(config: Config) -> Iterator[Row]:
    """Table 4: from scratch (S) against ImageNet weights (TL), without augmentation."""
    variants = {"random": "S", "imagenet": "TL"}
    for name, network in _classifiers(config, "transfer_learning"):
        for weights in config.strategy_settings.transfer_learning.weights:
            if weights == "imagenet" and not network.backbone:
                continue  # a user's own network, of which nothing is pretrained
            spec = make_spec(config, name, "all", weights=weights, augmentation=NO_AUGMENTATION)
            yield make_row(spec, 4, variants[weights])


def augmentation(config: Config) -> Iterator[Row]:
    """Table 5: without against with the paper's four augmentations; and single ones, which it does not print."""
    for name, _ in _classifiers(config, "augmentation"):
        yield make_row(make_spec(config, name, "all", augmentation=NO_AUGMENTATION), 5, "No Aug")
        yield make_row(make_spec(config, name, "all", augmentation=config.training.augmentation), 5, "Aug")
        for field, amount in config.strategy_settings.augmentation.singles:
            if amount:
                single = Augmentation.model_validate({field: amount})
                yield make_row(make_spec(config, name, "all", augmentation=single), 5, SINGLES[field].format(amount))


def losses(config: Config) -> Iterator[Row]:
    """Table 6: cross-entropy, weighted cross-entropy and focal loss; the paper prints one of each family."""
    grid = config.strategy_settings.losses
    for name, _ in _classifiers(config, "losses"):
        yield make_row(make_spec(config, name, "all", loss=Loss()), 6, "BCE", family="BCE")
        for weight in grid.positive_weights:
            spec = make_spec(config, name, "all", loss=Loss(positive_weight=weight))
            yield make_row(spec, 6, f"WBCE(w_z={weight:g})", family="WBCE")
        for gamma in grid.gammas:
            for alpha in grid.alphas:
                spec = make_spec(config, name, "all", loss=Loss(kind="focal", gamma=gamma, alpha=alpha))
                yield make_row(spec, 6, f"Focal(gamma={gamma:g},alpha={alpha:g})", family="Focal")


def optimizers(config: Config) -> Iterator[Row]:
    """Table 7: ADAM, SGD and NADAM, on weighted cross-entropy with the weight that the paper chose."""
    for name, _ in _classifiers(config, "optimizers"):
        loss = Loss(positive_weight=WEIGHTED_CROSS_ENTROPY.get(name, 3.0))
        for optimizer in config.strategy_settings.optimizers.optimizers:
            spec = make_spec(config, name, "all", loss=loss, optimizer=optimizer)
            yield make_row(spec, 7, optimizer.name.upper())


def _classifiers(config: Config, strategy: str) -> Iterator[tuple[str, NetworkEntry]]:
    return networks_of(config, strategy, lambda network: network.task is Task.CLASSIFICATION, "classifiers")
