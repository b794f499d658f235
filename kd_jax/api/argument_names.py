"""Rewrites messages: arguments of a call instead of config fields."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence

from kd_jax.models.pure_networks import FunctionError
from kd_jax.runtime import errors

# Arguments that have the name of their field.
_SAME = (
  'epochs|batch_size|learning_rate|augmentation|method|temperature|scaling|'
  'image_size'
)
# Patterns of messages for the command line, and what a call knows instead.
# Patterns come before more general ones.
_WORDS = (
  (r"config\.student\.kind='kd_jax\.models\.given:[^']*'", 'model'),
  (r"config\.teacher\.module='kd_jax\.models\.given:[^']*'", 'teacher'),
  (r'kd_jax\.models\.given:(\w+)_[0-9a-f]{12}', r'the network \1'),
  (
    r'config\.data\.holdout_examples=(\d+) leaves',
    r'holding out \1 images leaves',
  ),
  (r'config\.data\.holdout_examples=\d+', 'eval_data'),
  (r'config\.data\.holdout_examples', 'images held out'),
  (r'the train split of arrays has no train example', 'images have no example'),
  (r'the test split of arrays has no test example', 'eval_data has no example'),
  (r'the train split of arrays', 'the images'),
  (r'the test split of arrays', 'the images of the evaluation'),
  (r'accuracy on the train split', 'accuracy on the images'),
  (r'accuracy on the test split', 'accuracy on the images of the evaluation'),
  (r'^arrays: ', 'labels: '),
  (r'\btest images are', 'images of the evaluation are'),
  (r'config\.student\.kind', 'model'),
  (r'config\.teacher\.(logits|module)', 'teacher'),
  (rf'config\.(train|optim|distill|data)\.({_SAME})\b', r'\2'),
  (r'config\.data\.name', 'name'),
  (r'config\.first_seed', 'seed'),
  (r'config\.([a-z]\w*(?:\.\w+)*)', r"fields['\1']"),
  (r'with --workdir\b', 'as workdir'),
  (r'the same command\b', 'the same call'),
)


def rephrase(message: str, hidden: Sequence[str] = ()) -> str:
  """Returns a message that names arguments of a call.

  Args:
    message: names fields of a config, as `config.train.epochs`.
    hidden: files that the call has made for the teacher's logits.
  """
  for path in hidden:
    message = message.replace(f' of {path}', '').replace(path, 'the teacher')
  for pattern, words in _WORDS:
    message = re.sub(pattern, words, message)
  return message


@contextlib.contextmanager
def in_errors(words: Callable[[str], str] = rephrase) -> Iterator[None]:
  """Rephrases the messages of user errors.

  Args:
    words: maps a message to the words of the call.
  Raises:
    UserError: in place of a UserError.
  """
  try:
    yield
  except errors.UserError as error:
    message = words(str(error))
    if message == str(error):
      raise
    raise errors.UserError(message) from error.__cause__


@contextlib.contextmanager
def name_argument(argument: str, image_shape: Sequence[int]) -> Iterator[None]:
  """Names the argument of the call in errors that a user's network raises.

  Args:
    argument: the name of the argument.
    image_shape: [H, W, C] of the images that the network gets.
  Raises:
    UserError: for any error; an out-of-memory error says what to reduce.
  """
  try:
    with errors.explain_out_of_memory():
      yield
  except FunctionError as error:
    raise errors.UserError(f'{argument}: {error}') from None
  except errors.UserError as error:
    raise errors.UserError(f'{argument}: {error}') from error.__cause__
  except Exception as error:  # The user's code may raise anything.
    raise errors.UserError(
      f'{argument}: for images [B, {", ".join(map(str, image_shape))}] '
      f'float32 it raised {errors.in_a_line(error)}'
    ) from error
