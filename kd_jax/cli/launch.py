"""Runs a recipe of configs/ and prints the report.

python launch.py and `kd-jax run` are this command.
"""

import os
import pathlib
import shlex
import sys
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from kd_jax.cli import parsing, recipes
from kd_jax.runtime import command_basics, console, errors, local_paths

_ABOUT = """Trains a teacher and its students by a recipe, and writes a report.

  COMMAND --list
  COMMAND --config=configs/mnist.py:table1
  COMMAND --config=configs/mnist.py:h300,seeds=5 --config.train.epochs=10

COMMAND is `python launch.py` in the source code, or `kd-jax run` where the
package is installed. The same command resumes a run that was stopped.
"""

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'The recipe of the run: FILE.py:RECIPE,ARGUMENT=VALUE,... '
  'Override a field with --config.FIELD=VALUE.',
)
_LIST = flags.DEFINE_bool('list', False, 'Lists the recipes, and runs nothing.')
_DESCRIBE = flags.DEFINE_bool(
  'describe',
  False,
  'Describes the data, the teacher and the students, and trains nothing. Also '
  'writes a picture of the data and the order of its examples to the folder of '
  'the run.',
)
_MINUTES = flags.DEFINE_bool(
  'minutes',
  False,
  'With --describe: also times the training steps, which takes a minute or so, '
  'to forecast how many minutes the trainings take.',
)
_ROWS = flags.DEFINE_list(
  'rows',
  [],
  'The rows of the table to train, by name or pattern, such as kl,hint_*. By '
  'default, all. Rows that teach them are trained as well.',
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
_TENSORBOARD = flags.DEFINE_bool(
  'tensorboard',
  False,
  'Also writes the metrics of each epoch for TensorBoard, to the folder '
  "tensorboard in the run's folder. `pip install tensorboardX` is needed.",
)
_CALLBACK = flags.DEFINE_multi_string(
  'callback',
  [],
  'PACKAGE.MODULE:FUNCTION, which returns a kd_jax.Callback that follows the '
  'run, such as examples.wandb_callback:WandbCallback. The flag may be '
  'repeated.',
)
command_basics.define_flags()


def _runs_dir() -> pathlib.Path:
  return local_paths.expand(_RUNS_DIR.value, '--runs_dir')


def _overrides() -> dict[str, Any]:
  """Returns the values of the fields that the command sets, by name."""
  return config_flags.get_override_values(flags.FLAGS['config'])


def _workdir(config: ConfigDict) -> pathlib.Path:
  """Returns the run's folder.

  Without --workdir, the folder has the run's name. If overridden fields can
  change a student, or if rows are chosen, a digest of both follows the name.
  """
  from kd_jax import config as config_lib
  from kd_jax.runtime import files

  if _WORKDIR.value:
    return local_paths.expand(_WORKDIR.value, '--workdir')
  overrides = {
    field: str(value)
    for field, value in _overrides().items()
    if field.partition('.')[0] not in config_lib.FREE_FIELDS
  }
  if _ROWS.value:
    overrides['--rows'] = ','.join(sorted(_ROWS.value))
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
    workers.run_workers(command_basics.python_arguments(), _WORKERS.value)


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


def _make_callbacks() -> list[Any]:
  """Returns what follows the run."""
  from kd_jax.models import user
  from kd_jax.runtime import callbacks as callback_lib
  from kd_jax.runtime import tensorboard

  callbacks: list[callback_lib.Callback] = []
  if _TENSORBOARD.value:
    callbacks.append(tensorboard.TensorBoard())
  for name in _CALLBACK.value:
    try:
      callback = user.find_function(name)()
    except user.FunctionError as error:
      raise errors.UserError(f'--callback={name}: {error}') from None
    if not isinstance(callback, callback_lib.Callback):
      raise errors.UserError(
        f'--callback={name}: it returned {type(callback).__name__}; expected a '
        'kd_jax.Callback'
      )
    callbacks.append(callback)
  return callbacks


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
      set_fields=tuple(_overrides()),
      with_minutes=_MINUTES.value,
    )
  return f"{text}\n{workdir}/data has this, a picture, and the examples' order."


