"""Flax networks. Each returns `(logits, features by name)`."""

from kd_jax.models.mlp import MLP, ConvNet

__all__ = ['MLP', 'ConvNet']
