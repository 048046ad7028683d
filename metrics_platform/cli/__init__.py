"""The command line, a module for each command; main puts them together, and what they share is in packages.

The commands read arguments and print answers; what they ask for is computed elsewhere.
"""
