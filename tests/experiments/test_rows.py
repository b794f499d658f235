"""The rows of a run: features that fit in memory, or call the teacher."""

import pytest

from kd_jax import config as config_lib
from kd_jax.experiments import rows
from kd_jax.runtime import errors, host_memory
from kd_jax.training import plan
from tests import helpers


def test_features_beyond_the_memory_are_refused_before_training(
  generated, monkeypatch
):
  config = helpers.tiny_mnist(fields={'distill.method': 'kl+attention'})
  config = config_lib.close_row(config, 'h50')
  row_plan = plan.make_plan(config.train, generated)
  live_teacher = lambda: rows.plan_row(config, row_plan, generated).live_teacher
  assert not live_teacher()
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 1000)
  with pytest.raises(errors.UserError, match='lower config.teacher.features_g'):
    live_teacher()
  config.teacher.features_gib = 0.0
  assert live_teacher()
