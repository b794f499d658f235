"""Training on images on disk beside images in memory, as the data grows.

  make bench

Generated images 32x32x3 in array_record files, as TFDS has them; the ideal
student with its stem's stride at 2, on stored teacher logits, for epochs over
20,000 examples that lie all over the data. Images on disk are read by Grain,
and the logits from a sharded array. Each measurement is a process of its own,
whose peak memory (of everything: Python, JAX, compilation) the kernel counts,
and to which, where the images are on disk, it gives no more than 2 GiB. An
epoch's time is that of the third: the first has its compilation, and a machine
may be faster in the first seconds of its work than it is later. Before each
measurement comes one of the least data in memory, and the two are compared.

Writes results/bench-MACHINE-large_data.json; the files of 2,000,000 images, in
a temporary folder, take 6 GB.
"""

import json
import pathlib
import resource
import tempfile
from concurrent import futures

import harness

_USED = 20_000  # examples of an epoch
_EPOCHS = 3
_PER_FILE = 50_000
_TEST = 1_000
_LIMIT = 2 * 2**30  # bytes, of a process that reads from disk


def make(folder: pathlib.Path, count: int) -> None:
  """Writes a data set with so many training images."""
  import tensorflow_datasets as tfds

  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
      'label': tfds.features.ClassLabel(num_classes=10),
    }
  )
  folder.mkdir(parents=True)
  files = [(start, count) for start in range(0, count, _PER_FILE)]
  template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
  splits = []
  for split, lengths in (
    ('train', [min(_PER_FILE, count - start) for start, _ in files]),
    ('test', [_TEST]),
  ):
    names = [
      f'large-{split}.array_record-{i:05d}-of-{len(lengths):05d}'
      for i in range(len(lengths))
    ]
    with futures.ProcessPoolExecutor() as pool:
      sizes = pool.map(
        _write_file,
        [folder / name for name in names],
        [i * _PER_FILE for i in range(len(lengths))],
        lengths,
      )
      splits.append(
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=lengths,
          num_bytes=sum(sizes),
          filename_template=tfds.core.ShardedFileTemplate(
            data_dir=folder,
            template=template,
            dataset_name='large',
            split=split,
            filetype_suffix='array_record',
          ),
        )
      )
  tfds.folder_dataset.write_metadata(
    data_dir=folder,
    features=features,
    split_infos=splits,
    filename_template=template,
    check_data=False,
  )


