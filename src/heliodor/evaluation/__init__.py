"""Evaluation of picks: matching with true particles, metrics, calibration and thresholds."""
