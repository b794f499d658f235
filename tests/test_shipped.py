"""The teachers whose outputs come with the project are what they say."""

import pathlib

import numpy as np
import pytest

from configs import cifar
from kd_jax import build, data, evaluate, records, teacher, teachers

ROOT = pathlib.Path(__file__).parents[1]
LENGTHS = {'train': 50_000, 'test': 10_000}  # All are of CIFAR-10.
FOLDERS = sorted(path.parent for path in ROOT.glob('teachers/*/manifest.json'))


def test_there_is_one():
  assert ROOT / cifar.TEACHER in FOLDERS


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_outputs_are_whole(folder):
  """Digests are right, and a network that knows something made them."""
  manifest = records.read_json(folder / 'manifest.json')
  assert manifest['accuracy'].keys() >= {'cifar10', 'symmetric'}
  for scaling, accuracy in manifest['accuracy'].items():
    _, logits = teacher.load_shipped(folder, scaling, manifest['data_digest'])
    for split, array in logits.items():
      assert array.shape == (LENGTHS[split], 10)
      assert np.isfinite(array).all()
      assert 0.5 < accuracy[split]['accuracy'] < 1


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.name)
def test_outputs_have_the_stated_accuracy_on_the_real_labels(folder):
  manifest = records.read_json(folder / 'manifest.json')
  if not (data.default_data_dir() / manifest['data']).exists():
    pytest.skip(f'{manifest["data"]} is not prepared on this machine')
  dataset = data.load(manifest['data'])
  for scaling, stated in manifest['accuracy'].items():
    _, logits = teacher.load_shipped(folder, scaling, dataset.digest)
    for split in ('train', 'test'):
      labels = getattr(dataset, split).labels
      found = evaluate.evaluate(logits[split], labels)
      # Half floats may turn a tie, and round the others.
      assert abs(found['errors'] - stated[split]['errors']) <= 5
      assert found['nll'] == pytest.approx(stated[split]['nll'], rel=1e-3)


@pytest.mark.parametrize(
  'recipe',
  [r for r in cifar.RECIPES if not cifar.get_config(r).teacher.retrain],
)
def test_every_recipe_that_trains_no_teacher_takes_them(recipe):
  """A recipe's teacher is the network that the outputs are of."""
  config = cifar.get_config(recipe)
  manifest = records.read_json(ROOT / config.teacher.shipped / 'manifest.json')
  assert teachers.same_network(
    manifest['teacher']['model'], build.plain(config.teacher.model)
  )
  assert f'{config.teacher.outputs_scaling}-train.npy' in manifest['sha256']
