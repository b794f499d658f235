"""Times and weighs a folder of photographs: decoding, loading, a whole run.

  make bench

Generated JPEG files of 96 to 500 pixels a side, in ten classes, are cropped and
resized to 224x224. Three things are measured.

Rates: kd_jax reads batches of 64 of the decoded images from disk; crops, flips
and scales them, with compiled functions. A torch DataLoader does the same with
the transforms of torchvision, from the JPEG files or from the decoded images,
without and with a worker process a core. Systems take turns, and the images
that all yield without crops and flips are compared before.

Starts: seconds to decode the folder on one core and on all cores, in turn, and
to start again with what is decoded.

Stages: the peak memory of the processes that decode, train, export and predict,
as the kernel counts it, for a fourth of the images and for all. The student has
one hidden layer, and the teacher stored logits, so that images take most of the
memory. `memory_gib` is so low that all training images stay on disk.

Writes results/bench/MACHINE/bench-MACHINE-photographs.json. The files, in a
temporary folder, take 180 KB for each training image.
"""

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import comparison
import harness
import numpy as np
import photograph_files

SIZE, BATCH = 224, 64
_PAD = 4  # Pixels around an image before a random crop, as in `crop_and_flip`.
_MEMORY_GIB = 0.05
_CHECKED = 32  # Images whose pixels are compared.
# Where workers find the photographs, and how many images make a turn.
_FOLDER, _TURN = 'KD_JAX_PHOTOGRAPHS', 'KD_JAX_PHOTOGRAPHS_TURN'
_CORES = os.cpu_count() or 1
SYSTEMS = {
  'ours': 'kd_jax, decoded once, on disk',
  'torch': 'torch DataLoader, JPEG files',
  'torch-workers': f'torch DataLoader, JPEG files, {_CORES} workers',
  'torch-decoded': 'torch DataLoader, decoded once',
  'torch-decoded-workers': f'torch DataLoader, decoded once, {_CORES} workers',
}


# --- The rates: workers, one for each system. ---


def make(system: str) -> harness.System:
  """Returns a system that loads batches of augmented images."""
  if system == 'ours':
    plain, epoch = _make_ours(_photographs())
  else:
    plain, epoch = _make_torch(system, _photographs())
  size = int(os.environ[_TURN])
  epochs = iter(range(10**6))

  def turn(case: str) -> tuple[int, float]:
    del case
    began = time.perf_counter()
    count = sum(epoch(next(epochs), size))
    return count, time.perf_counter() - began

  # The mean of each channel of each image.
  return harness.System(turn, plain().mean((1, 2), float).ravel().tolist())


def _photographs() -> pathlib.Path:
  return pathlib.Path(os.environ[_FOLDER])


def _load(folder: pathlib.Path):
  """Returns the data set; its images are decoded once, and stay on disk."""
  from kd_jax import data

  return data.load(
    str(folder),
    data_dir=_data_dir(folder),
    image_size=SIZE,
    memory_gib=_MEMORY_GIB,
  )


def _data_dir(folder: pathlib.Path) -> pathlib.Path:
  return folder.with_name(f'{folder.name}-data')


def _make_ours(folder: pathlib.Path):
  """Returns (images [N, H, W, C] to compare, an epoch's batch sizes)."""
  import jax

  from kd_jax.data import augmentation, preprocessing

  train = _load(folder).train
  crops = augmentation.AUGMENTATIONS['crop_and_flip']
  assert crops is not None

  @jax.jit
  def augment(images, key):
    views = crops.choose(jax.random.split(key, images.shape[0]))
    return preprocessing.symmetric(crops.apply(images, views))

  def epoch(number: int, size: int) -> Iterator[int]:
    order = np.random.default_rng(number).permutation(len(train.images))
    key = jax.random.key(number)
    for images in train.images.batches(order[:size], BATCH):
      key, used = jax.random.split(key)
      yield len(augment(images, used).block_until_ready())

  def plain() -> np.ndarray:
    first = np.argsort(train.origin.positions)[:_CHECKED]
    return np.asarray(preprocessing.symmetric(train.images[first]))

  return plain, epoch


