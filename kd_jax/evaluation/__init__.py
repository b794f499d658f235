"""Scores a trained network: accuracy, calibration, agreement, robustness."""
