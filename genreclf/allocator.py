"""How this process gets its memory from the system.

Each step of training, and each clip in extraction, needs the same large arrays again. By default
the C library of Linux gives their memory back after each, and the kernel clears it anew, page by
page, at the next: on long clips that costs more time than the arithmetic of training.
"""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_memory() -> None:
    """Keep freed memory for the next step; has effect with glibc alone."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, 2**30)  # bytes; greater tensors still come and go
        library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
