package task

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

const (
	// maxReportLine is the longest line of a report that is parsed, in bytes without its line end. AWS allows 65,536
	// characters of certificate; the rest of a line is small.
	maxReportLine = 1 << 20
	// maxDepth is how deep values may nest, the figure of encoding/json.
	maxDepth = 10000
)

// reportLine is one line of a report. It notes where the values of the known members are; they are decoded afterwards,
// so that of a member that occurs twice the last one counts, as with encoding/json, and only what is wanted is copied.
type reportLine struct {
	json  jsonline.Reader
	place FormatError  // of the line
	fault *FormatError // the first thing found wrong

	// The zero Value is that of an absent member.
	lineNumber, errorMessage, errorCode jsonline.Value
	pem, arns                           [2]jsonline.Value // at the top, in both spellings
	inPEM, inARNs                       [2]jsonline.Value // inside "response"
}

// The two spellings of a member: as in AWS's reports, and as in the answer of RegisterThing.
const (
	upper = iota // CertificatePem, ResourceArns
	lower        // certificatePem, resourceArns
)

// read finds the members of a line. Those before a syntax error are kept.
func (l *reportLine) read(line jsonline.Line, file int) {
	l.place = FormatError{File: file, Line: line.Number, Offset: line.Offset}
	if line.TooLong() {
		l.complain(0, fmt.Sprintf("the line is longer than %d bytes", maxReportLine))
		l.fault.Syntax = true
		return
	}
	l.json = jsonline.NewReader(line.Text, maxDepth)
	object := l.json.Peek() == jsonline.Object
	start := l.json.Offset()
	if object {
		l.members()
	} else {
		l.json.Value()
	}
	l.json.Close()
	if err := l.json.Err(); err != nil {
		l.fault = nil // a member's value matters less
		l.complain(err.Offset, err.Message)
	} else if !object {
		l.complain(start, "the line is not a JSON object")
	} else {
		return
	}
	l.fault.Syntax = true
}

// complain notes a problem at a place in the line; the first one counts.
func (l *reportLine) complain(at int, problem string) {
	if l.fault == nil {
		f := l.place
		f.Offset += int64(at)
		f.Problem = problem
		l.fault = &f
	}
}

func (l *reportLine) members() {
	l.json.Open()
	for name, ok := l.json.Member(); ok; name, ok = l.json.Member() {
		switch key := l.key(name); string(key) {
		case "response":
			l.response()
		case "lineNumber":
			l.lineNumber = l.json.Value()
		case "errorMessage":
			l.errorMessage = l.json.Value()
		case "errorCode":
			l.errorCode = l.json.Value()
		default:
			note(&l.pem, &l.arns, key, l.json.Value())
		}
	}
}

func (l *reportLine) response() {
	l.inPEM, l.inARNs = [2]jsonline.Value{}, [2]jsonline.Value{}
	if l.json.Peek() != jsonline.Object {
		if v := l.json.Value(); v.Kind != jsonline.Null {
			l.complain(v.Start, "response is not an object")
		}
		return
	}
	l.json.Open()
	for name, ok := l.json.Member(); ok; name, ok = l.json.Member() {
		note(&l.inPEM, &l.inARNs, l.key(name), l.json.Value())
	}
}

// key returns a member's name, decoded, as part of the line where that is possible.
func (l *reportLine) key(name jsonline.Value) []byte {
	if name.Escaped {
		return []byte(l.json.Text(name))
	}
	return l.json.Raw(name)
}

func note(pem, arns *[2]jsonline.Value, key []byte, v jsonline.Value) {
	switch string(key) {
	case "CertificatePem":
		pem[upper] = v
	case "certificatePem":
		pem[lower] = v
	case "ResourceArns":
		arns[upper] = v
	case "resourceArns":
		arns[lower] = v
	}
}

// present reports whether a member was there with a value other than null.
func present(v jsonline.Value) bool { return v.Kind != 0 && v.Kind != jsonline.Null }

// text decodes a member that should be a string; "" when it is absent or something else.
func (l *reportLine) text(v jsonline.Value, name string) string {
	if !present(v) {
		return ""
	}
	if v.Kind != jsonline.String {
		l.complain(v.Start, name+" is not a string")
		return ""
	}
	return l.json.Text(v)
}

// certificate decodes the first member that holds one.
func (l *reportLine) certificate() string {
	for i, v := range [...]jsonline.Value{l.inPEM[upper], l.inPEM[lower], l.pem[upper], l.pem[lower]} {
		name := [...]string{"response.CertificatePem", "response.certificatePem", "CertificatePem", "certificatePem"}[i]
		if text := l.text(v, name); text != "" {
			return text
		}
	}
	return ""
}

// resources decodes the first member that holds an ARN.
func (l *reportLine) resources() ARNs {
	for i, v := range [...]jsonline.Value{l.inARNs[upper], l.inARNs[lower], l.arns[upper], l.arns[lower]} {
		name := [...]string{"response.ResourceArns", "response.resourceArns", "ResourceArns", "resourceArns"}[i]
		if arns := l.arnsOf(v, name); len(arns) > 0 {
			return arns
		}
	}
	return nil
}

// arnsOf decodes a member that should be an object of strings. It leaves out what is not a string.
func (l *reportLine) arnsOf(object jsonline.Value, name string) ARNs {
	if !present(object) {
		return nil
	}
	if object.Kind != jsonline.Object {
		l.complain(object.Start, name+" is not an object")
		return nil
	}
	const usual = 3 // thing, certificate, policy
	arns := make(ARNs, usual)
	whole := string(l.json.Raw(object)) // names and ARNs are cut from this one copy if they need no decoding
	valid := utf8.ValidString(whole)
	r := jsonline.NewReader(l.json.Raw(object), maxDepth)
	decoded := func(v jsonline.Value) string {
		if v.Escaped || !valid {
			return r.Text(v)
		}
		return whole[v.Start+1 : v.End-1]
	}
	r.Open()
	for m, ok := r.Member(); ok; m, ok = r.Member() {
		key, v := decoded(m), r.Value()
		if v.Kind == jsonline.String {
			arns[key] = decoded(v)
			continue
		}
		delete(arns, key)
		l.complain(object.Start+v.Start, fmt.Sprintf("%s holds something other than a string under %q", name, key))
	}
	return arns
}

// number decodes the number of a line, written as a number or as a string of digits; 0 when it is absent.
func (l *reportLine) number() int64 {
	v := l.lineNumber
	if !present(v) {
		return 0
	}
	digits := strings.TrimSpace(l.json.Text(v))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil && v.Kind == jsonline.Number { // 3.0 and 3e0 are the same number to JSON
		const exact = 1 << 53
		f, ferr := strconv.ParseFloat(digits, 64)
		if ferr == nil && f == math.Trunc(f) && math.Abs(f) <= exact {
			n, err = int64(f), nil
		}
	}
	if err != nil || n < 0 {
		l.complain(v.Start, "lineNumber is not the number of a line")
		return 0
	}
	return n
}
