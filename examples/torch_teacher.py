"""A PyTorch teacher: its logits and features, for students of this project.

python -m examples.torch_teacher --data=FOLDER --output=t.npz \
  --model=torchvision:resnet18:IMAGENET1K_V1 --weights=resnet18.safetensors \
  --features=layer3,layer4
python launch.py --config.teacher.features=t-features.npz \
  --config=configs/user_data.py:distill,data=FOLDER,teacher=t.npz,method=kl+hint

The model is one of:
  torchvision:NAME[:WEIGHTS] for example torchvision:resnet18:IMAGENET1K_V1;
    WEIGHTS gives the preprocessing and the names of the classes
  timm:NAME, whose configuration gives the preprocessing
  transformers:FOLDER, a saved image classifier with its image processor

Images go through the model's own preprocessing, from the original files if the
data is a folder. The output [examples, classes] has the order of the data's
files and the order of our classes, which are matched by name. It needs torch,
and the library of the model: benchmarks/requirements.txt.
Weights are read from .safetensors files, and never from pickles, which can run
code.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import pathlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kd_jax import data
from kd_jax.data.user_data import image_files, unlabeled_images
from kd_jax.runtime import errors, host_memory, local_paths

try:
  import torch
except ModuleNotFoundError:  # --help needs none; `main` says what is missing.
  torch = None


# The packages that a teacher may need, and the line for a missing one.
_LIBRARIES = ('safetensors', 'timm', 'torchvision', 'transformers')
_NOT_INSTALLED = (
  'error: {0} is not installed: pip install {0}; benchmarks/requirements.txt '
  'has the versions that are tested'
)


class TorchTeacher(NamedTuple):
  """A classifier with its preprocessing.

  Attributes:
    module: maps float images [B, C, H, W] to logits [B, K], or to an object
      with the attribute `logits`.
    transform: maps an RGB image to the module's input [C, H, W].
    class_names: the names of the K classes; () if unknown.
  """

  module: torch.nn.Module
  transform: Callable[[Image.Image], torch.Tensor]
  class_names: tuple[str, ...]


class Flags(NamedTuple):
  """The flags of a command that describe the model; see `main`."""

  model: str
  weights: str = ''
  classes: str = ''
  size: int = 0
  mean: str = ''
  std: str = ''


# --- The teacher. ---


def load_teacher(flags: Flags, num_classes: int) -> TorchTeacher:
  """Returns the teacher that a command names.

  Args:
    flags: the command.
    num_classes: the number of its classes, if it has no names for them.
  Raises:
    UserError: if the library is unknown, or the weights are no .safetensors
      file or do not fit the model.
  """
  library, _, name = flags.model.partition(':')
  loaders = {
    'torchvision': _load_torchvision,
    'timm': _load_timm,
    'transformers': _load_transformers,
  }
  if library not in loaders or not name:
    raise errors.UserError(
      f'--model={flags.model}: expected LIBRARY:NAME, with a library of '
      f'{", ".join(loaders)}'
    )
  class_names: tuple[str, ...] = ()
  if flags.classes:
    class_names = _read_names(flags.classes)
  teacher = loaders[library](name, class_names, num_classes, flags)
  teacher.module.eval()
  return teacher


def _read_names(name: str) -> tuple[str, ...]:
  """Returns the names of classes in the lines of a file."""
  path = local_paths.expand(name, '--classes')
  try:
    with local_paths.open_regular(path) as file:
      lines = file.read().decode().splitlines()
  except (OSError, ValueError) as error:
    raise errors.UserError(f'--classes={name}: {error}') from None
  return tuple(line.strip() for line in lines if line.strip())


@contextlib.contextmanager
def _named_model(flags: Flags) -> Iterator[None]:
  """Turns what a library says of an unknown model into one line."""
  try:
    yield
  except (KeyError, ValueError, OSError, RuntimeError) as error:
    raise errors.UserError(
      f'--model={flags.model}: {type(error).__name__}: '
      f'{" ".join(str(error).split())[:300]}'
    ) from None


def _load_torchvision(
  name: str, class_names: tuple[str, ...], num_classes: int, flags: Flags
) -> TorchTeacher:
  import torchvision

  name, _, version = name.partition(':')
  transform = _transform(flags)
  with _named_model(flags):
    if version:
      preset = torchvision.models.get_model_weights(name)[version]
      transform = preset.transforms()
      class_names = class_names or tuple(preset.meta['categories'])
    module = torchvision.models.get_model(
      name, num_classes=len(class_names) or num_classes
    )
  _set_weights(module, flags.weights)
  return TorchTeacher(module, transform, class_names)


def _load_timm(
  name: str, class_names: tuple[str, ...], num_classes: int, flags: Flags
) -> TorchTeacher:
  import timm

  with _named_model(flags):
    module = timm.create_model(
      name, pretrained=False, num_classes=len(class_names) or num_classes
    )
  _set_weights(module, flags.weights)
  config = timm.data.resolve_model_data_config(module)
  transform = timm.data.create_transform(**config, is_training=False)
  return TorchTeacher(module, transform, class_names)


def _load_transformers(
  name: str, class_names: tuple[str, ...], num_classes: int, flags: Flags
) -> TorchTeacher:
  import transformers

  del num_classes  # The folder says it.
  if flags.weights:
    raise errors.UserError(
      f'--weights={flags.weights}: a transformers folder holds its weights; '
      "expected ''"
    )
  with _named_model(flags):
    module = transformers.AutoModelForImageClassification.from_pretrained(
      name, use_safetensors=True, local_files_only=True
    )
    processor = transformers.AutoImageProcessor.from_pretrained(
      name, local_files_only=True
    )

  def transform(image: Image.Image) -> torch.Tensor:
    return processor(image, return_tensors='pt')['pixel_values'][0]

  names = module.config.id2label
  class_names = class_names or tuple(names[k] for k in sorted(names))
  return TorchTeacher(module, transform, class_names)


def read_weights(path: str) -> dict[str, torch.Tensor]:
  """Returns the tensors of a .safetensors file by name.

  Raises:
    UserError: if the file is missing, damaged or of another kind.
  """
  import safetensors
  import safetensors.torch

  if not path.endswith('.safetensors'):
    raise errors.UserError(
      f'--weights={path}: expected FILE.safetensors; pickles (.pt, .pth, .bin) '
      'can run code: convert them with safetensors.torch.save_file('
      'torch.load(FILE, weights_only=True), NEW)'
    )
  try:
    return safetensors.torch.load_file(path)
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError(f'--weights={path}: {error}') from None


def _set_weights(module: torch.nn.Module, path: str) -> None:
  try:
    module.load_state_dict(read_weights(path))
  except RuntimeError as error:  # Names all tensors that do not fit.
    raise errors.UserError(
      f'--weights={path}: {" ".join(str(error).split())[:500]}'
    ) from None


def _transform(flags: Flags) -> Callable[[Image.Image], torch.Tensor]:
  """Returns a transform to [0, 1], resized and normalized if flags say so."""
  mean = torch.tensor(_channels('mean', flags.mean, 0.0))
  std = torch.tensor(_channels('std', flags.std, 1.0))

  def transform(image: Image.Image) -> torch.Tensor:
    if flags.size:
      image = image.resize((flags.size, flags.size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    return (pixels - mean[:, None, None]) / std[:, None, None]

  return transform


def _channels(flag: str, text: str, default: float) -> list[float]:
  """Returns the numbers of a flag: one, or one for each of three channels."""
  if not text:
    return [default]
  try:
    values = [float(part) for part in text.split(',')]
  except ValueError:
    values = []
  is_usable = np.isfinite(values).all() and (flag == 'mean' or 0 not in values)
  if len(values) not in (1, 3) or not is_usable:
    raise errors.UserError(
      f'--{flag}={text}: expected one number or three, such as '
      '0.485,0.456,0.406'
    )
  return values


# --- The classes and the images, in our order. ---


def column_order(
  ours: Sequence[str], theirs: Sequence[str]
) -> list[int] | None:
  """Returns the column of the teacher's logits for each of our classes.

  Args:
    ours: the names of our classes; () if the data has none.
    theirs: the names of the teacher's columns; () if unknown.
  Returns:
    The columns; None if they cannot be matched, because names are unknown.
  Raises:
    UserError: if a class of ours has no column of its name, or more than one.
  """
  if not ours or not theirs:
    return None
  wanted = collections.Counter(map(_plain, ours))
  found = collections.Counter(map(_plain, theirs))
  doubled = [n for n in wanted if wanted[n] > 1 or found[n] > 1]
  if doubled:
    raise errors.UserError(
      f'more than one class is called {doubled[0]!r}, apart from case and _: '
      'rename the classes of the data, or give --classes=FILE, with another '
      'name for each column of the teacher'
    )
  columns = {_plain(name): column for column, name in enumerate(theirs)}
  missing = [name for name in ours if _plain(name) not in columns]
  if missing:
    raise errors.UserError(
      f'the teacher has no class {", ".join(missing[:5])}'
      f'{", ..." if len(missing) > 5 else ""}; its classes are '
      f'{", ".join(theirs[:5])}{", ..." if len(theirs) > 5 else ""}: give '
      '--classes=FILE, with the name of each of its columns in a line'
    )
  return [columns[_plain(name)] for name in ours]


def _plain(name: str) -> str:
  """Returns a name as names are compared."""
  composed = unicodedata.normalize('NFC', name)
  return composed.casefold().replace('_', ' ').strip()


def choose_columns(
  logits: np.ndarray, columns: list[int] | None, num_classes: int
) -> np.ndarray:
  """Returns logits [N, K] in the order of our K classes.

  Args:
    logits: [N, number of the teacher's classes].
    columns: see `column_order`.
    num_classes: K.
  Raises:
    UserError: if names are unknown and the numbers of classes differ.
  """
  if columns is not None:
    return logits[:, columns]
  if logits.shape[1] != num_classes:
    raise errors.UserError(
      f'the teacher has {logits.shape[1]} classes, and the data has '
      f'{num_classes}: give the names of both (--classes=FILE, and a folder of '
      'images), so that classes can be matched'
    )
  return logits


def split_images(
  name: str, dataset: data.Dataset, split: str
) -> Iterator[Image.Image]:
  """Yields the RGB images of a split in the order of the data's files."""
  paths = data.list_image_files(name).get(split)
  if paths is not None:
    yield from map(_open, paths)
    return
  part = getattr(dataset, split)
  for index in np.argsort(part.origin.positions):
    yield _as_rgb(np.asarray(part.images[index]))


def unlabeled(name: str) -> Iterator[Image.Image]:
  """Yields the RGB images that `train.unlabeled` names, in their order."""
  if name.endswith('.npz'):
    with np.load(name, allow_pickle=False) as content:
      yield from map(_as_rgb, content['images'])
    return
  yield from map(_open, unlabeled_images.list_files(pathlib.Path(name)))


def _open(path: pathlib.Path) -> Image.Image:
  image = image_files.open_image(str(path), path)
  return Image.fromarray(image_files.as_array(image, 0, is_gray=False))


def _as_rgb(pixels: np.ndarray) -> Image.Image:
  """Returns an image of an array [H, W] or [H, W, C]."""
  if pixels.ndim == 3 and pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  return Image.fromarray(pixels).convert('RGB')


# --- Outputs. ---


def compute_outputs(
  teacher: TorchTeacher,
  images: Iterable[Image.Image],
  layers: Sequence[str] = (),
  batch_size: int = 64,
  count: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Returns logits float32 [N, K], and features float16 [N, ...] by layer.

  Args:
    teacher: the teacher.
    images: RGB images.
    layers: names of modules, see `torch.nn.Module.named_modules`; maps become
      [N, H, W, C].
    batch_size: images per call.
    count: the number of images, by which memory is checked.
  Raises:
    UserError: if a layer does not exist, or gives no [B, C] or [B, C, H, W];
      or if the features do not fit in memory.
  """
  logits: list[np.ndarray] = []
  parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
  with _hooks(teacher.module, parts), torch.inference_mode():
    for batch in _batches(images, batch_size):
      outputs = teacher.module(torch.stack([*map(teacher.transform, batch)]))
      outputs = getattr(outputs, 'logits', outputs)
      logits.append(outputs.float().numpy())
      if len(logits) == 1:
        size = sum(part[0].nbytes for part in parts.values())
        host_memory.check_available(
          2 * size * count // len(batch),
          f'the features {", ".join(parts)} of {count:,} images',
          'choose fewer layers, or smaller ones',
        )
  features = {layer: np.concatenate(part) for layer, part in parts.items()}
  return np.concatenate(logits), features


@contextlib.contextmanager
def _hooks(
  module: torch.nn.Module, parts: dict[str, list[np.ndarray]]
) -> Iterator[None]:
  """Appends the outputs of modules to `parts`, by their names."""
  modules = dict(module.named_modules())
  handles = []
  for layer in parts:
    if layer not in modules or not layer:
      raise errors.UserError(
        f'--features: the model has no module {layer!r}; expected some of '
        f'{", ".join(list(modules)[1:30])}, ...'
      )

    def keep(module: Any, args: Any, output: Any, layer: str = layer) -> None:
      del module, args
      parts[layer].append(_as_features(output, layer))

    handles.append(modules[layer].register_forward_hook(keep))
  try:
    yield
  finally:
    for handle in handles:
      handle.remove()


def _as_features(output: Any, layer: str) -> np.ndarray:
  """Returns an output of a module as float16 [B, C] or [B, H, W, C]."""
  rank = output.ndim if isinstance(output, torch.Tensor) else None
  if rank not in (2, 4):
    shape = tuple(output.shape) if rank else type(output).__name__
    raise errors.UserError(
      f'--features: {layer} gives {shape}; expected [B, C] or [B, C, H, W]: '
      'choose another module'
    )
  if rank == 4:
    output = output.permute(0, 2, 3, 1)
    if output.shape[1:3] == (1, 1):  # A pooled map is a vector.
      output = output[:, 0, 0]
  return output.half().contiguous().numpy()


def _batches(
  images: Iterable[Image.Image], size: int
) -> Iterator[list[Image.Image]]:
  batch: list[Image.Image] = []
  for image in images:
    batch.append(image)
    if len(batch) == size:
      yield batch
      batch = []
  if batch:
    yield batch


def main(argv: Sequence[str] | None = None) -> None:
  """Writes the files that `teacher.logits` and `teacher.features` take."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  add = parser.add_argument
  add('--data', required=True, help='as in --config.data.name')
  add('--image_size', type=int, default=0, help='as in data.image_size')
  add('--unlabeled', default='', help='as in --config.train.unlabeled')
  add('--output', required=True, help='FILE.npz for the logits')
  add('--features', default='', help='names of modules, joined by commas')
  add('--batch_size', type=int, default=64)
  add('--model', required=True, help='LIBRARY:NAME, see the docstring')
  add('--weights', default='', help='FILE.safetensors')
  add('--classes', default='', help='a file with the name of each column')
  add('--size', type=int, default=0, help='without WEIGHTS: resizes to N x N')
  add('--mean', default='', help='without WEIGHTS: mean of each channel')
  add('--std', default='', help='without WEIGHTS: deviation of each channel')
  args = parser.parse_args(argv)
  if torch is None:
    raise SystemExit(_NOT_INSTALLED.format('torch'))
  try:
    write_outputs(args)
  except errors.UserError as error:
    raise SystemExit(f'error: {error}') from None
  except ModuleNotFoundError as error:
    if error.name not in _LIBRARIES:
      raise
    raise SystemExit(_NOT_INSTALLED.format(error.name)) from None


def _output_path(name: str) -> pathlib.Path:
  """Returns the path for the logits, in a folder that exists from now on."""
  path = local_paths.expand(name, '--output')
  if path.suffix != '.npz':  # NumPy would add it.
    raise errors.UserError(f'--output={name}: expected FILE.npz')
  local_paths.check_regular(path, '--output')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(f'--output={name}: {error}') from None
  return path


def write_outputs(args: argparse.Namespace) -> None:
  """Computes and writes the outputs that a command asks for."""
  output = _output_path(args.output)
  dataset = data.load(
    args.data,
    image_size=args.image_size,
    # The images of a folder are read from its files, see `split_images`.
    memory_gib=0 if data.list_image_files(args.data) else float('inf'),
    needs_test=False,
  )
  teacher = load_teacher(
    Flags(**{field: getattr(args, field) for field in Flags._fields}),
    dataset.num_classes,
  )
  columns = column_order(dataset.class_names, teacher.class_names)
  if columns is None:
    print('the order of the classes cannot be checked: names are unknown')
  layers = [layer for layer in args.features.split(',') if layer]
  logits = {}
  for split in data.SPLITS:
    part = getattr(dataset, split)
    if not len(part.labels):
      continue
    images = split_images(args.data, dataset, split)
    wanted = layers if split == 'train' else []
    every, features = compute_outputs(
      teacher, images, wanted, args.batch_size, len(part.labels)
    )
    logits[split] = choose_columns(every, columns, dataset.num_classes)
    right = (
      np.argmax(logits[split][part.origin.positions], axis=-1) == part.labels
    )
    print(f'{split}: {len(every):,} images, accuracy {np.mean(right):.2%}')
    if features:
      path = output.with_name(f'{output.stem}-features.npz')
      np.savez(path, **features)
      shapes = {layer: array.shape[1:] for layer, array in features.items()}
      print(f'--config.teacher.features={path}: {shapes}')
  if args.unlabeled:
    every, _ = compute_outputs(
      teacher, unlabeled(args.unlabeled), (), args.batch_size
    )
    logits['unlabeled'] = choose_columns(every, columns, dataset.num_classes)
  np.savez(output, **logits)
  print(f'--config.teacher.logits={output}')


if __name__ == '__main__':
  main()
