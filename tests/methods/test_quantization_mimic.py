"""The mimic of quantized features."""

import numpy as np

from tests.methods.method_calls import BATCH, loss


def test_a_student_with_a_smaller_map_can_match_its_teacher():
  # Features of 2 bits, whose averages lie between the levels.
  levels = np.random.default_rng(0).integers(0, 4, (BATCH, 2, 2, 3))
  teacher = (levels / 3).astype('float32')
  averages = teacher.mean((1, 2), keepdims=True)
  assert (np.abs(3 * averages - np.rint(3 * averages)) > 0.1).any()
  inputs = {
    'student_features': (averages,),
    'teacher_features': (teacher,),
    'feature_levels': 3,
    'adapters': [{'kernel': np.eye(3, dtype='float32'), 'bias': np.zeros(3)}],
    'student_bits': 2,
  }
  np.testing.assert_allclose(loss('quantized', inputs), 0, atol=1e-12)
