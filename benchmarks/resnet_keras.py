"""The training of resnet_training.py in Keras, by its Distiller.

The environment variable KERAS_BACKEND chooses the backend.
"""

import harness
import keras
import keras_networks
import networks
import numpy as np
import resnet_systems
from keras.distillation import Distiller, LogitsDistillation

from kd_jax.models import costs


def make(network: str, system: str) -> harness.System:
  """Returns Keras' distillation of a network by the ResNet-50."""
  student, teacher = map(keras_networks.make, (network, 'teacher'))
  params = networks.make_variables(network)['params']
  trainable = sum(int(np.prod(v.shape)) for v in student.trainable_weights)
  assert trainable == costs.count_parameters(params)
  distiller = Distiller(
    teacher=teacher,
    student=student,
    distillation_losses=LogitsDistillation(
      temperature=resnet_systems.TEMPERATURE
    ),
  )
  distiller.compile(
    optimizer=keras.optimizers.SGD(
      resnet_systems.RATE,
      momentum=resnet_systems.MOMENTUM,
      nesterov=True,
      weight_decay=resnet_systems.WEIGHT_DECAY,
    ),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  batch = resnet_systems.make_batch()

  def take(count):
    tile = lambda array: np.concatenate([array] * count)
    distiller.fit(
      tile(batch['images']),
      tile(batch['labels']),
      batch_size=resnet_systems.BATCH,
      verbose=0,
    )

  # Keras' loss is a different one, so it is not compared.
  return resnet_systems.make_system(system, take, None)
