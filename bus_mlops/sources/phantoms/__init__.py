"""Synthetic images in the sources' own layouts."""
