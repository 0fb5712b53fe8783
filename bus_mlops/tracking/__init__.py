"""MLflow as the ledger of runs: what has run, with its evidence."""
