"""The registry: options of a method's function, and names of layers."""

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
def test_layers_are_matched_in_pairs(layers, pairs):
  assert methods.match_layers(layers, STUDENT, TEACHER) == tuple(pairs)


def test_a_network_without_maps_matches_its_vectors():
  assert methods.match_layers('maps', MLP, {'hidden0': (9,)}) == (
    ('hidden1', 'hidden0'),
  )
  assert methods.match_layers('map', MLP, MLP) == (('hidden1', 'hidden1'),)
  # A vector is not matched with a map.
  assert methods.match_layers('maps', MLP, {'conv0': (9, 9, 3)} | MLP) == (
    ('hidden0', 'hidden0'),
    ('hidden1', 'hidden1'),
  )


def test_the_error_names_a_missing_layer():
  with pytest.raises(ValueError, match="'stage3'.*last, maps.*stage1, stage2"):
    methods.match_layers('stage2:stage3', STUDENT, TEACHER)
  with pytest.raises(ValueError, match="'stem'"):
    methods.match_layers('stem', STUDENT, TEACHER)


def test_inputs_and_options_come_from_the_parameters():
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


def test_options_of_the_discriminator_loss_are_options_of_the_method():
  def fn(student_logits, discriminator, *, margin=2.0):
    del student_logits, discriminator, margin

  def loss(student_logits, teacher_logits, discriminator, *, doubt=0.5):
    del student_logits, teacher_logits, discriminator, doubt

  options = methods.Method(fn, discriminator_loss=loss).options
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
    methods.Method(fn)
  with pytest.raises(TypeError, match="'weight'"):
    methods.Method(lambda student_logits, weight=1.0: 0)
  with pytest.raises(TypeError, match='expected a function that'):
    methods.Method('kl')


@pytest.mark.parametrize(
  'name, method, message',
  [
    ('mine', lambda student_logits: 0, "METHODS.'mine'. = function: expected"),
    ('a+b', methods.METHODS['kl'], 'expected a name of letters, digits and _'),
  ],
)
def test_an_entry_that_no_config_can_use_is_refused(name, method, message):
  with pytest.raises((TypeError, ValueError), match=message):
    methods.METHODS[name] = method
  assert name not in methods.METHODS
