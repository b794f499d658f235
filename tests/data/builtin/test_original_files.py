"""Original files in a folder, in every packaging, and refused files."""

import gzip
import io
import tarfile
import tracemalloc

import pytest

from kd_jax.data.builtin import file_formats, original_files
from kd_jax.data.dataset import DataError
from tests.data import toys

TGZ = 'toy-1.0.tgz'
WHEEL = 'toy-1.0-py3-none-any.whl'


def _write(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    (folder / name).write_bytes(content)


@pytest.mark.parametrize('make', [toys.idx_toy, toys.batches_toy])
@pytest.mark.parametrize('depth', ['.', 'below'])
@pytest.mark.parametrize('pack', [dict, toys.gzipped])
def test_loose_files_are_read(tmp_path, make, depth, pack):
  toy = make()
  _write(tmp_path / depth, pack(toy.files))
  assert original_files.read(tmp_path, toy.spec) == toy.files


def test_the_other_spelling_of_mnists_file_names_is_read(tmp_path, idx_toy):
  dotted = {k.replace('-idx', '.idx'): v for k, v in idx_toy.files.items()}
  assert dotted.keys() != idx_toy.files.keys()
  _write(tmp_path, dotted)
  assert original_files.read(tmp_path, idx_toy.spec) == idx_toy.files


@pytest.mark.parametrize(
  ('name', 'pack'), [(TGZ, toys.tgz), (WHEEL, toys.wheel)]
)
def test_archives_are_read(tmp_path, idx_toy, name, pack):
  content = pack(idx_toy.files)
  spec = idx_toy.with_archive(content, name)
  _write(tmp_path, {name: content})
  assert original_files.read(tmp_path, spec) == idx_toy.files
  assert original_files.read(tmp_path / name, spec) == idx_toy.files


def test_an_archive_of_sheets_is_read(tmp_path, batches_toy):
  members = toys.sheets(batches_toy)
  content = toys.tgz(members)
  spec = batches_toy.with_archive(
    content,
    TGZ,
    members={name: len(data) for name, data in members.items()},
    rebuild=file_formats.batches_from_sheets,
  )
  _write(tmp_path, {TGZ: content})
  assert original_files.read(tmp_path, spec) == batches_toy.files


@pytest.mark.faults
@pytest.mark.parametrize(
  'damage',
  [
    toys.flipped,
    lambda content: content[:-1],
    lambda content: content + b'0',
    lambda content: b'',
  ],
  ids=['flipped', 'truncated', 'longer', 'empty'],
)
@pytest.mark.parametrize('pack', [dict, toys.gzipped])
def test_one_damaged_file_is_refused_by_name(tmp_path, idx_toy, damage, pack):
  """A damaged original file: it is refused by name."""
  for victim in pack(idx_toy.files):
    files = pack(idx_toy.files)
    files[victim] = damage(files[victim])
    if pack is toys.gzipped and damage(b'ab') == b'ab0':
      continue  # gzip ignores an additional last byte, and the data is intact.
    _write(tmp_path, files)
    with pytest.raises(DataError, match=f'{victim}: '):
      original_files.read(tmp_path, idx_toy.spec)
    assert (tmp_path / victim).read_bytes() == files[victim]  # Not changed.


def test_another_data_set_with_the_same_file_names_is_refused(
  tmp_path, idx_toy
):
  toys.idx_toy(seed=1).write(tmp_path)
  with pytest.raises(DataError, match='not the original file'):
    original_files.read(tmp_path, idx_toy.spec)


def test_an_intact_copy_replaces_a_damaged_one(tmp_path, idx_toy):
  name = 'train-labels-idx1-ubyte'
  files = idx_toy.files | {name: toys.flipped(idx_toy.files[name])}
  _write(tmp_path, files)
  with pytest.raises(DataError):
    original_files.read(tmp_path, idx_toy.spec)
  _write(tmp_path / 'below', toys.gzipped(idx_toy.files))
  assert original_files.read(tmp_path, idx_toy.spec) == idx_toy.files


def test_an_archive_replaces_missing_files(tmp_path, idx_toy):
  content = toys.tgz(idx_toy.files)
  spec = idx_toy.with_archive(content, TGZ)
  idx_toy.write(tmp_path)
  (tmp_path / 't10k-labels-idx1-ubyte').unlink()
  with pytest.raises(DataError, match='t10k-labels-idx1-ubyte: missing'):
    original_files.read(tmp_path, spec)
  _write(tmp_path, {TGZ: content})
  assert original_files.read(tmp_path, spec) == idx_toy.files


def test_an_archive_with_another_digest_is_not_opened(tmp_path, idx_toy):
  content = toys.tgz(idx_toy.files)
  spec = idx_toy.with_archive(content, TGZ)
  repacked = content + b'\0'  # tarfile would still open this archive.
  _write(tmp_path, {TGZ: repacked})
  with pytest.raises(DataError, match=f'{TGZ}: .*not the known archive'):
    original_files.read(tmp_path, spec)


@pytest.mark.faults
@pytest.mark.parametrize(
  ('name', 'pack'), [(TGZ, toys.tgz), (WHEEL, toys.wheel)]
)
def test_missing_or_damaged_members_are_refused(tmp_path, idx_toy, name, pack):
  """An archive with a missing or damaged member: it is refused."""
  labels = 'train-labels-idx1-ubyte'
  good = idx_toy.files
  cases = {
    f'lacks {labels}': {k: v for k, v in good.items() if k != labels},
    f'{labels}: corrupt,': good | {labels: toys.flipped(good[labels])},
    'more than the 48 bytes': good | {labels: good[labels] + b'0'},
  }
  for reason, files in cases.items():
    content = pack(files)
    _write(tmp_path, {name: content})
    with pytest.raises(DataError, match=f'{name}: .*{reason}'):
      original_files.read(tmp_path, idx_toy.with_archive(content, name))


@pytest.mark.parametrize('name', [TGZ, WHEEL])
def test_a_damaged_archive_of_the_right_digest_is_refused(
  tmp_path, idx_toy, name
):
  content = (toys.tgz if name == TGZ else toys.wheel)(idx_toy.files)
  for damaged in (content[: len(content) // 2], b'', b'<html>' * 100):
    _write(tmp_path, {name: damaged})
    with pytest.raises(DataError, match=name):
      original_files.read(tmp_path, idx_toy.with_archive(damaged, name))


def test_broken_sheets_are_refused(tmp_path, batches_toy):
  members = toys.sheets(batches_toy)
  members['test_batch.png'] = members['test_batch.png'][:60]
  content = toys.tgz(members)
  spec = batches_toy.with_archive(
    content,
    TGZ,
    members=dict.fromkeys(members, 10_000),
    rebuild=file_formats.batches_from_sheets,
  )
  _write(tmp_path, {TGZ: content})
  with pytest.raises(DataError, match=TGZ):
    original_files.read(tmp_path, spec)


@pytest.mark.faults
@pytest.mark.parametrize('prefix', ['../../escape/', '{tmp_path}/escape/'])
@pytest.mark.parametrize(
  ('name', 'pack'), [(TGZ, toys.tgz), (WHEEL, toys.wheel)]
)
def test_member_paths_are_never_written(
  tmp_path, idx_toy, name, pack, prefix, monkeypatch
):
  """An archive with paths outside its folder: nothing is written there."""
  folder = tmp_path / 'a' / 'b'
  content = pack(idx_toy.files, prefix.format(tmp_path=tmp_path))
  _write(folder, {name: content})
  monkeypatch.chdir(folder)
  before = sorted(tmp_path.rglob('*'))
  spec = idx_toy.with_archive(content, name)
  assert original_files.read(folder, spec) == idx_toy.files
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.faults
def test_links_in_an_archive_are_not_followed(tmp_path, idx_toy):
  """An archive with a link to a secret file: it is not followed."""
  labels = 'train-labels-idx1-ubyte'
  secret = tmp_path / 'secret'
  secret.write_bytes(idx_toy.files[labels])
  buffer = io.BytesIO(
    gzip.decompress(
      toys.tgz({k: v for k, v in idx_toy.files.items() if k != labels})
    )
  )
  with tarfile.open(fileobj=buffer, mode='a') as archive:
    link = tarfile.TarInfo(labels)
    link.type, link.linkname = tarfile.SYMTYPE, str(secret)
    archive.addfile(link)
  content = gzip.compress(buffer.getvalue())
  _write(tmp_path, {TGZ: content})
  with pytest.raises(DataError, match=f'lacks {labels}'):
    original_files.read(tmp_path, idx_toy.with_archive(content, TGZ))


@pytest.mark.faults
def test_a_decompression_bomb_is_not_expanded(tmp_path, idx_toy):
  """A decompression bomb: it is not expanded."""
  size = 100 << 20
  bomb = gzip.compress(bytes(size), compresslevel=1)
  files = toys.gzipped(idx_toy.files)
  _write(tmp_path, files | {'train-labels-idx1-ubyte.gz': bomb})
  tracemalloc.start()
  with pytest.raises(DataError, match='more than the 48 bytes'):
    original_files.read(tmp_path, idx_toy.spec)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < size / 10


def test_an_empty_folder_and_no_folder(tmp_path, idx_toy):
  spec = idx_toy.with_archive(b'', TGZ)
  with pytest.raises(DataError) as caught:
    original_files.read(tmp_path, spec)
  assert all(name in str(caught.value) for name in [*idx_toy.files, TGZ])
  with pytest.raises(DataError, match='no such folder'):
    original_files.read(tmp_path / 'nowhere', spec)
