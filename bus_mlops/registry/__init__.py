"""The gate, promotion, the packaged model and its consumers."""
