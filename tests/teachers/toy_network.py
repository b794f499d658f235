"""An untrained teacher's network on 55 images, for tests of teachers."""

import jax
import jax.numpy as jnp

from kd_jax.data import preprocessing, selection
from kd_jax.models import apply, from_config
from kd_jax.teachers.teacher_network import TeacherNetwork
from tests import helpers


def make_config():
  return helpers.tiny_mnist(
    fields={
      'data.train_examples': 40,
      'data.test_examples': 15,
      'teacher.model.hidden': (6,),
      'eval.batch_size': 16,
    }
  )


def select(dataset):
  """Returns the part of a data set that the config uses."""
  return selection.select(dataset, make_config().data)


def make_variables(dataset, seed=0):
  module = from_config.make_module(
    make_config().teacher.model, dataset.num_classes
  )
  return apply.init_variables(
    module, dataset.task.image_shape, jax.random.key(seed)
  )


def make_network(dataset, folder):
  return TeacherNetwork(make_config(), dataset, make_variables(dataset), folder)


def forward(network, images, scaling='unit'):
  """Returns the logits and features of images."""
  module = from_config.make_module(
    network.config.teacher.model, network.dataset.num_classes
  )
  scaled = preprocessing.SCALINGS[scaling](jnp.asarray(images))
  return module.apply(network.variables, scaled, train=False)
