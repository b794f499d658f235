"""The examples of the documents that call kd_jax with arrays."""

import functools
from unittest import mock

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import kd_jax
from kd_jax.api import own_data
from tests import documents, helpers

RNG = np.random.RandomState(0)
LABELS = np.arange(96) % 10
IMAGES = RNG.randint(0, 50, (96, 8, 8, 1)).astype(np.uint8)
IMAGES[np.arange(96), LABELS % 8] += 100  # A bright row in each image.
LOGITS = (4 * np.eye(10)[LABELS]).astype(np.float32)


def _run(name, **given):
  """Runs an example for two epochs; returns its names."""
  quick = functools.partial(_distill, distill=kd_jax.distill)
  with mock.patch.object(kd_jax, 'distill', quick, create=True):
    exec(documents.EXAMPLES[name], given)
  return given


def _distill(*args, distill, **kwargs):
  return distill(*args, **kwargs | {'epochs': 2})


def test_the_example_of_the_readme_trains_and_exports(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  with helpers.timed_briefly():
    names = _run(
      'distill',
      images=IMAGES,
      labels=LABELS,
      logits=LOGITS,
      test_images=IMAGES[:20],
      test_labels=LABELS[:20],
    )
  assert names['student'].evaluated_on == '20 images of eval_data'
  assert 0 <= float(capsys.readouterr().out.splitlines()[0]) <= 1
  assert names['probabilities'].shape == (20, 10)
  loaded = kd_jax.load(tmp_path / 'student')
  np.testing.assert_allclose(
    loaded.predict(IMAGES[:20]), names['probabilities'], rtol=1e-4, atol=1e-6
  )


def test_the_example_of_a_teacher_with_a_network_trains():
  weights = jnp.asarray(RNG.normal(size=(64, 10)), jnp.float32)
  names = _run(
    'store-outputs',
    kd_jax=kd_jax,
    images=IMAGES,
    labels=LABELS,
    apply=lambda w, images: images.reshape(images.shape[0], -1) @ w,
    variables=weights,
    module=nn.Sequential([_flatten, nn.Dense(10)]),
  )
  assert names['student'].metrics['accuracy'] <= 1


@pytest.mark.slow
def test_a_real_teacher_is_trained_restored_and_distilled(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  eval_data = (IMAGES[:20], LABELS[:20])
  names = tuple('abcdefghij')
  loaded = own_data.LoadedData(IMAGES, LABELS, eval_data, names)
  monkeypatch.setattr(kd_jax, 'load_data', lambda name: loaded, raising=False)
  with helpers.timed_briefly():
    first = _run('teacher-to-student')
  shown = [line.partition(':')[0] for line in capsys.readouterr().out.split()]
  assert shown[0] == 'teacher' and 'distilled' in shown
  assert 'train/kl' in first['student'].history[0]
  assert 'train/kl' not in first['control'].history[0]
  np.testing.assert_allclose(
    first['probabilities'], first['student'].predict(IMAGES[:20]), atol=1e-5
  )
  # The second time, the weights are restored.
  start, _ = documents.EXAMPLES['teacher-to-student'].split('call = dict(')
  again = {}
  exec(start.replace('train_teacher(Teacher())', '1 / 0'), again)
  np.testing.assert_array_equal(
    again['teacher'].logits, first['teacher'].logits
  )


def _flatten(images, **_):
  return images.reshape(images.shape[0], -1)
