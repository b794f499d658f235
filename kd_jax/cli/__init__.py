"""The command line: runs recipes, and lists them.

`launch`      the command
`parsing`     its flags
`recipes`     the files of recipes
`row_choice`  chooses rows of a table, by --rows
"""
