"""The trainings of resnet_training.py in PyTorch and torchdistill."""

import functools
from collections.abc import Callable

import harness
import resnet_systems
import torch
import torch_networks
from resnet_systems import CHECKED_STEPS, MOMENTUM, RATE, TEMPERATURE
from torch import nn
from torch.nn import functional as F


def make(network: str, system: str) -> harness.System:
  """Returns a plain loop of steps; a system's name says how it computes.

  Args:
    network: the student.
    system: a system of the table. 'live' calls the teacher in each step,
      'compiled' compiles the networks, 'graph' replays the step as one CUDA
      graph, 'bfloat16' computes in bfloat16.
  """
  device = harness.torch_device()
  student = torch_networks.make(network).to(device)
  teacher = None
  if 'live' in system:
    teacher = torch_networks.make('teacher').eval().to(device)
  optimizer = torch.optim.SGD(
    student.parameters(),
    lr=RATE,
    momentum=MOMENTUM,
    nesterov=True,
    weight_decay=resnet_systems.WEIGHT_DECAY,
    fused=device == 'cuda' or None,
  )
  variables = list(student.state_dict().values())
  initial = [variable.detach().clone() for variable in variables]
  if 'compiled' in system:
    options: dict[str, bool | str] = {'dynamic': False}
    if device == 'cuda':
      options['mode'] = 'max-autotune'
    student = torch.compile(student, **options)
    teacher = teacher and torch.compile(teacher, **options)
  is_graph = 'graph' in system
  autocast = functools.partial(
    torch.autocast,
    device,
    dtype=torch.bfloat16,
    enabled='bfloat16' in system,
    cache_enabled=not is_graph,  # A graph must record the casts.
  )
  step = _make_step(student, teacher, optimizer, autocast)
  if is_graph:
    step = _as_graph(step)
    # Making the graph took steps, so the training starts again from the first
    # weights, as in the other systems.
    with torch.no_grad():
      for variable, value in zip(variables, initial, strict=True):
        variable.copy_(value)
      for state in optimizer.state.values():
        state['momentum_buffer'].zero_()

  def take(count):
    losses = [step() for _ in range(count)]
    return [float(loss) for loss in losses]  # Waits for the last.

  check = None if 'bfloat16' in system else take(CHECKED_STEPS)
  return resnet_systems.make_system(system, take, check)


def _make_step(
  student: nn.Module,
  teacher: nn.Module | None,
  optimizer: torch.optim.Optimizer,
  autocast: Callable,
) -> Callable[[], torch.Tensor]:
  """Returns a function that takes a training step and returns its loss.

  Args:
    student: the network that learns.
    teacher: the live teacher; None to use stored logits.
    optimizer: the student's optimizer.
    autocast: makes the context in which the networks compute.
  """
  images, labels, stored = _make_tensors()

  def step():
    optimizer.zero_grad()
    teacher_logits = stored
    if teacher is not None:
      with torch.no_grad(), autocast():
        teacher_logits = teacher(images).float()
    with autocast():
      logits = student(images)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels)
    loss = loss + TEMPERATURE**2 * F.kl_div(
      F.log_softmax(logits / TEMPERATURE, dim=1),
      F.log_softmax(teacher_logits / TEMPERATURE, dim=1),
      log_target=True,
      reduction='batchmean',
    )
    loss.backward()
    optimizer.step()
    return loss.detach().clone()

  return step


def _make_tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Returns images [B, 3, 32, 32], channels-last, labels and logits."""
  batch = resnet_systems.make_batch()
  images = torch.from_numpy(batch['images'].transpose(0, 3, 1, 2).copy())
  tensors = (
    images.to(memory_format=torch.channels_last),
    torch.from_numpy(batch['labels']).long(),
    torch.from_numpy(batch['teacher_logits']),
  )
  return tuple(tensor.to(harness.torch_device()) for tensor in tensors)


def _as_graph(step: Callable) -> Callable:
  """Records a step as a CUDA graph, and returns a function that replays it."""
  stream = torch.cuda.Stream()
  stream.wait_stream(torch.cuda.current_stream())
  with torch.cuda.stream(stream):
    for _ in range(3):  # Allocates memory, and chooses algorithms.
      step()
  torch.cuda.current_stream().wait_stream(stream)
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    loss = step()

  def replay():
    graph.replay()
    return loss.clone()

  return replay


def make_torchdistill(network: str, system: str) -> harness.System:
  """Returns steps of torchdistill's box, in float32."""
  import toolkits

  step = toolkits.torchdistill_step(
    torch_networks.make(network),
    torch_networks.make('teacher').eval(),
    optimizer=(
      'SGD',
      dict(
        lr=RATE,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=resnet_systems.WEIGHT_DECAY,
      ),
    ),
    temperature=TEMPERATURE,
    ce_weight=1.0,
    kd_weight=1.0,
  )
  images, labels, _ = _make_tensors()
  take = lambda count: [float(step(images, labels)) for _ in range(count)]
  return resnet_systems.make_system(system, take, take(CHECKED_STEPS))
