"""The trainings of student_training.py in PyTorch and torchdistill."""

import functools
import time

import numpy as np
import student_systems
import torch
from student_systems import BATCH, CHECKED_STEPS, RATE, TEMPERATURE
from torch import nn
from torch.nn import functional as F


def make_loop(
  *, live: bool = False, compiled: bool = False, bfloat16: bool = False
) -> student_systems.Trainer:
  """Returns a plain loop of steps over batches of a random permutation.

  Args:
    live: whether each step calls the teacher.
    compiled: whether the networks are compiled.
    bfloat16: whether the networks compute in bfloat16.
  """
  x, _, logits = _load_tensors()
  probs = torch.from_numpy(student_systems.softmax(logits))
  teacher = _make_teacher() if live else None
  if live and compiled:
    teacher = torch.compile(teacher, dynamic=False)
  autocast = functools.partial(
    torch.autocast, 'cpu', dtype=torch.bfloat16, enabled=bfloat16
  )

  def make():
    student = _make_student()
    called = torch.compile(student, dynamic=False) if compiled else student
    return called, torch.optim.Adam(student.parameters(), lr=RATE, eps=1e-7)

  def find_targets(index, batch):
    if teacher is None:
      return probs[index]
    with torch.no_grad(), autocast():
      teacher_logits = teacher(batch.view(-1, 1, 28, 28))
      teacher_logits = teacher_logits / student_systems.TEACHER_TEMPERATURE
      return torch.softmax(teacher_logits.float(), dim=1)

  def step(student, optimizer, index):
    optimizer.zero_grad()
    batch = x[index]
    targets = find_targets(index, batch)
    with autocast():
      z = student(batch)
    loss = F.cross_entropy(z.float() / TEMPERATURE, targets)
    loss.backward()
    optimizer.step()
    return loss.detach()

  student, optimizer = make()
  losses = [
    float(step(student, optimizer, slice(i * BATCH, (i + 1) * BATCH)))
    for i in range(CHECKED_STEPS)
  ]
  student, optimizer = make()

  def run(examples):
    began = time.perf_counter()
    total = torch.zeros(())
    for index in torch.randperm(len(x))[:examples].split(BATCH):
      total += step(student, optimizer, index)
    float(total)
    return time.perf_counter() - began

  # Losses in bfloat16 differ too much to be compared.
  return student_systems.Trainer(None if bfloat16 else losses, run)


def make_torchdistill() -> student_systems.Trainer:
  """Returns torchdistill: a step of its box for each random batch."""
  import toolkits

  x, y, _ = _load_tensors()
  # KDLoss has one temperature for both networks.
  assert student_systems.TEACHER_TEMPERATURE == TEMPERATURE
  teacher = nn.Sequential(nn.Unflatten(1, (1, 28, 28)), _make_teacher())

  def make_step():
    return toolkits.torchdistill_step(
      _make_student(),
      teacher,
      optimizer=('Adam', dict(lr=RATE, eps=1e-7)),
      temperature=TEMPERATURE,
      ce_weight=0.0,
      kd_weight=TEMPERATURE**-2,
    )

  step, losses = make_step(), []
  for i in range(CHECKED_STEPS):
    part = slice(i * BATCH, (i + 1) * BATCH)
    # torchdistill's loss is the KL divergence from the teacher. The other
    # systems' cross-entropy is larger by the entropy of the teacher.
    with torch.no_grad():
      log_probs = torch.log_softmax(teacher(x[part]) / TEMPERATURE, dim=1)
    entropy = -(log_probs.exp() * log_probs).sum(1).mean()
    losses.append(float(step(x[part], y[part]) + entropy))
  step = make_step()

  def run(examples):
    began = time.perf_counter()
    for index in torch.randperm(len(x))[:examples].split(BATCH):
      step(x[index], y[index])
    return time.perf_counter() - began

  return student_systems.Trainer(losses, run)


def _load_tensors() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
  """Returns images [N, 784] in [0, 1], labels [N], and teacher logits."""
  images, labels, logits = student_systems.load_arrays()
  x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255)
  return x, torch.from_numpy(labels.astype(np.int64)), logits


def _make_student() -> nn.Module:
  """Returns the student with the shared weights."""
  hidden = student_systems.HIDDEN
  student = nn.Sequential(
    nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
  )
  with torch.no_grad():
    for parameter, value in zip(
      student.parameters(), student_systems.make_weights(), strict=True
    ):
      parameter.copy_(torch.from_numpy(value.T.copy()))
  return student


def _make_teacher() -> nn.Module:
  """Returns the teacher with the shared weights, for evaluation."""
  teacher = nn.Sequential(
    *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(32 * 26 * 26, 1200), nn.ReLU(), nn.Dropout(0.5)),
    *(nn.Linear(1200, 1200), nn.ReLU(), nn.Dropout(0.5)),
    nn.Linear(1200, 10),
  )
  weights = student_systems.make_teacher_weights()
  kernels, biases = weights[::2], weights[1::2]
  kernels[0] = kernels[0].transpose(3, 2, 0, 1)
  # PyTorch flattens maps [C, H, W], and the shared weights are for [H, W, C].
  first = kernels[1].reshape(26, 26, 32, 1200).transpose(3, 2, 0, 1)
  kernels[1] = first.reshape(1200, -1)
  kernels[2:] = [kernel.T for kernel in kernels[2:]]
  layers = [
    layer for layer in teacher if isinstance(layer, nn.Conv2d | nn.Linear)
  ]
  with torch.no_grad():
    for layer, kernel, bias in zip(layers, kernels, biases, strict=True):
      layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
      layer.bias.copy_(torch.from_numpy(bias))
  return teacher.eval()
