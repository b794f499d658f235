"""The table of the teachers that come with the project."""

from collections.abc import Mapping

from kd_jax.report import markdown
from kd_jax.report.fields import Record


def table(results: Mapping[str, Record]) -> str:
  """Returns a line for each teacher in teachers/, by data set and accuracy.

  Args:
    results: the records by name, with the manifests of the teachers. The
      metrics are those of the test split, in the scaling of the training.
  """
  found = {
    name: record for name, record in results.items() if 'sha256' in record
  }

  def order(name: str) -> tuple[str, float]:
    return found[name]['data'], -_metrics(found[name])['accuracy']

  return markdown.table_of_lines(
    [
      {'`--config.teacher.pretrained=`': f'`teachers/{name}`'}
      | _cells(found[name])
      for name in sorted(found, key=order)
    ]
  )


def _metrics(manifest: Record) -> Record:
  """Returns the test metrics in the scaling of the training, if it has them."""
  accuracy = manifest['accuracy']
  scaling = manifest['teacher']['scaling']
  return accuracy.get(scaling, next(iter(accuracy.values())))['test']


def _cells(manifest: Record) -> dict[str, str]:
  metrics = _metrics(manifest)
  training = manifest['training']
  minutes = training['time']['train_s'] / 60
  return {
    'data': manifest['data'],
    'network': _network(manifest['teacher']['model']),
    'parameters': f'{training["parameters"] / 1e6:.1f} M',
    'accuracy %': f'{100 * metrics["accuracy"]:.2f}',
    'NLL': f'{metrics["nll"]:.3f}',
    'ECE': f'{metrics["ece"]:.3f}',
    'holds': _contents(manifest),
    'trained in': f'{minutes:.0f} min, {_device(training["environment"])}',
  }


def _network(model: Record) -> str:
  """Returns 'mlp (1200, 1200)', or the like with all lists of a network."""
  kind = model['kind']
  if 'block' in model:
    kind += f', {model["block"]}'
  layers = (
    f'({", ".join(map(str, model[field]))})'
    for field in ('filters', 'hidden', 'blocks', 'widths')
    if field in model
  )
  return ' '.join([kind, *layers])


def _contents(manifest: Record) -> str:
  scalings = sorted(
    name.removesuffix('-train.npy')
    for name in manifest['sha256']
    if name.endswith('-train.npy')
  )
  parts = ['weights'] if 'weights.npz' in manifest['sha256'] else []
  return ', '.join(parts + [f'`{scaling}` outputs' for scaling in scalings])


def _device(environment: Record) -> str:
  if environment['device'] == 'cpu':
    return f'{environment["cores"]} CPU cores'
  return environment['device']
