"""The comparison at the top of README.md: one student of one teacher.

All rows are the same small ResNet, trained on the same 5,000 images of
CIFAR-10, so that they differ in what they learn from, and in their weights.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kd_jax.report import fields, markdown
from kd_jax.report.fields import Record
from kd_jax.runtime import errors, run_records

_RUN = 'cifar-methods-as_coded'
# The same recipe with weights and activations of 8 bits.
_RUN_OF_8_BITS = 'cifar-methods-as_coded-int8'
# A run that timed this network with floats and with 8 bits, in turns.
_TIMED = ('cifar-quantized-as_coded', 'float', 'int8')


class Row(NamedTuple):
  """A network of the comparison.

  Attributes:
    about: a description of the network, for the table.
    label: the same for the picture, in at most two lines.
    networks: the records of its seeds.
    is_quantized: whether its weights are stored as integers.
    call_ms: median milliseconds of a call, by batch size.
  """

  about: str
  label: str
  networks: list[Record]
  is_quantized: bool
  call_ms: Mapping[int, float]

  @property
  def accuracies(self) -> list[float]:
    """The test accuracies (%) of the seeds, with the weights as stored."""
    section = run_records.QUANTIZED if self.is_quantized else 'test'
    return [100 * network[section]['accuracy'] for network in self.networks]

  @property
  def megabytes(self) -> float:
    """The size of the stored weights of the first seed."""
    network = self.networks[0]
    if self.is_quantized:
      network = network[run_records.QUANTIZED]
    return network['bytes'] / 1e6


def rows(results: Mapping[str, Record]) -> list[Row]:
  """Returns the teacher, and its students from the least to the most help.

  Args:
    results: the records by name.
  Returns:
    The rows; [] if a record is missing.
  """
  if not {_RUN, _RUN_OF_8_BITS, _TIMED[0]} <= results.keys():
    return []
  record = results[_RUN]
  networks = fields.networks(record)
  small = run_records.by_row(results[_RUN_OF_8_BITS])
  found = [
    Row(about, label, networks[row], False, _call_ms(record, row))
    for row, about, label in (
      ('teacher', 'teacher, ResNet-18, 45,000 images', 'its teacher'),
      ('labels', 'student on labels', 'labels alone'),
      ('kl', 'student by plain KD (`kl`)', 'plain distillation\n("kl")'),
      (
        'review',
        'student, best mean (`review`)',
        'the method with\nthe best mean ("review")',
      ),
    )
  ]
  floats, integers = (_call_ms(results[_TIMED[0]], row) for row in _TIMED[1:])
  slower = {size: integers[size] / floats[size] for size in floats}
  return [
    *found,
    Row(
      'student by plain KD, 8 bits',
      'plain distillation\nwith 8 bits',
      small['kl'],
      True,
      {size: slower[size] * ms for size, ms in found[-1].call_ms.items()},
    ),
  ]


def table(results: Mapping[str, Record]) -> str:
  """Returns the table of README.md.

  Args:
    results: the records by name.
  Raises:
    UserError: if a record is missing.
  """
  found = rows(results)
  if not found:
    raise errors.UserError(
      f'table: all at_a_glance: expected the records {_RUN}, {_RUN_OF_8_BITS} '
      f'and {_TIMED[0]}'
    )
  return markdown.table_of_lines(
    [
      {
        '': row.about,
        'accuracy, %': markdown.mean_sd(row.accuracies, 1),
        'n': str(len(row.networks)),
        'MB': f'{row.megabytes:.1f}',
        **{
          f'{_images(size)}, ms': f'{ms:.1f}'
          for size, ms in row.call_ms.items()
        },
      }
      for row in found
    ]
  )


def _images(size: int) -> str:
  return '1 image' if size == 1 else f'{size} images'


def _call_ms(record: Record, row: str) -> dict[int, float]:
  """Returns the median milliseconds of a network's call, by batch size."""
  timing = fields.network_timing(record, row)['batches']
  return {
    int(size): 1e3 * found['call_s']['median'] for size, found in timing.items()
  }
