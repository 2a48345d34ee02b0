package fakebackend

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Report files. A file is newline-delimited JSON that is made when it is read, in the shapes that AWS's samples read:
//
//	{"lineNumber":1,"response":{"CertificatePem":"…","ResourceArns":{"thing":"arn:…","certificate":"arn:…"}}}
//	{"lineNumber":2,"errorMessage":"…"}

// findReport finds the lines of a report file by where its link leads. What it returns can be written without the turn:
// lines that are done do not change, and new ones are not seen.
func (b *account) findReport(bucket, key string) (file reportFile, ok bool) {
	if bucket != b.reportBucket() {
		return file, false
	}
	parts := strings.Split(key, "/")
	if len(parts) != 4 || parts[0] != b.opts.Account {
		return file, false
	}
	r, ok := b.st.tasks.get(parts[1])
	if !ok {
		return file, false
	}
	number, ok := strings.CutPrefix(parts[3], r.id+"-")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || strconv.Itoa(n) != number {
		return file, false
	}
	switch parts[2] {
	case reportFolder(task.ResultsReport):
		if n > len(r.succeeded.files) {
			return file, false
		}
		lines := r.succeeded.files[n-1]
		return reportFile{len(lines), func(w *bytes.Buffer, i int) { b.writeResult(w, &lines[i]) }}, true
	case reportFolder(task.ErrorsReport):
		per := b.opts.LinesPerReport
		if (n-1)*per >= len(r.failed) {
			return file, false
		}
		lines := r.failed[(n-1)*per : min(n*per, len(r.failed))]
		return reportFile{len(lines), func(w *bytes.Buffer, i int) { b.writeError(w, &lines[i]) }}, true
	}
	return file, false
}

// writeResult writes one line of a RESULTS report.
func (b *account) writeResult(w *bytes.Buffer, d *doneLine) {
	w.WriteString(`{"lineNumber":`)
	w.Write(strconv.AppendInt(w.AvailableBuffer(), d.line, 10))
	w.WriteString(`,"response":{`)
	if d.certificate != nil {
		w.WriteString(`"CertificatePem":"-----BEGIN CERTIFICATE-----\n`)
		for line := range slices.Chunk(d.certificate.der, 48) {
			w.Write(base64.StdEncoding.AppendEncode(w.AvailableBuffer(), line))
			w.WriteString(`\n`)
		}
		w.WriteString(`-----END CERTIFICATE-----\n",`)
	}
	w.WriteString(`"ResourceArns":{`)
	first := true
	for name, arn := range b.arns(d.outcome) {
		if !first {
			w.WriteByte(',')
		}
		first = false
		writeString(w, name)
		w.WriteByte(':')
		writeString(w, arn)
	}
	w.WriteString("}}}\n")
}

// writeError writes one line of an ERRORS report.
func (b *account) writeError(w *bytes.Buffer, f *failedLine) {
	w.WriteString(`{"lineNumber":`)
	w.Write(strconv.AppendInt(w.AvailableBuffer(), f.line, 10))
	if b.opts.ErrorCodes {
		w.WriteString(`,"errorCode":`)
		writeString(w, f.code)
	}
	w.WriteString(`,"errorMessage":`)
	message := f.message
	if !b.opts.PlainErrors {
		message = fmt.Sprintf("%s (Service: AWSIot; Status Code: %d; Error Code: %s)", message, refuse(f.code, "").Status, f.code)
	}
	writeString(w, message)
	w.WriteString("}\n")
}

func writeString(w *bytes.Buffer, s string) {
	raw, _ := json.Marshal(s) // strings always encode
	w.Write(raw)
}

// cutReader ends before its announced length.
type cutReader struct {
	r io.Reader
	n int64 // bytes until the cut
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.n <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	if int64(len(p)) > c.n {
		p = p[:c.n]
	}
	n, err := c.r.Read(p)
	c.n -= int64(n)
	return n, err
}
