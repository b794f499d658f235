"""Compares the best student's mistakes with the teacher's."""

import io
import pathlib
import statistics
from typing import Any

import numpy as np

from kd_jax import config as config_lib
from kd_jax.experiments.rows import RunRows
from kd_jax.report import error_plots
from kd_jax.runtime import files
from kd_jax.training import training_folder

# Images of each kind of mistake that a report shows.
_SHOWN = 18


def write(rows: RunRows, students: list[dict[str, Any]]) -> None:
  """Writes what a report shows of mistakes, to the folder of the run.

  The best student is the first seed of the row with the best mean accuracy,
  among rows that distill if there are any. Students that an older version
  trained are left out.

  Args:
    rows: the rows of the run.
    students: the records of the trained students.
  """
  path = pathlib.Path(rows.workdir) / error_plots.FILE
  files.remove(path)  # It may be that of fewer students.
  run_context = rows.context_for('')
  teacher = rows.teacher_for('')
  test = run_context.dataset.test
  labels = np.asarray(test.labels)
  logits = teacher.logits.get('test')
  distilled = [
    student
    for student in students
    if config_lib.distills(rows.by_name[student['row']].config.distill)
  ]
  best = _best(distilled or students)
  if best is None or logits is None:
    return
  folder = rows.folder(rows.by_name[best['row']]) / f'seed-{best["seed"]}'
  student_classes = training_folder.read_predicted_classes(folder)
  if student_classes is None:
    return
  teacher_classes = np.argmax(np.asarray(logits), axis=-1)
  num_classes = run_context.dataset.num_classes
  confusion = np.zeros((num_classes, num_classes), int)
  np.add.at(confusion, (labels, student_classes), 1)
  by_student = student_classes != labels
  by_teacher = teacher_classes != labels
  arrays: dict[str, Any] = {
    'name': f'{best["row"]} seed {best["seed"]}',
    'classes': run_context.dataset.names_of(range(num_classes)),
    'confusion': confusion,
    'both': int(np.sum(by_student & by_teacher)),
  }
  for kind, wrong, predicted in (
    ('student', by_student & ~by_teacher, student_classes),
    ('teacher', by_teacher & ~by_student, teacher_classes),
  ):
    shown = np.flatnonzero(wrong)[:_SHOWN]
    arrays |= {
      f'{kind}_count': int(wrong.sum()),
      f'{kind}_images': np.asarray(test.images[shown]),
      f'{kind}_labels': labels[shown],
      f'{kind}_said': predicted[shown],
    }
  content = io.BytesIO()
  np.savez_compressed(content, **arrays)
  files.write_bytes(path, content.getvalue())


def _best(students: list[dict[str, Any]]) -> dict[str, Any] | None:
  """Returns the first student of the row with the best mean accuracy."""
  rows: dict[str, list[dict[str, Any]]] = {}
  for student in students:
    rows.setdefault(student['row'], []).append(student)
  accuracy = lambda row: statistics.fmean(s['test']['accuracy'] for s in row)
  return max(rows.values(), key=accuracy)[0] if rows else None
