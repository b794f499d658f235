"""Writes the pages that are made from the code: methods, fields of a config.

  python docs/generate.py

docs/methods.md comes from METHODS of kd_jax/methods and from results/;
docs/reference/config.md comes from kd_jax/config_fields.py.
"""

import ast
import inspect
import io
import pathlib
import re
import sys
import textwrap
import tokenize
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kd_jax import config_fields, methods  # noqa: E402
from kd_jax.report import inline_numbers, publish, text_blocks  # noqa: E402

# The runs that have a row for each method.
_ON_CIFAR = 'cifar-methods-as_coded'
_ON_MNIST = 'mnist-methods-as_written'

_METHODS_HEAD = """\
# Methods

This page is generated from the code and the records (`python
docs/generate.py`).

`method=NAME`, or several names joined by `+`, chooses the methods of a
recipe, and `--config.distill.NAME.OPTION=VALUE` sets an option. `weight` is
the weight of the method's loss in the sum. Methods with the option `layers`
compare features, and need a teacher with a network or a file of features:
`last` is the last feature of each network, `maps` are all features with
height and width, paired from the last ones backwards, `map` is the last pair
of them, and `middle` the pair halfway; names are `STUDENT:TEACHER`, separated
by commas. Shapes: B examples, K classes.

## Which method

<!-- text: which_method -->
<!-- end of text -->

<!-- table: all methods_overview -->
<!-- end of table -->

## The results below

Results are test accuracies in percent, mean ± standard deviation over the
seeds, with the weight beside them: it was chosen on held-out training images,
and often differs from the default. CIFAR-10 is 5,000 images with a ResNet-18
teacher that has seen 45,000: the same student has {cifar_labels} on labels
alone. On MNIST, the student has {mnist_labels} on labels alone. Three seeds
do not rank the methods; [the comparison](../results/methods.md) has intervals
and tests.
"""

_CONFIG_HEAD = """\
# Fields of a config

This page is generated from the code (`python docs/generate.py`).

`--config.SECTION.FIELD=VALUE` overrides a field for all rows of a run.
Defaults are those of `kd_jax/config_fields.py`; a recipe may change them,
and `--describe` shows what a recipe will do. *required* marks a field that
each recipe sets. Options of a method, `distill.METHOD.OPTION`, are on the
page of [methods](../methods.md).
"""


# The sections of a config, and the function that declares each.
_SECTIONS = (
  ('', 'make_config', 'The run'),
  ('data', '_data', 'The data set'),
  ('teacher', '_teacher', 'The teacher'),
  ('student', 'mlp', 'The network: an MLP'),
  ('student', 'conv_net', 'The network: convolutions and an MLP'),
  ('student', 'resnet', 'The network: a ResNet'),
  ('train', 'training', 'The training'),
  ('distill', 'distillation', 'The loss'),
  ('optim', 'optimizer', 'The optimizer'),
  ('eval', '_evaluation', 'The evaluation'),
  ('benchmark', '_benchmark', 'The timing'),
)
_TEACHER_TOO = ('student', 'train', 'distill', 'optim')
_SECTION_NAMES = {section for section, _, _ in _SECTIONS}


class Field(NamedTuple):
  """A declared field.

  Attributes:
    name: its name in its section.
    default: the default as source text; '' if recipes set the field.
    meaning: what the field means.
  """

  name: str
  default: str
  meaning: str


# --- Methods. ---


def methods_page() -> str:
  """Returns the page of all methods."""
  results = publish.load_results(ROOT)
  head = _METHODS_HEAD.format(
    cifar_labels=_accuracy(_ON_CIFAR, 'labels', results),
    mnist_labels=_accuracy(_ON_MNIST, 'labels', results),
  )
  parts = [publish.fill(head, results, text_blocks.load(ROOT / 'results/text'))]
  for name, method in methods.METHODS.items():
    parts.append(_method_section(name, method, results))
  return '\n'.join(parts)


