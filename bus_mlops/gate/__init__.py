"""The gate's judgement: a comparison in, a report out; no MLflow, no files.

A rule of your own is one decorated function in a file of `extensions`: docs/how-to/add-a-gate-rule.md.
"""
