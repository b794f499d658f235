"""Times training on images on disk and in memory, as the data set grows.

  make bench

Generated images 32x32x3 in array_record files, as TFDS writes them. The ideal
student with a stem of stride 2 trains on stored teacher logits, for epochs over
20,000 examples drawn from the whole data set. Grain reads images on disk; their
logits are read from a sharded array. Each measurement is a separate process.
The kernel counts its peak memory, which includes Python, JAX and compilation,
and limits the memory to 2 GiB if the images are on disk. An epoch's time is
that of the third epoch: the first includes compilation, and a machine can be
faster in its first seconds of work than later. Each measurement follows one on
the smallest data set in memory, and is compared with it.

Writes results/bench/MACHINE/bench-MACHINE-large_data.json. The files of
2,000,000 images, in a temporary folder, take 6 GB.
"""

import argparse
import json
import pathlib
import resource
import tempfile
from typing import Any

import harness
import large_images

_USED = 20_000  # Examples of an epoch.
_EPOCHS = 3
_LIMIT = 2 * 2**30  # Bytes of a process that reads from disk.


def measure(place: str, folder: pathlib.Path) -> dict[str, float]:
  """Trains in this process, and measures the last epoch.

  Args:
    place: 'disk' or 'memory', from which the images are read.
    folder: the data set.
  Returns:
    'examples_per_s' and 'loss' of the last epoch, and 'memory_mib', the peak
    memory of the process.
  """
  import jax
  import numpy as np

  from kd_jax.runtime import host_memory
  from kd_jax.training import epoch_loop, example_source, plan

  if place == 'disk':
    # An allocation beyond the limit ends the process.
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
  host_memory.keep_freed_memory()
  training = _make_training(place, folder)
  count = len(training.dataset.train.labels)
  outputs = _make_outputs(place, folder.parent / 'logits', count)
  used = np.zeros(count, bool)
  used[np.random.default_rng(0).choice(count, _USED, replace=False)] = True
  phases = plan.make_phases(used, epochs=_EPOCHS, folds=0)
  teacher = example_source.TeacherInputs(logits={'train': outputs})
  *_, last = epoch_loop.train_epochs(
    training.functions.epoch_functions,
    training.functions.init(jax.random.key(0)),
    example_source.make_source(training.plan, training.dataset, teacher),
    training.plan._replace(phases=phases),
    epoch_loop.LoopOptions(
      key=jax.random.key(0),
      hyperparameters_of_epoch=training.hyperparameters_of_epoch,
    ),
  )
  return {
    'examples_per_s': float(last.sums['count']) / last.train_s,
    'loss': float(last.sums['loss'] / last.sums['count']),
    'memory_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def _make_training(place: str, folder: pathlib.Path):
  """Returns the student's training on the data set, on disk or in memory."""
  from configs import cifar
  from kd_jax import config as config_lib
  from kd_jax import data
  from kd_jax.training import context, plan
  from kd_jax.training.train import TrainingInfo, make_training

  config = cifar.get_config('ideal,stride_at=stem')
  config.data.name = str(folder)
  config.train.epochs = _EPOCHS
  config = config_lib.close_row(config, 'ideal')
  memory_gib = 0.0 if place == 'disk' else 1000.0
  shared = context.make_context(
    config,
    lambda name: data.load(name, data_dir=folder.parent, memory_gib=memory_gib),
  )
  return make_training(
    config,
    shared,
    config_lib.student_sections(config),
    plan.make_plan(config.train, shared.dataset),
    TrainingInfo('student', (0,), folder.parent / place, {}),
  )


def _make_outputs(place: str, folder: pathlib.Path, count: int):
  """Returns made-up logits [N, 10], in a sharded array or on the device."""
  import jax.numpy as jnp
  import numpy as np

  from kd_jax.teachers import sharded_logits

  def logits(start, stop):
    # A function of the example's number, so that both places have equal logits.
    numbers = np.arange(start, stop, dtype=np.float32)[:, None]
    return np.sin(numbers * np.arange(1, 11, dtype=np.float32))

  if place == 'memory':
    return jnp.asarray(logits(0, count))
  return sharded_logits.ShardedLogits(
    folder, {'count': count}, logits, shape=(count, 10)
  )


def _run(place: str, folder: pathlib.Path) -> dict[str, float]:
  """Runs `measure` in a separate process."""
  result = harness.run_in_process(__file__, f'--worker={place}', str(folder))
  print(place, folder.parent.name, result, flush=True)
  return result


def _compare(
  args: argparse.Namespace, folders: dict[int, pathlib.Path]
) -> dict[tuple[str, int], list[dict[str, float]]]:
  """Measures all data sets, each right after the reference.

  Args:
    args: the command line.
    folders: the data sets, by number of training images.
  Returns:
    Measurements by place and number of images. 'over_memory' is the rate over
    that of the reference, the smallest data set in memory.
  """
  reference = 'memory', min(args.in_memory)
  cases = [
    *(('memory', count) for count in args.in_memory),
    *(('disk', count) for count in args.on_disk),
  ]
  runs: dict[tuple[str, int], list[Any]] = {case: [] for case in cases}
  for _ in range(args.rounds):
    for place, count in cases:
      if (place, count) == reference:
        continue
      before = _run('memory', folders[reference[1]])
      after = _run(place, folders[count])
      ratio = after['examples_per_s'] / before['examples_per_s']
      runs[place, count].append(after | {'over_memory': ratio})
      runs[reference].append(before | {'over_memory': 1.0})
  # Images on disk and in memory must train to the same loss.
  losses = {
    (count, measured[0]['loss']) for (_, count), measured in runs.items()
  }
  assert len(losses) == len({count for count, _ in losses}), losses
  return runs


def _parse_args() -> argparse.Namespace:
  parser = harness.make_parser(__doc__, rounds=3)
  parser.add_argument(
    '--on_disk',
    type=int,
    nargs='*',
    default=[125_000, 500_000, 2_000_000],
    help='numbers of training images on disk',
  )
  parser.add_argument(
    '--in_memory',
    type=int,
    nargs='*',
    default=[125_000, 500_000],
    help='numbers of training images in memory',
  )
  parser.add_argument(
    '--folder', type=pathlib.Path, help='folder for the temporary data'
  )
  parser.add_argument(
    'dataset', nargs='?', type=pathlib.Path, help='for a worker'
  )
  return parser.parse_args()


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  args = _parse_args()
  if args.worker:
    print(json.dumps(measure(args.worker, args.dataset)))
    return
  with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
    folders = {}
    for count in sorted({*args.on_disk, *args.in_memory}):
      folders[count] = pathlib.Path(temporary) / str(count) / 'large'
      large_images.write(folders[count], count)
      print(f'{count:,} images are written', flush=True)
    runs = _compare(args, folders)
  places: dict[str, dict[str, Any]] = {}
  for (place, count), measured in runs.items():
    places.setdefault(place, {})[str(count)] = harness.quartiles_by_key(
      measured, ('examples_per_s', 'over_memory', 'memory_mib')
    )
  harness.write_record(args.out_dir, 'large_data', places=places)


if __name__ == '__main__':
  main()
