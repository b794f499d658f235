"""Training steps of toolkits for distillation, run by their own code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchdistill.core import distillation

# Importing the losses registers KDLoss and WeightedSumLoss.
from torchdistill.losses import high_level, mid_level  # noqa: F401


def torchdistill_step(
  student: nn.Module,
  teacher: nn.Module,
  *,
  optimizer: tuple[str, dict[str, Any]],
  temperature: float,
  ce_weight: float,
  kd_weight: float,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
  """Returns one training step of torchdistill's distillation box.

  The box calls the teacher and the student, adds up the terms of its loss, and
  updates the student. The cost of torchdistill's data loaders is left out, as
  it is for the other systems.

  Args:
    student: the network that learns.
    teacher: the network that is called in every step.
    optimizer: name and arguments of the optimizer.
    temperature: temperature of `KDLoss`.
    ce_weight: weight of the cross-entropy on labels.
    kd_weight: weight of temperature**2 times the divergence from the teacher.
  Returns:
    (images, labels) -> loss, a tensor of rank 0.
  """
  config = _box_config(
    optimizer,
    {'temperature': temperature, 'alpha': ce_weight, 'beta': kd_weight},
  )
  box = distillation.get_distillation_box(
    teacher, student, {}, config, torch.device('cpu'), None, False, 1.0
  )

  def step(images, labels):
    box.pre_forward_process()
    loss = box.forward_process(images, targets=labels, supp_dict={})
    box.post_forward_process(loss=loss)
    return loss.detach()

  return step


def _box_config(
  optimizer: tuple[str, dict[str, Any]], loss_options: dict[str, float]
) -> dict[str, Any]:
  """Returns the config of a box with a `KDLoss` on the networks' outputs."""
  name, arguments = optimizer
  ends = {
    f'{network}_module_{end}': value
    for network in ('student', 'teacher')
    for end, value in (('path', '.'), ('io', 'output'))
  }
  loss = {'key': 'KDLoss', 'kwargs': ends | loss_options}
  terms = {'kd': {'criterion': loss, 'weight': 1.0}}
  return {
    'num_epochs': 1,
    'teacher': {'forward_proc': 'forward_batch_only', 'requires_grad': False},
    'student': {'forward_proc': 'forward_batch_only'},
    'optimizer': {'key': name, 'kwargs': dict(arguments)},
    'criterion': {'key': 'WeightedSumLoss', 'kwargs': {'sub_terms': terms}},
  }
