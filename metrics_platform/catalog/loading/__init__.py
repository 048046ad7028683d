"""From a YAML file to a catalogue, or to a list of all its mistakes, each with its line.

What a catalogue means once it is read is the business of the modules beside this package.
"""
