"""Knowledge distillation in pure functional JAX.

  teacher = kd_jax.store_outputs((apply, variables), images)
  student = kd_jax.distill(
    images, labels, teacher, model=module, eval_data=(test_images, test_labels)
  )
  student.metrics, student.predict(images), student.export('student/')

If you write the training loop, use `kd_jax.losses`, `kd_jax.methods` and
`kd_jax.make_train_step`, all pure functions; examples/*_loop.py show how.
"""

import importlib
from typing import Any

__version__ = '0.1.0'

# Where the names of this package are. Nothing is imported before it is used:
# launch.py and its workers have to set things before JAX starts.
_HOMES = {
  'Student': 'kd_jax.api.trained_student',
  'distill': 'kd_jax.api.distillation',
  'StoredOutputs': 'kd_jax.api.stored_outputs',
  'store_outputs': 'kd_jax.api.stored_outputs',
  'LoadedData': 'kd_jax.api.own_data',
  'load_data': 'kd_jax.api.own_data',
  'Callback': 'kd_jax.runtime.callbacks',
  'UserError': 'kd_jax.runtime.errors',
  'load': 'kd_jax.export.artifact',
  'ArtifactError': 'kd_jax.export.artifact',
  'make_apply': 'kd_jax.models.apply',
  'init_variables': 'kd_jax.models.apply',
  'Batch': 'kd_jax.training.batch',
  'Hyperparameters': 'kd_jax.training.hyperparameters',
  'MethodSetup': 'kd_jax.training.method_terms',
  'make_objective': 'kd_jax.training.objective',
  'make_train_step': 'kd_jax.training.step',
  'init_state': 'kd_jax.training.step',
}
_MODULES = ('losses', 'methods')

__all__ = [*_HOMES, *_MODULES]  # noqa: PLE0604 - they are strings


def __getattr__(name: str) -> Any:
  if name in _HOMES:
    return getattr(importlib.import_module(_HOMES[name]), name)
  if name in _MODULES:
    return importlib.import_module(f'kd_jax.{name}')
  raise AttributeError(f'kd_jax has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
