"""How the C library's allocator keeps memory that is free: by default a long-running process grows by what it frees."""

from __future__ import annotations

import ctypes
import os

# From malloc.h of glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_BLOCK = 4 << 20  # smaller ones are used again: what is new to a process must be cleared by the kernel, page by page
_FREE = 16 << 20  # at the end of a heap


def give_back() -> None:
    """Let large blocks go back to the system as soon as they are free. To be called before threads start.

    glibc raises the size from which a block is mapped by itself to 32 MB as such blocks are freed; later ones then come
    out of heaps, one for each thread, that hardly ever shrink. Nothing happens with another C library. Arrow and the
    jemalloc inside deltalake are told by variables, which they read when they are imported.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_MMAP_THRESHOLD, _BLOCK)
        tune(_TRIM_THRESHOLD, _FREE)
        tune(_ARENA_MAX, 2)
