package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Manifest is what a run leaves for the files of a factory: run.json.
type Manifest struct {
	RunID          string            `json:"runId"`
	Created        time.Time         `json:"created"`
	Finished       *time.Time        `json:"finished,omitempty"`
	Account        string            `json:"account,omitempty"`
	Region         string            `json:"region,omitempty"`
	Partition      string            `json:"partition,omitempty"`
	Fake           bool              `json:"fake,omitempty"` // no real certificate came from this run
	RoleARN        string            `json:"roleArn"`
	TemplateSHA256 string            `json:"templateSha256"`
	Software       string            `json:"software"`
	Total          int64             `json:"total"`
	Verdicts       map[Verdict]int64 `json:"verdicts"`
	Causes         map[Cause]int64   `json:"causes"`
	// Orphans are the certificates that no device uses and that still exist. It is absent when none is known and nobody
	// has looked since something was sent; OrphansLooked is when the account was looked through.
	Orphans       *int       `json:"orphans,omitempty"`
	OrphansLooked *time.Time `json:"orphansLooked,omitempty"`
	NotLooked     int64      `json:"notLooked,omitempty"` // devices that were sent without a look at the account
	// Replaced are the older certificates that were taken out of service, NotReplaced the devices that still have one which
	// was to be replaced.
	Replaced    int64          `json:"replaced,omitempty"`
	NotReplaced int64          `json:"notReplaced,omitempty"`
	Meanwhile   int64          `json:"meanwhile,omitempty"` // devices with a certificate of somebody else, too; see Summary
	Parts       []ManifestPart `json:"parts"`
	// Seconds is where the time went, summed over the parts.
	Seconds ManifestSeconds `json:"seconds"`
}

// ManifestSeconds is how long each stage took, summed over the parts. Stages of different parts overlap.
type ManifestSeconds struct {
	Credentials float64 `json:"credentials"` // making keys and requests
	Upload      float64 `json:"upload"`
	Start       float64 `json:"start"` // from uploaded to started: waiting for other tasks, too
	Task        float64 `json:"task"`  // from started to ended
	Collect     float64 `json:"collect"`
}

// ManifestPart is one data file of a run and its registration task.
type ManifestPart struct {
	Number    int         `json:"number"`
	Attempt   int         `json:"attempt"`
	State     PartState   `json:"state"`
	Lines     int         `json:"lines"`
	Bytes     int64       `json:"bytes"`
	SHA256    string      `json:"sha256"`
	File      string      `json:"file"`
	Object    string      `json:"object,omitempty"` // s3://bucket/key
	TaskID    task.ID     `json:"taskId,omitempty"`
	Status    task.Status `json:"status,omitempty"`
	Message   string      `json:"message,omitempty"`
	Succeeded int         `json:"succeeded"`
	Failed    int         `json:"failed"`
	// Discrepancy is what was wrong with the task's counts or reports.
	Discrepancy string `json:"discrepancy,omitempty"`
}

// Manifest returns the run's manifest as the ledger has it now.
func (r *Run) Manifest(ctx context.Context) (*Manifest, error) {
	run, err := r.ledger.Run(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := r.ledger.Counts(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := r.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	orphans, err := countOrphans(ctx, r.ledger)
	if err != nil {
		return nil, err
	}
	sum, _, err := (&replacer{session: &session{ledger: r.ledger, record: run}}).all(ctx) // which only counts, with no Existing
	if err != nil {
		return nil, err
	}
	b := &Manifest{
		RunID: run.ID, Created: run.Created, RoleARN: run.RoleARN, TemplateSHA256: run.TemplateSHA256, Software: software(),
		Account: run.Identity.Account, Region: run.Identity.Region, Partition: run.Identity.Partition, Fake: run.Identity.Fake,
		Total: counts.Total(), Verdicts: counts.Verdicts, Causes: counts.Causes,
		Replaced: sum.certificates, NotReplaced: sum.still, Meanwhile: sum.meanwhile,
		Parts: []ManifestPart{},
	}
	if !run.Finished.IsZero() {
		b.Finished = &run.Finished
	}
	if !run.OrphansLooked.IsZero() {
		b.OrphansLooked = &run.OrphansLooked
	}
	if orphans > 0 || b.OrphansLooked != nil {
		b.Orphans = &orphans
	}
	between := func(sum *float64, from, to time.Time) {
		if !from.IsZero() && to.After(from) {
			*sum += to.Sub(from).Seconds()
		}
	}
	for _, p := range parts {
		bp := ManifestPart{
			Number: p.Number, Attempt: p.Attempt, State: p.State, Lines: p.Lines, Bytes: p.Bytes, SHA256: p.SHA256, File: p.File,
			TaskID: p.TaskID, Status: p.Status, Message: p.Message, Succeeded: p.Succeeded, Failed: p.Failed, Discrepancy: p.Discrepancy,
		}
		if p.Key != "" {
			bp.Object = fmt.Sprintf("s3://%s/%s", p.Bucket, p.Key)
		}
		b.Parts = append(b.Parts, bp)
		b.NotLooked += p.unlooked()
		b.Seconds.Credentials += p.CredentialsTook.Seconds()
		between(&b.Seconds.Upload, p.Written, p.Uploaded)
		between(&b.Seconds.Start, p.Uploaded, p.Started)
		between(&b.Seconds.Task, p.Started, p.Ended)
		between(&b.Seconds.Collect, p.Ended, p.Collected)
	}
	return b, nil
}

// software names this library and its version, as the program was built with it.
func software() string {
	const path = "github.com/seed1ff6f450/iotfleet"
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == path && m.Version != "" {
				version = m.Version
			}
		}
	}
	return path + " " + version
}

// WriteManifest writes run.json, the manifest, and failures.csv into a folder, in place of earlier ones. When no device
// failed, failures.csv holds its header alone.
func (r *Run) WriteManifest(ctx context.Context, dir string) error {
	b, err := r.Manifest(ctx)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	err = durable.ReplaceFile(durable.OS(), filepath.Join(dir, "run.json"), 0o644, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	return durable.ReplaceFile(durable.OS(), filepath.Join(dir, "failures.csv"), 0o600, func(w io.Writer) error { return r.WriteFailures(ctx, w) })
}
