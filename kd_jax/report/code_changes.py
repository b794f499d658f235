"""Finds records that were made by code that has changed since.

A record names the commit of its code. `PATHS` lists the code on which each kind
of record depends; configs are left out, because a record holds its config. A
record is marked if a file there differs from that commit in more than comments
and docstrings. 'Changed' does not mean wrong: nothing here knows whether a
change moves a number.
"""

import ast
import functools
import pathlib
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kd_jax.report import fields, training_costs
from kd_jax.report.fields import Record

# The code on which the numbers of a record depend.
PATHS = {
  'trainings': (
    *('kd_jax/losses.py', 'kd_jax/methods', 'kd_jax/models', 'kd_jax/data'),
    *('kd_jax/training', 'kd_jax/teachers', 'kd_jax/evaluation'),
  ),
  'timings': ('kd_jax/models', 'kd_jax/benchmark'),
  'theory': ('kd_jax/theory', 'kd_jax/losses.py'),
  'benchmark': (
    *('benchmarks', 'kd_jax/models', 'kd_jax/training', 'kd_jax/data'),
    *('kd_jax/export', 'kd_jax/benchmark'),
  ),
  'faults': ('kd_jax', 'tests'),
}
_DIRTY = '-dirty'
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# The block at the end of a page.
_START = '<!-- changed code -->'
_END = '<!-- end of changed code -->'
_ABOUT = (
  'The code of these records has changed since. Changed does not mean wrong;\n'
  '`make report` lists what differs, what to run again, and what it costs.\n'
)
_BLOCK = re.compile(rf'{_START}\n.*?{_END}\n?', re.DOTALL)


class Part(NamedTuple):
  """Numbers of a record that one version of the code made.

  Attributes:
    kind: a key of `PATHS`.
    code: the commit, '' if unknown; with '-dirty', files differed from it.
    minutes: the time of the trainings or computations; None if unrecorded.
  """

  kind: str
  code: str
  minutes: float | None


class Change(NamedTuple):
  """A part of a record whose code has changed, or is unknown.

  Attributes:
    part: the part.
    changed: how many of today's files differ; None if the history does not hold
      the commit.
    files: how many files there are today.
  """

  part: Part
  changed: int | None
  files: int


def parts(record: Record) -> list[Part]:
  """Returns the parts of a record: one, or trainings and timings."""
  environment: Record = (
    record.get('environment') or record['training']['environment']
  )
  minutes = None
  if 'seconds' in record:
    kind, minutes = 'theory', training_costs.training_minutes(record)
  elif 'students' in record:
    kind, minutes = 'trainings', training_costs.training_minutes(record)
  elif 'training' in record:  # A stored teacher.
    kind, minutes = 'trainings', record['training']['time']['train_s'] / 60
  else:
    kind = 'faults' if 'faults' in record else 'benchmark'
  found = [Part(kind, environment['code'], minutes)]
  timing = fields.benchmark(record)
  if timing:
    timed: Record = timing.get('environment', environment)
    found.append(Part('timings', timed['code'], None))
  return found


# By record, for those whose code has changed or is unknown.
Changes = Mapping[str, Sequence[Change]]


