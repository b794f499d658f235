"""Flax networks. Each returns `(logits, features by name)`."""

from kd_jax.models import folding, quantization, user
from kd_jax.models.mlp import MLP, ConvNet
from kd_jax.models.resnet import ResNet

__all__ = ['MLP', 'ConvNet', 'ResNet', 'folding', 'quantization', 'user']
