"""Data sets of the user's own, and what is wrong with them."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from kd_jax import data
from kd_jax.data import preparation_lock
from tests.data import tfds_toys


def _arrays(rng, *, shape=(4, 5, 3), train=6, test=3, num_classes=3):
  return {
    'train_images': rng.integers(256, size=(train, *shape), dtype=np.uint8),
    'train_labels': np.arange(train) % num_classes,
    'test_images': rng.integers(256, size=(test, *shape), dtype=np.uint8),
    'test_labels': np.arange(test) % num_classes,
  }


@pytest.fixture
def arrays():
  return _arrays(np.random.default_rng(0))


def _save(path, arrays):
  np.savez(path, **arrays)
  return str(path)


def _save_folder(folder, arrays, *, suffix='png', names=('ant', 'bee', 'cat')):
  for split in ('train', 'test'):
    labels = arrays[f'{split}_labels']
    for i, (image, label) in enumerate(
      zip(arrays[f'{split}_images'], labels, strict=True)
    ):
      path = folder / split / names[label] / f'{i:03d}.{suffix}'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image.squeeze()).save(path)
  return str(folder)


def test_arrays_of_a_file_are_the_data_set(arrays, tmp_path):
  dataset = data.load(_save(tmp_path / 'mine.npz', arrays))
  assert (dataset.name, dataset.num_classes) == ('mine', 3)
  np.testing.assert_array_equal(dataset.test.images, arrays['test_images'])
  np.testing.assert_array_equal(dataset.train.labels, arrays['train_labels'])
  assert dataset.train.labels.dtype == np.int32
  arrays['train_images'][0, 0, 0, 0] ^= 1
  other = data.load(_save(tmp_path / 'mine.npz', arrays))
  assert other.digest != dataset.digest


def test_gray_arrays_and_columns_of_labels_get_their_shape(tmp_path):
  arrays = _arrays(np.random.default_rng(0), shape=(4, 5))
  arrays['train_labels'] = arrays['train_labels'][:, None]
  dataset = data.load(_save(tmp_path / 'gray.npz', arrays))
  assert dataset.train.images.shape == (6, 4, 5, 1)
  assert dataset.train.labels.shape == (6,)


def _without_labels(arrays):
  del arrays['train_labels']


def _floats(arrays):
  arrays['test_images'] = arrays['test_images'] / 255


def _negative(arrays):
  arrays['train_labels'][4] = -1


def _too_few(arrays):
  arrays['train_labels'] = arrays['train_labels'][:5]


def _other_size(arrays):
  arrays['test_images'] = arrays['test_images'][:, :3]


def _from_one_on(arrays):
  arrays['train_labels'] += 1
  arrays['test_labels'] += 1


def _never_trained(arrays):
  arrays['test_labels'][2] = 255


def _beyond_int32(arrays):
  arrays['train_labels'][2] = 2**32 + 1


def _objects(arrays):
  arrays['train_labels'] = np.array([{}] * 6, dtype=object)


@pytest.mark.faults
@pytest.mark.parametrize(
  'spoil, message',
  [
    (_without_labels, 'lacks train_labels; it holds train_images'),
    (_floats, r'test_images are float64 \[3, 4, 5, 3\]; expected uint8'),
    (_negative, r'train_labels\[4\] is -1'),
    (_from_one_on, r'train_labels\[0\] is 1, and none is 0; expected whole'),
    (_never_trained, r'test_labels\[2\] is 255; expected whole .* 0 to 2'),
    (_beyond_int32, r'train_labels\[2\] is 4294967297; expected classes'),
    (_too_few, r'train_labels are int64 \[5\]; expected whole numbers \[6\]'),
    (_other_size, r'train_images are \(4, 5, 3\), test_images \(3, 5, 3\)'),
    (_objects, 'not a sound .npz file: .*allow_pickle'),
  ],
)
def test_what_is_wrong_with_arrays_is_named(arrays, tmp_path, spoil, message):
  spoil(arrays)
  with pytest.raises(data.DataError, match=message):
    data.load(_save(tmp_path / 'mine.npz', arrays))


@pytest.mark.faults
def test_a_file_that_is_no_npz_is_refused(tmp_path):
  sound = _save(tmp_path / 'sound.npz', _arrays(np.random.default_rng(0)))
  content = bytearray(pathlib.Path(sound).read_bytes())
  content[len(content) // 2] ^= 0xFF
  (tmp_path / 'damaged.npz').write_bytes(content)
  with pytest.raises(data.DataError, match='damaged.npz is not a sound .npz'):
    data.load(str(tmp_path / 'damaged.npz'))
  (tmp_path / 'mine.npz').write_bytes(b'PK\x03\x04 nothing')
  with pytest.raises(data.DataError, match='not a sound .npz file'):
    data.load(str(tmp_path / 'mine.npz'))
  with pytest.raises(data.DataError, match='there is no file'):
    data.load(str(tmp_path / 'other.npz'))


def test_a_folder_of_images_is_the_data_set(arrays, tmp_path):
  dataset = data.load(_save_folder(tmp_path / 'insects', arrays))
  assert dataset.name == 'insects'
  assert dataset.class_names == ('ant', 'bee', 'cat')
  order = np.argsort(arrays['train_labels'], kind='stable')
  np.testing.assert_array_equal(
    dataset.train.images, arrays['train_images'][order]
  )
  np.testing.assert_array_equal(dataset.train.labels, [0, 0, 1, 1, 2, 2])
  assert len(dataset.test.labels) == 3


def test_what_is_hidden_is_no_class_and_no_image(arrays, tmp_path):
  folder = _save_folder(tmp_path / 'insects', arrays)
  for split in ('train', 'test'):
    (tmp_path / 'insects' / split / '.ipynb_checkpoints').mkdir()
    (tmp_path / 'insects' / split / 'ant' / '._000.png').write_text('mac')
  dataset = data.load(folder)
  assert dataset.class_names == ('ant', 'bee', 'cat')
  assert len(dataset.train.labels) == 6


def test_files_of_other_kinds_are_left_out_with_a_warning(
  arrays, tmp_path, caplog
):
  folder = _save_folder(tmp_path / 'insects', arrays)
  for name in ('1.webp', '0.bmp'):
    (tmp_path / 'insects' / 'train' / 'bee' / name).write_text('')
  assert len(data.load(folder).train.labels) == 6
  expected = 'train: 2 files and folders are no PNG or JPEG, and left out, such'
  assert expected in caplog.text and 'bee/0.bmp' in caplog.text


@pytest.mark.parametrize('split', ['train', 'test'])
def test_images_are_of_colors_if_any_is(tmp_path, split):
  arrays = _arrays(np.random.default_rng(0), shape=(4, 5, 1))
  folder = _save_folder(tmp_path / 'gray', arrays)
  Image.new('LA', (5, 4)).save(tmp_path / 'gray' / 'train' / 'ant' / '000.png')
  assert data.load(folder).train.images.shape == (6, 4, 5, 1)
  (path,) = (tmp_path / 'gray' / split / 'cat').glob('*2.png')
  Image.new('RGB', (5, 4), (9, 8, 7)).save(path)
  dataset = data.load(folder)
  assert dataset.train.images.shape == (6, 4, 5, 3)
  gray = dataset.train.images[2]  # The first bee.
  np.testing.assert_array_equal(
    gray, np.repeat(arrays['train_images'][1], 3, -1)
  )


def test_gray_files_have_one_channel(tmp_path):
  arrays = _arrays(np.random.default_rng(0), shape=(4, 5, 1))
  dataset = data.load(_save_folder(tmp_path / 'gray', arrays))
  assert dataset.train.images.shape == (6, 4, 5, 1)


def test_images_are_cropped_and_resized_on_request(arrays, tmp_path):
  folder = _save_folder(tmp_path / 'insects', arrays, suffix='jpg')
  odd = tmp_path / 'insects' / 'train' / 'ant' / '999.png'
  Image.new('RGB', (30, 10), (255, 0, 0)).save(odd)
  with pytest.raises(data.DataError, match='999.png is 30 x 10.*5 x 4.*image_'):
    data.load(folder)
  dataset = data.load(folder, image_size=8)
  assert dataset.train.images.shape == (7, 8, 8, 3)
  np.testing.assert_array_equal(
    dataset.train.images[2], np.full((8, 8, 3), (255, 0, 0), np.uint8)
  )


def _no_test(folder):
  (folder / 'test').rename(folder / 'exam')


def _no_images(folder):
  for path in (folder / 'test').rglob('*.png'):
    path.unlink()


def _new_class(folder):
  (folder / 'test' / 'dog').mkdir()


def _damaged(folder):
  path = folder / 'train' / 'bee' / '001.png'
  path.write_bytes(path.read_bytes()[:40])


def _no_bees(folder):
  for path in (folder / 'train' / 'bee').iterdir():
    path.unlink()


def _deep(folder):
  pixels = np.zeros((4, 5), np.uint16)
  Image.fromarray(pixels).save(folder / 'train' / 'cat' / '000.png')


def _bomb(folder):
  Image.new('1', (20_000, 10_000)).save(folder / 'train' / 'cat' / '999.png')


@pytest.mark.faults
@pytest.mark.parametrize(
  'spoil, message',
  [
    (_no_test, r'holds no train/ and test/ \(or val/\)'),
    (_no_images, 'test holds no images'),
    (_new_class, 'test has classes that train/ has not: dog'),
    (_damaged, 'bee/001.png: '),
    (_no_bees, r'train/bee holds no images: expected \*.png'),
    (_deep, 'cat/000.png: has more than 8 bits'),
    (_bomb, 'cat/999.png: .*decompression bomb'),
  ],
)
def test_what_is_wrong_with_a_folder_is_named(arrays, tmp_path, spoil, message):
  folder = _save_folder(tmp_path / 'insects', arrays)
  spoil(tmp_path / 'insects')
  with pytest.raises(data.DataError, match=message):
    data.load(folder)


class ToyInsects(tfds.core.GeneratorBasedBuilder):
  """A data set that TFDS knows by name."""

  VERSION = tfds.core.Version('1.0.0')
  ARRAYS = _arrays(np.random.default_rng(1))

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'photo': tfds.features.Image(shape=(None, None, 3)),
          'thumbnail': tfds.features.Image(shape=(None, None, 3)),
          'kind': tfds.features.ClassLabel(names=['ant', 'bee', 'cat']),
        }
      ),
      supervised_keys=('photo', 'kind'),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      'train': self._generate_examples('train'),
      'validation': self._generate_examples('test'),
    }

  def _generate_examples(self, split):
    for i, image in enumerate(self.ARRAYS[f'{split}_images']):
      png = tfds_toys.png(image)
      yield (
        i,
        {
          'photo': png,
          'thumbnail': tfds_toys.png(image[:1]),
          'kind': int(self.ARRAYS[f'{split}_labels'][i]),
        },
      )


def test_a_name_of_tfds_is_prepared_and_read(tmp_path):
  dataset = data.load('tfds:toy_insects', data_dir=tmp_path)
  assert dataset.name == 'toy_insects'
  assert dataset.class_names == ('ant', 'bee', 'cat')
  expected = ToyInsects.ARRAYS['train_images']
  # TFDS has an order of its own, and it is the same each time.
  by_content = lambda images: sorted(image.tobytes() for image in images)
  assert by_content(dataset.train.images) == by_content(expected)
  for image, label in zip(
    dataset.train.images, dataset.train.labels, strict=True
  ):
    (index,) = (i for i, own in enumerate(expected) if (own == image).all())
    assert label == ToyInsects.ARRAYS['train_labels'][index]
  prepared = data.load(str(tmp_path / 'toy_insects' / '1.0.0'))
  assert (prepared.name, prepared.digest) == (dataset.name, dataset.digest)


def test_images_that_are_left_on_disk_are_those_of_memory(tmp_path):
  load = lambda **options: data.load(
    'tfds:toy_insects', data_dir=tmp_path, **options
  )
  assert load().digest == load(memory_gib=0.0).digest
  assert load().digest != load(image_size=4).digest
  memory, disk = load().train, load(memory_gib=0.0).train
  assert isinstance(memory.images, np.ndarray)
  assert not isinstance(disk.images, np.ndarray)
  assert disk.images.shape == memory.images.shape
  assert disk.images.nbytes == memory.images.nbytes
  np.testing.assert_array_equal(disk.labels, memory.labels)
  order = np.array([3, 0, 0, 5, 1])
  np.testing.assert_array_equal(disk.images[order], memory.images[order])
  np.testing.assert_array_equal(disk.images[1:4], memory.images[1:4])
  parts = list(disk.images.batches(order, 2))
  assert [len(part) for part in parts] == [2, 2, 1]
  np.testing.assert_array_equal(np.concatenate(parts), memory.images[order])
  np.testing.assert_array_equal(disk.images.part(1, 3)[:], memory.images[1:3])
  # Labels are read once.
  (cached,) = (tmp_path / '.kd_jax').glob('train-labels-*.npz')
  with np.load(cached) as stored:
    digest = stored['digest']
  np.savez(cached, labels=memory.labels[::-1], digest=digest)
  assert (load(memory_gib=0.0).train.labels == memory.labels[::-1]).all()
  # And again if what is kept is damaged, or the files are not those they were.
  damaged = bytearray(cached.read_bytes())
  damaged[damaged.index(memory.labels[::-1].tobytes())] ^= 0x01
  for content in (b'cut', damaged):
    cached.write_bytes(content)
    np.testing.assert_array_equal(
      load(memory_gib=0.0).train.labels, memory.labels
    )
  np.savez(cached, labels=memory.labels[::-1], digest=digest)
  os.utime(next(tmp_path.rglob('*train.array_record*')), (0, 0))
  np.testing.assert_array_equal(
    load(memory_gib=0.0).train.labels, memory.labels
  )


def test_what_tfds_has_prepared_is_not_locked(tmp_path, monkeypatch):
  data.load('tfds:toy_insects', data_dir=tmp_path)

  def refuse(*args):
    raise OSError('a read-only folder')

  monkeypatch.setattr(preparation_lock, 'exclusive', refuse)
  assert len(data.load('tfds:toy_insects', data_dir=tmp_path).test.labels) == 3


def test_a_name_that_tfds_does_not_know_is_an_error(tmp_path):
  with pytest.raises(data.DataError, match="TFDS cannot prepare 'none_such'"):
    data.load('tfds:none_such', data_dir=tmp_path)


def test_sizes_of_data_sets_that_have_their_own_are_refused(arrays, tmp_path):
  for name in ('generated', _save(tmp_path / 'mine.npz', arrays)):
    with pytest.raises(data.DataError, match='image_size'):
      data.load(name, image_size=16)
