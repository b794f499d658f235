"""Exported students: `load(FOLDER)` loads a folder from `kd_jax.export`.

This file needs only jax, with its NumPy, and flatbuffers. It imports no other
file of the project, so it may be copied beside an artifact.

On Linux, a CPU predicts large batches up to 15 % faster if the process keeps
the memory that it frees. To make it keep memory, set MALLOC_TRIM_THRESHOLD_=-1
MALLOC_MMAP_MAX_=0 MALLOC_ARENA_MAX=1 in its environment.
"""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

NETWORK = 'network.jax_export'
MANIFEST = 'manifest.json'
# The record of a run, whose folder is no artifact.
_RUN = 'run.json'


class ArtifactError(ValueError):
  """A folder holds no sound artifact for this platform, or images are wrong."""


class Artifact(NamedTuple):
  """A loaded network.

  Attributes:
    predict: maps images uint8 [B, H, W, C], or [B, H, W] for one channel, as
      image files store them, to probabilities float32 [B, K], for any batch
      size B. JAX compiles it at the first call with each B. Other images raise
      an ArtifactError.
    manifest: JSON values, among them 'image_shape' [H, W, C] and 'classes', the
      class names in the order of the probabilities. The other values say which
      training the network comes from and how accurate and fast it is.
  """

  predict: Callable[[jax.typing.ArrayLike], jax.Array]
  manifest: dict[str, Any]

  def __repr__(self) -> str:
    """Returns what the network maps to what, in a line."""
    height, width, channels = self.manifest['image_shape']
    return (
      f'Artifact(images {height}x{width}x{channels} -> '
      f'{len(self.manifest["classes"])} classes)'
    )


def check_images(
  images: Any, image_shape: tuple[int, ...], name: str = 'images'
) -> Any:
  """Returns images as a network takes them.

  Args:
    images: uint8 [N, H, W, C], or [N, H, W] for one channel; a NumPy or JAX
      array, or what NumPy makes an array of.
    image_shape: (H, W, C) of the network's images; () allows any.
    name: what error messages call the images.
  Returns:
    The images, [N, H, W, C].
  Raises:
    ArtifactError: if they have another type or shape.
  """
  # Most images are right, and a call of a small network takes microseconds.
  is_array = isinstance(images, np.ndarray | jax.Array)
  if is_array and images.dtype == np.uint8 and images.shape and len(images):
    if images.shape[1:] == image_shape:
      return images
  if not is_array:
    try:
      images = np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:
      raise ArtifactError(
        f'{name}: expected an array, or what NumPy makes one of ({error})'
      ) from None
  dtype, shape = images.dtype, images.shape
  if np.dtype(dtype).kind == 'f':
    raise ArtifactError(
      f'{name} are {dtype}; expected uint8, with values from 0 to 255: for '
      'values from 0 to 1, np.round(255 * images).astype(np.uint8). The '
      'scaling that was chosen for the training says how networks get them'
    )
  if dtype != np.uint8 or len(shape) not in (3, 4):
    raise ArtifactError(
      f'{name} are {dtype} {list(shape)}; expected uint8 '
      f'{_batch_of(image_shape)}, with values from 0 to 255'
    )
  if len(shape) == 3:
    images = images[..., None]
  if not len(images):
    raise ArtifactError(f'{name}: there is none')
  if image_shape and images.shape[1:] != image_shape:
    raise ArtifactError(
      f'{name} are {list(shape)}; expected {_batch_of(image_shape)}, as those '
      'that the network was trained on'
    )
  return images


def _batch_of(image_shape: tuple[int, ...]) -> str:
  if not image_shape:
    return '[N, H, W, C] or [N, H, W]'
  return f'[N, {", ".join(map(str, image_shape))}]'


def read(
  folder: str | os.PathLike, name: str = NETWORK
) -> tuple[dict[str, Any], bytes]:
  """Reads a file of an artifact, and checks it against the manifest.

  Args:
    folder: the artifact's folder.
    name: the name of the file.
  Returns:
    The manifest and the content of the file.
  Raises:
    ArtifactError: if the manifest or the file is missing or damaged.
  """
  if not isinstance(folder, str | os.PathLike):
    raise ArtifactError(
      f'{folder!r} is no path; expected a folder that an export wrote'
    )
  if '://' in os.fspath(folder):  # `pathlib` would take it for a local folder.
    raise ArtifactError(
      f'{os.fspath(folder)} is an address; expected a local folder: mount the '
      'store, or copy the files'
    )
  folder = pathlib.Path(folder).expanduser()
  if not folder.is_dir():
    raise ArtifactError(
      f'there is no folder {folder}: expected a folder that an export wrote'
    )
  if (folder / _RUN).is_file() and not (folder / MANIFEST).exists():
    raise ArtifactError(
      f'{folder} is the folder of a run: export a student of it first, with '
      f'python -m kd_jax.export {folder}'
    )
  try:
    manifest = json.loads(_read_file(folder / MANIFEST).decode())
    content = _read_file(folder / name)
    sha256 = manifest['sha256'][name]
  except (
    *(OSError, ValueError, KeyError, TypeError),
    *(AttributeError, RecursionError),
  ) as error:
    raise ArtifactError(
      f'{folder} holds no intact {name} ({type(error).__name__}: {error}): '
      'export it again'
    ) from None
  _check_checksum(folder, manifest)
  if hashlib.sha256(content).hexdigest() != sha256:
    raise ArtifactError(
      f'{folder / name} does not match its SHA-256 digest in {MANIFEST}: '
      'export it again'
    )
  return manifest, content


