"""Suggests the name that a user may have meant by an unknown one."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ' (did you mean X?)' for the nearest known name; '' without one."""
  found = difflib.get_close_matches(name, list(known), n=1)
  return f' (did you mean {found[0]}?)' if found else ''
