package fakebackend

import (
	"iter"
	"slices"
)

// outcome is what one line registered. It holds the records themselves, so that the report of the line can be made at
// any time and costs four words until then.
type outcome struct {
	thing       *thing
	certificate *certificate
	rest        *outcomeRest
}

// outcomeRest is the part of an outcome that lines in a row mostly have in common, and then share.
type outcomeRest struct {
	thingName       string // logical name in the template: the key of the ARN
	certificateName string
	policyNames     []string // of policies with a document only
	policies        []*policy
	moreNames       []string // things but the first, which templates hardly ever have
	moreThings      []*thing
}

func (r *outcomeRest) equal(o *outcomeRest) bool {
	return r.thingName == o.thingName && r.certificateName == o.certificateName &&
		slices.Equal(r.policyNames, o.policyNames) && slices.Equal(r.policies, o.policies) &&
		slices.Equal(r.moreNames, o.moreNames) && slices.Equal(r.moreThings, o.moreThings)
}

// arns yields the ARNs of what was registered, each with its key: things, then the certificate, then the policies.
func (b *account) arns(o outcome) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if o.thing != nil && !yield(o.rest.thingName, b.thingARN(o.thing)) {
			return
		}
		for i, t := range o.rest.moreThings {
			if !yield(o.rest.moreNames[i], b.thingARN(t)) {
				return
			}
		}
		if o.certificate != nil && !yield(o.rest.certificateName, b.certificateARN(o.certificate)) {
			return
		}
		for i, p := range o.rest.policies {
			name := o.rest.policyNames[i]
			if b.opts.PolicyARNKey != "" {
				name = b.opts.PolicyARNKey
			}
			if !yield(name, b.policyARN(p)) {
				return
			}
		}
	}
}

// doneLine is an entry of a task's results.
type doneLine struct {
	line int64
	outcome
}

// resultLog holds the results of a task in pieces of one report file each, so that it grows without copying.
type resultLog struct {
	files [][]doneLine
	n     int64
}

func (l *resultLog) add(line int64, o outcome, perFile int) {
	last := len(l.files) - 1
	if last < 0 || len(l.files[last]) >= perFile {
		l.files = append(l.files, nil)
		last++
	}
	l.files[last] = append(l.files[last], doneLine{line, o})
	l.n++
}

func (l *resultLog) all() iter.Seq[doneLine] {
	return func(yield func(doneLine) bool) {
		for _, f := range l.files {
			for _, d := range f {
				if !yield(d) {
					return
				}
			}
		}
	}
}
