"""The one exception for what the user can correct."""


class InputError(ValueError):
    """Bad input: the message is one line that says what is wrong and what to do.

    The command prints that line alone; every other exception is a defect and keeps its traceback.
    """


def format_error(error: BaseException) -> str:
    """What an exception says, in one line; of Hydra's own, what a constructor said below it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    return " ".join(str(cause or error).split()) or type(error).__name__
