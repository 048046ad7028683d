"""How each server of the stack is installed, started, asked whether it is ready, and stopped.

Keeping them alive is the supervisor's work (see local/supervisor.py).
"""
