"""Runs the examples in the docstrings of losses, methods and metrics."""

import doctest
import importlib
import inspect
import pathlib

import jax
import pytest

from kd_jax import losses, methods

FOLDER = pathlib.Path(methods.__file__).parent
MODULES = [
  'losses',
  'evaluation.metrics',
  *(
    f'methods.{path.stem}'
    for path in sorted(FOLDER.glob('*.py'))
    if path.stem != '__init__'
  ),
]
# Modules whose functions do not compute arrays, or have no examples.
NOT_COMPILED = ('methods.method', 'evaluation.metrics')
# Parameters of the examples that are no arrays.
STATIC = {
  *('student_fn', 'logits_fn', 'num_steps', 'unroll', 'student_bits', 'levels'),
  *('student_shapes', 'teacher_shapes', 'num_classes', 'axis', 'size'),
  *('in_size', 'out_size', 'in_channels', 'out_channels', 'channels'),
  'precision',
}


def _public_functions(module):
  return {
    name: value
    for name, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and not name.startswith('_')
  }


def _compiled(module):
  """Returns the public functions of a module, compiled, by name.

  Without compilation, JAX would compile the operations of a function one by
  one, which takes five times as long.
  """
  functions = {}
  for name, value in _public_functions(module).items():
    # JAX adds lines to a traceback that passes through compilation.
    if 'Traceback' not in value.__doc__:
      static = STATIC & set(inspect.signature(value).parameters)
      functions[name] = jax.jit(value, static_argnames=sorted(static))
  return functions


@pytest.mark.parametrize('name', MODULES)
def test_examples_in_docstrings(name):
  module = importlib.import_module(f'kd_jax.{name}')
  compiled = {} if name in NOT_COMPILED else _compiled(module)
  # An example shows the first digits of a number, and `...` for the others.
  result = doctest.testmod(
    module, extraglobs=compiled, optionflags=doctest.ELLIPSIS
  )
  assert result.failed == 0  # doctest prints the differences.
  # The metrics need not have examples.
  assert result.attempted > 0 or name == 'evaluation.metrics'


def test_every_loss_and_method_has_an_example():
  functions = [*_public_functions(losses).values()]
  for method in methods.METHODS.values():
    functions += filter(
      None,
      (
        method.fn,
        method.init,
        method.discriminator_loss,
        method.init_discriminator,
      ),
    )
  assert len(functions) > len(methods.METHODS)
  for function in functions:
    assert '>>>' in function.__doc__, function.__name__
