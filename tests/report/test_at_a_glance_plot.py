"""The plot at the top of README.md."""

from kd_jax.report import at_a_glance_plot

_SAMPLES = {
  'labels': [50.0, 52.0],
  'kl': [55.0, 57.0],
  'hint': [58.0],
  'review': [60.0, 61.0],
}


def test_the_title_says_by_how_much_the_teacher_helps():
  assert at_a_glance_plot.title(_SAMPLES).endswith(' adds 5 to 10 points')


def test_a_plot_is_written_if_all_its_rows_are_there(tmp_path):
  students = [
    {'row': row, 'seed': seed, 'test': {'accuracy': value / 100}}
    for row, values in _SAMPLES.items()
    for seed, value in enumerate(values)
  ]
  record = {'students': students, 'teacher': {'test': {'accuracy': 0.9}}}
  path = tmp_path / 'at_a_glance.png'
  at_a_glance_plot.write(tmp_path, {'other': record})
  lacks_one = record | {'students': students[:-2]}
  at_a_glance_plot.write(tmp_path, {'cifar-methods-as_coded': lacks_one})
  assert not path.exists()
  at_a_glance_plot.write(tmp_path, {'cifar-methods-as_coded': record})
  assert path.read_bytes().startswith(b'\x89PNG')
