"""How much memory there is, and how programs say that there was none."""

import sys
from pathlib import Path

from course_lib.errors import CourseLibError

# Importing torch alone aborts below this, before Python could say why.
LEAST_BYTES = 1_500_000_000
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_ran_out(error: BaseException) -> bool:
    """Whether `error` is how Python, torch, safetensors or the loader of shared libraries say that there is no memory."""
    words = ("allocate memory", "enough memory", "out of memory", "bad_alloc", "failed to map segment")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def check_memory() -> None:
    """Raise a `CourseLibError` where there is too little memory to load anything."""
    free = available_bytes()
    if free is not None and free < LEAST_BYTES:
        raise CourseLibError(
            f"There are {free / 1e9:.1f} GB of memory for this process; models need 3 GB. Close other programs, raise "
            "the limit (`ulimit -v`, or the container's), or use a larger machine."
        )


def available_bytes() -> int | None:
    """The memory that this process may still take: what is free, or a lower limit of process or container; None: unknown."""
    if sys.platform != "linux":
        return None
    import resource

    fields = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = [int(field[1]) * 1024 for field in fields if field[0] == "MemAvailable:"]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [] if soft == resource.RLIM_INFINITY else [soft]
    if CGROUP_LIMIT.is_file() and (text := CGROUP_LIMIT.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(free + limits, default=None)
