"""The closed rows of a recipe."""

import types

from ml_collections import ConfigDict

from kd_jax import config as config_lib


def close(module: types.ModuleType, arg: str) -> dict[str, ConfigDict]:
  """Returns the closed config of each row of a recipe.

  Args:
    module: a module of configs/.
    arg: the recipe and its arguments.
  """
  config = module.get_config(arg)
  config.lock()
  return {name: config_lib.close_row(config, name) for name in config.rows}
