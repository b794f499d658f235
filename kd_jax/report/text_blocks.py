"""Blocks of prose in documents, written from templates in results/text/.

A document asks for a block with a pair of lines:

  <!-- text: NAME -->
  <!-- end of text -->

results/text/NAME.txt holds the text, with numbers as {EXPRESSION | FORMAT};
inline_numbers.py says what an expression may be. A document thus reads in an
editor as it does on a page. In an expression, the words of ALIASES stand for
records with long names.
"""

import pathlib
import re
import textwrap
from collections.abc import Mapping

from kd_jax.report import inline_numbers
from kd_jax.report.number_functions import Results
from kd_jax.runtime import errors

# The longest line of a block.
WIDTH = 100
ALIASES = {
  'TABLE1': 'mnist-table1-as_coded',
  'TABLE1_WRITTEN': 'mnist-table1-as_written',
  'TABLE2': 'cifar-table2-as_coded-resnet50_100_epochs',
  'TABLE2_GPU': 'cifar-table2-as_coded-gpu',
  'TABLE2_TIMED': 'cifar-table2-as_coded',
  'METHODS': 'cifar-methods-as_coded',
  'METHODS_MNIST': 'mnist-methods-as_written',
  'HINT': 'cifar-hints-as_coded',
  'BEST': 'cifar-ideal_best-as_coded',
  'BEST60': 'cifar-ideal_best-as_coded-teacher_no_pool-epochs_60',
  'BEST_STEM50': 'cifar-ideal_best-as_coded-stride_at_stem-epochs_50',
  'MIMIC': 'cifar-mimic-as_coded',
  'MIMIC_WEIGHT': 'cifar-mimic-as_coded-neither-weight_0.3',
  'STRIDES': 'cifar-strides-as_coded',
  'UNLABELED': 'cifar-unlabeled-as_coded',
  'RANDOM': 'theory-random_data',
}

_BLOCK = re.compile(
  r'(<!-- text: (\S+) -->\n).*?(<!-- end of text -->)', re.DOTALL
)
EXPRESSION = re.compile(r'\{(.+?)\}', re.DOTALL)
_ALIAS = re.compile(r"(?<=')([A-Z][A-Z0-9_]+)(?=['/])")


def load(folder: pathlib.Path) -> dict[str, str]:
  """Returns the templates in a folder by name; {} if there is no folder."""
  return {
    path.stem: path.read_text(encoding='utf-8')
    for path in sorted(folder.glob('*.txt'))
  }


def fill(text: str, results: Results, templates: Mapping[str, str]) -> str:
  """Returns a document with its blocks written again.

  Args:
    text: a document.
    results: the records by name.
    templates: the templates by name.
  Raises:
    UserError: if a block has no template, or an expression is wrong.
  """

  def block(match: re.Match) -> str:
    start, name, end = match.groups()
    if name not in templates:
      raise errors.UserError(
        f'text: {name}: unknown template; expected one of '
        f'{", ".join(templates)}'
      )
    return f'{start}{render(templates[name], results)}\n{end}'

  return _BLOCK.sub(block, text)


def render(template: str, results: Results) -> str:
  """Returns a template's text with its numbers, wrapped to WIDTH.

  Args:
    template: paragraphs, separated by empty lines, and items of lists, each of
      which starts with '- '.
    results: the records by name.
  """
  return '\n'.join(
    _render_part(part, results)
    for part in re.split(r'\n(?=- |\n)', template.strip())
  )


def _render_part(part: str, results: Results) -> str:
  """Returns a paragraph, after its empty line, or an item of a list."""

  def number(match: re.Match) -> str:
    source = _ALIAS.sub(lambda name: _record_name(name[1]), match[1])
    return inline_numbers.evaluate(' '.join(source.split()), results)

  filled = textwrap.fill(
    ' '.join(EXPRESSION.sub(number, part).split()),
    WIDTH,
    subsequent_indent='  ' if part.startswith('- ') else '',
    break_long_words=False,
    break_on_hyphens=False,
  )
  return f'\n{filled}' if part.startswith('\n') else filled


def _record_name(alias: str) -> str:
  if alias not in ALIASES:
    raise errors.UserError(
      f'text: unknown record {alias!r}; expected one of {", ".join(ALIASES)}'
    )
  return ALIASES[alias]
