"""Comparisons of methods: the argument `method`, weights, and grids."""

import json
import pathlib

import pytest

from configs import cifar, cifar_methods, mnist
from kd_jax import config as config_lib
from kd_jax import methods
from kd_jax.config_checks import field_checks
from kd_jax.report import study_tables
from tests.configs import recipe_rows

RESULTS = pathlib.Path(__file__).parents[2] / 'results'


def test_the_argument_method_sets_the_method_of_all_rows():
  row = recipe_rows.close(mnist, 'h300,method=dkd+rkd')['h300']
  field_checks.check_fields(row)
  options = config_lib.method_options(row.distill)
  assert options['dkd'] == {'weight': 1.0, 'alpha': 1.0, 'beta': 8.0}
  assert set(options) == {'dkd', 'rkd'}
  assert row.name == 'mnist-h300-as_coded-dkd+rkd'
  no_kd = recipe_rows.close(cifar, 'table2,method=dkd')['ideal_no_kd']
  assert config_lib.method_options(no_kd.distill) == {}


@pytest.mark.parametrize(
  'recipes, weights',
  [(mnist, mnist.METHOD_WEIGHTS), (cifar, cifar_methods.METHOD_WEIGHTS)],
  ids=['mnist', 'cifar'],
)
def test_the_weights_of_methods_are_the_best_of_the_grid(recipes, weights):
  name = recipes.__name__.removeprefix('configs.')
  chosen = {}
  # Records of a few rows, which were trained again, come last.
  found = RESULTS.rglob(f'{name}-methods_grid-*.json')
  for path in sorted(found, key=lambda path: path.stem):
    best = study_tables.best_weights(json.loads(path.read_text()))
    # Plain KD is there to compare with, and keeps the weight of all methods.
    chosen |= {m: best[m] for m in best if m != 'kl' or m not in chosen}
  assert chosen == weights
  config = recipes.get_config('methods')
  assert set(config.rows) >= chosen.keys()
  for method, percent in chosen.items():
    assert config.distill[method].weight == pytest.approx(
      percent / 100 * methods.METHODS[method].weight
    )


def test_a_grid_has_each_method_at_each_weight_on_held_out_images():
  for recipes in (mnist, cifar):
    config = recipes.get_config('methods_grid')
    assert config.data.holdout_examples >= 5000
    row = config_lib.close_row(config, 'dkd_30')
    assert row.distill.method == 'dkd'
    default = methods.METHODS['dkd'].weight
    assert row.distill.dkd.weight == pytest.approx(0.3 * default)
    # Other methods keep their weights. Rows without a method are left out.
    assert row.distill.kl.weight == methods.METHODS['kl'].weight
    assert not any(name.startswith('labels') for name in config.rows)
