package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// cleanUp removes devices, or lists or removes certificates that no device uses, by the flags.
func (o *options) cleanUp(ctx context.Context, job *provision.Run) error {
	if o.remove != "" {
		return o.removeDevices(ctx, job)
	}
	orphans, err := job.FindOrphans(ctx)
	if err != nil {
		return err
	}
	left := 0
	for _, orphan := range orphans {
		if orphan.Removed.IsZero() {
			left++
			fmt.Println(finding.Visible(fmt.Sprintf("%s %s: %s", orphan.CertificateID, orphan.Name, orphan.Why)))
		}
	}
	fmt.Printf("%s that no device uses\n", count(int64(left), "certificate"))
	summary, err := job.Summary(ctx)
	if err != nil {
		return err
	}
	if err := o.printMeanwhile(ctx, summary, job); err != nil {
		return err
	}
	if !o.removeOrphans {
		return nil
	}
	n, err := job.RemoveOrphans(ctx)
	fmt.Printf("%d of them removed\n", n)
	return err
}

func (o *options) removeDevices(ctx context.Context, job *provision.Run) error {
	opts := provision.RemoveOptions{All: o.remove == "all", UncheckedThings: o.existing == string(provision.UncheckedExisting)}
	if !opts.All {
		opts.Names = strings.Split(o.remove, ",")
	}
	report, err := job.Remove(ctx, opts)
	if report == nil {
		return err
	}
	fmt.Printf("%s removed, %s kept, %s never sent\n", count(report.Removed, "device"), count(report.ThingsKept, "thing"), count(report.NotSent, "device"))
	for _, name := range report.Policies {
		fmt.Println("policy removed:", name)
	}
	for _, name := range report.PoliciesKept {
		fmt.Println("policy kept, for something else uses it:", name)
	}
	for r, err := range job.Results(ctx) {
		if err != nil {
			return err
		}
		if r.Verdict == provision.Removed && r.Message != "" {
			fmt.Println(finding.Visible(fmt.Sprintf("%s: %s", r.Name, flags.Replace(r.Message))))
		}
	}
	return err
}
