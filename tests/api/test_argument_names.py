"""Messages of a call name its arguments, not a config and a command line."""

import pytest

from kd_jax.api import argument_names
from kd_jax.models import pure_networks
from kd_jax.runtime import errors

_GIVEN = 'kd_jax.models.given:Six_0123456789ab'


@pytest.mark.parametrize(
  'message, expected',
  [
    ('config.train.epochs=0: bad', 'epochs=0: bad'),
    ('config.teacher.train.epochs=0', "fields['teacher.train.epochs']=0"),
    ('config.distill.method=lk', 'method=lk'),
    ('config.distill.hint.weight: -1', "fields['distill.hint.weight']: -1"),
    (f'config.student.kind={_GIVEN!r}: bad', 'model: bad'),
    (f'{_GIVEN} cannot be exported', 'the network Six cannot be exported'),
    (
      'config.data.holdout_examples=9 leaves none',
      'holding out 9 images leaves none',
    ),
    (
      'the train split of arrays has no train example of 1 of 5 classes: 0',
      'images have no example of 1 of 5 classes: 0',
    ),
    (
      'the test split of arrays has no test example of 1 of 5 classes: 0',
      'eval_data has no example of 1 of 5 classes: 0',
    ),
    ('30 % accuracy on the train split', '30 % accuracy on the images'),
    ('arrays: 1 class; expected 2', 'labels: 1 class; expected 2'),
    (
      '2 of the 6 test images are also training images',
      '2 of the 6 images of the evaluation are also training images',
    ),
    (
      'Choose another folder with --workdir',
      'Choose another folder as workdir',
    ),
    (
      'config.teacher.logits: train logits of given.npz',
      'teacher: train logits',
    ),
    ('given.npz has 10 %', 'the teacher has 10 %'),
    ('config.data.holdout_examples: 40, was 0', 'images held out: 40, was 0'),
    ('config.data.name: there is no file', 'name: there is no file'),
  ],
)
def test_a_message_is_rephrased(message, expected):
  assert argument_names.rephrase(message, hidden=('given.npz',)) == expected


def test_an_error_keeps_its_cause():
  cause = KeyError('x')
  with pytest.raises(errors.UserError, match='^seed=-1') as raised:
    with argument_names.in_errors():
      raise errors.UserError('config.first_seed=-1') from cause
  assert raised.value.__cause__ is cause


@pytest.mark.parametrize(
  'error',
  [
    MemoryError('8 GiB'),
    RuntimeError('RESOURCE_EXHAUSTED: 8 GiB'),
  ],
)
def test_a_network_without_enough_memory_says_what_to_reduce(error):
  with pytest.raises(errors.UserError) as raised:
    with argument_names.name_argument('model', (8, 8, 1)):
      raise error
  message = str(raised.value)
  assert message.startswith('model: there is too little memory')
  assert '8 GiB' in message and 'Choose a smaller batch' in message
  assert raised.value.__cause__ is error


@pytest.mark.parametrize(
  'error, expected',
  [
    (
      ValueError('bad\n shape'),
      'model: for images [B, 8, 8, 1] float32 it raised ValueError: bad shape',
    ),
    # A RuntimeError that does not concern memory.
    (
      RuntimeError('no'),
      'model: for images [B, 8, 8, 1] float32 it raised RuntimeError: no',
    ),
    (pure_networks.FunctionError('no logits'), 'model: no logits'),
    (errors.UserError('epochs=0'), 'model: epochs=0'),
  ],
)
def test_an_error_of_a_network_names_its_argument(error, expected):
  with pytest.raises(errors.UserError) as raised:
    with argument_names.name_argument('model', (8, 8, 1)):
      raise error
  assert str(raised.value) == expected
