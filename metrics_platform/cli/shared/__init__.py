"""What several commands share: which installation they are about, their way to the metric store and the form
of their answers, the signals that end them, the examples below their help.

No command is defined here, and no table is drawn: that is in tables.
"""
