"""The logistic regression of linear probes, against scikit-learn's own pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bus_mlops.errors import TrainingError
from bus_mlops.training.logistic_regression import INVERSE_PENALTIES, cross_entropy, logistic_regression


def features(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Twenty features of very different scales, two of which know something of the label; one is the same for all."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    values = rng.normal(size=(count, 20))
    values[:, :2] += labels[:, None]
    values = values * np.logspace(-3, 3, 20) + 5
    values[:, 7] = 1.0
    return values, labels


def test_it_is_that_of_scikit_learn_with_the_penalty_of_least_validation_loss():
    train, validation = features(120, 0), features(60, 1)
    fitted = logistic_regression(*train, *validation)
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(*train) for c in INVERSE_PENALTIES]
    losses = [log_loss(validation[1], model.predict_proba(validation[0])[:, 1]) for model in models]
    best = int(np.argmin(losses))
    assert 0 < best < len(INVERSE_PENALTIES) - 1  # neither end of the grid is chosen here
    assert fitted.inverse_penalty == INVERSE_PENALTIES[best]
    test = features(50, 2)[0]
    logits = test @ fitted.kernel + fitted.bias
    np.testing.assert_allclose(logits, models[best].decision_function(test), rtol=1e-3, atol=1e-4)
    loss = cross_entropy(validation[0] @ fitted.kernel + fitted.bias, validation[1])
    assert loss == pytest.approx(min(losses), abs=1e-4)


def test_test_images_have_no_say_and_validation_images_only_in_the_penalty():
    train, validation = features(120, 0), features(60, 1)
    first = logistic_regression(*train, *validation)
    turned = logistic_regression(*train, validation[0], 1 - validation[1])  # nothing learnt helps: the strongest
    assert turned.inverse_penalty == INVERSE_PENALTIES[0] < first.inverse_penalty
    again = logistic_regression(*train, *features(60, 1))
    np.testing.assert_array_equal(again.kernel, first.kernel)


def test_what_cannot_be_fitted_is_an_error():
    (values, labels), validation = features(40, 0), features(20, 1)
    with pytest.raises(TrainingError, match="benign and malignant images"):
        logistic_regression(values, np.zeros(40), *validation)
    values[3, 3] = np.inf
    with pytest.raises(TrainingError, match="not finite"):
        logistic_regression(values, labels, *validation)
