"""What the local stack says when it cannot do what was asked."""


class StackError(Exception):
    """The stack cannot start, run or stop; the message is one line: what, where, what to do."""
