"""Methods that learn from logits: identities of single methods."""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import losses
from tests.methods.method_calls import (
  BATCH,
  NUM_CLASSES,
  TEMPERATURE,
  gradient,
  loss,
  make_inputs,
)


def test_dkd_with_the_teachers_confidence_as_weight_is_kl():
  inputs = make_inputs('dkd')
  student, teacher = inputs['student_logits'], inputs['teacher_logits']
  probs = jax.nn.softmax(teacher / TEMPERATURE)
  target_probs = probs[np.arange(BATCH), inputs['labels']]
  weights = {'alpha': 1.0, 'beta': 1 - target_probs}
  expected = losses.kl(student, teacher, temperature=TEMPERATURE)
  np.testing.assert_allclose(loss('dkd', inputs | weights), expected, rtol=1e-5)
  kl_gradient = jax.grad(
    lambda s: jnp.sum(losses.kl(s, teacher, temperature=TEMPERATURE))
  )(student)
  np.testing.assert_allclose(
    gradient('dkd', inputs | weights)['student_logits'], kl_gradient, atol=1e-5
  )


def test_dist_ignores_scale_and_shift_of_the_predictions():
  # The mean of the teacher's probabilities and uniform probabilities.
  inputs = make_inputs('dist')
  probs = jax.nn.softmax(inputs['teacher_logits'] / TEMPERATURE)
  student = TEMPERATURE * jnp.log(0.5 * probs + 0.5 / NUM_CLASSES)
  values = loss('dist', inputs | {'student_logits': student})
  np.testing.assert_allclose(values, 0, atol=1e-5)
  assert np.all(losses.kl(student, inputs['teacher_logits']) > 0.01)


def test_logit_standardization_ignores_scale_and_shift_of_the_logits():
  inputs = make_inputs('logit_standardization')
  moved = {'student_logits': 7 * inputs['student_logits'] - 3}
  np.testing.assert_allclose(
    loss('logit_standardization', inputs | moved),
    loss('logit_standardization', inputs),
    rtol=1e-4,
  )
