package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// list is what the flags tell about the list of devices.
type list struct {
	comma     string
	columns   []string
	rename    map[string]string
	meta      []string
	unique    []string
	keepEmpty bool
}

func (l *list) flags() {
	names := func(to *[]string) func(string) error {
		return func(text string) error {
			*to = append(*to, strings.Split(text, ",")...)
			return nil
		}
	}
	flag.StringVar(&l.comma, "comma", "", "what separates the columns of a CSV file: `character`, or tab; without it, a comma or what a first line sep=; names")
	flag.Func("columns", "`names` of the columns to keep, A,B,…; without it, all", names(&l.columns))
	flag.Func("rename", "a column of the list and the template's parameter it is for: `column=parameter`; may be repeated", func(text string) error {
		i := strings.LastIndexByte(text, '=')
		if i < 1 {
			return errors.New("it must be column=parameter")
		}
		if l.rename == nil {
			l.rename = map[string]string{}
		}
		l.rename[text[:i]] = text[i+1:]
		return nil
	})
	flag.Func("meta", "`names` of columns, A,B,…, to keep with each device and never send; * for all that the template does not know", names(&l.meta))
	flag.Func("unique", "`names` of columns, A,B,…, in which no two devices may have the same value", names(&l.unique))
	flag.BoolVar(&l.keepEmpty, "keep-empty", false, "send empty values as empty strings, in place of the template's defaults")
}

// options are those of the run that concern the list.
func (l *list) options(opts *provision.Options) {
	opts.Unique = l.unique
	opts.Meta.Unknown = slices.Contains(l.meta, "*")
	opts.Meta.Columns = slices.DeleteFunc(slices.Clone(l.meta), func(name string) bool { return name == "*" })
}

// separator is that of the flag; 0 without it.
func (l *list) separator() (rune, error) {
	switch runes := []rune(l.comma); {
	case len(runes) == 0:
		return 0, nil
	case l.comma == "tab" || l.comma == `\t`:
		return '\t', nil
	case len(runes) == 1:
		return runes[0], nil
	}
	return 0, fmt.Errorf("-comma is %q; it must be one character, or tab", l.comma)
}

// input opens the devices, which stay open until the program ends. It returns nil when the run's ledger has them all,
// and reports whether they are mended records.
func (o *options) input() (devices iter.Seq2[provision.Device, error], mended bool, err error) {
	comma, err := o.list.separator()
	if err != nil {
		return nil, false, err
	}
	in := os.Stdin
	switch o.devices {
	case "":
		return nil, false, nil
	case "-":
	default:
		if in, err = os.Open(o.devices); err != nil {
			return nil, false, err
		}
	}
	buffered := bufio.NewReader(in)
	head, err := buffered.ReadString('\n')
	if err != nil && head == "" && o.devices == "-" {
		return nil, false, nil // nothing on standard input: go on with what the ledger has
	}
	if strings.HasPrefix(strings.TrimLeft(strings.ToLower(head), "\ufeff\""), "sep=") { // the header is the next line
		line, _ := buffered.ReadString('\n')
		head += line
	}
	mended = strings.Contains(head, provision.RecordColumn) // a spreadsheet may have put marks and quotes before it
	rows, name := io.MultiReader(strings.NewReader(head), buffered), filepath.Base(o.devices)
	columns, rename := o.list.columns, o.list.rename
	if mended { // the file has the parameters' own names
		columns, rename = nil, nil
	}
	if o.isJSON(head) {
		return provision.FromNDJSON(rows, name, &datafile.JSONOptions{
			Rename: rename, Columns: columns, KeepEmpty: o.list.keepEmpty,
		}), mended, nil
	}
	return provision.FromCSV(rows, name, &datafile.CSVOptions{
		Comma: comma, Rename: rename, Columns: columns, KeepEmpty: o.list.keepEmpty,
	}), mended, nil
}

