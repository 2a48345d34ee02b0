package provision

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// BatchRecord is what a run leaves for the files of a factory: run.json.
type BatchRecord struct {
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
	Orphans        int               `json:"orphans"` // certificates that no device uses and that still exist
	Parts          []BatchPart       `json:"parts"`
	Seconds        BatchSeconds      `json:"seconds"`
}

// BatchPart is one data file of a run and its registration task.
type BatchPart struct {
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
}

// BatchSeconds is where the time went, summed over the parts.
type BatchSeconds struct {
	Credentials float64 `json:"credentials"` // making keys and requests
	Upload      float64 `json:"upload"`
	Start       float64 `json:"start"` // from uploaded to started: waiting for other tasks, too
	Task        float64 `json:"task"`  // from started to ended
	Collect     float64 `json:"collect"`
}

// Record gives the batch record as the ledger has it now.
func (r *Run) Record(ctx context.Context) (*BatchRecord, error) {
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
	b := &BatchRecord{
		RunID: run.ID, Created: run.Created, RoleARN: run.RoleARN, TemplateSHA256: run.TemplateSHA256, Software: software(),
		Account: run.Identity.Account, Region: run.Identity.Region, Partition: run.Identity.Partition, Fake: run.Identity.Fake,
		Total: counts.Total(), Verdicts: counts.Verdicts, Causes: counts.Causes, Orphans: orphans,
		Parts: []BatchPart{},
	}
	if !run.Finished.IsZero() {
		b.Finished = &run.Finished
	}
	between := func(sum *float64, from, to time.Time) {
		if !from.IsZero() && to.After(from) {
			*sum += to.Sub(from).Seconds()
		}
	}
	for _, p := range parts {
		bp := BatchPart{
			Number: p.Number, Attempt: p.Attempt, State: p.State, Lines: p.Lines, Bytes: p.Bytes, SHA256: p.SHA256, File: p.File,
			TaskID: p.TaskID, Status: p.Status, Message: p.Message, Succeeded: p.Succeeded, Failed: p.Failed,
		}
		if p.Key != "" {
			bp.Object = fmt.Sprintf("s3://%s/%s", p.Bucket, p.Key)
		}
		b.Parts = append(b.Parts, bp)
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

// WriteRecord writes run.json and failures.csv into a folder, in place of earlier ones. When no device failed, failures.csv
// holds its header alone.
func (r *Run) WriteRecord(ctx context.Context, dir string) error {
	b, err := r.Record(ctx)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	err = replaceFile(filepath.Join(dir, "run.json"), 0o644, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, "failures.csv"), 0o600, func(w io.Writer) error { return r.WriteFailures(ctx, w) })
}

// The columns of failures.csv beside the row's own.
const (
	// RecordColumn holds the number of the record, by which a mended one takes its place whatever else was changed.
	RecordColumn = "iotfleet:record"
	// RunColumn holds the run's id, since other runs have records of the same number.
	RunColumn = "iotfleet:run"
	// CauseColumn and MessageColumn say why it failed. They are for people and are not read back.
	CauseColumn   = "iotfleet:cause"
	MessageColumn = "iotfleet:message"
)

// WriteFailures writes the devices that are Failed or Unknown as CSV: their rows, with the numbers of the records, the run's id,
// the causes and AWS's texts. Mended, and read with FromCSV, it can be given to Amend.
func (r *Run) WriteFailures(ctx context.Context, w io.Writer) error {
	given := r.shape.columns()
	extra := map[string]bool{} // columns that the template does not know, which may be why a record failed
	unsettled := DeviceFilter{Verdicts: []Verdict{Failed, Unknown}}
	for d, err := range r.ledger.Devices(ctx, unsettled) {
		if err != nil {
			return err
		}
		for k := range d.Row {
			if !slices.Contains(given, k) {
				extra[k] = true
			}
		}
	}
	run, err := r.ledger.Run(ctx)
	if err != nil {
		return err
	}
	columns := append(given, slices.Sorted(maps.Keys(extra))...)
	out := csv.NewWriter(w)
	if err := out.Write(append([]string{RecordColumn, RunColumn, CauseColumn, MessageColumn}, columns...)); err != nil {
		return err
	}
	for d, err := range r.ledger.Devices(ctx, unsettled) {
		if err != nil {
			return err
		}
		line := []string{strconv.FormatInt(d.Seq, 10), run.ID, string(d.Cause), d.Message}
		for _, c := range columns {
			line = append(line, d.Row[c])
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
