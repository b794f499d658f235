"""Publishes a trained teacher as a folder that `teacher.pretrained` names."""

import pathlib

from absl import logging
from ml_collections import ConfigDict

from kd_jax import config as config_lib
from kd_jax import data
from kd_jax.evaluation import evaluate
from kd_jax.runtime import environment
from kd_jax.teachers import pretrained, provider
from kd_jax.teachers.teacher import Teacher


def publish(
  config: ConfigDict,
  dataset: data.Dataset,
  teacher: Teacher,
  workdir: pathlib.Path,
) -> None:
  """Publishes a teacher: a folder that `teacher.pretrained` can name.

  Args:
    config: the config of a recipe that trains a teacher alone.
    dataset: the data set that the teacher has learned.
    teacher: trained here.
    workdir: the run's folder; its subfolder `outputs` gets the outputs and, if
      teacher.publish_weights is true, the weights.
  """
  section = config.teacher
  network = teacher.network
  assert network is not None  # It was trained here.
  log = provider.training_log(workdir)
  log.drop(lambda line: True)
  for line in provider.training_log(network.folder).read():
    log.append(line)
  outputs = {
    scaling: network.logits(scaling)
    for scaling in (section.outputs_scaling, *section.also_outputs)
  }
  labels = {'train': dataset.train.labels, 'test': dataset.test.labels}
  metrics = ('test', 'train', 'reliability', 'outputs')
  manifest = {
    'command': environment.command(),
    'data': dataset.name,
    'data_digest': dataset.digest,
    'identity': config_lib.teacher_identity(config, dataset),
    'teacher': config_lib.recorded(config)['teacher'],
    'training': {k: v for k, v in teacher.record.items() if k not in metrics},
    'accuracy': {
      scaling: {
        split: evaluate.evaluate(logits[split], labels[split])
        for split in ('train', 'test')
      }
      for scaling, logits in outputs.items()
    },
  }
  folder = workdir / 'outputs'
  weights = teacher.variables if section.publish_weights else None
  pretrained.write(folder, manifest, outputs=outputs, weights=weights)
  logging.info('teacher: published in %s', folder)
