"""Runs a recipe: python launch.py --config=configs/mnist.py:table1

`python launch.py --list` lists the recipes.
"""

import importlib.util
import os
import pathlib
import re
import sys

from absl import app, flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from kd_jax.runtime import errors, host_memory

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'FILE.py:RECIPE,ARGUMENT=VALUE,... of the run.'
)
_LIST = flags.DEFINE_bool('list', False, 'List the recipes and stop.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run; by default RUNS_DIR and its name.'
)
_RUNS_DIR = flags.DEFINE_string(
  'runs_dir', 'runs', 'Folder of the runs, and of the teachers they share.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder of prepared data; a per-user cache by default.'
)
_WORKERS = flags.DEFINE_integer(
  'workers',
  1,
  'Processes that train the students of a run side by side, each with its '
  "share of the CPU's cores, or a GPU of its own.",
  lower_bound=1,
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'This is one of several processes of the run; how many, and which, is what '
  'the cluster announces (a TPU pod, Slurm, MPI, Kubernetes).',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of the first process, where none announces.'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'How many processes the run has, likewise.'
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Which of them this is, counted from 0, likewise.'
)
_SOURCE_DIR = flags.DEFINE_string(
  'source_dir', None, 'Folder to look for the data in before downloading.'
)


def _load(path: pathlib.Path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _list_recipes() -> None:
  for path in sorted(pathlib.Path('configs').glob('*.py')):
    for recipe, about in getattr(_load(path), 'RECIPES', {}).items():
      print(f'{path}:{recipe:<12} {about}')


def parse_flags(
  argv: list[str], values: flags.FlagValues = flags.FLAGS
) -> list[str]:
  """Parses the flags; a mistake in them ends in a line, not a traceback."""
  # Else each override would be said to be defined twice.
  if sum(re.match(r'--?config(=|$)', arg) is not None for arg in argv) > 1:
    sys.exit('error: --config is given more than once; a run has one recipe')
  try:
    return (
      app.parse_flags_with_usage(argv)
      if values is flags.FLAGS
      else values(argv)
    )
  except errors.UserError as error:
    sys.exit(f'error: {error}')
  except (AttributeError, KeyError):
    problem = _unknown_field(argv)
    if problem is None:
      raise
    sys.exit(f'error: {problem}')


def _unknown_field(argv: list[str]) -> str | None:
  """Names the first override of a field that is not there, if there is one."""
  given = ' '.join(argv)
  source = re.search(r'--?config[= ]([^:\s]+)(?::(\S+))?', given)
  if source is None:
    return None
  config = _load(pathlib.Path(source[1])).get_config(source[2])
  for field in re.findall(r'--?(?:no)?config\.([\w.]+)', given):
    section, path = config, 'config'
    for key in field.split('.'):
      if key not in section:
        return (
          f'there is no field {path}.{key}; the fields of {path} are: '
          f'{", ".join(section)}'
        )
      section, path = config_path.get_value(key, section), f'{path}.{key}'
  return None


def _workdir(config) -> pathlib.Path:
  """Returns the run's folder: its name, marked if fields were overridden."""
  from kd_jax.experiments import experiment
  from kd_jax.runtime import files

  if _WORKDIR.value:
    return pathlib.Path(_WORKDIR.value).expanduser()
  overrides = {
    field: str(value)
    for field, value in config_flags.get_override_values(
      flags.FLAGS['config']
    ).items()
    if field.partition('.')[0] not in experiment.FREE_FIELDS
  }
  mark = f'+{files.digest(overrides)[:8]}' if overrides else ''
  return _runs_dir() / f'{config.name}{mark}'


def _runs_dir() -> pathlib.Path:
  return pathlib.Path(_RUNS_DIR.value).expanduser()


def _join_processes() -> None:
  """Makes this process one of several, if the flags say so."""
  given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if not _DISTRIBUTED.value and given == (None, None, None):
    return
  from kd_jax.runtime import processes

  processes.start(*given)
  if not processes.is_first():
    os.environ['TQDM_DISABLE'] = '1'


def _share_machine() -> bool:
  """Has workers train the students, or takes this worker's share.

  Returns whether this process is only a part of the run.
  """
  from kd_jax.runtime import workers

  if workers.begin():
    return True
  if _WORKERS.value > 1:
    if _DISTRIBUTED.value or _COORDINATOR.value is not None:
      sys.exit(
        'error: --workers: processes of a --distributed run take every step '
        'together; leave one of the two out'
      )
    if 'rows' not in _CONFIG.value:
      sys.exit(
        f'error: --workers={_WORKERS.value}: {_CONFIG.value.name} has no '
        'students to share out'
      )
    workers.run_workers(sys.argv, _WORKERS.value)
  return False


def main(argv: list[str]) -> None:
  """Runs the config; the report is printed, and kept in the run's folder."""
  if len(argv) > 1:
    sys.exit(f'error: {argv[1]!r} is no flag; see --help')
  if _LIST.value:
    _list_recipes()
    return
  if _CONFIG.value is None:
    sys.exit(
      'error: which run? --config=configs/FILE.py:RECIPE; --list names them'
    )
  try:
    # Before anything is computed.
    is_part = _share_machine()
    _join_processes()
    # Imported late, so that --list, --help and a mistyped flag answer at once.
    from kd_jax.experiments import experiment
    from kd_jax.report import report
    from kd_jax.runtime import (
      compilation_cache,
      environment,
      logs,
      processes,
    )
    from kd_jax.theory import theory

    environment.check_device()
    logs.show_project_lines()
    compilation_cache.enable()
    workdir = _workdir(_CONFIG.value)
    with processes.guard(), errors.explain_out_of_memory():
      if 'experiment' in _CONFIG.value:
        record = theory.run(_CONFIG.value, workdir=workdir)
      else:
        record = experiment.run(
          _CONFIG.value,
          workdir=workdir,
          teachers_dir=_runs_dir() / 'teachers',
          data_dir=_DATA_DIR.value,
          source_dir=_SOURCE_DIR.value,
        )
  except (errors.UserError, OSError) as error:
    sys.exit(f'error: {error}')
  if processes.is_first() and not is_part:
    print(report.summary(record))
    print(f'{workdir}/report.md has the rest, with plots.')


if __name__ == '__main__':
  host_memory.keep_freed_memory()  # First of all: see there.
  app.run(main, flags_parser=parse_flags)
