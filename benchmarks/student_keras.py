"""The trainings of student_training.py in Keras.

The environment variable KERAS_BACKEND chooses the backend.
"""

import time

import keras
import numpy as np
import student_systems
from keras.distillation import Distiller, LogitsDistillation
from student_systems import BATCH, RATE


def _make_student() -> keras.Model:
  """Returns the student with the shared weights."""
  student = keras.Sequential(
    [
      keras.Input((28, 28)),
      keras.layers.Flatten(),
      keras.layers.Dense(student_systems.HIDDEN, activation='relu'),
      keras.layers.Dense(10),
      keras.layers.Rescaling(1 / student_systems.TEMPERATURE),
    ]
  )
  student.set_weights(student_systems.make_weights())
  return student


def make_fit() -> student_systems.Trainer:
  """Returns `fit` on arrays, as in the paper's code."""
  images, _, logits = student_systems.load_arrays()
  x = images[..., 0].astype(np.float32) / 255
  probs = student_systems.softmax(logits)

  def make_compiled():
    student = _make_student()
    student.compile(
      optimizer=keras.optimizers.Adam(RATE),
      loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return student

  student, losses = make_compiled(), []
  for step in range(student_systems.CHECKED_STEPS):
    part = slice(step * BATCH, (step + 1) * BATCH)
    losses.append(float(student.train_on_batch(x[part], probs[part])))
  student = make_compiled()

  def run(examples):
    began = time.perf_counter()
    student.fit(x[:examples], probs[:examples], batch_size=BATCH, verbose=0)
    return time.perf_counter() - began

  return student_systems.Trainer(losses, run)


def make_distiller() -> student_systems.Trainer:
  """Returns Keras' Distiller, which calls the teacher in every step."""
  images, labels, _ = student_systems.load_arrays()
  x = images[..., 0].astype(np.float32) / 255
  distiller = Distiller(
    teacher=_make_teacher(),
    student=_make_student(),
    distillation_losses=LogitsDistillation(temperature=1.0),
    student_loss_weight=0.0,
  )
  distiller.compile(
    optimizer=keras.optimizers.Adam(RATE),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )

  def run(examples):
    began = time.perf_counter()
    distiller.fit(x[:examples], labels[:examples], batch_size=BATCH, verbose=0)
    return time.perf_counter() - began

  return student_systems.Trainer(None, run)


def _make_teacher() -> keras.Model:
  """Returns the teacher of Table 1, with Keras' initial weights."""
  return keras.Sequential(
    [
      keras.Input((28, 28)),
      keras.layers.Reshape((28, 28, 1)),
      keras.layers.Conv2D(32, 3, activation='relu'),
      keras.layers.Flatten(),
      keras.layers.Dense(1200, activation='relu'),
      keras.layers.Dropout(0.5),
      keras.layers.Dense(1200, activation='relu'),
      keras.layers.Dropout(0.5),
      keras.layers.Dense(10),
      keras.layers.Rescaling(1 / student_systems.TEACHER_TEMPERATURE),
    ]
  )
