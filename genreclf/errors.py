"""The exception for errors that the user can correct."""


class InputError(ValueError):
    """Bad input; the message is one line that says what is wrong and what to type instead.

    A command prints only that line. Any other exception is a bug and keeps its traceback.
    """


class DivergedError(InputError):
    """Training diverged: the loss is infinite or not a number, and would be again."""


def format_error(error: BaseException) -> str:
    """Return the message of an exception in one line.

    If Hydra has wrapped an `InputError` that a constructor raised, return the message of that one.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    return " ".join(str(cause or error).split()) or type(error).__name__
