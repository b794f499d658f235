"""Publishes results/: a report for each record, and the documents' figures.

A document (README.md, a page in docs/, or a page in results/ that is written by
hand) asks for a table with a pair of lines. The table is written between them:

  <!-- table: NAME KIND -->
  <!-- end of table -->

NAME is a file below results/, without its suffix, or a folder in teachers/
beside results/. NAME `all` asks for a table over all results. KIND is a key of
`TABLES` or, for `all`, of `cross_run_tables.TABLES`. `differences:ROW` compares
a run's rows with one of them. Numbers in prose are computed as
inline_numbers.py says, and blocks of prose are written as text_blocks.py says.
"""

import pathlib
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from kd_jax.report import (
  at_a_glance_plot,
  benchmark_plots,
  benchmark_tables,
  code_changes,
  cross_run_tables,
  difference_tables,
  inline_numbers,
  plots,
  results_folder,
  run_report,
  study_tables,
  table2_plot,
  tables,
  teacher_lines,
  teacher_quality_plot,
  text_blocks,
  theory_plots,
)
from kd_jax.report.fields import Record
from kd_jax.runtime import errors, files, json_records

# The tables of one record, by the kind that a document's marker names.
TABLES: dict[str, Callable[..., str]] = {
  'accuracy': tables.accuracy_table,
  'reproduction': tables.reproduction_table,
  'cost': tables.cost_table,
  'latency': tables.latency_table,
  'phases': tables.phases_table,
  'controls': difference_tables.controls_table,
  'differences': difference_tables.differences_table,
  'methods': study_tables.methods_table,
  'grid': study_tables.grid_table,
  'missing_classes': study_tables.missing_classes_table,
  'pretrained': tables.pretrained_table,
  'results': tables.theory_tables,
  'terminal': run_report.terminal_excerpt,
  **benchmark_tables.TABLES,
}

_MARKER = re.compile(
  r'(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end of table -->)', re.DOTALL
)


def publish(
  results_dir: pathlib.Path,
  readme: pathlib.Path,
  changes: code_changes.Changes | None = None,
) -> None:
  """Writes a report for each record, all plots, and the documents' tables.

  Args:
    results_dir: the folder results/, which results_folder.py describes.
    readme: the path of README.md.
    changes: what has changed since the records were made. The pages in
      `results_dir` end with it; None leaves the ends as they are.
  Raises:
    UserError: if results/ and teachers/ hold no records, a record is damaged,
      or a document asks for an unknown table.
  """
  results = load_results(results_dir.resolve().parent)
  for name, path in results_folder.find(results_dir).items():
    with run_report.explain_missing_fields(path):
      report = _report(name, results[name])
      if report is not None:
        files.write_text(path.with_suffix('.md'), report)
      _write_plots(path.parent, name, results[name])
  table2_plot.write(results_dir, cross_run_tables.table2_runs(results))
  teacher_quality_plot.write(results_dir, results)
  at_a_glance_plot.write(results_dir, results)
  benchmark_plots.write(results_dir, results)
  templates = text_blocks.load(results_dir / 'text')
  for path in documents(results_dir, readme, results):
    text = fill(path.read_text(encoding='utf-8'), results, templates)
    if changes is not None and path.parent == results_dir:
      text = code_changes.mark(text, changes)
    files.write_text(path, text)


def check_folder(folder: pathlib.Path, *, is_empty_allowed: bool) -> None:
  """Checks that a folder is one of records, before reports are written there.

  Args:
    folder: the folder.
    is_empty_allowed: whether records will be added to it.
  Raises:
    UserError: if the folder does not exist, or holds no records.
  """
  if is_empty_allowed and folder.resolve().name == 'results':
    return
  if not folder.is_dir():
    raise errors.UserError(
      f'{folder} is no folder: expected RUN_DIR or results/'
    )
  if folder.resolve().name != 'results' or not any(folder.rglob('*.json')):
    raise errors.UserError(
      f'{folder} holds no run.json, and is no folder results/ with records: '
      'expected RUN_DIR or results/'
    )


