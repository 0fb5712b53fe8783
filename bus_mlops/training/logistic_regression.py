"""The logistic regression of linear probes: its penalty chosen on validation, its standardisation in its weights."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bus_mlops.errors import TrainingError

Floats = NDArray[np.float64]
# Inverse strengths of the penalty, from strong to weak. They are part of every number, like the epochs of a training:
# with others NUMERICS_VERSION is raised.
INVERSE_PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 1))
_MOST_STEPS = 10_000


class Fitted(NamedTuple):
    """A logistic regression: logit = features @ kernel + bias, for features that are not standardised.

    Attributes:
        kernel: (n,).
        bias: A scalar.
        inverse_penalty: That of `INVERSE_PENALTIES` with the least validation loss.
    """

    kernel: Floats
    bias: float
    inverse_penalty: float


# Threads of BLAS wait for each other longer than they compute here: 30 times as long on a busy machine.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]  # it declares no types
def logistic_regression(train: Floats, train_labels: Any, validation: Floats, validation_labels: Any) -> Fitted:
    """Logistic regression on standardised features; its penalty is the one of least validation loss.

    The validation part is used as for every network, whose epoch is chosen by the same loss. Mean and standard
    deviation are those of the training part, and folded into the weights.

    Args:
        train: (N, n).
        train_labels: (N,), 0 or 1.
        validation: (M, n).
        validation_labels: (M,), 0 or 1.

    Raises:
        TrainingError: The training part has one class, features are not finite, or no minimum was found.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) < 2:
        raise TrainingError("a linear probe needs benign and malignant images to train on: change the folds.")
    if not np.isfinite(train).all():
        raise TrainingError("the features of the frozen encoder are not finite: its weights and its scaling must fit.")
    scaler = StandardScaler().fit(train)
    standardised = scaler.transform(train)
    best: tuple[float, Fitted] | None = None
    for strength in INVERSE_PENALTIES:
        model = LogisticRegression(C=strength, max_iter=_MOST_STEPS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                model.fit(standardised, train_labels)
        except ConvergenceWarning as error:
            raise TrainingError(
                f"no logistic regression was found within {_MOST_STEPS} steps at an inverse penalty of {strength:g}: "
                "the features of the frozen encoder differ by orders of magnitude."
            ) from error
        kernel = model.coef_[0] / scaler.scale_
        fitted = Fitted(kernel, float(model.intercept_[0] - kernel @ scaler.mean_), strength)
        loss = cross_entropy(validation @ fitted.kernel + fitted.bias, validation_labels)
        if best is None or loss < best[0]:
            best = loss, fitted
    assert best is not None  # noqa: S101 - there are penalties
    return best[1]


def cross_entropy(logits: Floats, labels: Any) -> float:
    """The mean over images, from log odds (N,) and labels (N,) of 0 or 1."""
    return float(np.mean(np.logaddexp(0, np.where(np.asarray(labels) > 0, -logits, logits))))
