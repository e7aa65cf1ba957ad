"""The one exception for what the user can mend."""


class InputError(ValueError):
    """Bad input: the message is one line that says what is wrong and what to do.

    The command prints that line alone; every other exception is a defect and keeps its traceback.
    """
