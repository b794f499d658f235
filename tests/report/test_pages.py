"""Pages whose prose has no number that was typed by hand."""

import pathlib

import pytest

from kd_jax.report import inline_numbers

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ('methods', 'theory', 'speed')


@pytest.mark.parametrize('page', PAGES)
def test_numbers_in_prose_come_from_records(page):
  text = (ROOT / 'results' / f'{page}.md').read_text(encoding='utf-8')
  assert not inline_numbers.unsupported(text)
  assert not inline_numbers.comments_at_line_starts(text)
  assert not inline_numbers.comments_that_end_cells(text)


def test_numbers_in_the_results_of_the_readme_come_from_records():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  results = text[text.index('\n## Results') : text.index('\n## Layout')]
  assert not inline_numbers.unsupported(results)
  assert not inline_numbers.comments_at_line_starts(results)
