"""The rows of a run: names that become folders, and features in memory."""

import pytest

from kd_jax import config as config_lib
from kd_jax.experiments import run
from kd_jax.runtime import errors, host_memory
from tests import helpers


@pytest.mark.parametrize('name', ['a/b', '/a', 'a\\b'])
def test_a_row_whose_name_leads_out_of_the_run_is_refused(name):
  config = helpers.tiny_mnist()
  with config.unlocked():
    config.rows[name] = config.rows.h50
  configs = {row: config_lib.close_row(config, 'h50') for row in config.rows}
  with pytest.raises(errors.UserError, match='config.rows: the row .* is no'):
    run.check_named_rows(config, configs)


def test_features_beyond_the_memory_are_refused_before_training(
  generated, monkeypatch
):
  config = helpers.tiny_mnist(fields={'distill.method': 'kl+attention'})
  config = config_lib.close_row(config, 'h50')
  assert not run.needs_live_teacher(config, generated)
  monkeypatch.setattr(host_memory, 'available_bytes', lambda: 1000)
  with pytest.raises(errors.UserError, match='lower config.teacher.features_g'):
    run.needs_live_teacher(config, generated)
  config.teacher.features_gib = 0.0
  assert run.needs_live_teacher(config, generated)
