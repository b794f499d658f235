"""A report as one HTML page that needs no other file."""

import base64
import html
import re
from collections.abc import Mapping

# Colors are those of the reader's system, light or dark. Plots are on white.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }}
table {{ display: block; overflow-x: auto; border-collapse: collapse;
  font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .7rem; border-bottom: 1px solid #8888;
  white-space: nowrap; }}
img {{ max-width: 100%; background: white; }}
code {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
_IMAGE = re.compile(r'<img src="([^"]*)"([^>]*>)')


def render(text: str, pictures: Mapping[str, bytes]) -> str:
  """Returns a page with the content of a report and the pictures it shows.

  Args:
    text: the report in Markdown; HTML in it is shown as text.
    pictures: the content of each PNG file by its name. Other pictures, which
      names in the report could ask for, are left out.
  """
  import markdown_it

  parser = markdown_it.MarkdownIt('commonmark', {'html': False})
  body = parser.enable('table').render(text)
  body = _IMAGE.sub(lambda match: _inline(match, pictures), body)
  title = text.lstrip('# ').partition('\n')[0]
  return _PAGE.format(title=html.escape(title), body=body)


def _inline(image: re.Match[str], pictures: Mapping[str, bytes]) -> str:
  """Returns an image element that holds its PNG file; '' for other images."""
  if image[1] not in pictures:
    return ''
  content = base64.b64encode(pictures[image[1]]).decode()
  return f'<img src="data:image/png;base64,{content}"{image[2]}'
