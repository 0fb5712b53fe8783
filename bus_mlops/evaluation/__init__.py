"""Every number of tables, tests, plots and gates, computed from out-of-fold predictions."""
