"""The recipe for the user's data: its defaults by size and count."""

import json

import pytest

from configs import user_data
from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.config_checks import field_checks, traced_checks
from kd_jax.data.user_data import survey
from kd_jax.runtime import errors


@pytest.fixture(name='get_config')
def _get_config(monkeypatch):
  """Returns a function from images and arguments to the recipe's config."""

  def get(count=2000, size=(32, 32), arg='', **fields):
    looked = survey.Survey(count, True, [size], False, True)
    looked = looked._replace(**fields)
    monkeypatch.setattr(survey, 'survey', lambda name: looked)
    return user_data.get_config(f'distill,data=pictures{arg}')

  return get


def _rows(config):
  rows = {row: config_lib.close_row(config, row) for row in config.rows}
  for row in rows.values():
    field_checks.check_fields(row)
  return rows


@pytest.mark.parametrize('count', [2, 20, 300, 2000, 50_000, 1_000_000])
@pytest.mark.parametrize('side', [6, 16, 17, 28, 32, 64, 96, 224])
def test_every_size_and_count_is_valid(get_config, count, side):
  config = get_config(count, (side, side))
  json.dumps(config.to_dict())
  rows = _rows(config)
  batch_size = rows['distilled'].train.batch_size
  assert 1 <= batch_size <= count
  train = config.teacher.train.to_dict()
  assert all(row.train.to_dict() == train for row in rows.values())


@pytest.mark.parametrize('size', [(17, 17), (28, 28), (64, 48), (224, 224)])
def test_networks_fit_the_images(get_config, size):
  for row in _rows(get_config(size=size)).values():
    traced_checks.trace_networks(row, data.ImageTask(10, (*size, 3)))


@pytest.mark.parametrize(
  'count, batch_size, epochs',
  [
    (5, 5, 100),
    (60, 8, 100),
    (320, 8, 50),
    (2000, 32, 32),
    (10_000, 128, 26),
    (50_000, 128, 20),
  ],
)
def test_more_images_mean_larger_batches_and_fewer_epochs(
  get_config, count, batch_size, epochs
):
  train = get_config(count).train
  assert (train.batch_size, train.epochs) == (batch_size, epochs)


def test_the_rate_grows_with_the_batch(get_config):
  small, large = (get_config(count).optim for count in (2000, 10_000))
  assert small.learning_rate == 1e-3
  assert large.learning_rate == 2e-3


@pytest.mark.parametrize(
  'sizes, image_size',
  [
    ([(28, 28)], 0),
    ([(224, 100)], 0),
    ([(225, 225)], 224),
    ([(480, 640), (640, 480), (100, 90)], 224),
    ([(100, 90), (60, 70), (70, 80)], 64),
    ([(9, 9), (10, 10)], 16),
  ],
)
def test_images_of_several_sizes_are_resized(get_config, sizes, image_size):
  assert get_config(sizes=sizes).data.image_size == image_size
  assert get_config(sizes=sizes, can_resize=False).data.image_size == 0
  asked = get_config(sizes=sizes, arg=',image_size=48')
  assert asked.data.image_size == 48


@pytest.mark.parametrize(
  'size, is_gray, arg, augmentation',
  [
    ((8, 8), False, '', 'none'),
    ((28, 28), True, '', 'jitter'),
    ((32, 32), False, '', 'crop_and_flip'),
    ((96, 96), False, '', 'resized_crop_and_flip'),
    ((32, 32), False, ',teacher=mine:teacher', 'crop_and_flip'),
    ((32, 32), False, ',teacher=logits.npz', 'none'),
  ],
)
def test_augmentation_suits_images_and_teacher(
  get_config, size, is_gray, arg, augmentation
):
  config = get_config(size=size, is_gray=is_gray, arg=arg)
  assert config.train.augmentation == augmentation
  assert config.teacher.train.augmentation == augmentation


@pytest.mark.parametrize(
  'count, held_out', [(10, 2), (2000, 400), (1_000_000, 10_000)]
)
def test_a_part_is_held_out_without_a_test_split(get_config, count, held_out):
  assert get_config(count).data.holdout_examples == 0
  config = get_config(count, has_test=False)
  assert config.data.holdout_examples == held_out


def test_the_control_learns_from_labels_alone(get_config):
  rows = _rows(get_config(arg=',alpha=0.75,temperature=2.0,method=dkd'))
  distilled, labels = rows['distilled'].distill, rows['labels'].distill
  assert (distilled.ce_weight, distilled.kd_weight) == (0.25, 0.75)
  assert (distilled.method, distilled.temperature) == ('dkd', 2)
  assert (labels.ce_weight, labels.kd_weight) == (1, 0)


def test_the_argument_teacher_names_a_file_or_a_function(get_config):
  config = get_config(arg=',teacher=logits.npy')
  assert (config.teacher.logits, config.teacher.module) == ('logits.npy', '')
  config = get_config(arg=',teacher=mine:teacher')
  assert (config.teacher.logits, config.teacher.module) == ('', 'mine:teacher')


def test_the_name_tells_data_and_arguments(get_config):
  arg = ',teacher=a/my logits.npz,alpha=0.5,image_size=64,smoke'
  names = [get_config(arg=a).name for a in ('', arg)]
  assert names == [
    'distill-pictures',
    'distill-pictures-my_logits-alpha_0.5-image_size_64-smoke',
  ]


@pytest.mark.parametrize(
  'arg, message',
  [
    (None, 'needs your data: expected .*data=FOLDER'),
    ('distill,data=x,alpha=0.0', 'alpha=0: expected the weight'),
    ('distill,data=x,alpha=1.5', 'alpha=1.5: expected the weight'),
    (
      'distill,data=nothing',
      'data=nothing: there is no such folder; expected FILE.npz',
    ),
    ('distil', "unknown recipe 'distil'"),
    # It names the method of a published protocol, which this recipe has not.
    ('distill,data=x,method=response', "there is no method 'response'"),
  ],
)
def test_mistakes_in_arguments_are_named(arg, message):
  with pytest.raises(errors.UserError, match=message):
    user_data.get_config(arg)


def test_an_unknown_teacher_is_refused(get_config):
  with pytest.raises(errors.UserError, match='teacher=mine.txt: expected LOG'):
    get_config(arg=',teacher=mine.txt')
