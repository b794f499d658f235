"""Prose of README.md and docs/ without numbers that were typed by hand."""

import pytest

from kd_jax.report import inline_numbers
from tests import documents, helpers

# The numbers of methods.md that no record holds are those of docstrings.
PAGES = [path for path in documents.PAGES if path.name != 'methods.md']


@pytest.mark.parametrize(
  'page', PAGES, ids=lambda p: str(p.relative_to(helpers.ROOT))
)
def test_measured_numbers_come_from_records(page):
  text = page.read_text(encoding='utf-8')
  assert inline_numbers.unsupported(text) == []
  assert inline_numbers.comments_at_line_starts(text) == []
  assert inline_numbers.comments_that_end_cells(text) == []
