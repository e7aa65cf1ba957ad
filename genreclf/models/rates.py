"""What the networks check alike."""

from genreclf.errors import InputError


def check_rates(**rates: float) -> None:
    """Refuse dropout rates outside 0 to 1, with InputError."""
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise InputError(f"model.{name}={rate!r}: a rate of at least 0 and under 1 is needed")