def _crop(image):
  """Crops and resizes an image as kd_jax does."""
  from PIL import ImageOps

  return ImageOps.fit(image, (SIZE, SIZE))


class _Decoded:
  """The decoded images of `_load`, as a torch data set."""

  def __init__(self, folder: pathlib.Path, transform: Callable):
    (path,) = (_data_dir(folder) / '.kd_jax').glob('*.u8')
    self.transform = transform
    count = sum(1 for _ in (folder / 'train').rglob('*.jpg'))
    self._images = np.memmap(path, np.uint8, 'r', shape=(count, SIZE, SIZE, 3))

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, index: int):
    from PIL import Image

    return self.transform(Image.fromarray(self._images[index])), 0


def _make_torch(system: str, folder: pathlib.Path):
  """Returns (images [N, H, W, C] to compare, an epoch's batch sizes)."""
  import torch
  from torchvision import datasets, transforms

  scale = [
    transforms.ToTensor(),
    transforms.Normalize((0.5,) * 3, (0.5,) * 3),
  ]
  views = [transforms.RandomCrop(SIZE, _PAD), transforms.RandomHorizontalFlip()]
  is_decoded = system.startswith('torch-decoded')
  crop = [] if is_decoded else [_crop]

  def make_dataset(steps: list[Callable]) -> Any:
    transform = transforms.Compose([*crop, *steps])
    if is_decoded:
      return _Decoded(folder, transform)
    return datasets.ImageFolder(folder / 'train', transform)

  dataset = make_dataset([*views, *scale])
  workers = _CORES if system.endswith('workers') else 0
  size = int(os.environ[_TURN])
  # Workers start once, as in a long training.
  loader = torch.utils.data.DataLoader(
    dataset,
    batch_size=BATCH,
    sampler=torch.utils.data.RandomSampler(dataset, num_samples=size),
    num_workers=workers,
    persistent_workers=workers > 0,
  )

  def epoch(number: int, size: int) -> Iterator[int]:
    del number, size
    for images, _ in loader:
      yield len(images)

  def plain() -> np.ndarray:
    images = make_dataset(scale)
    first = [images[i][0] for i in range(_CHECKED)]
    return torch.stack(first).permute(0, 2, 3, 1).numpy()

  return plain, epoch


# --- Starts and stages, each in a fresh process. ---


def load_in_process(folder: pathlib.Path, cores: int) -> dict[str, float]:
  """Loads the data set in this process, on some cores; see `_load`."""
  os.sched_setaffinity(0, range(cores))
  began = time.perf_counter()
  _load(folder)
  return {
    'seconds': time.perf_counter() - began,
    'memory_mib': _peak_mib(),
  }


def _peak_mib() -> float:
  """Returns the peak memory of this process.

  `ru_maxrss` of a small process would be the memory of the process that has
  started it.
  """
  status = pathlib.Path('/proc/self/status').read_text()
  (line,) = [x for x in status.splitlines() if x.startswith('VmHWM:')]
  return int(line.split()[1]) / 1024


def _load_apart(folder: pathlib.Path, cores: int, *, again: bool = False):
  """Loads the data set in a process; decodes it, or starts `again`."""
  if not again:
    for path in (_data_dir(folder) / '.kd_jax').glob('images-*'):
      path.unlink()
  return harness.run_in_process(
    __file__, f'--worker=load:{cores}', f'--folder={folder}'
  )


def _measure_starts(folder: pathlib.Path, rounds: int) -> dict[str, Any]:
  """Returns quartiles of each way to start, by its name."""
  starts: dict[str, list[Any]] = {}
  for _ in range(rounds):
    for cores in sorted({1, _CORES}):
      name = f'decode_{cores}'
      starts.setdefault(name, []).append(_load_apart(folder, cores))
      print(name, starts[name][-1], flush=True)
    again = _load_apart(folder, _CORES, again=True)
    starts.setdefault('again', []).append(again)
    print('again', again, flush=True)
  return {
    name: harness.quartiles_by_key(measured)
    for name, measured in starts.items()
  }


def _run_command(*command: str) -> dict[str, float]:
  """Runs a command of kd_jax; returns its seconds and its peak memory."""
  began = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, *command], cwd=harness.ROOT, stdout=subprocess.DEVNULL
  )
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise SystemExit(f'error: {" ".join(command)}: {process.returncode}')
  return {
    'seconds': time.perf_counter() - began,
    'memory_mib': usage.ru_maxrss / 1024,
  }