def _method_section(
  name: str, method: methods.Method, results: dict[str, Any]
) -> str:
  """Returns the section of a method."""
  text = inspect.getdoc(method.fn) or ''
  about, _, rest = text.partition('\nArgs:')
  reference = re.search(r'^Reference: (.*?)(?:\n\n|\Z)', text, re.S | re.M)
  title, *paragraphs = about.strip().split('\n\n')
  options = ', '.join(f'`{k}={v!r}`' for k, v in method.options.items())
  measured = [
    f'{_accuracy(record, name, results)} on {data} with '
    f'`weight={results[record]["config"]["distill"][name]["weight"]}`'
    for record, data in ((_ON_CIFAR, 'CIFAR-10'), (_ON_MNIST, 'MNIST'))
    if name in _rows(results[record])
  ]
  source = pathlib.Path(inspect.getfile(method.fn)).relative_to(ROOT)
  lines = [f'**Options:** {options}.']
  if reference:
    lines.append(f'**Reference:** {" ".join(reference[1].split())}')
  if measured:
    lines.append(f'**Our result:** {"; ".join(measured)}.')
  lines.append(f'**Code:** `{method.fn.__name__}` in `{source}`.')
  body = [
    title,
    *map(_paragraph, paragraphs),
    '\n'.join(f'- {x}' for x in lines),
  ]
  return f'## {name}\n\n' + '\n\n'.join(body) + '\n'


def _paragraph(text: str) -> str:
  """Returns a paragraph of a docstring; a formula as a block of code."""
  is_formula = re.match(r'[A-Za-z_]+(\([^)]*\))? = ', text)
  if is_formula:
    return f'```\n{textwrap.dedent(text)}\n```'
  return _escape(' '.join(text.split()))


def _rows(record: dict[str, Any]) -> set[str]:
  return {student['row'] for student in record['students']}


def _accuracy(record: str, row: str, results: dict[str, Any]) -> str:
  """Returns a number that `make report` computes again."""
  network = f'{record}/{row}'
  numbers = []
  for source in (f"mean_sd('{network}')", f"n('{network}') | d"):
    value = inline_numbers.evaluate(source, results)
    numbers.append(f'<!-- number: {source} -->{value}<!-- end -->')
  return f'{numbers[0]} (n = {numbers[1]})'


# --- Fields of a config. ---


def declared_fields() -> dict[str, list[Field]]:
  """Returns the fields that each function of config_fields.py declares."""
  source = inspect.getsource(config_fields)
  comments = _comments(source)
  functions = [
    node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)
  ]
  base_defaults = next(
    _argument_defaults(node) for node in functions if node.name == 'make_config'
  )
  found = {}
  for node in functions:
    arguments = _documented_arguments(node)
    defaults = base_defaults | _argument_defaults(node)
    fields = [
      field
      for inner in ast.walk(node)
      for field in _fields_of(inner, comments, arguments, defaults)
    ]
    found[node.name] = fields
  return found


def _argument_defaults(node: ast.FunctionDef) -> dict[str, str]:
  """Returns the defaults of a function's keyword-only arguments."""
  pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
  return {arg.arg: ast.unparse(value) for arg, value in pairs if value}


def _comments(source: str) -> dict[int, str]:
  """Returns comments by line; a line of comment belongs to the next code."""
  lines = source.splitlines()
  found: dict[int, str] = {}
  pending: list[str] = []
  for token in tokenize.generate_tokens(io.StringIO(source).readline):
    if token.type != tokenize.COMMENT:
      continue
    number, text = token.start[0], token.string.lstrip('# ')
    if lines[number - 1].lstrip().startswith('#'):
      pending.append(text)
      if not lines[number].lstrip().startswith('#'):
        found[number + 1] = ' '.join(pending)
        pending = []
    else:
      found[number] = text
  return found


