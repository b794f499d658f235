"""The published teachers have the accuracy that their manifests state."""

import functools
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar, cifar_teachers, theory
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.evaluation import evaluate, predictors
from kd_jax.experiments import run_checks
from kd_jax.models import from_config
from kd_jax.runtime import files
from kd_jax.teachers import pretrained

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob('teachers/*/manifest.json'))
OF_OUTPUTS = [
  folder
  for folder in FOLDERS
  if 'train.npy' in (folder / 'manifest.json').read_text()
]
OF_WEIGHTS = [f for f in FOLDERS if pretrained.has_weights(f)]
each = functools.partial(
  pytest.mark.parametrize, 'folder', ids=lambda path: path.name
)


def test_the_recipes_teachers_are_in_the_repository():
  assert ROOT / cifar_teachers.TEACHER in OF_OUTPUTS
  assert ROOT / theory.TEACHER in OF_WEIGHTS
  assert ROOT / cifar_teachers.BEST_TEACHERS['pool'].folder in OF_WEIGHTS


@each(argvalues=OF_OUTPUTS)
def test_published_outputs_have_the_right_shape_digest_and_accuracy(folder):
  """Digests are right, and the outputs are much better than chance."""
  manifest = files.read_json(folder / 'manifest.json')
  scalings, train = {
    'cifar10': ({'cifar10', 'symmetric'}, 50_000),
    'mnist': ({'unit'}, 60_000),
  }[manifest['data']]
  # One scaling is enough where there are weights, for those of the others.
  if pretrained.has_weights(folder):
    scalings = {manifest['teacher']['scaling']}
  assert manifest['accuracy'].keys() == scalings
  for scaling, accuracy in manifest['accuracy'].items():
    logits = pretrained.read_logits(folder, manifest, scaling)
    for split, array in logits.items():
      assert array.shape == ({'train': train, 'test': 10_000}[split], 10)
      assert np.isfinite(array).all()
      assert 0.5 < accuracy[split]['accuracy'] < 1


def _dataset(manifest):
  if not (data.default_data_dir() / manifest['data']).exists():
    pytest.skip(f'{manifest["data"]} is not prepared on this machine')
  dataset = data.load(manifest['data'])
  assert dataset.digest == manifest['data_digest']
  return dataset


@each(argvalues=OF_OUTPUTS)
def test_outputs_have_the_stated_accuracy_on_the_real_labels(folder):
  manifest = files.read_json(folder / 'manifest.json')
  dataset = _dataset(manifest)
  for scaling, stated in manifest['accuracy'].items():
    logits = pretrained.read_logits(folder, manifest, scaling)
    for split in ('train', 'test'):
      _check_accuracy(
        logits[split], getattr(dataset, split).labels, stated[split]
      )


@each(
  argvalues=[
    pytest.param(folder, marks=pytest.mark.slow)
    if 'resnet' in folder.name
    else folder
    for folder in OF_WEIGHTS
  ]
)
def test_weights_have_the_stated_accuracy_on_the_real_labels(folder):
  manifest = files.read_json(folder / 'manifest.json')
  dataset = _dataset(manifest)
  model = config_lib.from_json(manifest['teacher']['model'])
  variables = pretrained.read_weights(
    folder, manifest, from_config.variables_like(model, dataset.task)
  )
  for scaling, stated in manifest['accuracy'].items():
    predict = predictors.make_predict(model, dataset.num_classes, scaling, 1000)
    logits = predict(variables, jnp.asarray(dataset.test.images))
    _check_accuracy(logits, dataset.test.labels, stated['test'])
    if pretrained.has_outputs(manifest, scaling):
      published = pretrained.read_logits(folder, manifest, scaling)['test']
      # Another processor rounds otherwise.
      np.testing.assert_allclose(published, logits, rtol=1e-2, atol=0.02)


def _check_accuracy(logits, labels, stated) -> None:
  found = evaluate.evaluate(logits, labels)
  # Rounding to half floats can change ties, and changes the loss a little.
  assert abs(found['errors'] - stated['errors']) <= 5
  assert found['nll'] == pytest.approx(stated['nll'], rel=1e-3)


@pytest.mark.parametrize(
  'recipe',
  [r for r in cifar.RECIPES if not cifar.get_config(r).teacher.retrain],
)
def test_every_recipe_that_trains_no_teacher_takes_a_published_one(recipe):
  """A recipe's teacher is the network that made the published outputs."""
  config = cifar.get_config(recipe)
  manifest = files.read_json(ROOT / config.teacher.pretrained / 'manifest.json')
  assert pretrained.is_same_network(
    manifest['teacher']['model'], config_lib.to_json(config.teacher.model)
  )
  assert (
    pretrained.has_weights(config.teacher.pretrained)
    or f'{config.teacher.outputs_scaling}-train.npy' in manifest['sha256']
  )


def test_the_network_of_a_teacher_comes_from_its_folder():
  """A recipe takes a published teacher of another network, and its scaling."""
  config = cifar.get_config('ideal')
  assert pretrained.with_network(config) is config
  config.teacher.pretrained = cifar_teachers.BEST_TEACHERS['no_pool'].folder
  config.teacher.scaling = 'unit'
  config.teacher.model.dtype = 'bfloat16'
  found, rows = run_checks.close_and_check(config)
  for section in (found.teacher, rows['ideal'].teacher):
    assert section.model.blocks == (2, 2, 2, 2)
    assert section.model.widths == (32, 64, 128, 256)
    assert not section.model.stem_pool
    assert section.model.quantization == 'float'  # The manifest lacks it.
    assert section.scaling == 'cifar10'
    # How the config computes is not a property of the teacher.
    assert section.model.dtype == 'bfloat16'
  assert config.teacher.model.block == 'bottleneck'
  for field, value in (('retrain', True), ('logits', 'none')):
    config.teacher[field] = value
    assert pretrained.with_network(config) is config
    config.teacher[field] = type(value)()
  config.teacher.pretrained = 'teachers/of-another-name'
  assert pretrained.with_network(config) is config
