"""The gate's judgement: a comparison in, a report out; no MLflow, no files."""
