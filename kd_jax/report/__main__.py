"""python -m kd_jax.report RUN_DIR: see report.py."""

from absl import app

from kd_jax.report import report

app.run(report.main)
