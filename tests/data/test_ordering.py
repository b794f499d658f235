"""The order of a user's examples, and parts of a user's data by position."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict
from PIL import Image

from kd_jax import data
from kd_jax.data import ordering, selection, subsets
from kd_jax.training import plan
from tests.data import tfds_toys

NUM_CLASSES, PER_CLASS, PER_CLASS_TEST = 5, 20, 4


@pytest.mark.parametrize('counts', [[20] * 5, [40, 7, 3], [1, 1, 100], []])
def test_every_stretch_has_its_share_of_each_class(counts):
  labels = np.repeat(np.arange(len(counts)), counts)  # Sorted by class.
  order = ordering.stratified(labels)
  np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))
  ordered = labels[order]
  for stop in range(len(labels) + 1):
    found = np.bincount(ordered[:stop], minlength=len(counts))
    share = np.asarray(counts) * stop / max(len(labels), 1)
    assert (np.abs(found - share) <= 1).all()


def test_the_order_is_the_same_each_time_and_random_within_a_class():
  labels = np.repeat(np.arange(3), 50)
  order = ordering.stratified(labels)
  np.testing.assert_array_equal(order, ordering.stratified(labels))
  of_first_class = order[labels[order] == 0]
  assert abs(np.corrcoef(of_first_class, np.arange(50))[0, 1]) < 0.3


# --- The user's data in every form. ---


class SortedToy(tfds.core.GeneratorBasedBuilder):
  """A data set that is sorted by class, as TFDS does not shuffle it."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      disable_shuffling=True,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(4, 4, 1)),
          'label': tfds.features.ClassLabel(num_classes=NUM_CLASSES),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(split) for split in ('train', 'test')
    }

  def _generate_examples(self, split):
    arrays = _sorted_arrays()
    pairs = zip(
      arrays[f'{split}_images'], arrays[f'{split}_labels'], strict=True
    )
    for i, (image, label) in enumerate(pairs):
      yield i, {'image': tfds_toys.png(image[..., 0]), 'label': int(label)}


