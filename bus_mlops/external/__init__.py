"""Recorded networks and shipped models on cohorts that no fold touches."""
