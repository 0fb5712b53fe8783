"""Readers of the five sources, and the phantoms: native layout -> typed records."""