def load_results(root: pathlib.Path) -> dict[str, Record]:
  """Returns the records below results/ and the manifests in teachers/, by name.

  Args:
    root: the folder that holds results/ and teachers/.
  Raises:
    UserError: if the folders hold no records, or a record is damaged.
  """
  results: dict[str, Any] = {
    name: _read(path)
    for name, path in results_folder.find(root / 'results').items()
  }
  for path in sorted((root / 'teachers').glob('*/manifest.json')):
    results[path.parent.name] = _read(path)
  if not results:
    raise errors.UserError(
      f'{root} has no records: expected JSON files below {root / "results"}'
    )
  damaged = [name for name, record in results.items() if record is None]
  if damaged:
    raise errors.UserError(
      f'damaged records in {root}: {", ".join(damaged)}; restore their JSON '
      'files, or remove them'
    )
  return results


def _read(path: pathlib.Path) -> Record | None:
  """Returns a record; None if it is damaged."""
  record = json_records.read(path, dict)
  if record is None or not {'students', 'results'} & record.keys():
    return record  # A benchmark or a stored teacher.
  return json_records.read(path, json_records.RUN)


def _report(name: str, record: Record) -> str | None:
  """Returns the report of a run or a benchmark; None for a stored teacher."""
  if 'students' in record or 'results' in record:
    return run_report.render(record)
  table = benchmark_tables.table(record)
  if table is None:
    return None
  return f'# {name}\n\n{run_report.provenance(record)}\n\n{table}\n'


def _write_plots(folder: pathlib.Path, name: str, record: Record) -> None:
  """Writes the plots of a run that documents show."""
  if 'results' in record:
    theory_plots.write_curves(folder, record, prefix=f'{name}-')
  elif 'students' in record:
    plots.write_published(folder, record, prefix=f'{name}-')


def documents(
  results_dir: pathlib.Path, readme: pathlib.Path, results: dict[str, Record]
) -> list[pathlib.Path]:
  """Returns the paths of the documents that ask for tables or numbers.

  Args:
    results_dir: the folder results/. A page there is written by hand if no
      record has its name.
    readme: the path of README.md; docs/ is beside it.
    results: the records by name.
  """
  pages = [p for p in results_dir.glob('*.md') if p.stem not in results]
  pages += [p for p in (readme.parent / 'docs').rglob('*.md') if _asks(p)]
  return [readme, *sorted(pages)]


def _asks(path: pathlib.Path) -> bool:
  """Returns whether a page asks for a table or a number."""
  text = path.read_text(encoding='utf-8')
  pattern = '^<!-- (?:table|text): |\\S.*<!-- number: '
  return re.search(pattern, text, re.M) is not None


def fill(
  text: str, results: dict[str, Record], templates: Mapping[str, str]
) -> str:
  """Returns a document with its tables and numbers computed from the records.

  Args:
    text: a document.
    results: the records by name.
    templates: the templates of its blocks of prose, by name.
  Raises:
    UserError: if the document asks for an unknown record or kind of table, or
      holds a wrong expression.
  """
  text = text_blocks.fill(fill_tables(text, results), results, templates)
  return inline_numbers.fill(text, results)


def fill_tables(text: str, results: dict[str, Record]) -> str:
  """Returns a document with its tables filled.

  Args:
    text: a document with table markers.
    results: the records by name.
  Raises:
    UserError: if the document asks for an unknown record or kind of table.
  """

  def fill(match: re.Match) -> str:
    start, name, kind, end = match.groups()
    return f'{start}{_table(name, kind, results)}\n{end}'

  return _MARKER.sub(fill, text)


def _table(name: str, kind: str, results: dict[str, Record]) -> str:
  """Returns the table of a marker; a record's table with its provenance."""
  kinds = cross_run_tables.TABLES if name == 'all' else TABLES
  kind, *rows = kind.split(':', maxsplit=1)
  if kind not in kinds or (rows and kind != 'differences'):
    marker = ':'.join([kind, *rows])
    raise errors.UserError(
      f'table: {name} {marker}: unknown kind {marker!r}; expected one of '
      f'{", ".join(kinds)}'
    )
  if name == 'all':
    return kinds[kind](results)
  if name not in results:
    raise errors.UserError(
      f'table: {name} {kind}: unknown record {name!r}; expected one of '
      f'{", ".join(results)}'
    )
  record = results[name]
  if kind == 'terminal':
    # Documents that are read in an editor, too, have no longer lines.
    provenance = textwrap.fill(
      run_report.provenance(record),
      text_blocks.WIDTH,
      break_long_words=False,
      break_on_hyphens=False,
    )
    return f'{kinds[kind](record)}\n\n{provenance}'
  return '\n\n'.join(
    [
      kinds[kind](record, *rows),
      *teacher_lines.lines(record, results),
      run_report.provenance(record),
    ]
  )