def _documented_arguments(node: ast.FunctionDef) -> dict[str, str]:
  """Returns what a function's docstring says of its arguments."""
  text = ast.get_docstring(node) or ''
  section = re.search(r'Args:\n(.*?)(?:\n\S|\Z)', text, re.S)
  entries = re.findall(
    r'^  (\w+): (.*?)(?=^  \S|\Z)', section[1] if section else '', re.S | re.M
  )
  return {name: ' '.join(meaning.split()) for name, meaning in entries}


def _fields_of(
  node: ast.AST,
  comments: dict[int, str],
  arguments: dict[str, str],
  defaults: dict[str, str],
) -> list[Field]:
  """Returns the fields that a call or an assignment declares.

  Args:
    node: a part of a function of config_fields.py.
    comments: the comment of each line.
    arguments: the meaning of the function's arguments.
    defaults: the defaults of the function's arguments.
  """
  if isinstance(node, ast.Call):
    if ast.unparse(node.func) not in ('config_dict.create', 'model'):
      return []
    pairs = [(k.arg, k.value, k.value.lineno) for k in node.keywords if k.arg]
  elif isinstance(node, ast.Assign):
    target, value = ast.unparse(node.targets[0]), node.value
    if not target.startswith('config.'):
      return []
    name = target.removeprefix('config.')
    if name in _SECTION_NAMES or name == 'rows':
      return []
    if (
      isinstance(value, ast.Call) and value.keywords
    ):  # A section of one field.
      keyword = value.keywords.pop()  # It is read here alone.
      name, value = f'{name}.{keyword.arg}', keyword.value
    pairs = [(name, value, node.lineno)]
  else:
    return []
  fields = []
  for name, value, line in pairs:
    if isinstance(value, ast.Attribute):  # A section of the teacher.
      continue
    default = ast.unparse(value).replace('config_dict.ConfigDict()', '{}')
    meaning = comments.get(line, '')
    if isinstance(value, ast.Name):  # An argument of the function.
      meaning = meaning or arguments.get(default, '')
      default = defaults.get(default, '')
    fields.append(Field(name, default, meaning))
  return fields


def config_page() -> str:
  """Returns the page of all fields of a config."""
  declared = declared_fields()
  parts = [_CONFIG_HEAD]
  for section, function, title in _SECTIONS:
    lines = [f'## {title}', '']
    if section in _TEACHER_TOO:
      inner = 'model' if section == 'student' else section
      lines += [f"The same fields in `teacher.{inner}` are the teacher's.", '']
    lines += ['| Field | Default | Meaning |', '|---|---|---|']
    for field in declared[function]:
      name = f'{section}.{field.name}' if section else field.name
      lines.append(_field_line(name, field))
    if section == 'student':
      meaning = _escape(_kind_meaning())
      lines.append(f'| `student.kind` | `{function!r}` | {meaning} |')
    parts.append('\n'.join(lines) + '\n')
  return '\n'.join(parts)


def _kind_meaning() -> str:
  node = ast.parse(inspect.getsource(config_fields.model)).body[0]
  assert isinstance(node, ast.FunctionDef)
  return _documented_arguments(node)['kind']


def _field_line(name: str, field: Field) -> str:
  default = ' '.join(field.default.split())
  shown = f'`{_escape(default)}`' if default else '*required*'
  return f'| `{name}` | {shown} | {_escape(field.meaning)} |'


def _escape(text: str) -> str:
  """Returns text without signs that Markdown would take for its own."""
  parts = text.split('`')
  parts[::2] = [part.replace('*', r'\*') for part in parts[::2]]
  return '`'.join(parts).replace('|', r'\|')


# --- All pages. ---

PAGES = {
  'docs/methods.md': methods_page,
  'docs/reference/config.md': config_page,
}


def main() -> None:
  """Writes all pages."""
  for name, make in PAGES.items():
    (ROOT / name).write_text(make(), encoding='utf-8')


if __name__ == '__main__':
  main()