def _check_checksum(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
  """Raises ArtifactError if a manifest does not match its checksum.

  Manifests of older versions have none.
  """
  stored = manifest.pop('checksum', None)
  text = json.dumps(manifest, sort_keys=True, separators=(',', ':'))
  if stored not in (None, hashlib.sha256(text.encode()).hexdigest()[:16]):
    raise ArtifactError(
      f'{folder / MANIFEST} does not match its checksum, so that it was '
      'damaged or edited: export the student again'
    )


def _read_file(path: pathlib.Path) -> bytes:
  if path.exists() and not path.is_file():
    # To read a pipe would be to wait without end.
    raise OSError(f'{path} is no file')
  return path.read_bytes()


def load(folder: str | os.PathLike) -> Artifact:
  """Loads an artifact.

  Args:
    folder: the artifact's folder.
  Returns:
    The network and its manifest.
  Raises:
    ArtifactError: if the artifact is missing, damaged, or for other platforms.
  """
  manifest, network = read(folder)
  folder = pathlib.Path(folder)
  try:
    exported = jax.export.deserialize(bytearray(network))
  except Exception as error:  # flatbuffers, MLIR and JAX raise various types.
    raise ArtifactError(
      f'JAX {jax.__version__} cannot read {folder / NETWORK} '
      f'({str(error) or type(error).__name__}): use the JAX version that '
      'exported it, or export it again'
    ) from error
  _check_custom_calls(folder, exported)
  _check_manifest(folder, manifest, exported)
  _check_platform(folder, exported)
  call, shape = jax.jit(exported.call), tuple(manifest['image_shape'])
  return Artifact(lambda images: call(check_images(images, shape)), manifest)


# The custom calls that `jax.export` keeps stable and that compute, without the
# kernels that a program brings itself.
_CUSTOM_CALLS = re.compile(
  r'(lapack|cusolver|cublas|hipsolver|hipblas)_\w+'
  r'|(cu|hip)_threefry2x32_ffi|stablehlo\.dynamic_\w+|shape_assertion'
  r'|Sharding|SPMDFullToShardShape|SPMDShardToFullShape|AllocateBuffer'
  r'|annotate_device_placement|Eigh|Qr|ProductOfElementaryHouseholderReflectors'
  r'|LuDecomposition|ApproxTopK'
)


def _check_custom_calls(
  folder: pathlib.Path, exported: jax.export.Exported
) -> None:
  """Raises ArtifactError if a network calls code other than JAX's own.

  A digest shows damage, and not intent: whoever changes a network can change
  its digest, too. A call of a Python function, for example, holds an address.
  """
  # The names of operations stand in the bytecode as they are.
  if b'custom_call' not in exported.mlir_module_serialized:
    return
  for target in re.findall(
    r'custom_call @(?:"([^"]*)"|([\w.$]+))|call_target_name = "([^"]*)"',
    exported.mlir_module(),
  ):
    name = ''.join(target)
    if not _CUSTOM_CALLS.fullmatch(name):
      raise ArtifactError(
        f'{folder / NETWORK} calls {name!r}, which is no operation of a '
        'network: do not use the file, and export the student again'
      )


def _check_manifest(
  folder: pathlib.Path, manifest: dict[str, Any], exported: jax.export.Exported
) -> None:
  """Raises ArtifactError if a manifest describes another network."""
  shapes = [tuple(a.shape) for a in (*exported.in_avals, *exported.out_avals)]
  if [len(shape) for shape in shapes] != [4, 2]:
    raise ArtifactError(
      f'{folder / NETWORK} maps {shapes}: expected one array of images '
      '[B, H, W, C] to one array of probabilities [B, K]: export it again'
    )
  (_, *image_shape), (_, num_classes) = shapes
  classes = manifest.get('classes')
  if (
    manifest.get('image_shape') != image_shape
    or not isinstance(classes, list)
    or not all(isinstance(name, str) for name in classes)
    or len(classes) != num_classes
  ):
    raise ArtifactError(
      f'{folder / MANIFEST} describes another network than {NETWORK}, which '
      f'takes images {image_shape} and has {num_classes} classes: export it '
      'again'
    )


def _check_platform(
  folder: pathlib.Path, exported: jax.export.Exported
) -> None:
  """Raises ArtifactError if a network cannot run on the default backend."""
  backend = jax.default_backend()
  platform = {'gpu': 'cuda'}.get(backend, backend)
  if platform not in exported.platforms:
    raise ArtifactError(
      f'{folder} is not for {platform}: run it on '
      f'{" or ".join(exported.platforms)}'
    )
