"""The errors that a person reads: the command line prints their message instead of a traceback."""


class PlatformError(Exception):
    """What a person can put right; the message is one line, or one per mistake: what, where, what to do."""


class StackError(PlatformError):
    """The stack on this machine cannot start, run or stop; the message is one line."""
