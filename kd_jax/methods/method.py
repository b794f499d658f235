"""The interface of a distillation method: a function and its registry entry.

A method is a pure function that returns the loss of each example, [B] float32.
Its parameters say what it needs. A parameter whose name is in `INPUTS` receives
that input. Every other parameter is keyword-only, has a default, and is an
option of the method: `config.distill.NAME.OPTION`. An option whose default is a
float is traced, so that a sweep over the option compiles once. Other options,
such as counts and names, are static.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

PyTree = Any

# The inputs that a method can take, by name:
INPUTS = (
  # [B, K] float.
  'student_logits',
  'teacher_logits',
  # [B] int in [0, K).
  'labels',
  # [B], 0 for padding. For methods that compare examples with each other: they
  # leave padding out themselves, finite or not. For other methods, the outputs
  # of the teacher are 0 at padding.
  'mask',
  # Scalar, `config.distill.temperature`.
  'temperature',
  # Tuples of float32 arrays, one array for each pair of layers.
  'student_features',
  'teacher_features',
  # int: the number of levels above 0 to which the teacher's features are
  # rounded. If a method takes this input, the teacher's features are 0,
  # 1 / feature_levels, ..., 1, in units of a layer's largest feature.
  'feature_levels',
  # [B, H, W, C], as the student takes them.
  'images',
  # (lowest, highest) values of these images, each [1, 1, 1, C].
  'image_range',
  # Images -> logits [B, K] of the student in training.
  'student_fn',
  # [B, K], the logits of a second network of the student's kind. The peer
  # learns beside the student: from labels, and from the method's loss.
  'peer_logits',
  # The random key of the step.
  'key',
  # bool: whether to write out loops, which suits convolutions on a CPU.
  'unroll',
  # The parameters that `Method.init` returned, as trained so far.
  'adapters',
  # The parameters that `Method.init_discriminator` returned, as trained so far.
  'discriminator',
)


class Range(NamedTuple):
  """The numbers that an option of a method can be.

  Attributes:
    words: the range, for error messages.
    holds: returns whether a number is in the range.
  """

  words: str
  holds: Callable[[float], bool]


POSITIVE = Range('a number above 0', lambda x: x > 0)
AT_LEAST_0 = Range('a number of at least 0', lambda x: x >= 0)
AT_LEAST_1 = Range('a number of at least 1', lambda x: x >= 1)
BETWEEN_0_AND_1 = Range('a number between 0 and 1', lambda x: 0 < x < 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
  """An entry of the registry of methods.

  Attributes:
    fn: returns the loss of each example; see the docstring of this module.
    weight: weight of the loss, unless `config.distill.NAME.weight` is set. It
      is the weight of the method's paper or code, or ours if neither has one.
    least_examples: the number of examples in a batch below which the loss does
      not depend on the student; above 1 for methods that compare examples. A
      config with smaller batches is refused. For a least number of classes,
      `fn` raises a ValueError at trace time: see `losses.check_logits`.
    layers: pairs of layers whose features `fn` compares, unless
      `config.distill.NAME.layers` is set; see `match_layers`. A method without
      features ignores it.
    init: (key, student_shapes, teacher_shapes, **options) -> parameters that
      are trained with the student, such as linear maps from the student's
      features to the teacher's. Shapes are tuples of (..., C), the shapes of
      the features without the batch. None if the method has no parameters.
    discriminator_loss: a function like `fn`, the loss that trains the
      discriminator, whose parameters are its input 'discriminator'. All its
      other inputs are constants. In each step the discriminator is updated
      first. `fn` then takes the updated discriminator as a constant.
    init_discriminator: (key, student_shapes, teacher_shapes, *, num_classes,
      **options) -> parameters of the discriminator.
    discriminator_rate: Adam's learning rate for the discriminator, unless
      `config.distill.NAME.discriminator_rate` is set.
    ranges: the `Range` of each option that is a number. An option without a
      range may be any finite number. The weight is always at least 0, and the
      discriminator's rate always above 0.
    find_weakness: (num_classes, student_shapes, teacher_shapes) -> which part
      of the loss teaches nothing in this setting, for a warning; '' if none.
      Shapes are those of the compared layers; () without features. What cannot
      teach at all is an error of `fn` instead, at trace time.

  Raises:
    TypeError: if `fn` or `discriminator_loss` has a parameter that is no input
      and has no default, or takes the student's features but not the teacher's.

  Example:
    >>> def margin(student_logits, teacher_logits, *, scale=2.0):
    ...   return scale * abs(student_logits - teacher_logits).sum(-1)
    >>> Method(margin, weight=3.0).options
    {'weight': 3.0, 'scale': 2.0}
  """

  fn: Callable[..., jax.Array]
  weight: float = 1.0
  least_examples: int = 1
  layers: str = 'last'
  init: Callable[..., PyTree] | None = None
  discriminator_loss: Callable[..., jax.Array] | None = None
  init_discriminator: Callable[..., PyTree] | None = None
  discriminator_rate: float = 1e-3
  ranges: Mapping[str, Range] = dataclasses.field(default_factory=dict)
  find_weakness: Callable[[int, Any, Any], str] | None = None

  def __post_init__(self):
    """Refuses a function that no config section fits, where it is written."""
    if not callable(self.fn):
      raise TypeError(
        f'Method({self.fn!r}): expected a function that returns the loss of '
        'each example'
      )
    _ = self.options

  def range_of(self, option: str) -> Range | None:
    """Returns the range of an option; None for any finite number."""
    common = {'weight': AT_LEAST_0, 'discriminator_rate': POSITIVE}
    return common.get(option) or self.ranges.get(option)

  @property
  def _functions(self) -> tuple[Callable[..., jax.Array], ...]:
    return tuple(filter(None, (self.fn, self.discriminator_loss)))

  @property
  def inputs(self) -> frozenset[str]:
    """The names in INPUTS that `fn` takes."""
    return _inputs(self.fn)

  @property
  def uses_features(self) -> bool:
    """Whether `fn` or `discriminator_loss` takes the teacher's features."""
    return any('teacher_features' in _inputs(fn) for fn in self._functions)

  @property
  def uses_labels(self) -> bool:
    """Whether `fn` or `discriminator_loss` takes the labels."""
    return any('labels' in _inputs(fn) for fn in self._functions)

  @property
  def uses_temperature(self) -> bool:
    """Whether `fn` or `discriminator_loss` takes `distill.temperature`."""
    return any('temperature' in _inputs(fn) for fn in self._functions)

  @property
  def uses_rounded(self) -> bool:
    """Whether `fn` takes the teacher's features rounded to levels."""
    return 'feature_levels' in self.inputs

  @property
  def options(self) -> dict[str, Any]:
    """The defaults of the method's config section, by option."""
    options: dict[str, Any] = {'weight': float(self.weight)}
    if self.uses_features:
      options['layers'] = self.layers
    elif 'student_features' in self.inputs:
      raise TypeError(
        f'{_name(self.fn)} takes student_features without teacher_features: '
        'add teacher_features, because layers are chosen in pairs'
      )
    if self.discriminator_loss is not None:
      options['discriminator_rate'] = float(self.discriminator_rate)
    for fn in self._functions:
      for name, parameter in inspect.signature(fn).parameters.items():
        if name in INPUTS:
          continue
        if parameter.default is inspect.Parameter.empty or name in options:
          raise TypeError(
            f'{_name(fn)}: {name!r} is not an input of methods '
            f'({", ".join(INPUTS)}), so it needs a default, and a name that is '
            f'not one of {", ".join(options)}'
          )
        options[name] = parameter.default
    return options


