package provision

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// reportFaults is what a reading of a task's reports found wrong with them.
type reportFaults struct {
	damaged int                       // lines that could not be read
	alien   map[task.ReportType]alien // by report: lines that are not of a report at all
	short   error                     // a report that was shorter than the service's count, or that is gone
	counted *countFault               // the service has not counted every line
	read    map[task.ReportType]int   // by report: its lines
}

// alien is what stands in a report in place of JSON objects.
type alien struct {
	lines int
	first string // the beginning of the first one
}

// countFault is that a task is Completed and has not counted every line of its data file.
type countFault struct{ succeeded, failed, lines int }

// line counts a line of a report, which may be malformed.
func (f *reportFaults) line(kind task.ReportType, raw []byte, bad *task.FormatError) {
	if f.read == nil {
		f.read, f.alien = map[task.ReportType]int{}, map[task.ReportType]alien{}
	}
	f.read[kind]++
	if bad == nil {
		return
	}
	f.damaged++
	if !bad.Syntax {
		return
	}
	a := f.alien[kind]
	if a.lines++; a.lines == 1 {
		const most = 40
		a.first = strings.ToValidUTF8(string(raw[:min(len(raw), most)]), "")
	}
	f.alien[kind] = a
}

// foreign reports whether a report is nothing that AWS writes: none of its lines is a JSON object, not even one that
// was cut off.
func (f *reportFaults) foreign() (kind task.ReportType, a alien, ok bool) {
	for _, k := range []task.ReportType{task.ResultsReport, task.ErrorsReport} {
		a := f.alien[k]
		if a.lines > 0 && a.lines == f.read[k] && !strings.HasPrefix(a.first, "{") {
			return k, a, true
		}
	}
	return "", alien{}, false
}

// whole reports whether nothing is missing from the reports.
func (f *reportFaults) whole() bool { return f.damaged == 0 && f.short == nil }

// String returns what is wrong, the cause before its consequences; "" if nothing is.
func (f *reportFaults) String() string {
	if kind, a, ok := f.foreign(); ok {
		what := "not in AWS's form, a JSON object a line"
		if strings.HasPrefix(strings.TrimSpace(a.first), "<") {
			what = "a web page or XML, and not AWS's JSON: something between here and the bucket answered"
		}
		return fmt.Sprintf("the %s report is %s; it begins %s", kind, what, rule.Quote(a.first))
	}
	short, ok := errors.AsType[*task.IncompleteReportError](f.short)
	switch {
	case ok && short.Got == 0:
		return fmt.Sprintf("the %s report is empty or has no links, and the task counted %s for it", short.Report, rule.Count(short.Want, "line"))
	case ok && short.Got != short.Want && (f.counted == nil || short.Got < short.Want):
		return fmt.Sprintf("the %s report holds %s, the task counted %d", short.Report, rule.Count(short.Got, "line"), short.Want)
	case f.short != nil && !ok:
		return fmt.Sprintf("the reports can't be had: %v", f.short)
	case f.counted != nil:
		return fmt.Sprintf("the task is Completed, and has counted %d registered and %d refused of %s",
			f.counted.succeeded, f.counted.failed, rule.Count(f.counted.lines, "line"))
	case f.damaged > 0:
		return fmt.Sprintf("%s of the reports can't be read", rule.Count(f.damaged, "line"))
	}
	return ""
}
