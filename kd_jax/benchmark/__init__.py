"""Times inference and training steps of a config's networks.

`latency`         inference: compiled, warm, in turns
`cold_calls`      inference by the paper's protocol
`training_steps`  training steps
`timing`          times calls in turns; medians and quartiles
"""
