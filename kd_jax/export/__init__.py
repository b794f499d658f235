"""Exports students as files for JAX or ONNX Runtime, and loads the files.

`exporter`      exports a student of a run as a folder
`run_student`   finds and checks the student
`run_datasets`  the data on which the export is checked
`forward`       the forward pass as one function
`measurement`   accuracy, agreement and latency of the export

The files:
`artifact`  the folder for JAX; `load` reads it
`onnx`      the ONNX model
`weights`   the weights as .safetensors files
"""
