"""The report and the summary: tables and figures for people."""
