"""Sentences on the gain of a teacher over labels in a run."""

import math
from collections.abc import Sequence

from kd_jax.report import difference_tables, fields, seed_statistics
from kd_jax.report.fields import Record
from kd_jax.runtime import run_records

# Gains that a terminal shows; a report has them all.
_MOST_GAINS = 6
LEARNS_FROM = (
  'learns from: the labels alone, the outputs of the teacher alone, or both'
)

_NO_LABELS = (
  '  rows that learn from the teacher alone see no labels: near 0, the teacher '
  'replaces them'
)


def headline(record: Record) -> str:
  """Returns the finding of a run, for the title of its report.

  Args:
    record: a run with students.
  """
  gains = list(difference_tables.control_gains(record).values())
  if not gains:
    rows = len(run_records.by_row(record))
    return f'{rows} student{"s" if rows > 1 else ""} of one teacher'
  n = min(gain.n for gain in gains)
  means = sorted(gain.mean for gain in gains)
  ends = dict.fromkeys(f'{mean:+.1f}' for mean in (means[0], means[-1]))
  return (
    f'gain over labels {" to ".join(ends)} points (n = {n}; '
    f'{_significant_text(gains)})'
  )


def gain_lines(record: Record) -> list[str]:
  """Returns a line for each row with a control: what the teacher adds to it.

  Args:
    record: a run with students.
  Returns:
    The lines below their heading; [] if no row has a control.
  """
  gains = difference_tables.control_gains(record)
  if not gains:
    return []
  if len(gains) > _MOST_GAINS:
    return [
      'gain over the same student on labels alone: report.md has that of '
      f'each of {len(gains)} rows'
    ]
  lines = [
    f'  {row} - {control}: {gain_text(gain)}'
    for (row, control), gain in gains.items()
  ]
  if any(fields.learns_from(record, row) == 'teacher' for row, _ in gains):
    lines.append(_NO_LABELS)
  return ['gain over the same student on labels alone, points:', *lines]


def gain_text(gain: seed_statistics.Estimate) -> str:
  """Returns '+0.50 (95 % interval +0.10 to +0.90, n = 3)'."""
  if math.isnan(gain.low):
    return f'{gain.mean:+.2f} (one seed: no interval)'
  return (
    f'{gain.mean:+.2f} (95 % interval {gain.low:+.2f} to {gain.high:+.2f}, '
    f'n = {gain.n})'
  )


def gain_section(record: Record) -> list[str]:
  """Returns the paragraphs of a report about gains over labels."""
  if not difference_tables.control_pairs(record):
    return []
  return [
    '## Gain over labels',
    'The control of a row is the same student with the same schedule, trained '
    'on labels alone, without a teacher. Differences are paired by seed.',
    difference_tables.controls_table(record),
  ]


def _significant_text(gains: Sequence[seed_statistics.Estimate]) -> str:
  """Returns how many gains and losses are significant."""
  if any(gain.n == 1 for gain in gains):
    return 'one seed: no test'
  corrected = seed_statistics.holm([gain.p for gain in gains])
  signs = [
    gain.mean > 0
    for gain, p in zip(gains, corrected, strict=True)
    if p < seed_statistics.ALPHA
  ]
  if not signs:
    return f'significant in none of {len(gains)} rows'
  parts = []
  if any(signs):
    parts.append(f'significantly better in {sum(signs)}')
  if not all(signs):
    parts.append(f'significantly worse in {len(signs) - sum(signs)}')
  return f'{", ".join(parts)} of {len(gains)} rows'
