//go:build !unix

package main

import "os"

// userSignal is empty where there is none.
var userSignal []os.Signal
