"""Writes reports, tables and plots again from the files that runs wrote.

python -m kd_jax.report RUN_DIR      report.md and the plots of one run
python -m kd_jax.report results/     the tables in results/*.md, docs/ and
                                     README.md, and all published plots; lists
                                     the records whose code has changed since,
                                     and the cost of running them again
python -m kd_jax.report results/ --add=RUN_DIR   first copies a run's run.json
                                     to the folder that the run's name says
"""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from kd_jax.report import code_changes, publish, results_folder, run_report
from kd_jax.runtime import command_basics, errors, files, local_paths

_ADD = flags.DEFINE_multi_string(
  'add',
  [],
  'A run folder whose run.json is copied into results/ first; repeatable.',
)
command_basics.define_flags()


def main(argv: Sequence[str]) -> None:
  """Runs the command line; see the module's docstring."""
  with command_basics.one_line_errors('writes them again'):
    command_basics.apply_flags()
    if len(argv) != 2:
      raise errors.UserError(
        f'{len(argv) - 1} folders: expected one, a run folder or results/'
      )
    _report(local_paths.expand(argv[1], 'folder'), _ADD.value)


def _report(folder: pathlib.Path, run_dirs: Sequence[str]) -> None:
  """Writes the reports of a run folder, or of a folder of records.

  Args:
    folder: a run folder or results/.
    run_dirs: the folders of runs whose records are added to `folder`.
  """
  if (folder / 'run.json').exists():
    if run_dirs:
      raise errors.UserError(
        f'--add={run_dirs[0]}: {folder} is the folder of a run; a run is added '
        'to a folder of records, such as results/'
      )
    run_report.write(folder)
    return
  publish.check_folder(folder, is_empty_allowed=bool(run_dirs))
  for run_dir in run_dirs:
    path = local_paths.expand(run_dir, '--add')
    record = run_report.read(path)
    if record['status'] != 'complete':
      raise errors.UserError(
        f'--add={run_dir}: the folder holds no complete run; its launch.py '
        'command finishes the run'
      )
    added = results_folder.path(folder, path.resolve().name)
    files.write_json(added, record)
  root = folder.resolve().parent
  history = code_changes.History(root)
  changes = None
  if history.is_complete():
    results = publish.load_results(root)
    changes = code_changes.find(results, history)
    print(code_changes.to_run_again(results, changes))
  else:
    print(
      f'{root} is no git repository, or a shallow one: which records were made '
      'by code that has changed since is unknown, and the marks of the pages '
      'stay (git fetch --unshallow gets the history)'
    )
  publish.publish(folder, root / 'README.md', changes)


with command_basics.one_line_errors('writes them again'):
  command_basics.run_app(main, __doc__, sys.argv[0])
