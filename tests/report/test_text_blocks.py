"""Blocks of prose that are written from templates."""

import re

import pytest

from kd_jax.report import inline_numbers, text_blocks
from kd_jax.runtime import errors
from tests import helpers

_TEMPLATES = text_blocks.load(helpers.ROOT / 'results/text')
# Documents that are read in an editor as much as on a page.
_NARROW = ('README.md', 'results/README.md')
_RESULTS = {'mnist-table1-as_coded': {'a': {'b': 2.5}}}


def test_numbers_are_filled_and_lines_are_wrapped():
  template = (
    """A paragraph with {value('TABLE1', 'a',
'b') | .2f} points.

- An item
  of a list.
- Another: """
    + 'word ' * 30
  )
  text = text_blocks.render(template, _RESULTS)
  first, empty, item, *other = text.splitlines()
  assert first == 'A paragraph with 2.50 points.'
  assert (empty, item) == ('', '- An item of a list.')
  assert len(other) == 2 and other[1].startswith('  word')
  assert max(map(len, other)) <= text_blocks.WIDTH


def test_a_document_asks_for_a_block_by_its_name():
  text = 'a\n<!-- text: x -->\nold\n<!-- end of text -->\nb\n'
  filled = text_blocks.fill(text, _RESULTS, {'x': 'new'})
  assert filled == text.replace('old', 'new')
  with pytest.raises(errors.UserError, match='unknown template; expected.* y'):
    text_blocks.fill(text, _RESULTS, {'y': 'new'})


def test_an_unknown_alias_is_named():
  with pytest.raises(errors.UserError, match="unknown record 'TABLE9'"):
    text_blocks.render("{value('TABLE9', 'a')}", _RESULTS)


@pytest.mark.parametrize('name', _TEMPLATES)
def test_templates_have_no_measured_number_that_was_typed_by_hand(name):
  text = text_blocks.EXPRESSION.sub('#', _TEMPLATES[name])
  text = re.sub(r'^- \*\*[^:]*:', '', text, flags=re.MULTILINE)  # Sections.
  assert inline_numbers.unsupported(text) == []


@pytest.mark.parametrize('page', _NARROW)
def test_pages_can_be_read_in_an_editor(page):
  lines = (helpers.ROOT / page).read_text(encoding='utf-8').splitlines()
  assert [line for line in lines if len(line) > 110] == []
