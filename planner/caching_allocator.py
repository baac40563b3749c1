"""PyTorch's CUDA caching allocator, simulated: how much it reserves for a stream of requests.

After c10/cuda/CUDACachingAllocator.cpp of torch 2.13: `round_size`, `get_allocation_size`, `should_split`,
`get_free_block`, `free_block`, `release_cached_blocks`; constants from c10/core/AllocatorConfig.h.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

MIB = 1 << 20
ROUNDING = 512
SMALL_SIZE = MIB
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB
LARGE_SIZE = 10 * MIB
SEGMENT_ROUNDING = 2 * MIB
_TOP = 1 << 47
"""The driver places each new segment below the last one, so of blocks of one size the youngest segment's goes first:
with addresses in this order runs on a T4 reserve to the MiB what is simulated (docs/log.md, 23 November 2026)."""


class OutOfMemoryError(Exception):
    """A request that the device's memory does not hold, even after everything unused was given back."""


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment; neighbours in the same segment are linked."""

    address: int
    size: int
    small: bool
    free: bool = True
    before: Block | None = None
    after: Block | None = None


_Key = tuple[int, int]


class CachingAllocator:
    """One device's allocator. Sizes in bytes.

    `capacity_bytes`: what the device holds; None for no end. `expandable`: PYTORCH_CUDA_ALLOC_CONF's
    expandable_segments: segments grow where they end instead of being made anew.
    """

    def __init__(self, capacity_bytes: int | None = None, *, expandable: bool = False) -> None:
        self.capacity_bytes, self.expandable = capacity_bytes, expandable
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0
        self._free: dict[bool, list[_Key]] = {True: [], False: []}
        self._blocks: dict[int, Block] = {}
        self._lowest_address = _TOP
        self._tails: dict[bool, Block] = {}

    def allocate(self, size: int) -> Block:
        """A block for `size` bytes. Raises OutOfMemoryError."""
        size = -(-size // ROUNDING) * ROUNDING or ROUNDING
        small = size <= SMALL_SIZE
        block = self._cached(size, small) or self._made(size, small)
        remainder = block.size - size
        if remainder >= ROUNDING if small or self.expandable else remainder > SMALL_SIZE:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        if self.allocated > self.peak_allocated:
            self.peak_allocated = self.allocated
        return block

    def release(self, block: Block) -> None:
        """Give a block back; it stays reserved."""
        self.allocated -= block.size
        block.free = True
        after, before = block.after, block.before
        if after is not None and after.free:
            self._forget(after)
            self._absorb(block, after)
        if before is not None and before.free:
            self._forget(before)
            self._absorb(before, block)
            block = before
        self._keep(block)

    def empty_cache(self) -> None:
        """Return every segment that is free as a whole."""
        for pool in self._free.values():
            for _, address in list(pool):
                block = self._blocks[address]
                if self.expandable:
                    self._shrink(block)
                elif block.before is None and block.after is None:
                    self._forget(block)
                    del self._blocks[address]
                    self.reserved -= block.size

    def reset_peaks(self) -> None:
        """Begin a new phase."""
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def _cached(self, size: int, small: bool) -> Block | None:
        pool = self._free[small]
        index = bisect_left(pool, (size, -1))
        return self._blocks[pool.pop(index)[1]] if index < len(pool) else None

    def _made(self, size: int, small: bool) -> Block:
        if self.expandable:
            return self._grown(size, small)
        segment = segment_size(size)
        self._reserve(segment)
        self._lowest_address -= segment
        block = Block(self._lowest_address, segment, small)
        self._blocks[block.address] = block
        return block

    def _grown(self, size: int, small: bool) -> Block:
        """The pool's one expandable segment, longer: its free end first, the rest in whole pages."""
        page = SMALL_SEGMENT if small else LARGE_SEGMENT
        tail = self._tails.get(small)
        usable = tail.size if tail is not None and tail.free else 0
        more = -(-(size - usable) // page) * page
        self._reserve(more)
        if tail is not None and tail.free:
            self._forget(tail)
            tail.size += more
            return tail
        address = tail.address + tail.size if tail is not None else (0 if small else 1 << 60)
        block = Block(address, more, small, before=tail)
        if tail is not None:
            tail.after = block
        self._blocks[address] = self._tails[small] = block
        return block

    def _shrink(self, block: Block) -> None:
        """Unmap the whole pages of a free block: it no longer counts, but its addresses may be mapped again."""
        page = SMALL_SEGMENT if block.small else LARGE_SEGMENT
        if self._tails.get(block.small) is block and block.size >= page:
            pages = block.size // page * page
            self._forget(block)
            block.size -= pages
            self.reserved -= pages
            if block.size:
                self._keep(block)
            else:
                self._drop_tail(block)

    def _drop_tail(self, block: Block) -> None:
        del self._blocks[block.address]
        if block.before is None:
            del self._tails[block.small]
        else:
            block.before.after = None
            self._tails[block.small] = block.before

    def _reserve(self, size: int) -> None:
        if self.capacity_bytes is not None and self.reserved + size > self.capacity_bytes:
            self.empty_cache()
            if self.reserved + size > self.capacity_bytes:
                raise OutOfMemoryError(f"{size} bytes beside {self.reserved} reserved")
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _split(self, block: Block, size: int) -> None:
        rest = Block(block.address + size, block.size - size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        if self.expandable and self._tails[block.small] is block:
            self._tails[block.small] = rest
        self._keep(rest)

    def _absorb(self, block: Block, after: Block) -> None:
        block.size += after.size
        block.after = after.after
        if after.after is not None:
            after.after.before = block
        if self.expandable and self._tails[block.small] is after:
            self._tails[block.small] = block
        del self._blocks[after.address]

    def _keep(self, block: Block) -> None:
        insort(self._free[block.small], (block.size, block.address))
        self._blocks[block.address] = block

    def _forget(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, (block.size, block.address))]


def segment_size(size: int) -> int:
    """What is asked of the driver for a block of `size` bytes."""
    if size <= SMALL_SIZE:
        return SMALL_SEGMENT
    if size < LARGE_SIZE:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING
