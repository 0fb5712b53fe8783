"""Readers of the sources, and their phantoms: native layout -> typed records."""
