"""Writes reports, tables and plots again from the files that runs wrote.

python -m kd_jax.report RUN_DIR      report.md and the plots of one run
python -m kd_jax.report results/     the tables in results/*.md and README.md,
                                     and all published plots
python -m kd_jax.report results/ --add=RUN_DIR   first copies a run's run.json
"""

import pathlib
from collections.abc import Sequence

from absl import app, flags

from kd_jax.report import publish, run_report
from kd_jax.runtime import console, errors, files, local_paths

_ADD = flags.DEFINE_multi_string(
  'add',
  [],
  'A run folder whose run.json is copied into results/ first; repeatable.',
)


def main(argv: Sequence[str]) -> None:
  """Runs the command line; see the module's docstring."""
  if len(argv) != 2:
    raise app.UsageError(
      f'{len(argv) - 1} folders: expected one, a run folder or results/'
    )
  console.escape_unknown_characters()
  try:
    folder = local_paths.expand(argv[1], 'folder')
  except errors.UserError as error:
    raise app.UsageError(str(error)) from None
  if (folder / 'run.json').exists():
    run_report.write(folder)
    return
  for run_dir in _ADD.value:
    record = files.read_json(pathlib.Path(run_dir) / 'run.json')
    if record is None or record['status'] != 'complete':
      raise app.UsageError(
        f'--add={run_dir}: the folder holds no complete run; finish the run '
        'first'
      )
    name = pathlib.Path(run_dir).resolve().name
    files.write_json(folder / f'{name}.json', record)
  publish.publish(folder, folder.resolve().parent / 'README.md')


app.run(main)
