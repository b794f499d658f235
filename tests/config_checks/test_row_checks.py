"""Rows whose names become folders, or that a field names."""

import pytest

from kd_jax import config as config_lib
from kd_jax.config_checks import row_checks
from kd_jax.runtime import errors
from tests import helpers


@pytest.mark.parametrize('name', ['a/b', '/a', 'a\\b'])
def test_a_row_whose_name_leads_out_of_the_run_is_refused(name):
  config = helpers.tiny_mnist()
  with config.unlocked():
    config.rows[name] = config.rows.h50
  configs = {row: config_lib.close_row(config, 'h50') for row in config.rows}
  with pytest.raises(errors.UserError, match='config.rows: the row .* is no'):
    row_checks.check_named_rows(config, configs)
