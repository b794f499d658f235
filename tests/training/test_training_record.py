"""The content of a training's record: means, counts and times."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.data.dataset import Dataset, Split
from kd_jax.runtime import run_records
from kd_jax.training import plan, training_record


def test_metrics_of_an_epoch_are_means_over_its_examples():
  sums = {
    'loss': np.array(8.0),
    'kl': np.array(4.0),
    'correct': np.array(3.0),
    'count': np.array(4.0),
  }
  assert training_record.epoch_metrics(sums) == {
    'train/loss': 2.0,
    'train/kl': 1.0,
    'train/accuracy': 0.75,
  }


def _dataset():
  """Returns 8 training examples of 3 classes."""
  images = np.zeros((8, 2, 2, 1), np.uint8)
  split = Split(images, np.array([0, 1, 2, 0, 1, 0, 0, 2]))
  return Dataset('toy', split, split, 3, 'digest')


@pytest.mark.parametrize(
  'examples, num_held_out, counts',
  [
    (None, 0, [4, 2, 2]),
    (None, 2, [3, 2, 1]),
    (np.array([1, 1, 2]), 2, [0, 2, 1]),
  ],
)
def test_examples_of_each_class_are_counted(examples, num_held_out, counts):
  used = plan.Plan(examples, [], num_held_out, 4, drop_remainder=False)
  assert training_record.examples_by_class(used, _dataset()) == counts


def test_an_attack_is_evaluated_on_the_first_test_examples():
  attacked = []

  def attack(variables, images, labels):
    attacked.append((variables, len(images)))
    return jnp.eye(3)[labels]

  assert (
    training_record.robust_accuracy(attack, 'variables', _dataset(), 0) == {}
  )
  assert attacked == []
  record = training_record.robust_accuracy(attack, 'variables', _dataset(), 5)
  assert attacked == [('variables', 5)]
  assert record['robust']['accuracy'] == 1.0
  assert record['robust']['examples'] == 5
  assert record['robust']['num_steps'] == 20


def test_a_bias_is_chosen_by_labels_and_by_the_teacher():
  dataset = _dataset()
  teacher_logits = jnp.eye(3)[jnp.array([0, 0, 0, 0, 0, 0, 1, 1])]
  targets = training_record.bias_targets(dataset, teacher_logits, 3)
  np.testing.assert_array_equal(targets['labels'], [0, 0, 2])
  np.testing.assert_array_equal(targets['teacher'], [0, 1, 1])
  assert training_record.bias_targets(dataset, None, 3).keys() == {'labels'}
  # Class 2 needs more than 1 to be chosen, which only the labels ask for.
  untrained = jnp.array([[4.0, 0.0, 0.0], [4.0, 5.0, 0.0], [1.0, 0.0, 0.0]])
  metrics = training_record.biased_metrics(
    (2,),
    untrained,
    targets,
    jnp.array([[0.0, 1.0, 0.0]]),
    jnp.array([1]),
  )
  assert metrics['classes'] == [2]
  assert 1 < metrics['by']['labels']['bias'] < 4
  assert metrics['by']['teacher']['bias'] < 1
  assert metrics['by']['labels']['test']['errors'] == 1
  assert metrics['by']['teacher']['test']['errors'] == 0


def test_the_history_sums_up_the_epochs_of_one_seed(tmp_path):
  log = run_records.MetricsLog(tmp_path / 'metrics.jsonl')
  phases = ('fold0', 'fold0', 'fit')
  for seed in (0, 1):
    for epoch, phase in enumerate(phases):
      log.append(
        {
          'row': 'toy',
          'seed': seed,
          'epoch': epoch,
          'phase': phase,
          'train/hint': 5.0 - epoch,
          'train/loss': 3.0,
          'train/accuracy': 0.5,
          'eval/accuracy': 0.25 * epoch + seed,
          'time/train_s': 2.0 + epoch,
          'time/compile_s': 8.0 if epoch == 0 else 0.0,
        }
      )
  assert training_record.history(log, 'toy', 1) == {
    'time': {
      'train_s': 9.0,
      'fold_loop_s': 5.0,
      'fit_s': 4.0,
      'compile_s': 8.0,
    },
    'epochs': 3,
    'last_losses': {'hint': 3.0, 'loss': 3.0},
    'test_accuracy_by_epoch': [1.0, 1.25, 1.5],
    'test_accuracy_after': {'fold0': 1.25, 'fit': 1.5},
  }
