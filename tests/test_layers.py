"""Arrows point down: each module imports its own layer or a lower one."""

import ast
import pathlib

import kd_jax

ROOT = pathlib.Path(kd_jax.__file__).parent
LAYERS = (
  ('errors', 'losses', 'metrics', 'costs', 'preprocessing', 'optim', 'models')
  + ('attacks', 'augment', 'host_memory', 'mesh', 'processes', 'risk'),
  ('methods', 'objectives', 'steps'),
  ('records', 'workers', 'data', 'checkpoint', 'train', 'evaluate', 'teacher')
  + ('timing',)
  + ('logits_on_disk',)
  + ('program_cache', 'tables', 'comparisons', 'plots', 'report'),
  ('build', 'checks'),
  ('jobs', 'context', 'teachers', 'cold_calls', 'benchmark', 'experiment')
  + ('theory', 'artifact', 'export', 'onnx', 'predict'),
)
# What a layer and those below may import from outside, besides the standard
# library. Only `models` imports flax to define networks.
LEAF_IMPORTS = {'jax', 'numpy', 'optax'}


def _imports(path: pathlib.Path) -> set[str]:
  """Names imported: 'kd_jax.x' as 'kd_jax.x', others by their first part."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      if node.module == 'kd_jax':
        names |= {f'kd_jax.{alias.name}' for alias in node.names}
      else:
        names.add(node.module)
  return names


def _layer_of(module: str) -> int:
  return next(i for i, layer in enumerate(LAYERS) if module in layer)


def _modules():
  for path in sorted(ROOT.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    if parts[0] != '__init__':
      yield parts[0], path


def test_every_module_has_a_layer():
  assert {name for name, _ in _modules()} == {n for la in LAYERS for n in la}


def test_arrows_point_down():
  for module, path in _modules():
    for name in _imports(path):
      if name.startswith('kd_jax.'):
        imported = name.split('.')[1]
        assert _layer_of(imported) <= _layer_of(module), f'{path}: {name}'


def test_leaves_are_pure():
  standard = {
    'collections.abc',
    'contextlib',
    'ctypes',
    'functools',
    'inspect',
    'json',
    'math',
    'os',
    'sys',
    'typing',
  }
  for module, path in _modules():
    if _layer_of(module) > 1 or module == 'models':
      continue
    outside = {
      name.split('.')[0]
      for name in _imports(path) - standard
      if not name.startswith('kd_jax')
    }
    assert outside <= LEAF_IMPORTS, path


# What takes half a second or more to import, and few parts of a run need.
IMPORTED_WHERE_USED = {'matplotlib', 'qwix', 'onnx', 'onnxruntime', 'grain'}


def test_nothing_heavy_is_imported_before_it_is_used():
  for _, path in _modules():
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        names = {node.module}
      else:
        continue
      heavy = {name.split('.')[0] for name in names} & IMPORTED_WHERE_USED
      assert not heavy, path
