"""Runs of configs/user_data.py, from the user's files to the report."""

import shlex

import numpy as np
import pytest
from PIL import Image

from configs import user_data
from kd_jax import data
from kd_jax.training import context
from tests import documents, helpers

NUM_CLASSES = 3


def _split(count):
  """Returns noisy images of bright rows, and their labels."""
  rng = np.random.default_rng(count)
  labels = np.arange(count) % NUM_CLASSES
  images = rng.integers(90, size=(count, 6, 6), dtype=np.uint8)
  images[np.arange(count), labels] += 150
  return images, labels


def _save_npz(folder):
  arrays = {}
  for split, count in (('train', 48), ('test', 24)):
    arrays[f'{split}_images'], arrays[f'{split}_labels'] = _split(count)
  np.savez(folder / 'own.npz', **arrays)
  return folder / 'own.npz'


def _save_folder(folder):
  """Saves images of several sizes, without a test split."""
  for i, (image, label) in enumerate(zip(*_split(60), strict=True)):
    path = folder / 'own' / 'train' / 'abc'[label] / f'{i:03d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 18 + i % 2
    large = Image.fromarray(image).resize(
      (side, side), Image.Resampling.NEAREST
    )
    large.save(path)
  return folder / 'own'


def _save_logits(folder):
  onehot = 5 * np.eye(NUM_CLASSES, dtype=np.float32)
  logits = {
    name: onehot[_split(n)[1]] for name, n in (('train', 48), ('test', 24))
  }
  np.savez(folder / 'logits.npz', **logits)
  return folder / 'logits.npz'


@pytest.mark.parametrize(
  'has_logits', [pytest.param(False, marks=pytest.mark.slow), True]
)
def test_the_student_learns_and_stands_beside_its_control(tmp_path, has_logits):
  arg = f'distill,data={_save_npz(tmp_path)},seeds=1'
  if has_logits:
    arg += f',teacher={_save_logits(tmp_path)}'
  config = user_data.get_config(arg)
  config.benchmark.enabled = False
  config.teacher.model.hidden = (32,)
  config.teacher.train.epochs = config.train.epochs = 30
  config.teacher.optim.learning_rate = config.optim.learning_rate = 0.01
  record = helpers.run(config, tmp_path)
  accuracy = {s['row']: s['test']['accuracy'] for s in record['students']}
  assert accuracy.keys() == {'distilled', 'labels'}
  assert min(accuracy.values()) > 0.9  # Chance: 1/3.
  assert record['config']['train']['batch_size'] == 8
  assert ('source' in record['teacher']) == has_logits
  report = (tmp_path / 'run' / 'report.md').read_text()
  assert 'paper %' not in report and '| distilled ' in report


def test_a_folder_of_images_of_several_sizes_is_held_out_and_resized(tmp_path):
  config = user_data.get_config(f'distill,data={_save_folder(tmp_path)}')
  dataset = context.make_context(config, _load(config)).dataset
  assert dataset.task == (NUM_CLASSES, (16, 16, 1))
  assert (len(dataset.train.labels), len(dataset.test.labels)) == (48, 12)


def _load(config):
  return lambda name: data.load(
    name, image_size=config.data.image_size, needs_test=False
  )


@pytest.mark.slow
def test_the_command_of_the_documents_runs(tmp_path):
  command = documents.EXAMPLES['data']
  command = command.replace('FOLDER', f'{_save_folder(tmp_path)},smoke')
  python, program, *args = shlex.split(command)
  assert (python, program) == ('python', 'launch.py')
  result = helpers.launch_here(
    *args,
    '--config.train.batch_size=16',
    '--config.teacher.model.hidden=(8,)',
    '--config.benchmark.enabled=false',
    f'--runs_dir={tmp_path}',
    f'--workdir={tmp_path}/run',
  )
  assert result.returncode == 0, result.stderr
  assert '| distilled ' in result.stdout and '| labels ' in result.stdout
  assert (tmp_path / 'run' / 'report.md').exists()
