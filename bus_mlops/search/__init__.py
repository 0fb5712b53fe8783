"""Hyperparameter search: what to try next, judged on validation parts only."""
