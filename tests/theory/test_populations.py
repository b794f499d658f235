"""Populations and predictors: unknown kinds are named."""

import numpy as np
import pytest

from kd_jax.theory import populations


def test_unknown_kinds_are_named():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="'mixed'; the populations are: determ"):
    populations.draw_population('mixed', rng, size=3, num_classes=2)
  labels = np.full((3, 2), 0.5)
  with pytest.raises(ValueError, match="'bays'; the predictors are: indiff"):
    populations.predictor_losses('bays', rng, labels, max_logit=5.0)
