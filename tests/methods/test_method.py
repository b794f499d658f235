"""What the registry makes of a function, and of names of layers."""

import pytest

from kd_jax import methods

STUDENT = {'stem': (8, 8, 4), 'stage1': (8, 8, 4), 'stage2': (4, 4, 8),
           'pooled': (8,)}  # fmt: skip
TEACHER = {'stage1': (8, 8, 9), 'stage2': (4, 4, 9), 'pooled': (9,)}
MLP = {'hidden0': (30,), 'hidden1': (20,)}


@pytest.mark.parametrize(
  'layers, pairs',
  [
    ('last', [('pooled', 'pooled')]),
    ('maps', [('stage1', 'stage1'), ('stage2', 'stage2')]),
    ('map', [('stage2', 'stage2')]),
    ('middle', [('stage2', 'stage2')]),
    ('stem:stage1, stage2', [('stem', 'stage1'), ('stage2', 'stage2')]),
  ],
)
def test_layers_are_paired(layers, pairs):
  assert methods.match_layers(layers, STUDENT, TEACHER) == tuple(pairs)


def test_layers_of_a_network_without_maps_are_all_its_layers():
  assert methods.match_layers('maps', MLP, {'hidden0': (9,)}) == (
    ('hidden1', 'hidden0'),
  )
  assert methods.match_layers('map', MLP, MLP) == (('hidden1', 'hidden1'),)
  # A vector is not held against a map.
  assert methods.match_layers('maps', MLP, {'conv0': (9, 9, 3)} | MLP) == (
    ('hidden0', 'hidden0'),
    ('hidden1', 'hidden1'),
  )


def test_a_layer_that_is_not_there_is_named():
  with pytest.raises(ValueError, match="'stage3'.*last, maps.*stage1, stage2"):
    methods.match_layers('stage2:stage3', STUDENT, TEACHER)
  with pytest.raises(ValueError, match="'stem'"):
    methods.match_layers('stem', STUDENT, TEACHER)


def test_a_functions_parameters_say_what_it_gets():
  def fn(student_logits, labels, *, temperature, margin=2.0, count=3):
    del student_logits, labels, temperature, margin, count

  method = methods.Method(fn, weight=5)
  assert method.inputs == {'student_logits', 'labels', 'temperature'}
  assert method.options == {'weight': 5.0, 'margin': 2.0, 'count': 3}
  assert not method.uses_features
  assert methods.split_options(method.options) == (
    {'weight': 5.0, 'margin': 2.0},
    {'count': 3},
  )


def test_a_rivals_options_are_the_methods():
  def fn(student_logits, discriminator, *, margin=2.0):
    del student_logits, discriminator, margin

  def rival(student_logits, teacher_logits, discriminator, *, doubt=0.5):
    del student_logits, teacher_logits, discriminator, doubt

  options = methods.Method(fn, discriminator_loss=rival).options
  assert options == {
    'weight': 1.0,
    'discriminator_rate': 1e-3,
    'margin': 2.0,
    'doubt': 0.5,
  }


def test_a_parameter_without_a_default_is_refused():
  def fn(student_logits, teacher_logit):
    del student_logits, teacher_logit

  with pytest.raises(TypeError, match="fn: 'teacher_logit' is not an input"):
    _ = methods.Method(fn).options
  with pytest.raises(TypeError, match="'weight'"):
    _ = methods.Method(lambda student_logits, weight=1.0: 0).options
