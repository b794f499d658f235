"""Files, devices, processes and errors; every other folder builds on these.

Files:
`files`          atomic writes, .npy files, locks on folders, digests
`locks`          locks of files, and waits that end
`json_records`   JSON files of runs: their shapes and checksums
`run_records`    run.json's students, and the log metrics.jsonl
`local_paths`    paths that a user gives
`project_files`  the files of the project: configs/ and teachers/

Devices:
`environment`        the hardware and versions on which results depend
`mesh`               divides the examples of a batch among devices
`host_memory`        keeps freed memory; says how much memory there is
`compilation_cache`  keeps compiled functions between processes
`checked_cache`      checks the entries of that cache

Processes:
`processes`  several processes that take every step together
`addresses`  the network addresses at which they listen
`workers`    processes that train students side by side

Commands, and what they show:
`command_basics`  flags, help and errors that all commands share
`errors`          errors that a user can fix
`suggestions`     the name that a user may have meant
`console`         prints on any console
`bars`            progress bars
`logs`            the log lines of a run
`call_logs`       the log lines of a call from Python
`callbacks`       programs that follow a run
`tensorboard`     a callback that writes files for TensorBoard
"""
