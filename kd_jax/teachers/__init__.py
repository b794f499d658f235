"""A teacher and its outputs, computed once per data set and stored.

`provider`         the teacher that a config asks for
`teacher`          a teacher: its logits, and the network behind them
`teacher_network`  the network, and its stored outputs
`pretrained`       teachers in the folder teachers/
`publishing`       puts a trained teacher into such a folder

The user's outputs:
`user_logits`    logits from the user's files
`user_features`  features from the user's file

How outputs are kept:
`output_store`    outputs in a folder, found by their identity
`sharded_logits`  logits of data that is larger than memory
`compact_arrays`  the types in which outputs are stored
`logit_checks`    checks that logits can be learned from
"""