def _write_file(path: pathlib.Path, start: int, count: int) -> int:
  """Writes images `start`, ... of the data set; returns their bytes."""
  import io

  import numpy as np
  from array_record.python import array_record_module
  from PIL import Image
  from tensorflow_datasets.proto import tf_example_pb2

  from kd_jax import data

  own = data.load('generated_rgb').train
  # Each record for itself: read at random, a group is read for one of it.
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:1')
  size = 0
  for index in range(start, start + count):
    turn, which = divmod(index, len(own.labels))
    png = io.BytesIO()
    # Images like those, and no two the same.
    image = np.roll(own.images[which], (turn % 32, turn // 32), axis=(0, 1))
    Image.fromarray(image).save(png, 'png', compress_level=1)
    example = tf_example_pb2.Example()
    feature = example.features.feature
    feature['image'].bytes_list.value.append(png.getvalue())
    feature['label'].int64_list.value.append(int(own.labels[which]))
    record = example.SerializeToString()
    writer.write(record)
    size += len(record)
  writer.close()
  return size


def measure(place: str, case: dict[str, str | int]) -> dict[str, float]:
  """Returns examples/s of an epoch, and MiB that the process took at most."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from configs import cifar
  from kd_jax import data
  from kd_jax.runtime import host_memory
  from kd_jax.teachers import outputs_on_disk
  from kd_jax.training import build, context, jobs, train

  if place == 'disk':
    # What the process may allocate: with more it would end.
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT, _LIMIT))
  host_memory.keep_freed_memory()
  folder = pathlib.Path(case['folder'])
  config = cifar.get_config('ideal,stride_at=stem')
  config.data.name = str(folder)
  config.train.epochs = _EPOCHS
  config = build.close_row(config, 'ideal')
  memory_gib = 0.0 if place == 'disk' else 1000.0
  shared = context.make(
    config,
    lambda name: data.load(name, data_dir=folder.parent, memory_gib=memory_gib),
  )
  dataset = shared.dataset
  count = len(dataset.train.labels)

  def logits(start, stop):
    # By example, so that both places have the same ones.
    codes = np.arange(start, stop, dtype=np.float32)[:, None]
    return np.sin(codes * np.arange(1, 11, dtype=np.float32))

  if place == 'disk':
    outputs = outputs_on_disk.Logits(
      folder.parent / 'logits',
      {'count': count},
      logits,
      num_examples=count,
      num_classes=10,
    )
  else:
    outputs = jnp.asarray(logits(0, count))
  job = context.make_job(
    config,
    shared,
    label='student',
    model=config.student,
    train=config.train,
    optim=config.optim,
    distill=config.distill,
    scaling=config.data.scaling,
    seeds=(0,),
    folder=folder.parent / place,
    identity={},
  )
  used = np.zeros(count, bool)
  used[np.random.default_rng(0).choice(count, _USED, replace=False)] = True
  job = job._replace(phases=train.make_phases(used, epochs=_EPOCHS, folds=0))
  *_, last = train.fit(
    job.programs.epochs,
    job.programs.init(jax.random.key(0)),
    jobs.source(job, dataset, {'teacher_logits': outputs}),
    job.phases,
    key=jax.random.key(0),
    settings=job.settings,
  )
  return {
    'examples_per_s': float(last.sums['count']) / last.train_s,
    'loss': float(last.sums['loss'] / last.sums['count']),
    'memory_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  }


def main() -> None:
  parser = harness.parser(__doc__, rounds=3)
  parser.add_argument(
    '--on_disk',
    type=int,
    nargs='*',
    default=[125_000, 500_000, 2_000_000],
    help='training-set sizes',
  )
  parser.add_argument(
    '--in_memory', type=int, nargs='*', default=[125_000, 500_000]
  )
  parser.add_argument('--folder', type=pathlib.Path, help='for the data')
  parser.add_argument('case', nargs='?', help='of a worker')
  args = parser.parse_args()
  if args.worker:
    print(json.dumps(measure(args.worker, json.loads(args.case))))
    return
  from kd_jax.benchmark import timing

  with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
    homes = {}
    for count in sorted({*args.on_disk, *args.in_memory}):
      homes[count] = pathlib.Path(temporary) / str(count) / 'large'
      make(homes[count], count)
      print(f'{count:,} images are there', flush=True)
    reference = 'memory', min(args.in_memory)
    runs = {
      (place, count): []
      for place, counts in (
        ('memory', args.in_memory),
        ('disk', args.on_disk),
      )
      for count in counts
    }

    def run(place, count):
      case = json.dumps({'folder': str(homes[count])})
      result = harness.in_process(__file__, f'--worker={place}', case)
      print(place, f'{count:,}', result, flush=True)
      return result

    for _ in range(args.rounds):
      for case, own in runs.items():
        if case == reference:
          continue
        before = run(*reference)
        after = run(*case)
        ratio = after['examples_per_s'] / before['examples_per_s']
        own.append(after | {'over_memory': ratio})
        runs[reference].append(before | {'over_memory': 1.0})
  losses = {(count, own[0]['loss']) for (_, count), own in runs.items()}
  assert len(losses) == len({count for count, _ in losses}), losses
  places = {}
  for (place, count), own in runs.items():
    places.setdefault(place, {})[str(count)] = {
      what: timing.quartiles([run[what] for run in own])
      for what in ('examples_per_s', 'over_memory', 'memory_mib')
    }
  harness.write(args.out_dir, 'large_data', places=places)


if __name__ == '__main__':
  main()
