"""Writes a folder of generated photographs: JPEG files of varied sizes.

Each class is a shape in a texture. Noise of several scales makes the files as
large as those of photographs.
"""

import pathlib
from concurrent import futures

import numpy as np
from PIL import Image

CLASSES = tuple(f'shape_{i}' for i in range(10))
_TEST_SHARE = 10  # A tenth of the training images, in addition.


def write(
  folder: pathlib.Path, count: int, sides: tuple[int, int] = (96, 500)
) -> None:
  """Writes train/CLASS/*.jpg and test/CLASS/*.jpg.

  Args:
    folder: the folder to write.
    count: the number of training images.
    sides: the least and the largest side in pixels; sides are drawn by their
      logarithm, as most photographs are small.
  """
  tasks = []
  for split, number in (('train', count), ('test', count // _TEST_SHARE)):
    for name in CLASSES:
      (folder / split / name).mkdir(parents=True, exist_ok=True)
    tasks += [
      (folder / split, range(start, min(start + 250, number)), sides)
      for start in range(0, number, 250)
    ]
  with futures.ProcessPoolExecutor() as pool:
    for _ in pool.map(_write_some, tasks):
      pass


def _write_some(task: tuple[pathlib.Path, range, tuple[int, int]]) -> None:
  """Writes the images of some indices in the folder of a split."""
  folder, indices, sides = task
  for index in indices:
    random = np.random.default_rng([folder.name == 'test', index])
    label = index % len(CLASSES)
    low, high = np.log(sides)
    height, width = np.exp(random.uniform(low, high, 2)).round().astype(int)
    image = Image.fromarray(_draw(random, label, height, width))
    image.save(folder / CLASSES[label] / f'{index:06d}.jpg', quality=90)


def _draw(
  random: np.random.Generator, label: int, height: int, width: int
) -> np.ndarray:
  """Returns an image uint8 [H, W, 3] of a class."""
  y, x = np.mgrid[:height, :width].astype(np.float32)
  y, x = y / height - 0.5, x / width - 0.5
  image = np.full((height, width, 3), 128, np.float32)
  for scale in (4, 16, 64):  # Noise of larger scales is stronger.
    small = random.normal(size=(scale, scale, 3)).astype(np.float32)
    small = np.clip(128 + 40 * small, 0, 255).astype(np.uint8)
    large = Image.fromarray(small).resize(
      (width, height), Image.Resampling.BICUBIC
    )
    image += (np.asarray(large, np.float32) - 128) * 4 / scale**0.5
  turn = random.uniform(0, np.pi)
  along = np.cos(turn) * x + np.sin(turn) * y
  across = np.cos(turn) * y - np.sin(turn) * x
  # Five numbers of lobes, in two textures.
  angle, radius = np.arctan2(across, along), np.hypot(across, along)
  inside = radius < 0.3 + 0.1 * np.cos((label % 5 + 2) * angle)
  waves = np.sin(2 * np.pi * (6 + 10 * (label // 5)) * along)
  color = random.uniform(-90, 90, 3).astype(np.float32)
  image += inside[..., None] * (color + 50 * waves[..., None])
  image += random.normal(0, 8, image.shape)
  return np.clip(image, 0, 255).astype(np.uint8)
