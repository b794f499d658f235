"""Runs a config: teacher, students, timing and report in one folder.

`runner`          a run from start to finish
`run_checks`      checks the config and the data; plans the trainings
`rows`            the rows of a run; which of them are one training
`students`        trains the rows, seed by seed
`network_timing`  times the trained networks
`student_errors`  compares the best student's mistakes with the teacher's

The record of a run:
`data_record`  the data of a run, and whether it is still the same
`part_times`   the seconds of the parts of a run

Before a run (`--describe`):
`description`        the data, the teacher and the students
`training_forecast`  the trainings, with their steps and minutes
"""
