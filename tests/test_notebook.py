"""The notebook runs from top to bottom in smoke mode."""

import pathlib
import sys

import nbclient
import nbformat
import pytest

PATH = pathlib.Path(__file__).parents[1] / 'notebooks/colab.ipynb'


@pytest.mark.slow
# The notebook's client warns, not the notebook.
@pytest.mark.filterwarnings('ignore')
def test_the_notebook_runs(tmp_path, monkeypatch):
  monkeypatch.setenv('KD_JAX_SMOKE', '1')
  notebook = nbformat.read(PATH, as_version=4)
  setup = notebook.cells[1]
  assert "SOURCE = ''" in setup.source
  setup.source = setup.source.replace(
    "SOURCE = ''", f"SOURCE = '{PATH.parents[1]}'"
  )
  nbclient.NotebookClient(
    notebook,
    timeout=900,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  ).execute()
  outputs = [
    output
    for cell in notebook.cells
    if cell.cell_type == 'code'
    for output in cell.outputs
  ]
  shown = [output.data for output in outputs if 'data' in output]
  reports = [data['text/markdown'] for data in shown if 'text/markdown' in data]
  assert ['| teacher ' in report for report in reports] == [True, True]
  assert sum('image/png' in data for data in shown) >= 4
  text = ''.join(
    output.text for output in outputs if output.output_type == 'stream'
  )
  assert 'jax ' in text and 'MiB' in text
  assert sys.version.split()[0] in text


def test_the_notebook_holds_no_outputs():
  notebook = nbformat.read(PATH, as_version=4)
  nbformat.validate(notebook)
  assert not any(cell.get('outputs') for cell in notebook.cells)
