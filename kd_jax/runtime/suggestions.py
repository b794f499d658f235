"""What a user may have meant by a name that is unknown."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ' (did you mean X?)' for the nearest known name; '' without one."""
  found = difflib.get_close_matches(name, list(known), n=1)
  return f' (did you mean {found[0]}?)' if found else ''
