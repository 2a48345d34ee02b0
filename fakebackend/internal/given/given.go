// Package given carries beside a request which of its string members were given as the empty string. The input structs of
// package fakebackend cannot tell such a member from one that was left out; AWS can, and refuses an empty thingTypeName
// where it passes over an absent one.
package given

import "context"

// Empty is a set of members by their paths in AWS's messages, such as thingName or tags.1.member.key.
type Empty map[string]bool

type contextKey struct{}

// With returns a context for a request with these empty members.
func With(ctx context.Context, members Empty) context.Context {
	if len(members) == 0 {
		return ctx
	}
	return context.WithValue(ctx, contextKey{}, members)
}

// In returns the empty members of the request that the context is for.
func In(ctx context.Context) Empty {
	members, _ := ctx.Value(contextKey{}).(Empty)
	return members
}