def _name(fn: Callable) -> str:
  return getattr(fn, '__name__', type(fn).__name__)


def _inputs(fn: Callable) -> frozenset[str]:
  return frozenset(inspect.signature(fn).parameters) & set(INPUTS)


def split_options(
  options: dict[str, Any],
) -> tuple[dict[str, float], dict[str, Any]]:
  """Splits options into traced options and static options.

  Args:
    options: the options of a method by name.
  Returns:
    The options that are floats, and all others.

  Example:
    >>> split_options({'weight': 1.0, 'order': 2})
    ({'weight': 1.0}, {'order': 2})
  """
  traced = {k: v for k, v in options.items() if isinstance(v, float)}
  return traced, {k: v for k, v in options.items() if k not in traced}


# Shapes of features by name, without the batch, from the first layer to the
# last.
Shapes = dict[str, tuple[int, ...]]


def stored_layer(layer: str, rounded: bool) -> str:
  """Returns the key of a teacher's layer in batches, rounded or not.

  Args:
    layer: the name of the layer.
    rounded: whether its features are rounded to levels.

  Example:
    >>> stored_layer('stage3', rounded=True)
    'stage3_rounded'
  """
  return f'{layer}_rounded' if rounded else layer


def match_layers(
  layers: str, student: Shapes, teacher: Shapes
) -> tuple[tuple[str, str], ...]:
  """Returns the pairs of (student, teacher) layers that a method compares.

  Args:
    layers: one of
      'last': the last feature of each network.
      'maps': all features with height and width, paired from the last ones
        backwards. If one of the networks has no maps, all vectors instead.
      'map': the last pair of 'maps'.
      'middle': the pair halfway through 'maps'.
      Names, separated by commas: STUDENT:TEACHER, or one name for both.
    student: shapes of the student's features.
    teacher: shapes of the teacher's features.
  Raises:
    ValueError: if a network has no layer of a given name.

  Example:
    >>> student = {'conv': (4, 4, 8), 'hidden': (10,)}
    >>> teacher = {'stem': (9, 9, 8), 'stage': (4, 4, 16), 'pooled': (16,)}
    >>> match_layers('last', student, teacher)
    (('hidden', 'pooled'),)
    >>> match_layers('maps', student, teacher)
    (('conv', 'stage'),)
  """
  if layers == 'last':
    return ((list(student)[-1], list(teacher)[-1]),)
  if layers in ('maps', 'map', 'middle'):
    pairs = _pair_maps(student, teacher)
    if layers == 'maps':
      return pairs
    return pairs[-1:] if layers == 'map' else (pairs[len(pairs) // 2],)
  named = []
  for part in layers.split(','):
    student_name, colon, teacher_name = part.strip().partition(':')
    pair = (student_name, teacher_name if colon else student_name)
    for name, shapes in zip(pair, (student, teacher), strict=True):
      if name not in shapes:
        raise ValueError(
          f'no layer {name!r} in {layers!r}; expected one of last, maps, map, '
          f'middle, {", ".join(shapes)}'
        )
    named.append(pair)
  return tuple(named)


def _pair_maps(student: Shapes, teacher: Shapes) -> tuple[tuple[str, str], ...]:
  """Pairs the maps, or else the vectors, of two networks from the last back."""
  maps, vectors = (
    [
      [name for name, shape in shapes.items() if len(shape) == rank]
      for shapes in (student, teacher)
    ]
    for rank in (3, 1)
  )
  layers = maps if all(maps) else vectors
  return tuple(zip(*(names[::-1] for names in layers), strict=False))[::-1]
