"""Checks what a user's network computes, on a few random images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kd_jax.data import ImageTask, preprocessing
from kd_jax.models import from_config, user
from kd_jax.runtime import errors
from kd_jax.teachers import logit_checks

_NUM_IMAGES = 8


def check_student_outputs(config: ConfigDict, task: ImageTask) -> None:
  """Checks that a user's student returns logits, and no probabilities.

  A network that ends in a softmax would be trained through two of them.

  Args:
    config: the config of a row, with every field set.
    task: images and classes.
  Raises:
    UserError: if the untrained student returns probabilities.
  """
  kind = config.student.kind
  if not user.is_function_name(kind):
    return
  module = from_config.make_module(config.student, task.num_classes)
  pixels = np.random.RandomState(0).randint(
    256, size=(_NUM_IMAGES, *task.image_shape), dtype=np.uint8
  )
  images = preprocessing.SCALINGS[config.data.scaling](jnp.asarray(pixels))
  forward = functools.partial(module.init_with_output, train=False)
  (logits, _), _ = jax.jit(forward)(jax.random.key(0), images)
  if logit_checks.are_probabilities(np.asarray(logits)):
    raise errors.UserError(
      f'config.student.kind={kind!r}: it returns probabilities; expected '
      'logits: leave out the softmax at its end'
    )
