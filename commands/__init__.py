"""The command ``fse``: pictures and clips inverted, edited and mixed by whoever has some.

:mod:`commands.command_line` describes what can be typed and loads nothing that is slow; each subcommand is a module
with one function ``run``, loaded when it is called.
"""
