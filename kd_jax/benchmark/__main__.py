"""Times the networks of a config, with random weights, on any backend.

  python -m kd_jax.benchmark --config=configs/mnist.py:table1 [--out=FILE.json]

A run of launch.py times its trained networks in the same way.
"""

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.benchmark import latency
from kd_jax.cli import parsing
from kd_jax.config_checks import field_checks
from kd_jax.models import apply, from_config
from kd_jax.report import tables
from kd_jax.runtime import (
  command_basics,
  compilation_cache,
  environment,
  errors,
  files,
  local_paths,
)
from kd_jax.teachers import pretrained

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'FILE.py:RECIPE whose networks are timed.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'Folder of prepared data, as in launch.py.'
)
_OUT = flags.DEFINE_string('out', None, 'JSON file to write the timings to.')
command_basics.define_flags()


def _benchmark(
  rows: Mapping[str, ConfigDict], dataset: data.Dataset
) -> dict[str, Any]:
  """Times the teacher and the distinct students of a config.

  Args:
    rows: closed configs by row.
    dataset: the config's data set.
  Returns:
    JSON values: 'environment' and 'benchmark', as in run.json.
  """
  first = next(iter(rows.values()))
  students, network_by_row = latency.distinct_models(rows)
  models = {'teacher': first.teacher.model} | students
  variables = {
    name: apply.init_variables(
      from_config.make_module(model, dataset.num_classes),
      dataset.task.image_shape,
      jax.random.key(0),
    )
    for name, model in models.items()
  }
  return {
    'environment': environment.describe(),
    'benchmark': latency.benchmark_inference(
      first, models, network_by_row, variables, dataset
    ),
  }


def main(argv: Sequence[str]) -> None:
  """Runs the command line; see the module's docstring."""
  with command_basics.one_line_errors('measures again'):
    if len(argv) > 1:
      raise errors.UserError(f'{argv[1]!r} is not a flag; see --help')
    command_basics.apply_flags()
    if _CONFIG.value is None:
      raise errors.UserError(
        'there is no --config: expected --config=configs/FILE.py:RECIPE'
      )
    out = local_paths.expand(_OUT.value, '--out') if _OUT.value else None
    _measure(_CONFIG.value, out)


def _measure(config: ConfigDict, out: pathlib.Path | None) -> None:
  """Measures the networks of a config, and prints a table.

  Args:
    config: a config from configs/.
    out: the file of the timings; None for none.
  """
  if 'rows' not in config or not config.rows:
    raise errors.UserError(f'{config.name} has no students to time')
  compilation_cache.enable()
  config = pretrained.with_network(config)
  rows = {name: config_lib.close_row(config, name) for name in config.rows}
  for row in rows.values():
    field_checks.check_fields(row)
  dataset = data.load(
    config.data.name,
    data_dir=_DATA_DIR.value,
    image_size=config.data.image_size,
    memory_gib=config.data.memory_gib,
  )
  record = _benchmark(rows, dataset)
  if out:
    files.write_json(out, record)
  print(tables.latency_table(record))


if __name__ == '__main__':
  with command_basics.one_line_errors('measures again'):
    command_basics.run_app(main, __doc__, sys.argv[0], parsing.parse_flags)
