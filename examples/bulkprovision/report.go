package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// check is the dry run.
func (o *options) check(ctx context.Context, opts provision.Options) error {
	job, err := provision.New(opts)
	if err != nil {
		return err
	}
	devices, _, err := o.input()
	if err != nil {
		return err
	}
	if devices == nil {
		return errors.New("give -devices")
	}
	report, err := job.Check(ctx, devices)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	for _, s := range report.Samples {
		if opts.FirstConnection {
			fmt.Printf("%s would get a certificate, and be created when it first connects\n", finding.Visible(s.Name))
			continue
		}
		fmt.Printf("%s would create:\n", finding.Visible(s.Name))
		if err := enc.Encode(s.Creates); err != nil {
			return err
		}
	}
	for _, f := range report.Findings {
		fmt.Println(flags.Replace(f.String()))
	}
	for _, p := range report.Refusals {
		fmt.Printf("record %d %s\n", p.Seq, finding.Visible(fmt.Sprintf("%s %s: %s", p.Name, p.Source, flags.Replace(p.Message))))
	}
	for _, p := range report.Existing {
		if p.Verdict != provision.Failed { // those are among the refused
			fmt.Printf("record %d %s %s: its thing has %s of others, such as %s of %s\n", p.Seq, p.Name, p.Source,
				count(int64(len(p.Existing)), "ACTIVE certificate"), p.Existing[0].ID, p.Existing[0].Created.UTC().Format(time.RFC3339))
		}
	}
	if report.May != nil {
		fmt.Print(report.May)
	}
	if report.NotLooked {
		fmt.Println("whether devices have certificates already was not looked at")
	} else {
		fmt.Printf("existing things: %d, with ACTIVE certificates that are not this run's: %d\n", report.Things, report.Certified)
	}
	fmt.Printf("%s, %d of them refused here. Nothing was changed.\n", count(report.Devices, "device"), report.Refused)
	var problems []string
	if report.Devices == 0 {
		problems = append(problems, "the list has no device")
	}
	if report.Refused > 0 {
		problems = append(problems, count(report.Refused, "device")+" would not be sent")
	}
	if report.Findings.Err() != nil {
		problems = append(problems, "what is marked as an error above has to be mended first")
	}
	if !report.May.OK() {
		problems = append(problems, "devices may not do what -may asks for")
	}
	if !report.OK() {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// count is a number of things, in the plural unless there is one.
func count(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// printMeanwhile prints which devices have a certificate of somebody else, too.
func (o *options) printMeanwhile(ctx context.Context, s *provision.Summary, job *provision.Run) error {
	if s.Meanwhile == 0 || o.json {
		return nil
	}
	for r, err := range job.Results(ctx) {
		if err != nil {
			return err
		}
		for _, c := range r.Existing {
			if c.Meanwhile {
				fmt.Println(finding.Visible(fmt.Sprintf("%s: its thing also has the ACTIVE certificate %s of %s, which somebody else has registered meanwhile",
					r.Name, c.ID, c.Created.UTC().Format(time.RFC3339))))
			}
		}
	}
	return nil
}

// print prints the counts at the end.
func (o *options) print(s *provision.Summary, tried *trials) {
	if !o.json {
		fmt.Printf("run %s: %s%s\n", s.RunID, s, map[bool]string{true: ". On the FAKE: no certificate is accepted by AWS"}[s.Fake])
		if tried != nil {
			tried.print()
		}
		return
	}
	_ = json.NewEncoder(os.Stdout).Encode(struct {
		RunID       string                    `json:"runId"`
		Total       int64                     `json:"total"`
		Provisioned int64                     `json:"provisioned"`
		Issued      int64                     `json:"issued"` // left to their first connection
		NoKey       int64                     `json:"noKey"`
		Failed      int64                     `json:"failed"`
		Unknown     int64                     `json:"unknown"`
		Replaced    int64                     `json:"replaced"`    // older certificates that were taken out of service
		NotReplaced int64                     `json:"notReplaced"` // devices that have one still
		Meanwhile   int64                     `json:"meanwhile"`   // devices that have one of somebody else, too
		Causes      map[provision.Cause]int64 `json:"causes"`
		Tasks       []task.ID                 `json:"tasks"`
		Seconds     float64                   `json:"seconds"`
		Connect     *trials                   `json:"connect,omitempty"` // with -connect
	}{s.RunID, s.Total, s.Provisioned, s.Issued, s.NoKey, s.Failed, s.Unknown, s.Replaced, s.NotReplaced, s.Meanwhile, s.Causes, append([]task.ID{}, s.Tasks...), s.Took.Seconds(), tried})
}
