//go:build !unix

package mapped

import "os"

func mmap(*os.File, int64) []byte { return nil }

func munmap([]byte) error { return nil }

func release([]byte) {}
