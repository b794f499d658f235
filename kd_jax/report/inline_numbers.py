r"""Numbers in the prose of documents, computed from the records of runs.

A document writes a number between two comments. The first comment holds the
expression that gives the number, and a format if the expression is a number:

  Students reach <!-- number: mean('RUN/ROW') | .1f -->97.6<!-- end --> %.

`make report` evaluates the expression and writes the text. An expression calls
the functions of FUNCTIONS, and may combine their results by + - * /.
Figures of others, which no record holds, name their source instead:

  They had <!-- quote: Hinton et al. 2015 -->146<!-- end --> errors.

A comment must not start a line: Markdown would end the paragraph there. In a
row of a table, '|' would end the cell: write '\|' before the format.
"""

import ast
import functools
import math
import re
from collections.abc import Callable
from typing import Any

from kd_jax.report import (
  benchmark_numbers,
  comparison_numbers,
  number_functions,
)
from kd_jax.report.number_functions import Results
from kd_jax.runtime import errors

# The functions that an expression may call, by name.
FUNCTIONS: dict[str, Callable[..., Any]] = (
  number_functions.FUNCTIONS
  | comparison_numbers.FUNCTIONS
  | benchmark_numbers.FUNCTIONS
)

_NUMBER = re.compile(r'(<!-- number: (.+?) -->)(.*?)(<!-- end -->)', re.DOTALL)
_QUOTE = re.compile(r'<!-- quote: .+? -->.*?<!-- end -->', re.DOTALL)
# What may stand in a document without a record: code, tables, addresses, the
# level of an interval, and versions of Python.
_NO_PROSE = re.compile(
  r'95 %\s+(?:confidence\s+|prediction\s+)?intervals?|^```.*?^```'
  r'|<!-- (?:table|text): .*?<!-- end of (?:table|text) -->|`[^`]*`|\]\([^)]*\)'
  r'|^\|.*?$|https?:\S+|arXiv:\S+|Python 3\.\d+(?: to 3\.\d+)?',
  re.DOTALL | re.MULTILINE,
)
# A measured number: a decimal number, a percentage, or a deviation.
_MEASURED = re.compile(r'±\s*\d|\d[\d,]*\.\d|\d\s*%')
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub)
_NODES = (
  *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant),
  *(ast.BinOp, ast.UnaryOp, *_OPERATORS),
)


def fill(text: str, results: Results) -> str:
  """Returns a document with its numbers computed again.

  Args:
    text: a document.
    results: the records by name.
  Raises:
    UserError: if an expression is wrong, or asks for what no record holds.
  """

  def number(match: re.Match) -> str:
    start, source, _, end = match.groups()
    return f'{start}{evaluate(source, results)}{end}'

  return _NUMBER.sub(number, text)


def unsupported(text: str) -> list[str]:
  """Returns the measured numbers in a document's prose without a record.

  Args:
    text: a document.
  Returns:
    Each such number with the words around it.
  """
  for pattern in (_NUMBER, _QUOTE, _NO_PROSE):
    text = pattern.sub('#', text)
  return [
    ' '.join(text[max(0, found.start() - 30) : found.end() + 20].split())
    for found in _MEASURED.finditer(text)
  ]


def comments_at_line_starts(text: str) -> list[str]:
  """Returns the lines whose comment would end a paragraph of Markdown."""
  return re.findall(r'^\s*(?:[-*] )?<!-- (?:number|quote): .*$', text, re.M)


def comments_that_end_cells(text: str) -> list[str]:
  """Returns the comments in rows of tables whose '|' would end their cell."""
  return [
    comment
    for row in re.findall(r'^\|.*$', text, re.MULTILINE)
    for comment in re.findall(r'<!-- .*? -->', row)
    if re.search(r'(?<!\\)\|', comment)
  ]


def evaluate(source: str, results: Results) -> str:
  """Returns the text of a number.

  Args:
    source: an expression, and '| FORMAT' if its value is a number.
    results: the records by name.
  Raises:
    UserError: as in `fill`.
  """
  unescaped = source.replace('\\|', '|')
  expression, _, spec = (part.strip() for part in unescaped.rpartition(' | '))
  if not expression:
    expression, spec = spec, ''
  try:
    value = _value(' '.join(expression.split()), results)
    if isinstance(value, str):
      return value
    if spec and math.isfinite(value):
      return format(value, spec)
  except errors.UserError as error:
    raise errors.UserError(f'number: {source}: {error}') from None
  except (ArithmeticError, LookupError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'number: {source}: {type(error).__name__}: {error}'
    ) from error
  raise errors.UserError(
    f'number: {source}: the value is {value!r}; a number needs a format, such '
    'as | .1f'
  )


def _value(expression: str, results: Results) -> Any:
  """Evaluates calls of FUNCTIONS and arithmetic, and nothing else."""
  try:
    tree = ast.parse(expression, mode='eval')
  except SyntaxError as error:
    raise errors.UserError(f'not an expression: {error.msg}') from None
  for node in ast.walk(tree):
    if not isinstance(node, _NODES):
      raise errors.UserError(f'{type(node).__name__} is not allowed')
    if isinstance(node, ast.Name) and node.id not in FUNCTIONS:
      raise errors.UserError(
        f'unknown function {node.id!r}; expected one of {", ".join(FUNCTIONS)}'
      )
  names = {
    name: functools.partial(function, results)
    for name, function in FUNCTIONS.items()
  }
  code = compile(tree, '<number>', 'eval')
  return eval(code, {'__builtins__': {}}, names)  # The nodes were checked.
