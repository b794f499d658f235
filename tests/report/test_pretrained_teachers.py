"""The table of the teachers that come with the project."""

from kd_jax.report import pretrained_teachers


def _manifest(data, accuracy, model, files, device='cpu'):
  metrics = {'accuracy': accuracy, 'nll': 0.25, 'ece': 0.02}
  return {
    'data': data,
    'teacher': {'model': model, 'scaling': 'unit'},
    'training': {
      'parameters': 2_345_678,
      'time': {'train_s': 150.0},
      'environment': {'device': device, 'cores': 2},
    },
    'accuracy': {
      'other': {'test': {'accuracy': 0.1, 'nll': 9.0, 'ece': 0.9}},
      'unit': {'test': metrics},
    },
    'sha256': dict.fromkeys(files, 'digest'),
  }


def test_each_teacher_has_a_line_the_best_of_its_data_first():
  resnet = {
    'kind': 'resnet', 'block': 'basic', 'blocks': [2, 1], 'widths': [8, 16],
  }  # fmt: skip
  mlp = {'kind': 'mlp', 'hidden': [300]}
  outputs = [
    f'{scaling}-{split}.npy'
    for scaling in ('unit', 'other')
    for split in ('train', 'test')
  ]
  table = pretrained_teachers.table(
    {
      'worse': _manifest('cifar10', 0.9, resnet, ['weights.npz']),
      'better': _manifest('cifar10', 0.95, resnet, outputs, device='a GPU'),
      'digits': _manifest('mnist', 0.99, mlp, ['weights.npz', *outputs]),
      'a-run': {'config': {}, 'students': []},
    }
  )
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in table.splitlines()[2:]
  ]
  assert [row[0] for row in rows] == [
    f'`teachers/{name}`' for name in ('better', 'worse', 'digits')
  ]
  better, worse, digits = (row[1:] for row in rows)
  assert better == [
    'cifar10', 'resnet, basic (2, 1) (8, 16)', '2.3 M', '95.00', '0.250',
    '0.020', '`other` outputs, `unit` outputs', '2 min, a GPU',
  ]  # fmt: skip
  assert worse[-2:] == ['weights', '2 min, 2 CPU cores']
  assert digits[1] == 'mlp (300)'
  assert digits[-2] == 'weights, `other` outputs, `unit` outputs'
