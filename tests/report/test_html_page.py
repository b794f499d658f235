"""The page of a run: one file, read by a parser and by a browser.

Also tests `kd_jax/report/markdown.py`.
"""

import base64
import html.parser
import os
import struct
import zlib

import pytest

from kd_jax.report import html_page, run_report
from kd_jax.runtime import files, run_records

# Elements without an end.
_VOID = ('meta', 'img', 'br', 'hr')


class _Page(html.parser.HTMLParser):
  """Collects what a page shows and what it refers to."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.shown, self.open = [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.links += [v for k, v in attrs if k in ('src', 'href', 'srcset')]
    if tag not in _VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert tag in _VOID or self.open.pop() == tag

  def handle_data(self, data):
    self.shown.append(data)


def _png(value):
  """Returns a gray picture of 3 x 2 pixels."""

  def chunk(kind, content):
    checksum = struct.pack('>I', zlib.crc32(kind + content))
    return struct.pack('>I', len(content)) + kind + content + checksum

  header = struct.pack('>IIBBBBB', 3, 2, 8, 0, 0, 0, 0)
  rows = zlib.compress(2 * bytes([0, value, value, value]))
  signature = b'\x89PNG\r\n\x1a\n'
  parts = [(b'IHDR', header), (b'IDAT', rows), (b'IEND', b'')]
  return signature + b''.join(chunk(*part) for part in parts)


def test_a_page_holds_its_tables_and_pictures_and_needs_no_other_file():
  text = '# A run\n\n| row | % |\n|---|---:|\n| h<b>50 | 97 |\n\n![a](a.png)\n'
  page = _Page(html_page.render(text, {'a.png': _png(7)}))
  assert page.open == []
  assert page.tags.count('table') == 1 and page.tags.count('td') == 2
  assert 'b' not in page.tags and 'h<b>50' in ''.join(page.shown)
  assert page.links == [
    f'data:image/png;base64,{base64.b64encode(_png(7)).decode()}'
  ]


def test_a_name_in_a_record_adds_no_picture_and_no_link(record, tmp_path):
  (tmp_path / 'secret.png').write_bytes(_png(7))
  record['warnings'] = [
    'a ![x](secret.png) b\n![y](http://a.example/y.png)',
    '<script>',
    '[z](http://a.example)',
  ]
  markdown, text = _write_report(record, tmp_path)
  page = _Page(text)
  assert all(link.startswith('data:image/png;base64,') for link in page.links)
  assert base64.b64encode(_png(7)).decode() not in text
  assert page.tags.count('img') == markdown.count('\n![')
  assert 'a ![x](secret.png) b ![y](http://a.example/y.png)' in ''.join(
    page.shown
  )
  picture = html_page.render('![a](../b.png) ![c](c.png)', {'c.png': _png(1)})
  assert _Page(picture).tags.count('img') == 1


def _write_report(record, folder):
  files.write_json(folder / 'run.json', record)
  log = run_records.MetricsLog(folder / 'metrics.jsonl')
  for row in ('h50', 'h50_hard'):
    log.append({'row': row, 'seed': 0, 'epoch': 0, 'eval/accuracy': 0.9})
  markdown = run_report.write(folder)
  return markdown, (folder / 'report.html').read_text()


def test_the_page_of_a_run_has_what_the_report_has(record, tmp_path):
  markdown, text = _write_report(record, tmp_path)
  page = _Page(text)
  assert page.tags.count('table') == markdown.count('\n|---')
  assert page.tags.count('img') == markdown.count('\n![') > 0
  assert all(link.startswith('data:image/png;base64,') for link in page.links)
  assert page.open == []


# What a browser made of a page: cells, pictures that it could decode, whether
# the page is wider than the window, and the color of the text.
_LOOK = """() => [
  document.querySelectorAll('td').length,
  [...document.images].filter(image => image.naturalWidth > 100).length,
  document.documentElement.scrollWidth > innerWidth,
  getComputedStyle(document.body).color,
]"""


@pytest.mark.slow
def test_a_browser_shows_the_tables_and_every_picture(record, tmp_path):
  """Needs Playwright, and its Chromium or the one that KD_JAX_BROWSER names."""
  playwright = pytest.importorskip('playwright.sync_api')
  markdown, text = _write_report(record, tmp_path)
  requests, colors = [], set()
  with playwright.sync_playwright() as program:
    browser = program.chromium.launch(
      executable_path=os.environ.get('KD_JAX_BROWSER'), chromium_sandbox=False
    )
    page = browser.new_page(viewport={'width': 900, 'height': 700})
    page.on('request', lambda request: requests.append(request.url))
    page.goto((tmp_path / 'report.html').as_uri())
    for scheme in ('light', 'dark'):
      page.emulate_media(color_scheme=scheme)
      cells, pictures, is_too_wide, color = page.evaluate(_LOOK)
      colors.add(color)
      assert cells == _Page(text).tags.count('td')
      assert pictures == markdown.count('\n![')
      assert not is_too_wide
    browser.close()
  assert len(colors) == 2
  outside = [url for url in requests if not url.startswith('data:')]
  assert outside == [(tmp_path / 'report.html').as_uri()]
