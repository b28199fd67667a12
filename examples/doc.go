// Package examples holds job files to start from, checked by its tests. Those of the demonstration are in jobs/demo/jobs.
package examples
