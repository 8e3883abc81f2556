"""Judging picks: matching, metrics, calibration, thresholds."""
