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

# What a method may ask for, by name:
INPUTS = (
  # [B, K] float.
  'student_logits',
  'teacher_logits',
  # [B] int in [0, K).
  'labels',
  # [B], 0 for padding: for a method that compares examples with each other.
  'mask',
  # Scalar, `config.distill.temperature`.
  'temperature',
  # Tuples of float32 arrays, one for each pair of layers.
  'student_features',
  'teacher_features',
  # How many levels above 0 the teacher's features are rounded to; for a method
  # that asks, these are 0, 1 / levels, ..., 1, in units of a layer's largest.
  'feature_levels',
  # [B, H, W, C] as the student takes them, and (lowest, highest) values there,
  # [1, 1, 1, C] each.
  'images',
  'image_range',
  # Images to [B, K] logits of the student as it trains.
  'student_fn',
  # [B, K] of a second network of the student's kind, which learns beside it:
  # from labels as the student does, and from what the method's loss tells it.
  'peer_logits',
  # Of the step.
  'key',
  # Whether loops are best written out, which suits convolutions on a CPU.
  'unroll',
  # What `init` returned, and training has changed since.
  'adapters',
  # What `init_rival` returned, likewise.
  'rival',
)


class Method(NamedTuple):
  """An entry of the registry.

  Attributes:
    fn: to the loss of each example, see above.
    weight: of the loss, unless `config.distill.NAME.weight` says otherwise:
      what the method's paper, or its code, gives it; where neither does, ours.
    layers: pairs of layers that features are taken from, unless
      `config.distill.NAME.layers` says otherwise; see `match_layers`. Of no
      meaning for a method that takes no features.
    init: (key, student_shapes, teacher_shapes, **options) -> parameters that
      the method learns with the student, such as maps from its features to
      the teacher's; shapes are tuples of (..., C) as the features, less the
      batch. None for a method that has none.
    rival: a function like `fn` whose loss what it is given as 'rival' learns: a
      discriminator. Its other inputs are constants for it. In a step it learns
      first, and `fn` takes what it is then, as a constant.
    init_rival: as `init`, with `num_classes`, to the rival's parameters.
    rival_rate: Adam's learning rate for these, unless
      `config.distill.NAME.rival_rate` says otherwise.
  """

  fn: Callable[..., jax.Array]
  weight: float = 1.0
  layers: str = 'last'
  init: Callable[..., PyTree] | None = None
  rival: Callable[..., jax.Array] | None = None
  init_rival: Callable[..., PyTree] | None = None
  rival_rate: float = 1e-3

  @property
  def inputs(self) -> frozenset[str]:
    """The names in INPUTS that `fn` takes."""
    return _inputs(self.fn)

  @property
  def uses_features(self) -> bool:
    """Whether it, or its rival, takes the teacher's features."""
    return any(
      'teacher_features' in _inputs(fn) for fn in (self.fn, self.rival) if fn
    )

  @property
  def uses_rounded(self) -> bool:
    """Whether the teacher's features, if it takes them, are rounded ones."""
    return 'feature_levels' in self.inputs

  @property
  def options(self) -> dict[str, Any]:
    """The defaults of a config's section: own options, weight, layers.

    Raises:
      TypeError: if `fn`, or the rival, has a parameter that is no input and has
        no default, or takes the student's features alone.
    """
    options = {'weight': float(self.weight)}
    if self.uses_features:
      options['layers'] = self.layers
    elif 'student_features' in self.inputs:
      raise TypeError(
        f'{self.fn.__name__}: layers are chosen in pairs, so that a method of '
        'student_features takes teacher_features as well'
      )
    if self.rival is not None:
      options['rival_rate'] = float(self.rival_rate)
    for fn in filter(None, (self.fn, self.rival)):
      for name, parameter in inspect.signature(fn).parameters.items():
        if name in INPUTS:
          continue
        if parameter.default is inspect.Parameter.empty or name in options:
          raise TypeError(
            f'{fn.__name__}: {name!r} is not an input of methods '
            f'({", ".join(INPUTS)}), so it needs a default, and a name that is '
            f'not one of {", ".join(options)}'
          )
        options[name] = parameter.default
    return options


def _inputs(fn: Callable) -> frozenset[str]:
  return frozenset(inspect.signature(fn).parameters) & set(INPUTS)


def split_options(
  options: dict[str, Any],
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns a section's traced options and those that shape the program."""
  traced = {k: v for k, v in options.items() if isinstance(v, float)}
  return traced, {k: v for k, v in options.items() if k not in traced}


Shapes = dict[str, tuple[int, ...]]


def stored_layer(layer: str, rounded: bool) -> str:
  """The name of a teacher's layer in batches, as it is or rounded."""
  return f'{layer}_rounded' if rounded else layer


def match_layers(
  layers: str, student: Shapes, teacher: Shapes
) -> tuple[tuple[str, str], ...]:
  """Returns the pairs of features that a method compares.

  Args:
    layers: 'last', the last feature of each network; 'maps', all that have
      height and width, paired from the last ones back, or, if one of the
      networks has none, all that have not; 'map', the last pair of them;
      'middle', the pair half way; or names: STUDENT:TEACHER or one name for
      both, separated by commas.
    student: shape of each feature without the batch, in the order of depth.
    teacher: likewise.
  Raises:
    ValueError: names the layer that is not there, and those that are.
  """
  if layers == 'last':
    return ((list(student)[-1], list(teacher)[-1]),)
  maps, vectors = (
    [
      [name for name, shape in shapes.items() if len(shape) == rank]
      for shapes in (student, teacher)
    ]
    for rank in (3, 1)
  )
  hidden = maps if all(maps) else vectors
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
