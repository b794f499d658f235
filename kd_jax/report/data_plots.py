"""A picture of a data set: a few images of each class."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.report import figures

# Rows of the picture.
MOST_CLASSES = 25


def write_examples(
  path: pathlib.Path,
  images: Mapping[str, Sequence[np.ndarray]],
  num_classes: int,
) -> None:
  """Writes a PNG file with a row of images for each of the first classes.

  Args:
    path: the file.
    images: uint8 [H, W, C] by class name; images of one shape.
    num_classes: the number of classes of the data set.
  """
  shown = dict(list(images.items())[:MOST_CLASSES])
  height, width, channels = next(i for row in shown.values() for i in row).shape
  columns = max(map(len, shown.values()))
  colors = 3 if channels >= 3 else 1
  grid = np.full((len(shown) * height, columns * width, colors), 255, np.uint8)
  for i, row in enumerate(shown.values()):
    for j, image in enumerate(row):
      part = grid[i * height : (i + 1) * height, j * width : (j + 1) * width]
      part[:] = image[..., :colors]
  with figures.figure(path, (8, 1.2 + 0.32 * len(shown))) as axes:
    axes.grid(visible=False)
    figures.title(
      axes.figure,
      f'The first {columns} images of {len(shown)} of {num_classes} classes',
    )
    axes.imshow(grid.squeeze(), cmap='gray', vmin=0, vmax=255)
    centers = [(i + 0.5) * height - 0.5 for i in range(len(shown))]
    axes.set_yticks(centers, [name.replace('$', r'\$') for name in shown])
    axes.set_xticks([])
