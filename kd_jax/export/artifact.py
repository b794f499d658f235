"""Exported students: `load(FOLDER)` loads a folder from `kd_jax.export`.

This file needs only jax and flatbuffers. It imports no other file of the
project, so it may be copied beside an artifact.

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

NETWORK = 'network.jax_export'
MANIFEST = 'manifest.json'


class ArtifactError(ValueError):
  """A folder holds no artifact, a damaged one, or one for other platforms."""


class Artifact(NamedTuple):
  """A loaded network.

  Attributes:
    predict: maps images uint8 [B, H, W, C], as image files store them, to
      probabilities float32 [B, K], for any batch size B. JAX compiles it at the
      first call with each B.
    manifest: JSON values, among them 'image_shape' [H, W, C] and 'classes', the
      class names in the order of the probabilities. The other values say which
      training the network comes from and how accurate and fast it is.
  """

  predict: Callable[[jax.typing.ArrayLike], jax.Array]
  manifest: dict[str, Any]


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
  folder = pathlib.Path(folder)
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
    ) from error
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
  folder = pathlib.Path(folder)
  manifest, network = read(folder)
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
  return Artifact(jax.jit(exported.call), manifest)


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
