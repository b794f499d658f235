"""The notebooks run from top to bottom in smoke mode, on an installed wheel."""

import pathlib
import re
import sys

import nbclient
import nbformat
import pytest

from tests import helpers

NOTEBOOKS = sorted((helpers.ROOT / 'notebooks').glob('*.ipynb'))


@pytest.fixture(name='installed')
def _installed(tmp_path, monkeypatch):
  """Lets the notebooks install a wheel of the project into a new folder."""
  site = tmp_path / 'site'
  site.mkdir()
  monkeypatch.setenv('KD_JAX_SOURCE', str(helpers.build_wheel(tmp_path)))
  monkeypatch.setenv('KD_JAX_SMOKE', '1')
  monkeypatch.setenv('PIP_TARGET', str(site))
  monkeypatch.setenv('PIP_NO_DEPS', '1')
  monkeypatch.setenv('PYTHONPATH', str(site))
  return site


def _run(name, folder):
  """Runs a notebook in a folder, and returns its text and its displays."""
  notebook = nbformat.read(helpers.ROOT / 'notebooks' / name, as_version=4)
  folder.mkdir()
  nbclient.NotebookClient(
    notebook,
    timeout=1800,
    kernel_name='python3',
    resources={'metadata': {'path': str(folder)}},
  ).execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  text = ''.join(o.text for o in outputs if o.output_type == 'stream')
  return text, [output.data for output in outputs if 'data' in output]


def _pages(shown):
  return [data['text/html'] for data in shown if 'text/html' in data]


@pytest.mark.slow
# The notebook's client warns, not the notebook.
@pytest.mark.filterwarnings('ignore')
def test_the_notebook_of_the_paper_runs(tmp_path, installed):
  text, shown = _run('colab.ipynb', tmp_path / 'work')
  pages = _pages(shown)
  assert len(pages) == 2
  for page in pages:
    assert '<iframe srcdoc=' in page and 'data:image/png;base64' in page
  assert f'from {installed / "kd_jax"}' in text
  assert 'jax ' in text and 'MiB' in text
  assert sys.version.split()[0] in text


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_the_notebook_of_your_images_exports_a_student(tmp_path, installed):
  text, shown = _run('own_data.ipynb', tmp_path / 'work')
  assert len(_pages(shown)) == 1
  assert any('image/png' in data for data in shown)
  for line in (
    'teacher: accuracy',
    'few labels: accuracy',
    'few labels and the teacher: accuracy',
    'the teacher, all images: accuracy',
    'circle: ',
  ):
    assert line in text
  # Few lines, for people: no process ids, and no library's.
  assert 'I1' not in text and 'orbax' not in text
  assert f'from {installed / "kd_jax"}' in text
  assert (tmp_path / 'work' / 'student' / 'manifest.json').exists()


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  assert not any(cell.get('outputs') for cell in notebook.cells)


def _setup(path):
  return nbformat.read(path, as_version=4).cells[1].source


def test_the_notebooks_have_one_setup():
  (setup,) = set(map(_setup, NOTEBOOKS))
  assert setup.index("SOURCE = ''") < 400


def test_without_the_project_the_setup_says_what_to_set(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('KD_JAX_SOURCE', raising=False)
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(SystemExit, match='set SOURCE above to a folder'):
    exec(_setup(NOTEBOOKS[0]), {})


def test_no_badge_leads_to_an_address_that_the_project_lacks():
  """Colab opens notebooks on GitHub; without an address, it asks for a file."""
  page = (helpers.ROOT / 'docs' / 'how-to' / 'colab.md').read_text()
  (source,) = re.findall(r"^SOURCE = '(.*)'", _setup(NOTEBOOKS[0]), re.M)
  badges = re.findall(r'colab-badge.svg\)\]\(([^)]*)\)', page)
  expected = []
  if source:
    repository = pathlib.PurePosixPath(source.partition('github.com/')[2])
    expected.append(
      'https://colab.research.google.com/'
      f'github/{repository}/blob/main/notebooks/colab.ipynb'
    )
  assert badges == expected
  assert 'HOST/OWNER' not in _setup(NOTEBOOKS[0])
