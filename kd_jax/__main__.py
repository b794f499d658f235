"""The command kd-jax: everything that the project does, by the name of a task.

  kd-jax run --config=configs/mnist.py:table1   trains, and reports
  kd-jax list                                   lists the recipes
  kd-jax export RUN_DIR                         exports a student
  kd-jax predict ARTIFACT IMAGE...              classifies images with it
  kd-jax report RUN_DIR                         writes a run's report again
  kd-jax benchmark --config=FILE.py:RECIPE      times the networks of a recipe

`kd-jax TASK --help` describes the flags of a task, and `python -m kd_jax` is
the same command.
"""

import os
import runpy
import sys

try:
  from kd_jax.runtime import command_basics, errors, host_memory, suggestions
except KeyboardInterrupt:  # Ctrl-C before anything began.
  raise SystemExit(130) from None

# Tasks that are also `python -m kd_jax.TASK`.
_MODULES = ('export', 'predict', 'report', 'benchmark')
_TASKS = ('run', 'list', *_MODULES)


def main() -> None:
  """Runs the task that the command line names."""
  # This comes first, because it has no effect once threads are running.
  host_memory.keep_freed_memory()
  # An installed command does not look for the user's modules by itself.
  if not {'', os.getcwd()} & set(sys.path):
    sys.path.insert(0, os.getcwd())
  program, *arguments = sys.argv
  task, *rest = arguments or ['--help']
  if task in ('--help', '-h', 'help'):
    print((__doc__ or '').strip())
    return
  if task.startswith('-'):  # As for launch.py.
    task = 'run'
    rest = arguments
  with command_basics.one_line_errors():
    if '.py' in task:
      raise errors.UserError(
        f'unknown task {task!r} (did you mean run --config={task}?)'
      )
    if task not in _TASKS:
      raise errors.UserError(
        f'unknown task {task!r}{suggestions.nearest(task, _TASKS)}: expected '
        f'one of {", ".join(_TASKS)}'
      )
  if task in _MODULES:
    sys.argv = [program, *rest]
    runpy.run_module(f'kd_jax.{task}', run_name='__main__', alter_sys=True)
    return
  from kd_jax.cli import launch

  sys.argv = [program, *(['--list'] if task == 'list' else []), *rest]
  launch.start()


if __name__ == '__main__':
  main()