class History:
  """The git history of a project: what differs from a commit."""

  def __init__(self, root: pathlib.Path):
    """Stores the folder of the project, which need not be a repository."""
    self.root = root
    self._changed = functools.cache(self._find_changed)
    self._code_at = functools.cache(_code)

  def is_complete(self) -> bool:
    """Returns whether the folder is a git repository with all its commits."""
    return self._git('rev-parse', '--is-shallow-repository') == 'false\n'

  def change(self, part: Part) -> Change | None:
    """Returns how a part's code has changed; None if it has not."""
    paths = PATHS[part.kind]
    files = len((self._git('ls-files', '--', *paths) or '').splitlines())
    commit = part.code.removesuffix(_DIRTY)
    changed = self._changed(commit) if commit else None
    if changed is None:
      return Change(part, None, files)
    count = sum(
      any(file == path or file.startswith(f'{path}/') for path in paths)
      for file in changed
    )
    return Change(part, count, files) if count else None

  def _find_changed(self, commit: str) -> list[str] | None:
    """Returns today's files that differ from a commit; None if unknown."""
    output = self._git('diff', '--name-status', '-M', '-z', commit, '--')
    if output is None:
      return None
    changed = []
    edited = {}
    words = iter(output.split('\0')[:-1])
    for status in words:
      path = next(words)
      new = next(words) if status[0] == 'R' else path
      if status[0] in 'MR' and new.endswith('.py'):
        edited[new] = path
      elif status != 'D':
        changed.append(new)
    before = self._read(commit, edited.values())
    return changed + [
      new
      for new, old in edited.items()
      if self._code_at(before[old])
      != self._code_at((self.root / new).read_text(encoding='utf-8'))
    ]

  def _read(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
    """Returns the text of files at a commit, by path."""
    paths = list(paths)
    names = ''.join(f'{commit}:{path}\n' for path in paths)
    output = self._git('cat-file', '--batch', text=names) or ''
    content = output.encode()
    texts = {}
    for path in paths:
      header, _, content = content.partition(b'\n')
      size = int(header.split()[-1])
      texts[path] = content[:size].decode()
      content = content[size + 1 :]
    return texts

  def _git(self, *arguments: str, text: str = '') -> str | None:
    """Returns the output of a git command; None if it fails."""
    try:
      return subprocess.run(
        ['git', '-C', str(self.root), *arguments],
        input=text,
        capture_output=True,
        encoding='utf-8',
        check=True,
        timeout=60,
      ).stdout
    except (OSError, subprocess.SubprocessError):
      return None


def _code(source: str) -> str:
  """Returns a module without its docstrings and comments."""
  tree = ast.parse(source)
  for node in ast.walk(tree):
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
      node.body = node.body[1:]
  return ast.dump(tree)


def find(results: Mapping[str, Record], history: History) -> Changes:
  """Returns the changes of each record whose code has changed or is unknown."""
  changes = {
    name: [
      change
      for part in parts(record)
      if (change := history.change(part)) is not None
    ]
    for name, record in results.items()
  }
  return {name: found for name, found in changes.items() if found}


def mark(text: str, changes: Changes) -> str:
  """Returns a page that ends with what has changed since its records.

  Args:
    text: the page. Its records are those whose names occur in it.
    changes: as `find` returns them.
  """
  text = _BLOCK.sub('', text).rstrip('\n')
  lines = [
    f'- `{name}`: {"; ".join(_made_by(change) for change in found)}'
    for name, found in changes.items()
    if re.search(rf'(?<![\w-]){re.escape(name)}(?![\w-])', text)
  ]
  if not lines:
    return f'{text}\n'
  block = '\n'.join([_START, _ABOUT, *lines, _END])
  return f'{text}\n\n{block}\n'


def _made_by(change: Change) -> str:
  made = f'{change.part.kind} of {change.part.code or "unknown code"}'
  if change.changed is None:
    made += ', which the git history does not hold'
  return made


def _describe(change: Change) -> str:
  made = _made_by(change)
  if change.changed is None:
    return made
  return (
    f"{made}, from which {change.changed} of today's {change.files} files "
    'differ'
  )


def to_run_again(results: Mapping[str, Record], changes: Changes) -> str:
  """Returns what to run again, the least costly first, and what it costs.

  Args:
    results: the records by name.
    changes: as `find` returns them.
  """
  if not changes:
    return 'No record was made by code that has changed since.'
  known = {name: found[0].part.minutes for name, found in changes.items()}
  order = sorted(changes, key=lambda name: (known[name] or 0, name))
  lines = []
  for name in order:
    differs = '; '.join(map(_describe, changes[name]))
    lines += [
      f'{_minutes(known[name])}  {name}: {differs}',
      f'{"":12}{results[name]["command"]}',
    ]
  total = sum(minutes for minutes in known.values() if minutes is not None)
  return '\n'.join(
    [
      f'The code of {len(changes)} of {len(results)} records has changed since '
      'they were made. Their commands, after the minutes of the recorded '
      'trainings:',
      *lines,
      f'In all: {total:,.0f} minutes of trainings, each counted once, on the '
      'machines of the records. Timings have no recorded cost.',
    ]
  )


def _minutes(value: float | None) -> str:
  return f'{"–":>6} min' if value is None else f'{value:6,.1f} min'
