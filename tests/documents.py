"""The documents that users read, and the examples in them."""

import re

from tests import helpers

# The log is a diary, whose numbers are of its days.
PAGES = [
  helpers.ROOT / 'README.md',
  *sorted(
    path
    for path in (helpers.ROOT / 'docs').rglob('*.md')
    if path.name != 'log.md'
  ),
]
_EXAMPLE = re.compile(
  r'<!-- example: (\S+) -->\n```(?:python)?\n(.*?)```', re.DOTALL
)
# The code or the command of each example, by its name.
EXAMPLES = {
  name: example
  for path in PAGES
  for name, example in _EXAMPLE.findall(path.read_text(encoding='utf-8'))
}
