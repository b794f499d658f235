"""Plots of mistakes: a confusion matrix, and misclassified images.

A run writes what they show to FILE, because its test images may be gone when
the report is written again.
"""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.report import figures
from kd_jax.runtime import errors, local_paths

FILE = 'test_errors.npz'
Arrays = Mapping[str, np.ndarray]
# A matrix of more classes has no numbers, and its axes have no names.
_MOST_CLASSES = 20
_COLUMNS = 6
_ACROSS, _DOWN = 1.1, 1.25  # From image to image, in images.


def write(folder: pathlib.Path) -> dict[str, str]:
  """Writes the plots of a run as PNG files.

  Args:
    folder: the run's folder.
  Returns:
    The caption of each plot, by the file's name without '.png'; {} if the run
    has no FILE.
  Raises:
    UserError: if FILE holds other arrays.
  """
  arrays = _read(folder / FILE)
  if arrays is None:
    return {}
  try:
    return _draw(folder, arrays)
  except errors.BAD_VALUES as error:
    raise errors.UserError(
      f'{folder / FILE} holds no mistakes of a network '
      f'({type(error).__name__}: {error}): remove it, and the launch.py '
      'command of the run writes it anew'
    ) from error


def _draw(folder: pathlib.Path, arrays: Arrays) -> dict[str, str]:
  """Draws the plots; returns their captions, see `write`."""
  _draw_confusion(folder / 'confusion.png', arrays)
  name = arrays['name']
  counts = {k: int(arrays[f'{k}_count']) for k in _KINDS}
  captions = {
    'confusion': f'Test images by class (rows) and by what {name} says of them '
    '(columns).'
  }
  if any(counts.values()):
    _draw_images(folder / 'misclassified.png', arrays)
    captions['misclassified'] = (
      f'{name} alone is wrong on {counts["student"]:,} test images, the '
      f'teacher alone on {counts["teacher"]:,}, and both are wrong on '
      f'{int(arrays["both"]):,}. Above each of the first images: its class, '
      'and the wrong answer.'
    )
  return captions


# Titles of the two groups of images; NAME is the student's.
_KINDS = {
  'student': 'NAME wrong, teacher right',
  'teacher': 'teacher wrong, NAME right',
}


def _read(path: pathlib.Path) -> Arrays | None:
  """Returns what a run wrote; None if it is missing or damaged."""
  try:
    with (
      local_paths.open_regular(path) as file,
      np.load(file, allow_pickle=False) as content,
    ):
      return {name: content[name] for name in content.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    return None


def _draw_confusion(path: pathlib.Path, arrays: Arrays) -> None:
  """Draws a confusion matrix; its title names the most frequent mistake."""
  confusion, classes = arrays['confusion'], _names(arrays)
  with figures.figure(path) as axes:
    # Shares of a class: classes of many examples would hide the others.
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    axes.grid(visible=False)
    figures.title(
      axes.figure, confusion_title(str(arrays['name']), confusion, classes)
    )
    axes.set_xlabel('answer')
    axes.set_ylabel('class')
    if len(confusion) > _MOST_CLASSES:
      return
    places = range(len(confusion))
    axes.set_xticks(places, classes, rotation=45, ha='right')
    axes.set_yticks(places, classes)
    for row, column in np.argwhere(confusion):
      color = 'white' if shares[row, column] > 0.5 else 'black'
      axes.text(
        *(column, row, str(confusion[row, column])),
        **{'ha': 'center', 'va': 'center', 'color': color, 'size': 'small'},
      )


def confusion_title(
  name: str, confusion: np.ndarray, classes: Sequence[str]
) -> str:
  """Returns a sentence about the most frequent mistake.

  Args:
    name: the network.
    confusion: int [K, K], examples by class and by answer.
    classes: the names of the classes.
  """
  wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
  if not wrong.any():
    return f'{name} makes no mistake'
  label, said = map(int, np.unravel_index(np.argmax(wrong), wrong.shape))
  return (
    f'{name}: most often, {classes[label]} is taken for {classes[said]} '
    f'({wrong[label, said]} of {confusion[label].sum()})'
  )


def _draw_images(path: pathlib.Path, arrays: Arrays) -> None:
  """Draws the first images of each kind of mistake, in two groups."""
  rows = {k: -(-len(arrays[f'{k}_images']) // _COLUMNS) for k in _KINDS}
  kinds = [kind for kind, count in rows.items() if count]
  size = (8, sum(1.5 * rows[kind] + 0.7 for kind in kinds))
  with figures.canvas(path, size) as canvas:
    groups = canvas.subplots(
      len(kinds), squeeze=False, height_ratios=[rows[k] for k in kinds]
    )
    for kind, axes in zip(kinds, groups[:, 0], strict=True):
      _draw_kind(axes, kind, arrays)


def kind_title(kind: str, name: str) -> str:
  """Returns the title of a group of images.

  Args:
    kind: 'student' or 'teacher', whoever is wrong.
    name: the student's name.
  """
  return _KINDS[kind].replace('NAME', name.replace('$', r'\$'))


def _draw_kind(axes: figures.Axes, kind: str, arrays: Arrays) -> None:
  """Draws the first images of one kind of mistake, as a grid.

  All images share one pair of axes: separate axes take three times as long.
  """
  classes = _names(arrays)
  images = arrays[f'{kind}_images']
  axes.set_title(
    f'{kind_title(kind, str(arrays["name"]))}: '
    f'{int(arrays[f"{kind}_count"]):,} images',
    size='large', loc='center', pad=12,
  )  # fmt: skip
  height, width = images.shape[1:3]
  wide, high = _ACROSS * width, _DOWN * height
  for i, image in enumerate(images):
    row, column = divmod(i, _COLUMNS)
    left, top = column * wide, row * high
    pixels = image[..., :3] if image.shape[-1] >= 3 else image[..., 0]
    axes.imshow(
      pixels, cmap='gray', vmin=0, vmax=255,
      extent=(left, left + width, top + height, top),
    )  # fmt: skip
    label, said = (arrays[f'{kind}_{name}'][i] for name in ('labels', 'said'))
    axes.text(
      left + width / 2, top - 0.05 * height,
      f'{classes[label]}, not {classes[said]}',
      size='small', ha='center', va='bottom',
    )  # fmt: skip
  axes.set_xlim(0, (_COLUMNS - 1) * wide + width)
  axes.set_ylim(-(-len(images) // _COLUMNS) * high, height - high)
  axes.set_axis_off()


def _names(arrays: Arrays) -> list[str]:
  """Returns the names of the classes; matplotlib takes $ for mathematics."""
  return [str(name).replace('$', r'\$') for name in arrays['classes']]
