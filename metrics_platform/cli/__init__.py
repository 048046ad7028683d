"""The command line, a module for each command.

The commands read arguments and print answers; what they ask for is computed elsewhere.
"""
