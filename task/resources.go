package task

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// ResourcesInput describes what a template and its rows refer to and a task does not make. The zero value refers to
// nothing. [github.com/seed1ff6f450/iotfleet/provision.CheckReport] has one for a list of devices.
type ResourcesInput struct {
	ThingTypes    []string
	ThingGroups   []ThingGroup
	BillingGroups []string
	// Policies are the documents of AWS IoT policies by name, JSON in AWS's policy language. Empty for a policy that must
	// exist: what devices may do is nothing that a program may make up.
	Policies map[string]string
}

// ThingGroup is a static thing group.
type ThingGroup struct {
	Name   string
	Parent string // the group it stands under; empty for none, or, of a group that exists, for any
}

// ResourceEnsurer is the ability to make what a template and its rows refer to.
type ResourceEnsurer interface {
	// EnsureResources makes the thing types, thing groups, billing groups and policies that do not exist yet. It must leave
	// those that exist as they are, and return nil only when a task can refer to all of them. It must return
	// [ErrInvalidRequest], before it makes anything, for a policy that does not exist and has no document. It must return
	// [ErrConflict] for a policy that exists with another document, and for a group that exists under another parent.
	// After any other error it can be called again.
	EnsureResources(ctx context.Context, in *ResourcesInput) error
}

// Ordered returns the thing groups in an order in which each stands behind its parent. The error is an [*InputError] for
// an empty name, a group with two parents, groups that stand under each other, and a policy document that is not JSON.
func (in *ResourcesInput) Ordered() ([]ThingGroup, error) {
	for _, names := range []struct {
		member string
		names  []string
	}{{"ThingTypes", in.ThingTypes}, {"BillingGroups", in.BillingGroups}, {"Policies", slices.Sorted(maps.Keys(in.Policies))}} {
		if slices.Contains(names.names, "") {
			return nil, &InputError{Member: names.member, Problem: "has an empty name"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.Policies)) {
		if doc := in.Policies[name]; doc != "" && !json.Valid([]byte(doc)) {
			return nil, &InputError{Member: "Policies", Problem: fmt.Sprintf("the document of %s is not JSON", rule.Quote(name))}
		}
	}
	groups := map[string]ThingGroup{}
	for _, g := range in.ThingGroups {
		old, again := groups[g.Name]
		switch {
		case g.Name == "":
			return nil, &InputError{Member: "ThingGroups", Problem: "has an empty name"}
		case again && old.Parent != "" && g.Parent != "" && old.Parent != g.Parent:
			return nil, &InputError{Member: "ThingGroups", Problem: fmt.Sprintf("%s has two parents, %s and %s",
				rule.Quote(g.Name), rule.Quote(old.Parent), rule.Quote(g.Parent))}
		case !again || g.Parent != "":
			groups[g.Name] = g
		}
	}
	var ordered []ThingGroup
	for len(groups) > 0 {
		before := len(ordered)
		for _, name := range slices.Sorted(maps.Keys(groups)) {
			g := groups[name]
			if _, waits := groups[g.Parent]; !waits {
				ordered = append(ordered, g)
				delete(groups, name)
			}
		}
		if len(ordered) == before {
			return nil, &InputError{Member: "ThingGroups", Problem: fmt.Sprintf("%q stand under each other", slices.Sorted(maps.Keys(groups)))}
		}
	}
	return ordered, nil
}
