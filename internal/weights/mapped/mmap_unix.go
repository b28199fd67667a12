//go:build unix

package mapped

import (
	"os"
	"syscall"
)

func mmap(f *os.File, size int64) []byte {
	if size <= 0 || size != int64(int(size)) {
		return nil
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil // some file systems cannot map; reads still work
	}
	return data
}

func munmap(data []byte) error {
	if data == nil {
		return nil
	}
	return syscall.Munmap(data)
}

// release is advice: when it fails, memory is only freed later.
func release(pages []byte) { _ = syscall.Madvise(pages, syscall.MADV_DONTNEED) }
