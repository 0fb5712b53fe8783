"""Recorded networks looked at once more: what they look at, what they bear, and what they cost."""
