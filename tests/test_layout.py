"""The layout: imports run down one list of folders, and modules have tests."""

import ast
import pathlib
import re

import pytest

import kd_jax

ROOT = pathlib.Path(kd_jax.__file__).parent
# From the top down. A folder (or a module of kd_jax itself) imports those
# below it, and none above it.
LAYERS = (
  'cli',
  'api',
  'predict',
  # A run that computes the lemmas and trains nothing: it checks a config and
  # writes a report, as `experiments` does, but needs none of its modules.
  'theory',
  'experiments',
  'export',
  'benchmark',
  'config_checks',
  'teachers',
  'training',
  'config_fields',
  'config',
  'evaluation',
  'methods',
  # Above data: networks are made for an image task, of type data.ImageTask.
  'models',
  'data',
  'losses',
  'sections',
  # Reads files alone, so that all folders above may write reports.
  'report',
  'runtime',
)
# Pure mathematics imports these alone, besides the standard library and what
# is pure itself.
PURE = (
  'losses.py',
  'methods',
  'evaluation/metrics.py',
  'training/hyperparameters.py',
  'training/step.py',
)
PURE_IMPORTS = {'jax', 'numpy', 'optax'}
# Imports of half a second or more that few parts of a run need.
IMPORTED_WHERE_USED = {'matplotlib', 'qwix', 'onnx', 'onnxruntime', 'grain'}
# Equinox is the user's to install.
IMPORTED_WHERE_USED |= {'equinox'}


_LAYOUT = ROOT.parent / 'docs/architecture.md'


def test_the_layout_of_the_documents_is_the_list():
  text = _LAYOUT.read_text(encoding='utf-8')
  layout = text.partition('\nkd_jax/ ')[2].partition('\ntests/ ')[0]
  names = re.findall(r'^  (\w+)(?:/|\.py) ', layout, re.MULTILINE)
  assert tuple(names) == LAYERS


def _modules() -> list[tuple[str, pathlib.Path]]:
  """Returns the dotted name, less `kd_jax.`, and the path of each module."""
  found = []
  for path in sorted(ROOT.rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    if parts[-1] == '__main__':  # A command line may use all there is.
      continue
    if parts[-1] == '__init__':
      parts = parts[:-1]
    if parts:
      found.append(('.'.join(parts), path))
  return found


NAMES = {name for name, _ in _modules()}


def _imported_modules(path: pathlib.Path) -> set[str]:
  """Returns the modules of kd_jax that a file imports, by dotted name."""
  modules = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      modules |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        is_module = name.removeprefix('kd_jax.') in NAMES
        modules.add(name if is_module else node.module)
  return {
    name.removeprefix('kd_jax.')
    for name in modules
    if name.startswith('kd_jax.')
  }


def _imported_packages(path: pathlib.Path) -> set[str]:
  """Returns the first parts of all names that a file imports."""
  packages = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      packages |= {alias.name.split('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      packages.add(node.module.split('.')[0])
  return packages


def _folder(module: str) -> str:
  return module.split('.')[0]


def test_every_folder_is_in_the_list():
  assert {_folder(name) for name in NAMES} == set(LAYERS)


def test_folders_import_only_what_is_below_them():
  for module, path in _modules():
    for imported in _imported_modules(path):
      above = LAYERS.index(_folder(module)) > LAYERS.index(_folder(imported))
      assert not above, f'{module} imports {imported}, which is above it'


def test_there_are_no_import_cycles_inside_a_folder():
  imports = {
    module: {
      other
      for other in _imported_modules(path)
      if _folder(other) == _folder(module) and other != module
    }
    for module, path in _modules()
  }
  # The __init__.py of a folder imports its modules; they do not import it.
  while imports:
    leaves = {name for name, others in imports.items() if not others}
    assert leaves, f'these import each other in a cycle: {sorted(imports)}'
    imports = {
      name: others - leaves
      for name, others in imports.items()
      if name not in leaves
    }


def test_no_two_modules_have_one_name():
  names = [module.split('.')[-1] for module, _ in _modules()]
  assert len(names) == len(set(names)), sorted(names)


def _named_modules(test_file: pathlib.Path) -> set[str]:
  """Returns the modules that the docstring of a test file names, by path."""
  text = ast.get_docstring(ast.parse(test_file.read_text())) or ''
  return set(re.findall(r'`((?:kd_jax|configs)/[\w/]+\.py)`', text))


def test_every_module_has_a_test_file_or_is_named_in_one():
  project = ROOT.parent
  test_files = {
    path: _named_modules(path) for path in project.glob('tests/**/test_*.py')
  }
  named = set().union(*test_files.values())
  modules = [
    path.relative_to(project)
    for folder in ('kd_jax', 'configs')
    for path in (project / folder).rglob('*.py')
    if path.name != '__init__.py'
  ]
  without = [
    module.as_posix()
    for module in modules
    if project / _test_file(module) not in test_files
    and module.as_posix() not in named
  ]
  assert not without, 'add FOLDER/test_MODULE.py, or name these in a docstring'
  assert named <= {module.as_posix() for module in modules}


def _test_file(module: pathlib.Path) -> pathlib.Path:
  """Returns where the tests of a module belong, from the project's folder."""
  folder = module.parent
  if folder.parts[0] == 'kd_jax':
    folder = folder.relative_to('kd_jax')
  return pathlib.Path('tests', folder, f'test_{module.stem}.py')


def test_built_in_data_and_the_users_data_do_not_need_each_other():
  for module, path in _modules():
    for folder, other in (('builtin', 'user_data'), ('user_data', 'builtin')):
      if module.startswith(f'data.{folder}.'):
        for imported in _imported_modules(path):
          assert not imported.startswith(f'data.{other}'), (module, imported)


@pytest.mark.parametrize(
  'folder',
  [
    path.parent.relative_to(ROOT).as_posix()
    for path in sorted(ROOT.glob('*/**/__init__.py'))
  ],
)
def test_the_map_of_a_folder_names_its_modules(folder):
  text = ast.get_docstring(
    ast.parse((ROOT / folder / '__init__.py').read_text())
  )
  named = set(re.findall(r'`(\w+)`', text))
  modules = {path.stem for path in (ROOT / folder).glob('[!_]*.py')}
  assert modules <= named, modules - named


def test_mathematics_is_pure():
  standard = {'collections', 'dataclasses', 'functools', 'inspect', 'math'}
  standard |= {'typing'}
  for part in PURE:
    path = ROOT / part
    for file in [path] if path.suffix else path.rglob('*.py'):
      outside = _imported_packages(file) - standard - {'kd_jax'}
      assert outside <= PURE_IMPORTS, file


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
