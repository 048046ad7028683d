"""What people and programs read: the formats of numbers, times and answers.

The numbers are asked for in store/query.py; the tables of the command line are in cli/tables.
"""
