"""The table that helps to choose a method."""

from kd_jax import methods
from kd_jax.report import methods_overview, publish
from tests import helpers


def _run(accuracies):
  students = [
    {'row': row, 'seed': seed, 'test': {'accuracy': value / 100}}
    for row, values in accuracies.items()
    for seed, value in enumerate(values)
  ]
  distill = {'method': 'kl', 'kl': {'weight': 1.0}}
  distill['hint'] = {'weight': 1.0, 'layers': 'last'}
  return {
    'students': students,
    'config': {'distill': distill},
    'benchmark': {'steps_against': {'hint': {'ratio': {'median': 1.5}}}},
  }


def test_each_method_has_its_gains_costs_and_needs():
  kl = [50.0, 51.0, 53.0]
  table = methods_overview.table(
    {
      'cifar-methods-as_coded': _run({'kl': kl, 'hint': [x + 2 for x in kl]}),
      'mnist-methods-as_written': _run({'kl': kl}),
    }
  )
  hint, reference = table.splitlines()[2:]
  cells = [cell.strip() for cell in hint.split('|')[1:-1]]
  assert cells == [
    *('[`hint`](#hint)', r'+2.0 (+2.0 to +2.0), n = 3 \*', '–'),
    *('1.50', '1.50', 'yes'),
  ]
  assert '0 (reference)' in reference and reference.endswith('no |')


def test_the_runs_declare_all_methods():
  record = publish.load_results(helpers.ROOT)['cifar-methods-as_coded']
  assert methods_overview.methods(record).keys() == methods.METHODS.keys()
