"""The table that helps to choose a method: gains, costs and needs of each."""

import math
from collections.abc import Mapping

from kd_jax.report import fields, markdown, study_tables
from kd_jax.report.fields import Record

# The runs that have a row for each method, by the data set's name.
_RUNS = {
  'CIFAR-10': 'cifar-methods-as_coded',
  'MNIST': 'mnist-methods-as_written',
}
_REFERENCE = 'kl'


def methods(record: Record) -> dict[str, Record]:
  """Returns the options of each method that a run's config declares."""
  return {
    name: options
    for name, options in record['config']['distill'].items()
    if isinstance(options, dict)
  }


def table(results: Mapping[str, Record]) -> str:
  """Returns a line for each method, the best mean on CIFAR-10 first.

  A gain is the difference in accuracy (percentage points) from `kl`, with its
  95 % interval and the number of seeds. A star marks a difference that is
  significant: by a paired t test at 5 %, corrected for the rows of its run by
  Holm's method.

  Args:
    results: the records by name.
  """
  records = {data: results[run] for data, run in _RUNS.items()}
  compared = {
    data: study_tables.compare_rows(record, _REFERENCE)
    for data, record in records.items()
  }
  main, declared = next(iter(_RUNS)), methods(next(iter(records.values())))

  def gain(method: str) -> float:
    found = compared[main].get(method)
    return 0.0 if found is None else found.estimate.mean

  return markdown.table_of_lines(
    [
      {'method': f'[`{name}`](#{name})'}
      | {
        f'gain on {data}, points': _gain(name, found)
        for data, found in compared.items()
      }
      | {
        f'step time on {data}': _step_time(name, record)
        for data, record in records.items()
      }
      | {'needs features': 'yes' if 'layers' in declared[name] else 'no'}
      for name in sorted(declared, key=gain, reverse=True)
    ]
  )


def _gain(method: str, compared: Mapping[str, study_tables.Comparison]) -> str:
  """Returns '+0.5 (-0.1 to +1.1), n = 3', and a star if significant."""
  if method == _REFERENCE:
    return '0 (reference)'
  if method not in compared:
    return markdown.NONE
  found = compared[method].estimate
  text = f'{found.mean:+.1f}'
  if not math.isnan(found.low):
    text += f' ({found.low:+.1f} to {found.high:+.1f})'
  star = r' \*' if compared[method].is_significant else ''
  return f'{text}, n = {found.n}{star}'


def _step_time(method: str, record: Record) -> str:
  """Returns the median time of a step / that of `kl`."""
  steps = fields.benchmark(record).get('steps_against', {})
  if method not in steps:
    return markdown.NONE
  return f'{steps[method]["ratio"]["median"]:.2f}'
