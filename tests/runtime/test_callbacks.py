"""Callbacks that follow a run: TensorBoard, trackers, and their failures.

Also tests `kd_jax/runtime/tensorboard.py`.
"""

import importlib
import sys
import types
from unittest import mock

import pytest
from absl import logging

from kd_jax.runtime import callbacks, errors, run_records, tensorboard
from tests import helpers


class _Recorder(callbacks.Callback):
  """Keeps the calls that it gets."""

  def __init__(self):
    self.told = []

  def on_start(self, config, workdir):
    self.told.append(('start', config['name'], workdir.name))

  def on_epoch(self, line):
    self.told.append(('epoch', line['row'], line['epoch']))

  def on_end(self, record):
    self.told.append(('end', record['status']))


def test_a_callback_follows_the_teacher_and_the_students(tmp_path):
  recorder = _Recorder()
  fields = {'data.train_examples': 64, 'data.test_examples': 32}
  config = helpers.tiny_mnist('h50', fields | {'train.folds': 0})
  helpers.run(config, tmp_path, callbacks=[recorder])
  assert recorder.told[0] == ('start', config.name, 'run')
  assert recorder.told[-1] == ('end', 'complete')
  folders = [tmp_path / 'run', *(tmp_path / 'teachers').glob('[!.]*')]
  lines = [
    ('epoch', line['row'], line['epoch'])
    for folder in folders
    for line in run_records.MetricsLog(folder / 'metrics.jsonl').read()
  ]
  assert sorted(recorder.told[1:-1]) == sorted(lines)
  assert {row for _, row, _ in lines} == {'teacher', 'h50'}


def test_a_callback_that_fails_is_left_out_and_the_others_go_on():
  failing, recorder = _Recorder(), _Recorder()
  failing.on_epoch = mock.Mock(side_effect=ConnectionError('no server'))
  both = callbacks.Callbacks([failing, recorder])
  with mock.patch.object(logging, 'warning') as warning:
    for epoch in range(2):
      both.on_epoch({'row': 'a', 'epoch': epoch})
  assert recorder.told == [('epoch', 'a', 0), ('epoch', 'a', 1)]
  failing.on_epoch.assert_called_once()
  warning.assert_called_once()
  assert 'no server' in str(warning.call_args.args[-1])


def test_tensorboard_gets_the_metrics_of_each_epoch(tmp_path):
  reader = pytest.importorskip('tensorboardX.proto.event_pb2')
  board = tensorboard.TensorBoard()
  board.on_start({}, tmp_path)
  for epoch in (0, 1):
    line = {
      'row': 'h50',
      'seed': 3,
      'epoch': epoch,
      'eval/accuracy': 0.5 + epoch,
    }
    board.on_epoch(line)
  board.on_end({})
  (path,) = (tmp_path / 'tensorboard' / 'h50' / 'seed-3').iterdir()
  content, events = path.read_bytes(), []
  while content:  # A record: its length, a checksum, the event, a checksum.
    size = int.from_bytes(content[:8], 'little')
    events.append(reader.Event.FromString(content[12 : 12 + size]))
    content = content[16 + size :]
  values = [
    (event.step, value.tag, value.simple_value)
    for event in events
    for value in event.summary.value
  ]
  assert values == [(0, 'eval/accuracy', 0.5), (1, 'eval/accuracy', 1.5)]


def test_tensorboard_without_its_writer_is_an_error_before_any_work(
  monkeypatch,
):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(errors.UserError, match='pip install tensorboardX'):
    tensorboard.TensorBoard()


def test_the_example_tells_wandb_each_epoch_and_the_results(
  monkeypatch, tmp_path
):
  run = mock.Mock(summary={})
  wandb = types.SimpleNamespace(init=mock.Mock(return_value=run))
  monkeypatch.setitem(sys.modules, 'wandb', wandb)
  example = importlib.import_module('examples.wandb_callback')
  follower = example.WandbCallback()
  follower.on_start({'seeds': 1}, tmp_path)
  follower.on_epoch({'row': 'h50', 'seed': 3, 'epoch': 2, 'train/loss': 0.25})
  follower.on_end(
    {'students': [{'row': 'h50', 'seed': 3, 'test': {'accuracy': 0.75}}]}
  )
  assert wandb.init.call_args.kwargs['config'] == {'seeds': 1}
  run.log.assert_called_once_with(
    {'h50/seed-3/train/loss': 0.25, 'h50/seed-3/epoch': 2}
  )
  assert run.summary == {'h50/seed-3/test_accuracy': 0.75}
  run.finish.assert_called_once_with()
  monkeypatch.delitem(sys.modules, 'examples.wandb_callback')


@pytest.mark.parametrize(
  'name, message',
  [
    ('nothing:here', 'expected package.module:function'),
    ('builtins:dict', 'it returned dict; expected a kd_jax.Callback'),
  ],
)
def test_a_wrong_callback_is_refused_before_any_work(name, message, tmp_path):
  result = helpers.launch_here(
    '--config=configs/mnist.py:h300',
    f'--callback={name}',
    f'--runs_dir={tmp_path}',
  )
  assert result.returncode == 1
  assert message in result.stderr
  assert not any(tmp_path.iterdir())
