"""Tables and plots from the files that runs wrote, and from nothing else.

One run:
`run_report`            report.md, and the plots beside it
`html_page`             report.md as one HTML page
`tables`                tables of a run, of theory, of a stored teacher
`study_tables`          tables of a run that studies methods or missing classes
`difference_tables`     tables of paired differences between rows
`finding`               what the teacher adds over labels, in sentences
`teacher_lines`         the line that says how accurate the teacher is
`plots`                 the plots of a run, and which of them have data
`accuracy_plots`        accuracy against examples, temperature or a weight
`row_plots`             dot plots with a line for each row
`curve_plots`           learning curves and calibration
`error_plots`           a confusion matrix, and misclassified images
`theory_plots`          the curves of theory
`data_plots`            a few images of each class

All published runs, in results/:
`publish`               writes the reports, and the figures in the documents
`results_folder`        where the records lie
`cross_run_tables`      tables over all runs
`table2_plot`           all CIFAR-10 runs beside the paper's Table 2
`teacher_quality_plot`  a teacher's accuracy against its students' gain
`at_a_glance`           the comparison at the top of README.md
`at_a_glance_plot`      the plot beside it
`methods_overview`      the table that helps to choose a method
`pretrained_teachers`   the table of the teachers that come with the project
`code_changes`          which records were made by other code
`training_costs`        what a record cost to compute

Benchmarks:
`benchmark_tables`      kd_jax beside other systems and the machine's limit
`inference_tables`      inference, in one table a machine
`failures`              systems that have failed
`benchmark_plots`       the roofline of a machine, and the cost of growth

Numbers in the prose of documents:
`text_blocks`           writes blocks of prose from templates in results/text/
`inline_numbers`        computes the expressions in a document
`number_functions`      the functions that these expressions call
`benchmark_numbers`     functions about benchmarks
`comparison_numbers`    functions about studies and comparisons

What they share:
`fields`                the fields of run.json
`seed_statistics`       means, intervals and tests over seeds
`figures`               PNG files: colors, titles and labels
`markdown`              cells and tables of Markdown
"""
