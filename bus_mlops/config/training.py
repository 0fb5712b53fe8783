"""How a network is trained, as `params.yaml` says it: augmentation, loss, optimizer, and the rest of the protocol."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, Tag, model_validator

from bus_mlops.config.base import Strict, kind_named_by


class Augmentation(Strict):
    """Random changes of a training image and its mask; all zero means none.

    Shifts are fractions of the side, shear and rotation degrees (the paper prints "20%", its code uses degrees).
    """

    horizontal_flip: bool = Field(default=False, description="half of the images are mirrored, left and right")
    height_shift: float = Field(
        default=0.0, ge=0, le=0.5, description="up or down by up to so much [fraction of the side]"
    )
    width_shift: float = Field(default=0.0, ge=0, le=0.5, description="left or right, likewise [fraction of the side]")
    zoom: float = Field(default=0.0, ge=0, le=0.5, description="larger or smaller by up to so much [fraction]")
    shear: float = Field(default=0.0, ge=0, le=45, description="slanted by up to so much [degrees]")
    rotation: float = Field(default=0.0, ge=0, le=180, description="turned either way by up to so much [degrees]")

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return any(float(getattr(self, name)) > 0 for name in type(self).model_fields)


class _WeightedParts(Strict):
    classification_weight: float = Field(
        default=1.0, gt=0, le=100, description="weight of the label's loss, beside the mask's [factor]"
    )
    mask_weight: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="weight of the mask's loss, Dice; only networks that draw masks have it [factor]",
    )


class CrossEntropy(_WeightedParts):
    """classification_weight x weighted cross-entropy + mask_weight x Dice; plain at positive_weight 1."""

    kind: Literal["cross_entropy"] = Field(default="cross_entropy", description="weighted cross-entropy")
    positive_weight: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="weight of malignant cases; above 1 raises sensitivity, lowers specificity [factor]",
    )


class Focal(_WeightedParts):
    """classification_weight x focal loss + mask_weight x Dice."""

    kind: Literal["focal"] = Field(default="focal", description="focal loss")
    gamma: float = Field(
        default=2.0, ge=0, le=10, description="exponent on the error: more of it, less weight on easy cases [exponent]"
    )
    alpha: float = Field(
        default=0.25, gt=0, lt=1, description="weight of malignant cases, 1 - alpha of others [fraction]"
    )


Loss = Annotated[
    Annotated[CrossEntropy, Tag("cross_entropy")] | Annotated[Focal, Tag("focal")],
    kind_named_by("kind", "cross_entropy", "focal"),
]


class _LearningRate(Strict):
    learning_rate: float = Field(default=1e-5, gt=0, le=1, description="size of a step, the largest [factor]")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine: after the warm-up it falls to 0 at the end of the last epoch"
    )
    warmup_epochs: int = Field(
        default=0, ge=0, le=1000, description="first epochs, in which it rises from 0, step by step [epochs]"
    )

    @property
    def is_constant(self) -> bool:
        """Whether all steps have one learning rate, unless it follows the validation loss."""
        return self.schedule == "constant" and self.warmup_epochs == 0


class Adam(_LearningRate):
    """Adam."""

    name: Literal["adam"] = Field(default="adam", description="Adam")


class Sgd(_LearningRate):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = Field(default="sgd", description="stochastic gradient descent")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="share of the step before that is kept [fraction]")


class Nadam(_LearningRate):
    """Nadam."""

    name: Literal["nadam"] = Field(default="nadam", description="Nadam")


Optimizer = Annotated[
    Annotated[Adam, Tag("adam")] | Annotated[Sgd, Tag("sgd")] | Annotated[Nadam, Tag("nadam")],
    kind_named_by("name", "adam", "sgd", "nadam"),
]
InputSize = Annotated[int, Field(ge=32, le=1024)]


class Plateau(Strict):
    """The learning rate falls where the validation loss does not, as with Keras's ReduceLROnPlateau; off if left out.

    An epoch counts as better if its loss is lower than the lowest so far by more than `min_delta`. After `patience`
    epochs in a row that are not, the rate is multiplied by `factor`, but never falls below `minimum`.
    """

    factor: float = Field(default=0.1, gt=0, lt=1, description="what the learning rate is multiplied by [factor]")
    patience: int = Field(
        default=10, ge=1, le=10_000, description="epochs in a row that are not better, after which it falls [epochs]"
    )
    minimum: float = Field(default=0.0, ge=0, le=1, description="below which the learning rate does not fall [factor]")
    min_delta: float = Field(
        default=1e-4, ge=0, description="by how much a better epoch is lower than the lowest [validation loss]"
    )

    def acts(self, learning_rate: float, epochs: int) -> bool:
        """Whether a training so long, from that rate on, can ever be changed by it: its first epoch is a best one."""
        return learning_rate > self.minimum and epochs >= self.patience + 2


Steps = Annotated[int, Field(ge=1, le=100_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
HeadInitializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"]
KeptEpoch = Literal["best", "last"]


Weights = Literal["random", "imagenet", "radimagenet"]
Scaling = Literal["raw255", "unit", "imagenet", "radimagenet"]


class _Protocol(Strict):
    weights: Weights = Field(
        default="imagenet",
        description="what an encoder starts from; imagenet and radimagenet (CT, MRI, ultrasound) need files",
    )
    dropout: float = Field(
        default=0.3, ge=0, lt=1, description="share of units that are silent in a training step [fraction]"
    )
    batch_norm_momentum: float = Field(
        default=0.99, gt=0, lt=1, description="memory of the running means; less of it with few steps [fraction]"
    )
    augmentation: Augmentation = Field(
        default=Augmentation(horizontal_flip=True, height_shift=0.2, width_shift=0.2, rotation=20),
        description="random changes of training images and their masks",
    )
    loss: Loss = Field(default=CrossEntropy(), description="what training makes small")
    optimizer: Optimizer = Field(default=Adam(), description="who takes the steps")
    epochs: int = Field(default=50, ge=1, le=10_000, description="passes over the training images [epochs]")
    batch_size: int = Field(default=32, ge=1, le=4096, description="images of one step [images]")
    steps_per_epoch: Steps | None = Field(
        default=None,
        description="batches of an epoch, which goes on in the images where the last stopped; null: one pass [batches]",
    )
    plateau: Plateau | None = Field(
        default=None, description="when the learning rate falls; null: one learning rate throughout"
    )
    kept_epoch: KeptEpoch = Field(
        default="best", description="whose weights stay: those of the lowest validation loss, or of the last epoch"
    )
    head_initializer: HeadInitializer | None = Field(
        default=None,
        description="for the kernels of hidden dense layers; null: the network's own, glorot_uniform in all of the zoo",
    )
    validation: Fraction | None = Field(
        default=None,
        description="share of the training groups that validates, drawn anew; null: as folds [fraction]",
    )


class Training(_Protocol):
    """How one network is trained; the defaults are the paper's."""

    input_size: InputSize = Field(default=224, description="side of the square that the network sees [pixels]")
    scaling: Scaling = Field(
        default="imagenet",
        description="gray levels as 0 to 255, as 0 to 1, or as ImageNet's or RadImageNet's weights expect them",
    )

    @model_validator(mode="after")
    def _one_rule_for_the_rate(self) -> Self:
        rule = f"optimizer.schedule {self.optimizer.schedule}, optimizer.warmup_epochs {self.optimizer.warmup_epochs}"
        if self.plateau is not None and not self.optimizer.is_constant:
            raise ValueError(f"plateau and {rule} both say what the learning rate is: keep one of them")
        if self.optimizer.warmup_epochs >= self.epochs:
            raise ValueError(f"optimizer.warmup_epochs must be fewer than epochs ({self.epochs}) but got {rule}")
        return self

    def steps_of_epoch(self, images: int) -> int:
        """How many batches an epoch has with so many training images.

        >>> Training(steps_per_epoch=200).steps_of_epoch(773), Training().steps_of_epoch(773)
        (200, 25)
        """
        return self.steps_per_epoch or math.ceil(images / self.batch_size)

    def images_per_epoch(self, images: int) -> float:
        """How many images an epoch sees, on average, of so many training images.

        >>> Training(steps_per_epoch=200).images_per_epoch(773), Training().images_per_epoch(773)
        (6184.0, 773)
        """
        if self.steps_per_epoch is None:
            return images
        return self.steps_per_epoch * images / max(1, math.ceil(images / self.batch_size))


class TrainingDefaults(_Protocol):
    """How every network is trained, unless `networks` says otherwise; `original` is what `bus-mlops models` lists."""

    input_size: InputSize | Literal["original"] = Field(
        default="original", description="side of the square that the network sees; original: its own [pixels]"
    )
    scaling: Scaling | Literal["original"] = Field(
        default="original",
        description="gray levels as 0 to 255, as 0 to 1, or as those weights expect them; original: the network's own",
    )


class NetworkConfig(Strict):
    """One network of the profile: its options and what differs from `training`; null: as there."""

    options: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="the network's own, as `bus-mlops models` lists them [as the option's]"
    )
    input_size: InputSize | Literal["original"] | None = None
    weights: Weights | None = None
    scaling: Scaling | Literal["original"] | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1)
    batch_norm_momentum: float | None = Field(default=None, gt=0, lt=1)
    augmentation: Augmentation | None = None
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    epochs: int | None = Field(default=None, ge=1, le=10_000)
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    steps_per_epoch: Steps | None = None
    plateau: Plateau | None = None
    kept_epoch: KeptEpoch | None = None
    head_initializer: HeadInitializer | None = None
    validation: Fraction | None = None
