package kernel

import "syscall"

// adviseHuge asks for huge pages: packed weights and arenas are large and read from front to back. A kernel without them
// ignores it.
func adviseHuge(b []byte) { _ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) }

// discard drops the pages. They read as zeros.
func discard(b []byte) { _ = syscall.Madvise(b, syscall.MADV_DONTNEED) }
