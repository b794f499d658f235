"""Scores a trained network: accuracy, calibration, agreement, robustness.

`predictors`          the network of a config as a function of images
`inference`           runs a network over a whole split
`evaluate`            the metrics of a split, as numbers for records
`metrics`             the metrics as pure functions
`mismatched_outputs`  finds logits of other examples or classes
"""
