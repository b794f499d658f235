"""What a distillation method is: a function whose parameters say what it gets.

A method is a pure function to a loss for each example, `[B]` float32. It takes
what it needs by name, of `INPUTS`; every other parameter is keyword-only, has
a default, and is an option of the method, `config.distill.NAME.OPTION`. An
option whose default is a float is traced, so that a sweep over it compiles
once; others, such as counts and names, are part of the program.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

PyTree = Any

# What a method may ask for, by name. `[B, K]` logits; `[B]` labels; `[B]` mask,
# 0 for padding, for a method that compares examples with each other; the
# scalar `config.distill.temperature`; features as tuples of float32 arrays,
# one for each pair of layers; what the method's `init` returned, and the
# training changed since.
INPUTS = (
  'student_logits',
  'teacher_logits',
  'labels',
  'mask',
  'temperature',
  'student_features',
  'teacher_features',
  'adapters',
)


class Method(NamedTuple):
  """An entry of the registry.

  Attributes:
    fn: to the loss of each example, see above.
    weight: of the loss, unless `config.distill.NAME.weight` says otherwise:
      what the method's paper gives it beside a cross-entropy of weight 1.
    layers: pairs of layers that features are taken from, unless
      `config.distill.NAME.layers` says otherwise; see `match_layers`. Of no
      meaning for a method that takes no features.
    init: (key, student_shapes, teacher_shapes, **options) -> parameters that
      the method learns with the student, such as maps from its features to
      the teacher's; shapes are tuples of (..., C) as the features, less the
      batch. None for a method that has none.
  """

  fn: Callable[..., jax.Array]
  weight: float = 1.0
  layers: str = 'last'
  init: Callable[..., PyTree] | None = None

  @property
  def inputs(self) -> frozenset[str]:
    """The names in INPUTS that `fn` takes."""
    return frozenset(inspect.signature(self.fn).parameters) & set(INPUTS)

  @property
  def uses_features(self) -> bool:
    return 'teacher_features' in self.inputs

  @property
  def options(self) -> dict[str, Any]:
    """The defaults of a config's section: `fn`'s options, weight, layers.

    Raises:
      TypeError: if `fn` has a parameter that is no input and has no default.
    """
    options = {'weight': float(self.weight)}
    if self.uses_features:
      options['layers'] = self.layers
    for name, parameter in inspect.signature(self.fn).parameters.items():
      if name in INPUTS:
        continue
      if parameter.default is inspect.Parameter.empty or name in options:
        raise TypeError(
          f'{self.fn.__name__}: {name!r} is not an input of methods '
          f'({", ".join(INPUTS)}), so it needs a default, and a name that is '
          'not weight or layers'
        )
      options[name] = parameter.default
    return options


def split_options(
  options: dict[str, Any],
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns a section's traced options and those that shape the program."""
  traced = {k: v for k, v in options.items() if isinstance(v, float)}
  return traced, {k: v for k, v in options.items() if k not in traced}


Shapes = dict[str, tuple[int, ...]]


def match_layers(
  layers: str, student: Shapes, teacher: Shapes
) -> tuple[tuple[str, str], ...]:
  """Returns the pairs of features that a method compares.

  Args:
    layers: 'last', the last feature of each network; 'maps', all hidden layers,
      paired from the last ones back: those that have height and width, or, of
      a network that has no such layer, all; 'map', the last pair of them;
      'middle', the pair half way; or names: STUDENT:TEACHER or one name for
      both, separated by commas.
    student: shape of each feature without the batch, in the order of depth.
    teacher: likewise.
  Raises:
    ValueError: names the layer that is not there, and those that are.
  """
  if layers == 'last':
    return ((list(student)[-1], list(teacher)[-1]),)
  hidden = [_hidden(shapes) for shapes in (student, teacher)]
  pairs = tuple(zip(*(names[::-1] for names in hidden), strict=False))[::-1]
  if layers == 'maps':
    return pairs
  if layers == 'map':
    return pairs[-1:]
  if layers == 'middle':
    return (pairs[len(pairs) // 2],)
  pairs = []
  for part in layers.split(','):
    own, colon, others = part.strip().partition(':')
    pair = (own, others if colon else own)
    for name, shapes in zip(pair, (student, teacher), strict=True):
      if name not in shapes:
        raise ValueError(
          f'no layer {name!r} in {layers!r}; there are: last, maps, map, '
          f'middle, {", ".join(shapes)}'
        )
    pairs.append(pair)
  return tuple(pairs)


def _hidden(shapes: Shapes) -> list[str]:
  maps = [name for name, shape in shapes.items() if len(shape) == 3]
  return maps or list(shapes)
