"""Computes the paper's two lemmas and its claim about Bayes' teacher.

`run_theory`     computes a part of the theory, and keeps the results
`lemma1`         the Bayes-distilled risk varies less than the empirical
`lemma2`         a bound on the squared error of the distilled risk
`bayes_teacher`  what students learn from labels, p* and other teachers

What the lemmas share:
`risk`           risks on finite populations, exact
`sampled_risks`  risks from random samples
`populations`    random populations and predictors

What `bayes_teacher` needs:
`gaussians`          a task with known p*, and graded teachers
`gaussian_students`  the students of that task
`rank_correlations`  Spearman's correlation, with intervals

The results:
`tables_and_curves`  the JSON format of tables and curves
"""
