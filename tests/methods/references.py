"""Reference implementations of all methods, in NumPy's float64.

Each is written from its formula, for one example, pair or class at a time.
They have no masks: tests pass only the unmasked examples.
"""

import itertools
import math

import numpy as np


def softmax(x):
  e = np.exp(x - np.max(x))
  return e / np.sum(e)


def _kl(p, q):
  return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def _by_example(loss):
  """Turns a loss of one example's logits into a loss of a batch."""

  def batch_loss(student_logits, teacher_logits, **options):
    return np.array(
      [
        loss(s, t, **options)
        for s, t in zip(student_logits, teacher_logits, strict=True)
      ]
    )

  return batch_loss


@_by_example
def kl(s, t, temperature):
  return temperature**2 * _kl(
    softmax(t / temperature), softmax(s / temperature)
  )


@_by_example
def soft_cross_entropy(s, t, temperature):
  return -softmax(t / temperature) @ np.log(softmax(s / temperature))


@_by_example
def reverse_kl(s, t, temperature):
  return temperature**2 * _kl(
    softmax(s / temperature), softmax(t / temperature)
  )


@_by_example
def jensen_shannon(s, t, temperature, beta):
  s, t = softmax(s / temperature), softmax(t / temperature)
  middle = beta * t + (1 - beta) * s
  return temperature**2 * (beta * _kl(t, middle) + (1 - beta) * _kl(s, middle))


@_by_example
def squared_error(s, t):
  return np.mean(((s - np.mean(s)) - (t - np.mean(t))) ** 2) / 2


def dkd(student_logits, teacher_logits, labels, temperature, alpha, beta):
  losses = []
  for s, t, y in zip(student_logits, teacher_logits, labels, strict=True):
    s, t = softmax(s / temperature), softmax(t / temperature)
    target_kl = _kl((t[y], 1 - t[y]), (s[y], 1 - s[y]))
    others_s, others_t = np.delete(s, y), np.delete(t, y)
    others_kl = _kl(others_t / sum(others_t), others_s / sum(others_s))
    losses.append(temperature**2 * (alpha * target_kl + beta * others_kl))
  return np.array(losses)


def _pearson(a, b):
  a, b = a - np.mean(a), b - np.mean(b)
  return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def dist(student_logits, teacher_logits, temperature, inter, intra):
  s = np.array([softmax(row / temperature) for row in student_logits])
  t = np.array([softmax(row / temperature) for row in teacher_logits])
  classes = np.mean([1 - _pearson(a, b) for a, b in zip(s.T, t.T, strict=True)])
  examples = np.array([1 - _pearson(a, b) for a, b in zip(s, t, strict=True)])
  return temperature**2 * (inter * examples + intra * classes)


@_by_example
def logit_standardization(s, t, base_temperature):
  s, t = ((x - np.mean(x)) / np.std(x, ddof=1) for x in (s, t))
  return base_temperature**2 * _kl(
    softmax(t / base_temperature), softmax(s / base_temperature)
  )


def _by_layer(loss):
  """Turns a loss of one layer's features into a loss of several layers."""

  def layers_loss(
    student_features, teacher_features, adapters=None, scales=None, **rest
  ):
    total = 0.0
    for k, (s, t) in enumerate(
      zip(student_features, teacher_features, strict=True)
    ):
      adapter = None if adapters is None else adapters[k]
      constant = {} if scales is None else {'scale': scales[k]}
      total = total + loss(s, t, adapter, **constant, **rest)
    return total

  return layers_loss


def _smaller(s, t):
  """Averages the larger of two maps [B, H, W, C] to the size of the other."""
  if s.ndim == 2:
    return s, t
  size = min(s.shape[1], t.shape[1])

  def shrink(x):
    window = x.shape[1] // size
    tiles = x[:, : size * window, : size * window].reshape(
      len(x), size, window, size, window, -1
    )
    return tiles.mean(axis=(2, 4))

  return shrink(s), shrink(t)


def _normalize(x, norm):
  flat = x.reshape(-1, x.shape[-1])
  y = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
  return y * norm['scale'] + norm['bias']


@_by_layer
def hint(s, t, adapter, relu):
  s, t = _smaller(s, t)
  y = s @ adapter['map']['kernel'] + adapter['map']['bias']
  y = _normalize(y, adapter['norm'])
  difference = (np.maximum(y, 0) if relu else y) - t
  return np.array([np.mean(row**2) for row in difference])


