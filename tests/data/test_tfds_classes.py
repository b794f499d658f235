"""The classes that a TFDS folder names: TFDS imports their modules."""

import json
import sys

import pytest

from kd_jax import data
from kd_jax.data import tfds_classes
from kd_jax.data.builtin import tfds_canonical
from kd_jax.data.dataset import DataError
from kd_jax.data.user_data import tfds_folder
from tests.data import tfds_toys, toys

pytestmark = pytest.mark.faults


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  return tfds_toys.official(toys.idx_toy(), tmp_path_factory.mktemp('tfds'))


def _other_image(metadata):
  metadata['featuresDict']['features']['image']['pythonClassName'] = (
    'theirs_tfds.Image'
  )


def _older_format(metadata):
  metadata |= {'type': 'theirs_tfds.Image', 'content': {}}


def _inside_a_text(metadata):
  hidden = {'feature': {'type': 'theirs_tfds.Image', 'content': {}}}
  metadata['featuresDict']['features']['image'] = {
    'pythonClassName': 'tensorflow_datasets.core.features.sequence_feature.Seq',
    'jsonFeature': {'json': json.dumps(hidden)},
  }


@pytest.mark.parametrize(
  'change', [_other_image, _older_format, _inside_a_text]
)
@pytest.mark.parametrize('way', ['own', 'built-in'])
def test_code_that_a_folder_names_is_not_imported(
  folder, tmp_path, monkeypatch, change, way
):
  """A TFDS folder that names other code: it is refused and not imported."""
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  (tmp_path / 'theirs_tfds.py').write_text('raise SystemExit("run")')
  monkeypatch.syspath_prepend(str(tmp_path))
  path = tmp_path / 'features.json'
  metadata = json.loads(path.read_text())
  change(metadata)
  path.write_text(json.dumps(metadata))
  with pytest.raises(DataError, match="names the class 'theirs_tfds.Image'"):
    if way == 'own':
      tfds_folder.open_folder(tmp_path)
    else:
      tfds_canonical.read(tmp_path, (28, 28, 1))
  assert 'theirs_tfds' not in sys.modules


def test_a_folder_of_tfds_own_classes_is_read(folder):
  """A TFDS folder that names TFDS' own classes: it is read."""
  assert tfds_folder.open_folder(folder).image_feature == 'image'


def test_damaged_metadata_is_named(folder, tmp_path):
  """Damaged metadata of a TFDS folder: one line names the file."""
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  (tmp_path / 'features.json').write_text('{')
  with pytest.raises(DataError, match='features.json is no JSON'):
    tfds_folder.open_folder(tmp_path)


@pytest.mark.parametrize(
  'name', ['theirs:mnist', 'huggingface:a/b', '../a', '']
)
def test_a_name_outside_the_catalog_is_refused(tmp_path, name):
  """A TFDS name whose code would be downloaded: it is refused."""
  with pytest.raises(DataError, match='data set of the catalog of TFDS'):
    tfds_folder.prepare(name, tmp_path)


@pytest.mark.parametrize(
  'name', ['mnist', 'mnist:3.0.1', 'imagenet_resized/64x64:0.1.*', 'a/b-c+d']
)
def test_a_name_of_the_catalog_is_right(name):
  """A name of the catalog of TFDS: it is accepted."""
  tfds_classes.check_name(name)


@pytest.mark.faults
@pytest.mark.parametrize(
  'template, reason',
  [
    ('../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}', 'is outside of'),
    ('/etc/{SPLIT}-{SHARD_X_OF_Y}', 'is outside of'),
    ('{SPLIT}-{RHARD_X_OF_Y}', 'Could not format template'),
  ],
)
def test_files_that_metadata_names_lie_in_the_folder(
  folder, tmp_path, template, reason
):
  """Metadata of TFDS that names files elsewhere, or none: one line."""
  for path in folder.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  path = tmp_path / 'dataset_info.json'
  info = json.loads(path.read_text())
  for split in info['splits']:
    split['filepathTemplate'] = template
  path.write_text(json.dumps(info))
  with pytest.raises(DataError, match=reason):
    data.load(str(tmp_path))
