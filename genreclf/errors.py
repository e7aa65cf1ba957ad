"""The one exception for what the user can correct."""


class InputError(ValueError):
    """Bad input; the message is one line that says what is wrong and what to type instead.

    A command prints only that line. Any other exception is a defect and keeps its traceback.
    """


def format_error(error: BaseException) -> str:
    """The message of an exception in one line.

    Where Hydra wraps an `InputError` that a constructor raised, the message of that error.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    return " ".join(str(cause or error).split()) or type(error).__name__
