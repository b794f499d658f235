"""python -m kd_jax.export RUN_DIR: see export.py."""

from kd_jax.export import export

export.main()
