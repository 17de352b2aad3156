"""Plan + rows -> tables, figures, one HTML page, verdicts, clinical metrics, checks against
reference rows. Never imports torch."""
