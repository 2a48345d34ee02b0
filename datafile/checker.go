package datafile

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/template"
)

// CheckerOptions says what a Checker looks for. The zero value checks rows for bulk registration, strictly.
type CheckerOptions struct {
	// Compile is how the template is going to be used.
	Compile template.CompileOptions
	// AllowUnknown makes a value for something that is not a parameter of the template a warning. AWS ignores such a
	// value; it is an error here by default because most are misspelt parameters, whose Default would silently be used.
	AllowUnknown bool
	// AllowDuplicates keeps Lines and Records from remembering thing names and keys: see [Duplicates] for the memory.
	AllowDuplicates bool
	// PublicKey, unless nil, returns the SHA-256 of the row's public key, as csr.Request.PublicKeySHA256 does, so that
	// Lines and Records also find keys that occur twice. Its error is a problem of that row.
	PublicKey func(row map[string]string) ([32]byte, error)
}

// Checker checks rows against a template and against what AWS demands of names and values, before anything is uploaded.
// It is safe for concurrent use.
type Checker struct {
	opts       CheckerOptions
	program    *template.Program
	parameters []string
}

// NewChecker returns a Checker of rows for a template. nil options are the zero options. It fails when no row at all can
// be resolved with the template; [template.Template.Check] says more about the template itself.
func NewChecker(t *template.Template, opts *CheckerOptions) (*Checker, error) {
	if opts == nil {
		opts = &CheckerOptions{}
	}
	if t == nil {
		return nil, errors.New("checking rows: there is no template")
	}
	program, err := t.Compile(opts.Compile)
	if err != nil {
		return nil, fmt.Errorf("checking rows: %w", err)
	}
	return &Checker{opts: *opts, program: program, parameters: program.Parameters()}, nil
}

// Check returns what is wrong with a row, nil for a good one: a parameter without value or Default ([ErrMissing]), a value
// for something that is no parameter ([ErrUnknown]), a name or value that breaks AWS's limits and patterns (the rules of
// package template, under their names there), text that is not UTF-8 ([ErrInvalidUTF8]), a row that makes too long a line
// ([ErrLineTooLong]), a private key ([ErrPrivateKey]). The problems have no position: Lines and Records add it.
func (c *Checker) Check(row map[string]string) Problems {
	var out Problems
	for _, i := range c.program.CheckRow(row) {
		p := &Problem{Name: i.Parameter, Rule: Rule(i.Rule), Detail: i.Message, Warning: i.Severity < template.Error, Err: i.Err}
		if p.Rule == ErrUnknown {
			p.Warning = c.opts.AllowUnknown
		}
		if p.Rule == ErrMissing {
			p.Detail += c.misspelt(p.Name, row)
		}
		out = append(out, p)
	}
	return append(out, checkLine(row)...)
}

// misspelt names what the row has in place of a missing parameter.
func (c *Checker) misspelt(name string, row map[string]string) string {
	var others []string
	for _, other := range slices.Sorted(maps.Keys(row)) {
		if !slices.Contains(c.parameters, other) {
			others = append(others, other)
		}
	}
	return didYouMean(name, others)
}

