"""Steps of toolkits for distillation, as they run them."""

from collections.abc import Callable
from typing import Any


def torchdistill_step(
  student,
  teacher,
  *,
  optimizer: tuple[str, dict[str, Any]],
  temperature: float,
  ce_weight: float,
  kd_weight: float,
) -> Callable:
  """Returns (images, labels) -> loss: a step of torchdistill's own program.

  Its box calls the teacher and the student, adds up the terms of its loss, and
  steps; what its loaders of data cost is left out, as it is of other systems.

  Args:
    student, teacher: torch modules.
    optimizer: its name and arguments.
    temperature: of its `KDLoss`.
    ce_weight: of the cross-entropy on labels.
    kd_weight: of temperature**2 times the divergence from the teacher.
  """
  import torch
  from torchdistill.core import distillation
  from torchdistill.losses import high_level, mid_level  # noqa: F401  (register)

  name, arguments = optimizer
  ends = {
    f'{network}_module_{end}': value
    for network in ('student', 'teacher')
    for end, value in (('path', '.'), ('io', 'output'))
  }
  loss = {
    'key': 'KDLoss',
    'kwargs': ends
    | {'temperature': temperature, 'alpha': ce_weight, 'beta': kd_weight},
  }
  terms = {'kd': {'criterion': loss, 'weight': 1.0}}
  box = distillation.get_distillation_box(
    teacher,
    student,
    {},
    {
      'num_epochs': 1,
      'teacher': {'forward_proc': 'forward_batch_only', 'requires_grad': False},
      'student': {'forward_proc': 'forward_batch_only'},
      'optimizer': {'key': name, 'kwargs': dict(arguments)},
      'criterion': {'key': 'WeightedSumLoss', 'kwargs': {'sub_terms': terms}},
    },
    torch.device('cpu'),
    None,
    False,
    1.0,
  )

  def step(images, labels):
    box.pre_forward_process()
    loss = box.forward_process(images, targets=labels, supp_dict={})
    box.post_forward_process(loss=loss)
    return loss.detach()

  return step
