// Package failures writes failures.csv: the devices of one run, or of a fleet of runs, that still need somebody.
package failures

import (
	"encoding/csv"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
)

// Prefix begins the names of the columns that are not of the devices' own rows.
const Prefix = "iotfleet:"

// The columns of the file beside the rows' own.
const (
	// RecordColumn holds the number of the record, by which a mended one takes its place.
	RecordColumn = Prefix + "record"
	// RunColumn holds the run's id, since other runs have records of the same number.
	RunColumn = Prefix + "run"
	// siteColumn holds the site's name. It, causeColumn and messageColumn are for people and are not read back.
	siteColumn    = Prefix + "site"
	causeColumn   = Prefix + "cause"
	messageColumn = Prefix + "message"
)

// MetaPrefix comes before the names of what is kept beside the devices.
const MetaPrefix = Prefix + "meta:"

// Record is one device.
type Record struct {
	Seq            int64
	Run            string
	Site           string // its site in a fleet
	Cause, Message string
	Row, Meta      map[string]string
}

// Write writes records with their rows: first the given columns, then those that only some rows have. The records are
// read twice. With sites there is a column for them. Every name and value is written as [Text] makes it.
func Write(w io.Writer, given []string, sites bool, records iter.Seq2[*Record, error]) error {
	meta := map[string]bool{}
	extra := map[string]bool{} // columns that the template does not know, which may be why a record failed
	for r, err := range records {
		if err != nil {
			return err
		}
		for k := range r.Row {
			if !slices.Contains(given, k) {
				extra[k] = true
			}
		}
		for k := range r.Meta {
			meta[k] = true
		}
	}
	metas := slices.Sorted(maps.Keys(meta))
	columns := slices.Concat(given, slices.Sorted(maps.Keys(extra)))
	header := []string{RecordColumn, RunColumn}
	if sites {
		header = append(header, siteColumn)
	}
	header = slices.Concat(header, []string{causeColumn, messageColumn}, columns)
	for _, k := range metas {
		header = append(header, MetaPrefix+k)
	}
	out := csv.NewWriter(w)
	write := func(line []string) error {
		for i, v := range line {
			line[i] = Text(v)
		}
		return out.Write(line)
	}
	if err := write(header); err != nil {
		return err
	}
	for r, err := range records {
		if err != nil {
			return err
		}
		line := []string{strconv.FormatInt(r.Seq, 10), r.Run}
		if sites {
			line = append(line, r.Site)
		}
		line = append(line, r.Cause, r.Message)
		for _, c := range columns {
			line = append(line, r.Row[c])
		}
		for _, k := range metas {
			line = append(line, r.Meta[k])
		}
		if err := write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
