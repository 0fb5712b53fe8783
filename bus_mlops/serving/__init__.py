"""A promoted model as a web service: MLflow's scoring server with limits, and a page for people."""