@_by_layer
def attention(s, t, adapter, power):
  del adapter

  def vector(example):
    activity = np.mean(np.abs(example) ** power, axis=-1).ravel()
    return activity / np.linalg.norm(activity)

  s, t = _smaller(s, t)
  return np.array(
    [np.mean((vector(a) - vector(b)) ** 2) for a, b in zip(s, t, strict=True)]
  )


@_by_layer
def vid(s, t, adapter):
  x, t = _smaller(s, t)
  *hidden, last = adapter['layers']
  for layer in hidden:
    x = np.maximum(x @ layer['kernel'] + layer['bias'], 0)
  mean = x @ last['kernel'] + last['bias']
  variance = np.log1p(np.exp(adapter['rho'])) + 1e-5
  density = np.exp(-((t - mean) ** 2) / (2 * variance)) / np.sqrt(
    2 * np.pi * variance
  )
  nats = -np.log(density) - 0.5 * np.log(2 * np.pi)
  return np.array([np.mean(row) for row in nats])


def review(student_features, teacher_features, adapters):
  def conv(x, kernel):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
      padded[:, i : i + height, j : j + width] @ kernel[i, j]
      for i, j in itertools.product(range(3), repeat=2)
    )

  def pyramid(s, t):
    values, weights = [np.mean((s - t) ** 2, axis=(1, 2, 3))], [1.0]
    for size in (4, 2, 1):
      if size < s.shape[1]:
        a, _ = _smaller(s, np.zeros((len(s), size, size, s.shape[-1])))
        b, _ = _smaller(t, np.zeros((len(t), size, size, t.shape[-1])))
        values.append(np.mean((a - b) ** 2, axis=(1, 2, 3)))
        weights.append(2.0 ** -len(weights))
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(
      weights
    )

  total, deeper = 0.0, None
  for k in reversed(range(len(student_features))):
    adapter = adapters[k]
    x = student_features[k] @ adapter['in']['kernel'] + adapter['in']['bias']
    x = _normalize(x, adapter['in_norm'])
    if deeper is not None:
      times = x.shape[1] // deeper.shape[1]
      y = deeper.repeat(times, axis=1).repeat(times, axis=2)
      z = np.concatenate([x, y], axis=-1) @ adapter['fuse']['kernel']
      z = 1 / (1 + np.exp(-(z + adapter['fuse']['bias'])))
      x = x * z[..., [0]] + y * z[..., [1]]
    deeper = x
    y = _normalize(conv(x, adapter['out']), adapter['out_norm'])
    total = total + pyramid(*_smaller(y, teacher_features[k]))
  return total


@_by_layer
def similarity(s, t, adapter):
  del adapter

  def rows(features):
    vectors = features.reshape(len(features), -1)
    gram = vectors @ vectors.T
    return np.array([row / np.linalg.norm(row) for row in gram])

  difference = rows(s) - rows(t)
  return np.array([np.sum(row**2) / len(row) for row in difference])


@_by_layer
def rkd(s, t, adapter, distance, angle):
  del adapter
  n = len(s)
  huber = lambda x: 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5

  def relations(features):
    x = features.reshape(n, -1)
    d = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
    d = d / (np.sum(d) / (n * (n - 1)))
    cosines = np.zeros((n, n, n))
    for i, j, k in itertools.product(range(n), repeat=3):
      a, b = x[j] - x[i], x[k] - x[i]
      if i not in (j, k):
        cosines[i, j, k] = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    return d, cosines

  (d_s, c_s), (d_t, c_t) = relations(s), relations(t)
  losses = []
  for i in range(n):
    pairs = np.mean([huber(x) for x in d_s[i] - d_t[i]])
    triplets = np.mean([huber(x) for x in (c_s[i] - c_t[i]).ravel()])
    losses.append(distance * pairs + angle * triplets)
  return np.array(losses)


@_by_layer
def correlation(s, t, adapter, gamma, order):
  del adapter

  def kernel(features):
    x = features.reshape(len(features), -1)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    series = sum((2 * gamma * x @ x.T) ** p / math.factorial(p)
                 for p in range(order + 1))  # fmt: skip
    return math.exp(-2 * gamma) * series

  return np.mean((kernel(s) - kernel(t)) ** 2, axis=1)


