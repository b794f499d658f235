"""Runs a recipe of configs/ and prints the report.

python launch.py --config=configs/mnist.py:table1
python launch.py --list
"""

try:
  from kd_jax.cli import launch
  from kd_jax.runtime import host_memory
except KeyboardInterrupt:  # Ctrl-C before anything began.
  raise SystemExit(130) from None

if __name__ == '__main__':
  # This comes first, because it has no effect once threads are running.
  host_memory.keep_freed_memory()
  launch.start()
