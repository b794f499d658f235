"""Prose of README.md without numbers that were typed by hand."""

import pathlib

from kd_jax.report import inline_numbers

ROOT = pathlib.Path(__file__).parents[2]


def test_numbers_in_the_results_of_the_readme_come_from_records():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  results = text[text.index('\n## Results') : text.index('\n## Layout')]
  assert not inline_numbers.unsupported(results)
  assert not inline_numbers.comments_at_line_starts(results)