@_by_layer
def crd(s, t, adapter, labels, tau, scale=None):
  """Contrastive loss; `scale` holds constants Z for both anchor networks."""

  def embed(features, layer):
    x = features.reshape(len(features), -1) @ layer['kernel'] + layer['bias']
    return x / np.linalg.norm(x, axis=1, keepdims=True)

  a, b = embed(s, adapter[0]), embed(t, adapter[1])
  losses = np.zeros(len(a))
  for side, (x, y) in enumerate(((a, b), (b, a))):
    z = crd_scale(x, y, labels, tau) if scale is None else scale[side]
    for i in range(len(x)):
      noise = [j for j in range(len(x)) if labels[j] != labels[i]]
      h = [
        (r := math.exp(x[i] @ y[j] / tau) / z) / (r + len(noise))
        for j in range(len(x))
      ]
      if noise:
        losses[i] -= math.log(h[i]) + sum(math.log(1 - h[j]) for j in noise)
  return losses


def crd_scale(x, y, labels, tau):
  return np.mean(
    [
      math.exp(x[i] @ y[j] / tau)
      for i, j in itertools.product(range(len(x)), repeat=2)
      if labels[i] != labels[j]
    ]
  )


def mutual(student_logits, peer_logits, temperature, constant):
  """Mutual loss; `constant` holds the logits without a gradient."""
  s, p = constant
  student_loss = kl(student_logits, p, temperature=temperature)
  return student_loss + kl(peer_logits, s, temperature=temperature)


def _nats(x, layers, is_teachers):
  """Returns -log of the probability that x is, or is not, the teacher's."""
  for i, layer in enumerate(layers):
    if i > 0:
      x = np.where(x > 0, x, 0.2 * x)
    x = x @ layer['kernel'] + layer['bias']
  return np.logaddexp(0, -x[:, 0] if is_teachers else x[:, 0])


def _center(logits):
  return logits - np.mean(logits, axis=1, keepdims=True)


def adversarial_logits(student_logits, discriminator):
  return _nats(_center(student_logits), discriminator, True)


def logits_discriminator_loss(student_logits, teacher_logits, discriminator):
  return _nats(_center(teacher_logits), discriminator, True) + _nats(
    _center(student_logits), discriminator, False
  )


def _mapped(features, layer):
  return features.reshape(len(features), -1) @ layer['kernel'] + layer['bias']


def adversarial_features(student_features, adapters, discriminator):
  return sum(
    _nats(_mapped(s, adapter), layers, True)
    for s, adapter, layers in zip(
      student_features, adapters, discriminator, strict=True
    )
  )


def features_discriminator_loss(
  student_features, teacher_features, adapters, discriminator, doubt
):  # fmt: skip
  return sum(
    _nats(t.reshape(len(t), -1), layers, True)
    + _nats(_mapped(s, adapter), layers, False)
    + doubt * _nats(_mapped(s, adapter), layers, True)
    for s, t, adapter, layers in zip(
      student_features, teacher_features, adapters, discriminator, strict=True
    )
  )


def quantized(
  student_features, teacher_features, feature_levels, adapters, student_bits,
  offsets,
):  # fmt: skip
  """Mimic loss; `offsets` are the rounding errors, which have no gradient."""
  del student_bits
  total = 0.0
  for s, t, layer, offset in zip(
    student_features, teacher_features, adapters, offsets, strict=True
  ):
    s, t = _smaller(s, t)
    t = _nearest(t, feature_levels)
    y = s @ layer['kernel'] + layer['bias'] + offset
    total = total + np.array(
      [
        np.mean([0.5 * np.sum(d**2) for d in row.reshape(-1, row.shape[-1])])
        for row in y - t
      ]
    )
  return total


def quantized_offsets(student_features, teacher_features, adapters, bits):
  offsets = []
  for s, t, layer in zip(
    student_features, teacher_features, adapters, strict=True
  ):
    y = _smaller(s, t)[0] @ layer['kernel'] + layer['bias']
    offsets.append(_nearest(y, 2**bits - 1) - y if bits else 0 * y)
  return offsets


def _nearest(x, last):
  """Rounds to the nearest of 0, 1/last, ..., 1."""
  levels = np.linspace(0, 1, last + 1)
  return levels[np.abs(x[..., None] - levels).argmin(-1)]
