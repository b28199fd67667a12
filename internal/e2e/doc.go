// Package e2e tests whole jobs: killed, stopped, starved of disk and memory, fed with damage, run in strange places, and
// compared with one another byte for byte.
//
// Concept: a test runs a job in this process through package jobs, or the built program as a child, and looks at exit code,
// messages and the output folder alone. What must not differ between two runs of a job is its snapshot: parts, manifest,
// plan and _SUCCESS, by sha256.
//
// Data flow: models with computed weights and small pictures are made once, in a temporary folder; tests that compare with
// reference vectors or read real data take them from package golden. There is no code here but tests.
package e2e
