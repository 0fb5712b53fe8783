"""What is to be trained (specs, strategies, plan) and how it gets done (runner, engines)."""