// isJSON reports whether the list has the form of a data file: by its name, or on standard input by its first line.
func (o *options) isJSON(head string) bool {
	if o.devices == "-" {
		return strings.HasPrefix(strings.TrimLeft(head, "\ufeff \t\r\n"), "{")
	}
	return slices.Contains([]string{".json", ".jsonl", ".ndjson"}, strings.ToLower(filepath.Ext(o.devices)))
}

// hint returns the text of an error with the flags that help, in place of the library's options.
func hint(err error) string {
	if e, ok := errors.AsType[*provision.HeaderError](err); ok {
		return flags.Replace(e.Problem()) + "; -rename column=parameter renames a column, -columns A,B names those to keep, -meta A,B keeps columns with the devices"
	}
	if f, ok := errors.AsType[*finding.Finding](err); ok && f.Rule == datafile.ErrSeparator {
		separator := "';'"
		if strings.Contains(f.Parameter, "\t") {
			separator = "tab"
		}
		return fmt.Sprintf("the header of the list is a single column, %q; give -comma %s if that separates the columns", f.Parameter, separator)
	}
	text := flags.Replace(err.Error())
	if errors.Is(err, provision.ErrInputChanged) {
		text += "; give the list that the run was begun with (or none: it has every record), and take another -run for other devices"
	}
	return text
}

// flags has the flag for each of the library's options and functions that an error or a finding may name.
var flags = strings.NewReplacer(
	"provision: ", "",
	"Options.May: template: ", "-may: ",
	"Options.Existing, -existing", "-existing",
	"Options.Existing (-existing)", "-existing",
	"Options.Existing", "-existing",
	"Options.Bucket", "-bucket",
	"Options.Foreign", "-foreign",
	"Options.Meta", "-meta",
	"Options.RoleARN", "-role-arn",
	"set SkipPreflight", "give -skip-preflight",
	"run EnsureRole with RegisterWithoutCA", "give -setup",
	"run EnsureRole", "give -setup",
	"run EnsureCA with AutoRegister", "give -setup",
	"run EnsureCA", "give -setup",
	"shorten Profile.Validity", "give fewer -cert-days",
	"see OwnTopics for", "see examples/bulkprovision/template.json for",
	"a ledger of its own", "another -run",
	"RemoveOptions.UncheckedThings removes it", "-existing unchecked removes it",
	"GivenCSR, -credential", "-credential",
	"GivenCertificate, -credential", "-credential",
	"set GivenCSR.Lenient (-lenient)", "give -lenient",
	"set GivenCertificate.Lenient (-lenient)", "give -lenient",
	"aws.Config.Region: is empty: set AWS_REGION, a profile with a region, or the field itself", "there is no region: give -region, or set AWS_REGION or a profile that has one",
	"the credential step *provision.MakeCSR", "-credential make",
	"the credential step *provision.GivenCSR", "-credential csr",
	"the credential step *provision.GivenCertificate", "-credential certificate",
	"the credential step *provision.IssueCertificate", "-ca-cert",
	"declare it, as template.FromCSR, FromCertificatePEM and FromOwnCA do, name the template's own in its Parameter, or take another step", stepHint,
	"take the step that fits the template, and leave its Parameter empty", stepHint,
	"create it first, since a task does not", "create it first, or let -setup do it, since a task does not",
	"would fail, make it first", "would fail, make it first, or let -setup do it",
	"call Run again for them, and Retry for", "call it again for them, with -retry-failed for",
	"call Remove again", "give -remove again",
	"Run.Retry takes", "-retry-failed takes",
	"Run.Amend takes", "-devices failures.csv takes",
	"Run.Remove takes", "-remove takes",
	"call Run first", "call it without -remove first",
	"give that template, or take it off the CA", "give that template as -jit-template, or take it off the CA",
)

// stepHint is what to do where flags and template want certificates from different places.
const stepHint = "examples/bulkprovision has a template.json for requests and a template-own-ca.json for -ca-cert; take -credential, " +
	"-ca-cert and -template that go together"

// visible returns the lines of an error for a terminal: nothing in them can pass for a line of the program.
func visible(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = finding.Visible(line)
	}
	return strings.Join(lines, "\n    ")
}
