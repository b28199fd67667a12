package scoring

import "github.com/ldm-batch/ldm-batch/jobs"

// Describe says what Run would do, without doing it.
func (e *Evaluation) Describe() *jobs.Description {
	return &jobs.Description{
		Schema: "ldm-batch/plan/v1", Kind: "Eval", Output: e.job.Spec.Output.Path, Fingerprint: e.plan.Fingerprint, Values: e.job.Values(),
		Rows: e.plan.Rows, Parts: e.plan.Parts, Device: e.backend.Name(), ModelSHA256: e.record.Network.SHA256,
		Memory: jobs.Memory{InFlightBytes: int64(e.job.Spec.Limits.Memory)}, Warnings: e.record.Warnings,
	}
}
