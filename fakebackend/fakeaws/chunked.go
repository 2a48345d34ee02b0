package fakeaws

import (
	"bufio"
	"crypto/sha256"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
)

// chunkReader decodes a body of content encoding aws-chunked:
//
//	<size in hex>[;chunk-signature=<hex>]\r\n<data>\r\n … 0[;chunk-signature=<hex>]\r\n[<name>:<value>\r\n …]\r\n
//
// With signatures of a known key it checks each chunk's when the chunk ends, so data is passed on before it is known to
// be genuine: nothing may be done with it until the end was reached without an error.
type chunkReader struct {
	r          *bufio.Reader
	signed     bool          // chunks must have signatures
	signatures *sigv4.Chunks // checks them; nil when the key is not known
	expect     []string      // trailing headers that must come
	trailer    map[string]string

	left      int64 // of the chunk
	inChunk   bool
	digest    hash.Hash
	signature string
	err       error // sticky
}

// Lines of the framing, and the trailer, are short.
const (
	maxChunkLine    = 4096
	maxTrailerLines = 32
)

func newChunkReader(r io.Reader) *chunkReader {
	return &chunkReader{r: bufio.NewReaderSize(r, 64<<10), trailer: map[string]string{}, digest: sha256.New()}
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for c.err == nil {
		if !c.inChunk {
			c.err = c.begin()
			continue
		}
		if c.left == 0 {
			c.err = c.end()
			continue
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
		c.digest.Write(p[:n])
		if err != nil {
			c.err = unexpected(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, c.err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func malformedChunk(what string) *s3.Error {
	return &s3.Error{Code: "InvalidRequest", Message: "The aws-chunked body is malformed: " + what, Status: http.StatusBadRequest}
}

// begin reads a chunk's first line.
func (c *chunkReader) begin() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	n, err := strconv.ParseUint(size, 16, 40)
	if err != nil {
		return malformedChunk("a chunk's size is not a number in hex")
	}
	signature, ok := strings.CutPrefix(extension, "chunk-signature=")
	if c.signed && (!ok || len(signature) != 64 || !isHex(signature)) {
		return malformedChunk("a chunk has no signature")
	}
	c.inChunk, c.left, c.signature = true, int64(n), signature
	c.digest.Reset()
	if n > 0 {
		return nil
	}
	if err := c.check(); err != nil {
		return err
	}
	return c.last()
}

// end reads what follows a chunk's data.
func (c *chunkReader) end() error {
	var crlf [2]byte
	if _, err := io.ReadFull(c.r, crlf[:]); err != nil {
		return unexpected(err)
	}
	if crlf != [2]byte{'\r', '\n'} {
		return malformedChunk("a chunk is longer than its size")
	}
	c.inChunk = false
	return c.check()
}

func (c *chunkReader) check() error {
	if c.signatures == nil {
		return nil
	}
	return s3.SignatureError(c.signatures.Chunk([32]byte(c.digest.Sum(nil)), c.signature), false)
}

// last reads the trailer, which ends with an empty line. Some clients leave that line out after a trailer.
func (c *chunkReader) last() error {
	lines := sha256.New()
	for n := 0; ; n++ {
		line, err := c.line()
		if err == io.ErrUnexpectedEOF && len(c.trailer) > 0 || err == nil && line == "" {
			break
		}
		if err != nil {
			return err
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || n >= maxTrailerLines {
			return &s3.Error{Code: "MalformedTrailerError", Message: "The request contained trailing data that was not well-formed or did not conform to our published schema.", Status: http.StatusBadRequest}
		}
		name, value = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value)
		if name == "X-Amz-Trailer-Signature" {
			if c.signatures != nil {
				if err := c.signatures.Trailer([32]byte(lines.Sum(nil)), value); err != nil {
					return s3.SignatureError(err, false)
				}
			}
			c.trailer[name] = value
			continue
		}
		c.trailer[name] = value
		lines.Write([]byte(strings.ToLower(name) + ":" + value + "\n"))
	}
	for _, name := range c.expect {
		if _, ok := c.trailer[name]; !ok {
			return &s3.Error{Code: "MalformedTrailerError", Message: "The trailer " + strings.ToLower(name) + " was announced and did not come.", Status: http.StatusBadRequest}
		}
	}
	if _, signed := c.trailer["X-Amz-Trailer-Signature"]; c.signatures != nil && len(c.expect) > 0 && !signed {
		return s3.SignatureError(sigv4.ErrMismatch, false)
	}
	return io.EOF
}

// line reads up to a line feed and leaves the line end off. At the end of the body it returns io.ErrUnexpectedEOF.
func (c *chunkReader) line() (string, error) {
	raw, err := c.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(raw) > maxChunkLine:
		return "", malformedChunk("a line of the framing is too long")
	case err == io.EOF && len(raw) > 0:
		return strings.TrimSuffix(string(raw), "\r"), nil
	case err != nil:
		return "", unexpected(err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r"), nil
}