// checkLine checks that a row can be a line of a data file.
func checkLine(row map[string]string) (out Problems) {
	size, longest := 1, "" // the braces, and a comma for each member but the first
	for name, v := range row {
		size += len(`"":"",`) + escapedLen(name) + escapedLen(v)
		if longest == "" || len(v) > len(row[longest]) || len(v) == len(row[longest]) && name < longest {
			longest = name
		}
	}
	if size > MaxLine {
		out = append(out, &Problem{Name: longest, Rule: ErrLineTooLong, Detail: fmt.Sprintf(
			"the row makes a line of %d bytes, and AWS takes %d; this value of %d bytes is the longest", size, MaxLine, len(row[longest]))})
	}
	n := len(out)
	for name, v := range row {
		switch {
		case !utf8.ValidString(name):
			out = append(out, &Problem{Name: name, Rule: ErrInvalidUTF8, Detail: "the name is not UTF-8"})
		case !utf8.ValidString(v):
			out = append(out, &Problem{Name: name, Rule: ErrInvalidUTF8,
				Detail: fmt.Sprintf("byte %d of the value is not UTF-8; convert the source to UTF-8", invalidAt(v)+1)})
		}
	}
	slices.SortFunc(out[n:], func(a, b *Problem) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Lines checks the lines of a Reader as they pass: every line comes through, with what was found in Problems, and in Err
// what of it makes the line unusable. Thing names and public keys that an earlier line had are found as well
// ([ErrDuplicateThing], [ErrDuplicateKey]); a line whose value was a number or a boolean gets a warning
// ([ErrNotString]).
func (c *Checker) Lines(lines iter.Seq2[Line, error]) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var seen Duplicates
		var row int64
		for line, err := range lines {
			if err == nil {
				row++
				if line.Err == nil {
					line.Problems = c.stream(&seen, "line", line.Number, line.Row)
					for _, name := range line.NotStrings {
						line.Problems = append(line.Problems, &Problem{Name: name, Rule: ErrNotString, Warning: true,
							Detail: "a number or boolean, read as its text; AWS documents strings only, so put it in double quotes"})
					}
					for _, p := range line.Problems {
						p.Row, p.Line, p.Offset = row, line.Number, line.Offset
					}
					line.Err = line.Problems.Err()
				} else if p, ok := errors.AsType[*Problem](line.Err); ok {
					line.Problems = Problems{p}
				}
			}
			if !yield(line, err) {
				return
			}
		}
	}
}

// Records checks the rows of FromCSV as they pass, as Lines does for lines of a data file.
func (c *Checker) Records(records iter.Seq2[Record, error]) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		var seen Duplicates
		for rec, err := range records {
			if err == nil {
				if rec.Err == nil {
					rec.Problems = c.stream(&seen, "row", rec.Row, rec.Values)
					for _, p := range rec.Problems {
						p.Row, p.Line, p.Offset = rec.Row, rec.Line, rec.Offset
						if at := rec.place(p.Name); at.line > 0 {
							p.Line, p.Column, p.Offset = at.line, at.column, at.offset
						}
					}
					rec.Err = rec.Problems.Err()
				} else if p, ok := errors.AsType[*Problem](rec.Err); ok {
					rec.Problems = Problems{p}
				}
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// stream checks a row on its own and against those before it.
func (c *Checker) stream(seen *Duplicates, unit string, number int64, row map[string]string) Problems {
	out := c.Check(row)
	if c.opts.AllowDuplicates {
		return out
	}
	for _, p := range out {
		if p.Rule == ErrPrivateKey {
			return out // another message might quote it
		}
	}
	if r, err := c.program.Resolve(row); err == nil {
		for i, thing := range r.Things {
			if first, ok := seen.AddThing(thing.ThingName, number); ok {
				out = append(out, &Problem{Name: c.source(row, i, thing.ThingName), Rule: ErrDuplicateThing, Detail: fmt.Sprintf(
					"%s %d has the same thing name, %s; remove one of the two", unit, first, quote(thing.ThingName))})
			}
		}
	}
	if c.opts.PublicKey != nil {
		digest, err := c.opts.PublicKey(row)
		if err != nil {
			return append(out, &Problem{Rule: ErrKey, Detail: "the public key cannot be read: " + err.Error(), Err: err})
		}
		if first, ok := seen.AddKey(digest, number); ok {
			out = append(out, &Problem{Rule: ErrDuplicateKey, Detail: fmt.Sprintf(
				"%s %d has the same public key; each device needs a key of its own", unit, first)})
		}
	}
	return out
}

// source returns the parameter that the name of the i-th thing comes from: the first that changes it when it changes.
func (c *Checker) source(row map[string]string, i int, thingName string) string {
	for _, name := range c.parameters {
		value, ok := row[name]
		if !ok {
			continue
		}
		row := maps.Clone(row)
		row[name] = value + "x"
		if r, err := c.program.Resolve(row); err == nil && r.Things[i].ThingName != thingName {
			return name
		}
	}
	return ""
}
