// Package datafile reads and writes the data file of a bulk registration task: newline-delimited JSON, one line per
// device, one string per parameter of the provisioning template. It also reads lists of devices as people have them: CSV
// ([ReadCSV]), and lines of JSON with names of their own ([ReadJSON]).
//
//	out := datafile.NewWriter(file, "ThingName", "SerialNumber", "CSR")
//	for row, err := range datafile.ReadCSV(devices, nil) {
//		if err != nil {
//			return err // the list cannot be read any further
//		}
//		if row.Err != nil {
//			log.Print(row.Err) // this row is bad; the others are not
//			continue
//		}
//		if err := out.WriteRow(row.Values); err != nil { … }
//	}
//	err := out.Close() // now out.Lines, out.Bytes and out.SHA256 describe the file
//
// What is wrong with one row is a [*finding.Finding] in that row's value: it names the row, the place in the text, the
// parameter and the rule, and reading goes on with the next row. The error of an iterator is terminal: it comes at
// most once, last, when the input itself cannot be read any further. All iterators here are single-use, hold one row at
// a time, and use memory that depends on the limits below and not on the size of the file.
//
// A line holds at most 256 KiB without its newline, the limit AWS states for a line of a data file. A file has no limit
// of its own.
//
// AWS describes the file at https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html and its limits
// at https://docs.aws.amazon.com/general/latest/gr/iot-core.html.
package datafile
