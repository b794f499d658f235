"""The files of the site: documents keep their places in the project.

MkDocs takes the files of one folder. With this hook it takes the documents of
the whole project, so that a relative link leads to the same page on the site
and in the source code.
"""

import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# The documents, and the files that they link to.
PATTERNS = (
  '*.md',
  'LICENSE',
  'docs/**/*.md',
  'docs/**/*.svg',
  'examples/*.py',
  'notebooks/*.ipynb',
  'results/**/*.md',
  'results/**/*.png',
  'teachers/*/*.md',
)
# What `make report` and the tests look for in a document.
_MARKER = re.compile(
  r'<!-- (?:(?:table|number|quote|example): .*?|end|end of table) -->',
  re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Returns the documents of the whole project, and the theme's files."""
  root = pathlib.Path(config.config_file_path).parent
  docs_dir = pathlib.Path(config.docs_dir)
  for file in list(files):
    if file.src_dir and pathlib.Path(file.src_dir) == docs_dir:
      files.remove(file)
  for path in sorted({p for pattern in PATTERNS for p in root.glob(pattern)}):
    name = path.relative_to(root).as_posix()
    file = File(name, str(root), config.site_dir, use_directory_urls=True)
    files.append(file)
  return files


def on_page_markdown(markdown: str, **_) -> str:
  """Returns a page without the markers of tables, numbers and examples."""
  return _MARKER.sub('', markdown)
