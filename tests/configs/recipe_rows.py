"""The closed rows of a recipe, and the recipes that a test tries."""

import itertools
import types
from collections.abc import Collection
from typing import Any

import pytest
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


def with_arguments(
  recipes: Collection[str], arguments: Collection[str], large: Collection[str]
) -> list[Any]:
  """Returns (recipe, argument) pairs, as parameters of a test.

  Args:
    recipes: the names of the recipes.
    arguments: what may follow a name; '' for nothing.
    large: recipes of many rows, all of which an argument changes alike: they
      are slow with an argument.
  """
  return [
    pytest.param(
      *(recipe, argument),
      marks=pytest.mark.slow if recipe in large and argument else (),
    )
    for recipe, argument in itertools.product(recipes, arguments)
  ]
