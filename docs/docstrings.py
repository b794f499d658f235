"""Docstrings of the code as Markdown, for the reference of the site."""

import re
import textwrap
from typing import Any

import griffe

_FORMULA = re.compile(r'[A-Za-z_]+(\([^)]*\))? = ')


class Docstrings(griffe.Extension):
  """Turns formulas into blocks of code, and references into one paragraph."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    """Rewrites the docstring of an object, once it is read."""
    if obj.docstring is not None:
      obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
  """Returns a docstring whose formulas and references Markdown shows.

  Args:
    text: a docstring in the style of Google, without indentation.
  """
  text = re.sub(r'^Example:$', 'Examples:', text, flags=re.MULTILINE)
  text = re.sub(
    r'^Reference: (.*(?:\n  .*)*)',
    lambda match: f'\n**Reference:** {" ".join(match[1].split())}\n',
    text,
    flags=re.MULTILINE,
  )
  return '\n\n'.join(map(_fence_formula, text.split('\n\n')))


def _fence_formula(paragraph: str) -> str:
  if not _FORMULA.match(paragraph):
    return paragraph
  return f'```\n{textwrap.dedent(paragraph)}\n```'