def _run(config: ConfigDict) -> str | None:
  """Runs a config.

  Returns:
    The report's summary; None if another process prints the summary.
  """
  _check_paths(config)
  from kd_jax.runtime import logs

  logs.prepare()
  if _ROWS.value:
    from kd_jax.cli import row_choice

    row_choice.keep(config, _ROWS.value)
  if _MINUTES.value and not _DESCRIBE.value:
    sys.exit('error: --minutes: it is a part of --describe; expected both')
  if _DESCRIBE.value:
    return _describe(config)
  # Workers and processes must be set up before JAX computes anything.
  from kd_jax.runtime import workers

  # A part of a run is a worker, or the preparation for the workers.
  is_part = workers.limit_to_share()
  if not is_part:
    _run_workers(config)
  _join_processes()
  # These imports take seconds. --list, --help and a mistyped flag need none.
  from kd_jax.experiments import run_checks, runner
  from kd_jax.report import run_report
  from kd_jax.runtime import processes
  from kd_jax.theory import run_theory

  _start_jax()
  workdir = _workdir(config)
  with processes.guard(), errors.explain_out_of_memory():
    if 'theory' in config:
      record = run_theory.run_theory(config, workdir=workdir)
    else:
      record = runner.run_config_on_data(
        config,
        run_checks.make_loader(config, _DATA_DIR.value, _SOURCE_DIR.value),
        runner.RunOptions(
          workdir,
          _runs_dir() / 'teachers',
          data_dir=_DATA_DIR.value,
          callbacks=tuple(_make_callbacks()),
          set_fields=tuple(_overrides()),
        ),
      )
  if is_part or not processes.is_first():
    return None
  return f'{run_report.summary(record)}\n\n{_what_next(record, workdir)}'


def _what_next(record: dict[str, Any], workdir: pathlib.Path) -> str:
  """Returns lines that say where the results are, and what can be done."""
  lines = {
    'report': f'{workdir}/report.html (or report.md, with *.png beside it)'
  }
  if record.get('students'):
    rows = list(dict.fromkeys(s['row'] for s in record['students']))
    export = f'{command_basics.task("export")} {shlex.quote(str(workdir))}'
    lines['export a student'] = f'{export} --row={shlex.quote(rows[0])}'
    if len(rows) > 1:
      lines['export a student'] += ' (or another row)'
    lines['more seeds'] = (
      'the same command with --config.seeds=N trains those that are missing'
    )
  lines['after a stop'] = 'the same command resumes the run'
  width = max(map(len, lines)) + 2
  return '\n'.join(
    f'{name + ":":<{width}}{line}' for name, line in lines.items()
  )


def start() -> None:
  """Runs the command line of this process.

  Call `host_memory.keep_freed_memory` before, while no thread is running.
  """
  # Around the parsing of the flags, which reads the file of --config.
  with command_basics.one_line_errors('resumes the run'):
    command_basics.run_app(main, _ABOUT, __name__, parsing.parse_flags)


# Errors become one line within `app.run`, too: absl calls its handlers of
# exceptions, and may start a debugger, before an error leaves it.
@command_basics.one_line_errors('resumes the run')
def main(argv: list[str]) -> None:
  """Runs the config of the flags, or lists the recipes."""
  if len(argv) > 1:
    hint = '; see --help'
    if '.py' in argv[1]:
      hint = f' (did you mean --config={argv[1]}?)'
    sys.exit(f'error: {argv[1]!r} is not a flag{hint}')
  command_basics.apply_flags()
  if _LIST.value:
    print(recipes.describe_all())
    console.check_printed()
    return
  if _CONFIG.value is None:
    sys.exit(
      'error: there is no --config: expected --config=configs/FILE.py:RECIPE; '
      '--list lists the recipes'
    )
  if not isinstance(_CONFIG.value, ConfigDict):
    sys.exit(
      f'error: --config: get_config returned {type(_CONFIG.value).__name__}; '
      'expected a ConfigDict, see kd_jax/config_fields.py'
    )
  summary = _run(_CONFIG.value)
  if summary is not None:
    print(summary)
