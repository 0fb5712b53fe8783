"""Engines execute groups of cells; nothing outside this room knows which one runs."""
