"""Networks. Each returns `(logits, features by name)`.

The networks of the recipes, and their parts:
`mlp`           MLPs, and the CNN that teaches them
`resnet`        ResNets for small images
`initializers`  initial kernels and biases of ResNets
`layers`        batch norm and max pool with fast gradients
`convolution`   a folder: the forms of convolutions

A network as functions:
`from_config`   the network of a model section
`apply`         a network as pure functions of variables and images
`quantization`  networks with quantized weights and activations
`folding`       folds batch norms into convolutions
`costs`         counts parameters and multiplications

The user's networks:
`user`             networks that a config names by a function
`given`            networks that a program gives as objects
`pure_networks`    networks of pure functions, called like Linen modules
`nnx_modules`      Flax NNX modules as pure functions
`equinox_modules`  Equinox modules as pure functions
"""

from kd_jax.models import folding, quantization, user
from kd_jax.models.mlp import MLP, ConvNet
from kd_jax.models.resnet import ResNet

__all__ = ['MLP', 'ConvNet', 'ResNet', 'folding', 'quantization', 'user']
