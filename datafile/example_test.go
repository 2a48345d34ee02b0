package datafile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
)

// A data file has a line for each device. The newlines of a certificate signing request are escaped.
func ExampleWriter() {
	w := datafile.NewWriter(os.Stdout, "ThingName", "SerialNumber", "CSR")
	request := "-----BEGIN CERTIFICATE REQUEST-----\nMIIC…\n-----END CERTIFICATE REQUEST-----\n"
	for i, name := range []string{"device-one", "device-two"} {
		if err := w.Write(name, fmt.Sprintf("%03d", i+1), request); err != nil {
			fmt.Println(err)
		}
	}
	if err := w.Close(); err != nil {
		fmt.Println(err)
	}
	fmt.Println(w.Lines(), "lines,", w.Bytes(), "bytes")
	// Output:
	// {"ThingName":"device-one","SerialNumber":"001","CSR":"-----BEGIN CERTIFICATE REQUEST-----\nMIIC…\n-----END CERTIFICATE REQUEST-----\n"}
	// {"ThingName":"device-two","SerialNumber":"002","CSR":"-----BEGIN CERTIFICATE REQUEST-----\nMIIC…\n-----END CERTIFICATE REQUEST-----\n"}
	// 2 lines, 276 bytes
}

// A row that breaks a rule is refused and leaves no trace; the rows after it are written.
func ExampleWriter_WriteRow() {
	var file bytes.Buffer
	w := datafile.NewWriter(&file, "ThingName", "SerialNumber")
	for _, row := range []map[string]string{
		{"ThingName": "device-one", "SerialNumber": "001"},
		{"ThingName": "device-two", "serial": "002"},
		{"ThingName": "device-three", "SerialNumber": "Nr.\xff3"},
		{"ThingName": "device-four", "SerialNumber": "004"},
	} {
		err := w.WriteRow(row)
		if problem, ok := errors.AsType[*finding.Finding](err); ok {
			fmt.Printf("%s: %v\n", row["ThingName"], problem)
		}
	}
	fmt.Println(w.Close())
	fmt.Print(file.String())
	// Output:
	// device-two: line 2: parameter "SerialNumber": the row has no value for it [missing-parameter]
	// device-three: row 3 (line 2): parameter "SerialNumber": byte 4 of the value is not UTF-8; convert the source to UTF-8 [invalid-utf-8]
	// <nil>
	// {"ThingName":"device-one","SerialNumber":"001"}
	// {"ThingName":"device-four","SerialNumber":"004"}
}

// A bad line has its own error; the others are read.
func ExampleRead() {
	file := strings.NewReader(`{"ThingName": "device-one", "SerialNumber": "001"}
{"ThingName": “device-two”, "SerialNumber": "002"}
{"ThingName": "device-three", "SerialNumber": 3}
`)
	for row, err := range datafile.Read(file) {
		if err != nil {
			fmt.Println("the file cannot be read any further:", err)
			return
		}
		if row.Err != nil {
			fmt.Println(row.Err)
			continue
		}
		fmt.Println(row.Number, row.Values["ThingName"], row.Values["SerialNumber"])
	}
	// Output:
	// 1 device-one 001
	// line 2, column 15: parameter "ThingName": found '“' where a value should be; typographic quotes do not work in JSON; use the plain " (web pages and word processors replace it) [json-syntax]
	// 3 device-three 3
}

// A list from a spreadsheet: its columns have names of their own, it is separated by semicolons, one row is damaged.
func ExampleReadCSV() {
	list := strings.NewReader("Name;Serial No.;Weight\r\n" +
		"device-one;001;1,5\r\n" +
		"device-two;\"002;1,5\r\n" +
		"device-three;003;1,5\r\n")
	for row, err := range datafile.ReadCSV(list, &datafile.CSVOptions{
		Comma:   ';',
		Rename:  map[string]string{"Name": "ThingName", "Serial No.": "SerialNumber"},
		Columns: []string{"ThingName", "SerialNumber"},
	}) {
		if err != nil {
			fmt.Println("the list cannot be read any further:", err)
			return
		}
		if row.Err != nil {
			fmt.Println(row.Err)
			continue
		}
		fmt.Println(row.Number, row.Values)
	}
	// Output:
	// 1 map[SerialNumber:001 ThingName:device-one]
	// row 2 (line 3, column 12): parameter "SerialNumber": this quote is not closed before the input ends [csv-quote]
	// 3 map[SerialNumber:003 ThingName:device-three]
}
