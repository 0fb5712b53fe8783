"""From records to the benchmark: geometry, assembly, manifest, audit, folds, leakage check."""
