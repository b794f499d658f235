"""Relative links in the Markdown files."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
_FOLDERS = ('results', 'docs', 'examples', 'teachers')
PAGES = sorted(
  [
    *ROOT.glob('*.md'),
    *(path for name in _FOLDERS for path in (ROOT / name).rglob('*.md')),
  ]
)
_LINK = re.compile(r'\]\(([^)\s]+)\)')


def anchors(text):
  """Returns the anchors of a page's headings, as GitHub names them."""
  headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
  return {
    re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


def broken_links(path, text):
  """Returns the links of a page that lead nowhere."""
  broken = []
  for link in _LINK.findall(text):
    if re.match('[a-z]+:', link):
      continue
    name, _, anchor = link.partition('#')
    target = path.parent / name
    if not target.exists():
      broken.append(link)
    elif anchor:
      linked = target.read_text(encoding='utf-8') if name else text
      if anchor not in anchors(linked):
        broken.append(link)
  return broken


@pytest.mark.parametrize(
  'path', PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES]
)
def test_relative_links_lead_somewhere(path):
  assert broken_links(path, path.read_text(encoding='utf-8')) == []


def test_a_link_to_a_missing_file_or_heading_is_found():
  text = '# A `b`, c\n[a](none.md) [b](#a-b-c) [c](#d) [d](https://x.y/none)'
  assert broken_links(ROOT / 'README.md', text) == ['none.md', '#d']
