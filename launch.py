"""Runs a recipe of configs/ and prints the report.

python launch.py --config=configs/mnist.py:table1
python launch.py --list
"""

import importlib.util
import os
import pathlib
import re
import sys
import types

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from kd_jax.runtime import command_line, errors, host_memory, local_paths

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The recipe of the run: FILE.py:RECIPE,ARGUMENT=VALUE,... '
  'Override a field with --config.FIELD=VALUE.',
)
_LIST = flags.DEFINE_bool('list', False, 'Lists the recipes and stops.')
_DESCRIBE = flags.DEFINE_bool(
  'describe',
  False,
  'Describes the data, the teacher and the students, and trains nothing. Also '
  "writes a picture of the data and the order of its rows to the run's folder.",
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The folder of the run. By default, the folder in RUNS_DIR that has the '
  "run's name.",
)
_RUNS_DIR = flags.DEFINE_string(
  'runs_dir', 'runs', 'The folder of all runs and of the teachers they share.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  "The folder of prepared data. By default, a folder in the user's cache.",
)
_WORKERS = flags.DEFINE_integer(
  'workers',
  1,
  'The number of processes that train students side by side. Each process gets '
  'an equal share of the CPU cores, and one GPU. Processes share GPUs if the '
  'machine has fewer GPUs than processes.',
  lower_bound=1,
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Makes this process one of several processes of the run. The cluster (a TPU '
  'pod, Slurm, MPI, Kubernetes) announces their number and the index of this '
  'process.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of the first process of the run, if no cluster announces it.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes',
  None,
  'The number of processes of the run, if no cluster announces it.',
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id',
  None,
  'The index of this process, counted from 0, if no cluster announces it.',
)
_SOURCE_DIR = flags.DEFINE_string(
  'source_dir',
  None,
  'A folder that is searched for data files before they are downloaded.',
)
command_line.define_flags()


def _load(path: pathlib.Path) -> types.ModuleType:
  """Imports a file as a module."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None and spec.loader is not None  # A file named *.py.
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
  """Parses the flags; a mistake ends the program with one line.

  Args:
    argv: the command line, with the program's name.
    values: the flags that are set.
  Returns:
    The arguments that are not flags, with the program's name.
  Raises:
    SystemExit: if a flag, a field or a value is wrong.
  """
  argv = _with_config_first(argv)
  if values is flags.FLAGS:
    sys.argv = argv  # ml_collections reads the overrides there.
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


def _with_config_first(argv: list[str]) -> list[str]:
  """Returns a command line with --config before the overrides of its fields.

  absl knows the flag of a field only once it has read --config.
  """
  places = [
    place
    for place, arg in enumerate(argv)
    if re.match(r'--?config(=|$)', arg) is not None
  ]
  # Otherwise the error would be that every override is defined twice.
  if len(places) > 1:
    sys.exit('error: --config is given more than once; a run has one recipe')
  if not places:
    return argv
  (start,) = places
  stop = start + 1 if '=' in argv[start] else start + 2
  program, rest = argv[0], argv[1:start] + argv[stop:]
  return [program, *argv[start:stop], *rest]


def _unknown_field(argv: list[str]) -> str | None:
  """Describes the first override of an unknown field; None if all are known."""
  command = ' '.join(argv)
  source = re.search(r'--?config[= ]([^:\s]+)(?::(\S+))?', command)
  if source is None:
    return None
  config = _load(pathlib.Path(source[1])).get_config(source[2])
  for field in re.findall(r'--?(?:no)?config\.([\w.]+)', command):
    section, path = config, 'config'
    for key in field.split('.'):
      if key not in section:
        return (
          f'there is no field {path}.{key}; the fields of {path} are: '
          f'{", ".join(section)}'
        )
      section, path = config_path.get_value(key, section), f'{path}.{key}'
  return None


def _runs_dir() -> pathlib.Path:
  return local_paths.expand(_RUNS_DIR.value, '--runs_dir')


def _workdir(config: ConfigDict) -> pathlib.Path:
  """Returns the run's folder.

  Without --workdir, the folder has the run's name. If overridden fields can
  change a student, a digest of the overrides follows the name.
  """
  from kd_jax import config as config_lib
  from kd_jax.runtime import files

  if _WORKDIR.value:
    return local_paths.expand(_WORKDIR.value, '--workdir')
  overrides = {
    field: str(value)
    for field, value in config_flags.get_override_values(
      flags.FLAGS['config']
    ).items()
    if field.partition('.')[0] not in config_lib.FREE_FIELDS
  }
  mark = f'+{files.json_digest(overrides)[:8]}' if overrides else ''
  return _runs_dir() / f'{config.name}{mark}'


def _join_processes() -> None:
  """Connects this process to the other processes of a distributed run."""
  given = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if not _DISTRIBUTED.value and given == (None, None, None):
    return
  from kd_jax.runtime import processes

  processes.start(*given)
  if not processes.is_first():
    os.environ['TQDM_DISABLE'] = '1'


def _run_workers(config: ConfigDict) -> None:
  """Runs the workers that --workers asks for, until they have ended."""
  from kd_jax.runtime import workers

  if _WORKERS.value > 1:
    if _DISTRIBUTED.value or _COORDINATOR.value is not None:
      sys.exit(
        'error: --workers: processes of a --distributed run take every step '
        'together; leave one of the two out'
      )
    if 'rows' not in config:
      sys.exit(
        f'error: --workers={_WORKERS.value}: {config.name} has no students to '
        'share out; leave --workers out'
      )
    workers.run_workers(sys.argv, _WORKERS.value)


def _check_paths(config: ConfigDict) -> None:
  """Refuses addresses of stores in flags and fields, before any work."""
  paths = {
    '--workdir': _WORKDIR.value,
    '--runs_dir': _RUNS_DIR.value,
    '--data_dir': _DATA_DIR.value,
    '--source_dir': _SOURCE_DIR.value,
  }
  if 'data' in config:  # Theory has none.
    paths |= {
      'config.data.name': config.data.name,
      'config.teacher.logits': config.teacher.logits,
    }
  for name, path in paths.items():
    for part in (path or '').split(','):
      local_paths.expand(part, name)


def _start_jax() -> None:
  """Checks the device, and sets up the log and the cache of functions."""
  from kd_jax.runtime import compilation_cache, environment, logs

  environment.check_device()
  logs.show_project_lines()
  compilation_cache.enable()


def _describe(config: ConfigDict) -> str:
  """Returns a description of what a config trains on what."""
  if 'data' not in config:
    sys.exit(f'error: --describe: {config.name} has no data to describe')
  from kd_jax.experiments import description

  _start_jax()
  workdir = _workdir(config)
  with errors.explain_out_of_memory():
    text = description.describe_run(
      config,
      workdir=workdir,
      teachers_dir=_runs_dir() / 'teachers',
      data_dir=_DATA_DIR.value,
      source_dir=_SOURCE_DIR.value,
    )
  return f'{text}\n{workdir}/data has this, a picture, and the order of rows.'


def _run(config: ConfigDict) -> str | None:
  """Runs a config.

  Returns:
    The report's summary; None if another process prints the summary.
  """
  _check_paths(config)
  if _DESCRIBE.value:
    return _describe(config)
  # Workers and processes must be set up before JAX computes anything.
  from kd_jax.runtime import workers

  is_part = workers.limit_to_share()
  if not is_part:
    _run_workers(config)
  _join_processes()
  # These imports take seconds. --list, --help and a mistyped flag need none.
  from kd_jax.experiments import experiment
  from kd_jax.report import run_report
  from kd_jax.runtime import processes
  from kd_jax.theory import run_theory

  _start_jax()
  workdir = _workdir(config)
  with processes.guard(), errors.explain_out_of_memory():
    if 'theory' in config:
      record = run_theory.run_theory(config, workdir=workdir)
    else:
      record = experiment.run_experiment(
        config,
        workdir=workdir,
        teachers_dir=_runs_dir() / 'teachers',
        data_dir=_DATA_DIR.value,
        source_dir=_SOURCE_DIR.value,
      )
  if is_part or not processes.is_first():
    return None
  summary = run_report.summary(record)
  return f'{summary}\n{workdir}/report.md has the rest, with plots.'


def main(argv: list[str]) -> None:
  """Runs the config of the flags, or lists the recipes."""
  with command_line.one_line_errors('resumes the run'):
    _main(argv)


def _main(argv: list[str]) -> None:
  if len(argv) > 1:
    sys.exit(f'error: {argv[1]!r} is not a flag; see --help')
  command_line.apply_flags()
  if _LIST.value:
    _list_recipes()
    return
  if _CONFIG.value is None:
    sys.exit(
      'error: there is no --config: expected --config=configs/FILE.py:RECIPE; '
      '--list lists the recipes'
    )
  summary = _run(_CONFIG.value)
  if summary is not None:
    print(summary)


if __name__ == '__main__':
  # This comes first, because it has no effect once threads are running.
  host_memory.keep_freed_memory()
  with command_line.one_line_errors('resumes the run'):
    app.run(main, flags_parser=parse_flags)
