"""The functions to call from a program or a notebook, with arrays.

`distillation`     `distill`
`stored_outputs`   `store_outputs`
`own_data`         `load_data`
`trained_student`  the student that `distill` returns

Inside `distill`:
`call_inputs`     checks the arrays of the call
`array_data`      makes a data set of them
`call_config`     makes a config of the arguments
`scalars`         checks numbers, names and paths
`argument_names`  names arguments, and no fields, in errors
"""
