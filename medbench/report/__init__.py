"""Plan + rows -> tables, figures, one HTML page, verdicts, clinical metrics, checks.

Checks against reference rows. Never imports torch.
"""