def _sorted_arrays():
  """Returns examples sorted by class; a pixel tells each from the others."""
  arrays = {}
  for split, count in (('train', PER_CLASS), ('test', PER_CLASS_TEST)):
    labels = np.repeat(np.arange(NUM_CLASSES), count)
    images = np.zeros((len(labels), 4, 4, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    arrays |= {f'{split}_images': images, f'{split}_labels': labels}
  return arrays


def _load_folder(folder):
  arrays = _sorted_arrays()
  for split in ('train', 'test'):
    for i, (image, label) in enumerate(
      zip(arrays[f'{split}_images'], arrays[f'{split}_labels'], strict=True)
    ):
      path = folder / split / f'class_{label}' / f'{i:03d}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(image[..., 0]).save(path)
  return data.load(str(folder))


def _load_npz(folder):
  np.savez(folder / 'sorted.npz', **_sorted_arrays())
  return data.load(str(folder / 'sorted.npz'))


def _load_tfds(folder):
  return data.load('tfds:sorted_toy', data_dir=folder)


def _load_tfds_on_disk(folder):
  return data.load('tfds:sorted_toy', data_dir=folder, memory_gib=0.0)


FORMS = {
  'folder': _load_folder,
  'npz': _load_npz,
  'tfds': _load_tfds,
  'tfds_on_disk': _load_tfds_on_disk,
}


@pytest.fixture(name='sorted_data', scope='module', params=FORMS)
def _sorted_data(request, tmp_path_factory):
  """The sorted data set in one of the forms."""
  return FORMS[request.param](tmp_path_factory.mktemp(request.param))


def _select(dataset, **fields):
  section = dict(holdout_examples=0, train_examples=0, test_examples=0)
  return selection.select(dataset, ConfigDict(section | fields))


def _counts(labels):
  return np.bincount(np.asarray(labels), minlength=NUM_CLASSES).tolist()


def test_examples_keep_their_labels_and_their_places_in_the_files(sorted_data):
  arrays = _sorted_arrays()
  for split in ('train', 'test'):
    part = getattr(sorted_data, split)
    rows = part.origin.positions
    assert (part.origin.split, part.origin.size) == (split, len(rows))
    np.testing.assert_array_equal(part.images[:][:, 0, 0, 0], rows)
    np.testing.assert_array_equal(part.labels, arrays[f'{split}_labels'][rows])


@pytest.mark.parametrize(
  'fields, train, test',
  [
    ({'train_examples': 10, 'test_examples': 5}, 2, 1),
    ({'holdout_examples': 20}, 16, 4),
    (
      {'holdout_examples': 50, 'train_examples': 5, 'test_examples': 25},
      1,
      5,
    ),
  ],
)
def test_a_part_of_sorted_data_has_every_class(
  sorted_data, fields, train, test
):
  selected = _select(sorted_data, **fields)
  assert _counts(selected.train.labels) == [train] * NUM_CLASSES
  assert _counts(selected.test.labels) == [test] * NUM_CLASSES
  # Examples that are held out of the training split say so.
  source = 'train' if 'holdout_examples' in fields else 'test'
  assert selected.test.origin.split == source
  np.testing.assert_array_equal(
    selected.test.images[:][:, 0, 0, 0], selected.test.origin.positions
  )


def _plan(dataset, **fields):
  section = dict(
    subset='all',
    holdout_fraction=0.0,
    epochs=1,
    folds=0,
    batch_size=8,
    drop_remainder=False,
  )
  return plan.make_plan(ConfigDict(section | fields), dataset)


def test_a_fraction_held_out_of_sorted_data_has_every_class(sorted_data):
  training_plan = _plan(sorted_data, holdout_fraction=0.2)
  (phase,) = training_plan.phases
  labels = np.asarray(sorted_data.train.labels)
  assert _counts(labels[phase.mask]) == [16] * NUM_CLASSES
  assert _counts(labels[~phase.mask]) == [4] * NUM_CLASSES


def test_folds_of_sorted_data_have_every_class(sorted_data):
  *folds, _ = _plan(sorted_data, folds=4).phases
  labels = np.asarray(sorted_data.train.labels)
  for fold in folds:
    assert _counts(labels[fold.mask]) == [15] * NUM_CLASSES


@pytest.mark.parametrize('subset', ['first7', 'upto7', 'as_published'])
def test_subsets_of_sorted_data_have_every_class(sorted_data, subset):
  indices = _plan(sorted_data, subset=subset).example_indices
  counts = _counts(np.asarray(sorted_data.train.labels)[indices])
  assert len(set(counts)) == 1 and counts[0] > 0


def test_all_forms_have_one_order(tmp_path):
  rows = {}
  for form, load in FORMS.items():
    (tmp_path / form).mkdir()
    rows[form] = load(tmp_path / form).train.origin.positions
  for form in FORMS:
    np.testing.assert_array_equal(rows[form], rows['folder'])


def test_results_of_data_in_the_order_of_its_files_are_not_reused(sorted_data):
  assert sorted_data.is_users
  assert sorted_data.digest != sorted_data.files_digest


@pytest.mark.parametrize('name', data.names()[-2:])
def test_built_in_data_keeps_the_order_of_its_files(name):
  dataset = data.load(name)
  assert not dataset.is_users
  for split in ('train', 'test'):
    origin = getattr(dataset, split).origin
    np.testing.assert_array_equal(origin.positions, np.arange(origin.size))


def test_small_classes_are_used_whole():
  labels = np.array([1, 0, 0, 0, 1, 0])
  find = data.find_subset('upto3')
  np.testing.assert_array_equal(find(labels), [1, 2, 3, 0, 4])
  with pytest.raises(data.DataError, match='class 1 has 2'):
    data.find_subset('first3')(labels)
  np.testing.assert_array_equal(
    subsets.first_per_class(labels, per_class=2), [1, 2, 0, 4]
  )
