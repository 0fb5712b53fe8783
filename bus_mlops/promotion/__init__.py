"""Candidates, decisions about them with their evidence, and the aliases that follow."""
