"""The line below a table about the students' teacher."""

from kd_jax.report import publish, teacher_lines

MANIFEST = {
  'teacher': {'scaling': 'cifar10'},
  'training': {'weights': 'digest'},
  'accuracy': {'cifar10': {'test': {'accuracy': 0.939}}},
}


def test_a_teacher_fed_in_another_scaling_has_two_accuracies(record):
  record['teacher']['weights'] = 'digest'
  record['config']['teacher'] = {'outputs_scaling': 'symmetric'}
  results = {'a': record, 'resnet50': MANIFEST}
  (line,) = teacher_lines.lines(record, results)
  assert line.startswith(
    'The teacher is `resnet50`. Its test accuracy is 93.90'
  )
  assert line.endswith(
    '97.80 % in the scaling that it was fed here (`symmetric`).'
  )
  record['config']['teacher'] = {'outputs_scaling': 'cifar10'}
  (line,) = teacher_lines.lines(record, results)
  assert line == 'The teacher is `resnet50`; its test accuracy is 93.90 %.'


def test_a_teacher_of_the_run_has_one_accuracy_and_tables_say_it(record):
  record['config']['teacher'] = {}
  (line,) = teacher_lines.lines(record, {'a': record})
  assert line == "The teacher's test accuracy is 97.80 %."
  text = '<!-- table: a accuracy -->\n<!-- end of table -->\n'
  assert f'\n\n{line}\n\n' in publish.fill_tables(text, {'a': record})


def test_other_records_have_no_teacher(record):
  assert teacher_lines.lines({'shapes': {}}, {}) == []
  assert teacher_lines.lines(record | {'students': []}, {}) == []
