// Package examples holds job files to start from, checked by its tests, and the demonstration in the folder demo.
package examples