def _measure_stages(folder: pathlib.Path) -> dict[str, dict[str, float]]:
  """Runs what a user runs; returns seconds and peak memory of each stage."""
  stages = {'decode': _load_apart(folder, _CORES)}
  run = folder.with_name(f'{folder.name}-run')
  data_dir = f'--data_dir={_data_dir(folder)}'
  config = {
    'data.name': folder,
    'data.image_size': SIZE,
    'data.memory_gib': _MEMORY_GIB,
    'teacher.logits': _write_logits(folder),
    'train.epochs': 1,
    'train.folds': 0,
    'train.batch_size': BATCH,
    'eval.batch_size': 100,
    'benchmark.enabled': False,
  }
  stages['train'] = _run_command(
    'launch.py',
    '--config=configs/mnist.py:h50',
    f'--workdir={run}',
    data_dir,
    *(f'--config.{field}={value}' for field, value in config.items()),
  )
  artifact = f'{run}-export'
  stages['export'] = _run_command(
    *('-m', 'kd_jax.export', str(run), f'--output={artifact}', data_dir)
  )
  photographs = str(folder / 'train')
  stages['predict'] = _run_command(
    '-m', 'kd_jax.predict', artifact, photographs
  )
  return stages


def _write_logits(folder: pathlib.Path) -> pathlib.Path:
  """Writes the logits of a perfect teacher, in the order of the files."""
  from kd_jax import data

  classes = photograph_files.CLASSES
  perfect = 5 * np.eye(len(classes), dtype=np.float32)
  splits = data.list_image_files(str(folder))
  train, test = (
    perfect[[classes.index(path.parent.name) for path in splits[split]]]
    for split in data.SPLITS
  )
  path = folder.with_name(f'{folder.name}-logits.npz')
  np.savez(path, train=train, test=test)
  return path


# --- The command line. ---


def _parse_args() -> argparse.Namespace:
  parser = harness.make_parser(__doc__, rounds=5, systems=[*SYSTEMS])
  parser.add_argument(
    '--images', type=int, default=12_000, help='number of training images'
  )
  parser.add_argument(
    '--turn', type=int, default=2_048, help='images of a turn of a system'
  )
  parser.add_argument(
    '--folder', type=pathlib.Path, help='folder for the temporary data'
  )
  return parser.parse_args()


def _serve(args: argparse.Namespace) -> None:
  """Runs one worker of the benchmark."""
  if args.worker.startswith('load:'):
    cores = int(args.worker.partition(':')[2])
    print(json.dumps(load_in_process(args.folder, cores)))
  else:
    harness.serve(functools.partial(make, args.worker), ('loading',))


def main() -> None:
  """Runs the benchmark, or one worker of the benchmark."""
  args = _parse_args()
  if args.worker:
    _serve(args)
    return
  systems = harness.select_systems(SYSTEMS, args.systems)
  with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
    folders = {}
    for count in (args.images // 4, args.images):
      folders[count] = pathlib.Path(temporary) / f'photographs-{count}'
      photograph_files.write(folders[count], count)
      print(f'{count:,} images are written', flush=True)
    stages = {
      str(count): _measure_stages(folder) for count, folder in folders.items()
    }
    print(stages, flush=True)
    folder = folders[args.images]
    starts = _measure_starts(folder, args.rounds)
    environment = {_FOLDER: str(folder), _TURN: str(args.turn)}
    results = comparison.compare(
      {
        system: functools.partial(harness.Worker, __file__, system, environment)
        for system in systems
      },
      ('loading',),
      rounds=args.rounds,
      limit_systems=(),
      rtol=0,
      atol=1e-5,
    )
  files = {'images': args.images, 'test_images': args.images // 10}
  harness.write_record(
    args.out_dir,
    'photographs',
    peers=('torch', 'torchvision'),
    about=systems,
    size=SIZE,
    batch=BATCH,
    starts=starts,
    stages=stages,
    **files,
    **results,
  )


if __name__ == '__main__':
  main()
