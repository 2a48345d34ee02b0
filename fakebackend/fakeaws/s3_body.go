package fakeaws

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
)

// Bodies of uploads, in every form that AWS's clients send: plain, with the digest in x-amz-content-sha256 or unsigned;
// aws-chunked with a signature of every chunk; aws-chunked and unsigned; either with trailing checksums. Announced
// digests (Content-MD5, x-amz-content-sha256, x-amz-checksum-…) and lengths are checked against what came.
//
// AWS: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html

// streamingModes are the values of x-amz-content-sha256 that announce a body in chunks. S3 also knows signatures of
// version 4A, which the fake does not.
var streamingModes = []string{"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"}

// maxUpload is S3's limit for one request.
const maxUpload = 5 << 30

// upload is a body being read.
type upload struct {
	source  io.Reader
	chunked *chunkReader // nil unless the body is aws-chunked
	want    map[string]string
	sums    map[string]hash.Hash
	kind    string // the checksum kept with the object
	md5     []byte
	md5Sum  hash.Hash
	sha256  string // hex, of x-amz-content-sha256; "" if that is no digest
	shaSum  hash.Hash
	length  int64 // announced; -1 if not
	read    int64
}

// openUpload looks at the headers of a body.
func (h *Handler) openUpload(r *s3Request) (*upload, error) {
	u := &upload{source: r.Body, want: map[string]string{}, sums: map[string]hash.Hash{}, length: r.ContentLength}
	mode := r.Header.Get("X-Amz-Content-Sha256")
	if slices.Contains(streamingModes, mode) {
		length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if r.Header.Get("X-Amz-Decoded-Content-Length") == "" && r.ContentLength < 0 {
			length = -1 // a client that does not know how much there is sends neither length
		} else if err != nil || length < 0 {
			return nil, &s3.Error{Code: "MissingContentLength", Message: "You must provide the x-amz-decoded-content-length HTTP header.", Status: http.StatusLengthRequired}
		}
		u.length = length
		u.chunked = newChunkReader(r.Body)
		u.chunked.signed = strings.HasPrefix(mode, "STREAMING-AWS4-")
		if u.chunked.signed && h.opts.Credentials != nil && r.scope != nil && r.scope.signature != nil {
			if u.chunked.signatures, err = r.scope.signature.Chunks(r.request.Request, h.opts.Credentials[r.scope.signature.AccessKey]); err != nil {
				return nil, s3.SignatureError(err, false)
			}
		}
		u.source = u.chunked
	} else if u.length < 0 && r.Method != http.MethodPost {
		return nil, &s3.Error{Code: "MissingContentLength", Message: "You must provide the Content-Length HTTP header.", Status: http.StatusLengthRequired}
	}
	if u.length > maxUpload {
		return nil, &s3.Error{Code: "EntityTooLarge", Message: "Your proposed upload exceeds the maximum allowed size", Status: http.StatusBadRequest}
	}
	switch {
	case mode == "" || mode == sigv4.UnsignedPayload || u.chunked != nil:
	case len(mode) == 64 && isHex(mode):
		u.sha256, u.shaSum = strings.ToLower(mode), sha256.New()
	default:
		return nil, s3.InvalidArgument("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER,"+
			" STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.", "x-amz-content-sha256", mode)
	}
	if text := r.Header.Get("Content-Md5"); text != "" {
		var err error
		if u.md5, err = checkMD5(text); err != nil {
			return nil, err
		}
		u.md5Sum = md5.New()
	}
	if err := u.announced(r.Header); err != nil {
		return nil, err
	}
	if u.kind == "" {
		u.kind = "CRC64NVME" // what S3 computes for itself when the client names none
		u.sums[u.kind] = newChecksum(u.kind)
	}
	return u, nil
}

// aboutChecksums are the headers that begin like those with a checksum and hold none.
var aboutChecksums = []string{"ALGORITHM", "TYPE", "MODE"}

// announced finds the checksum in a header, or the one that a header announces for the trailer. S3 accepts one at most.
func (u *upload) announced(h http.Header) error {
	invalid := func(message string) error {
		return &s3.Error{Code: "InvalidRequest", Message: message, Status: http.StatusBadRequest}
	}
	add := func(kind, value string) {
		u.kind, u.want[kind], u.sums[kind] = kind, value, newChecksum(kind)
	}
	for name := range h {
		kind := strings.ToUpper(strings.TrimPrefix(name, checksumPrefix))
		if !strings.HasPrefix(name, checksumPrefix) || slices.Contains(aboutChecksums, kind) {
			continue
		}
		if !slices.Contains(checksumKinds, kind) {
			return invalid("The algorithm type you specified in x-amz-checksum- header is invalid.")
		}
		if err := checkChecksum(kind, h.Get(name)); err != nil {
			return err
		}
		add(kind, h.Get(name))
	}
	if err := u.trailers(h, add); err != nil {
		return err
	}
	named := strings.ToUpper(h.Get("X-Amz-Sdk-Checksum-Algorithm"))
	switch _, has := u.want[named]; {
	case len(u.want) > 1:
		return invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	case named == "" || has:
		return nil
	case len(u.want) == 0 && slices.Contains(checksumKinds, named):
		return invalid("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	}
	return invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")
}

// announcedKind is the algorithm of the checksum that the client announced; "" for none.
func (u *upload) announcedKind() string {
	for kind := range u.want { // one at most
		return kind
	}
	return ""
}

// trailers finds the checksums that the trailer will hold.
func (u *upload) trailers(h http.Header, add func(kind, value string)) error {
	if u.chunked == nil {
		return nil
	}
	for name := range strings.SplitSeq(h.Get("X-Amz-Trailer"), ",") {
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		kind := strings.ToUpper(strings.TrimPrefix(name, checksumPrefix))
		if !strings.HasPrefix(name, checksumPrefix) || !slices.Contains(checksumKinds, kind) {
			return &s3.Error{Code: "InvalidRequest", Message: "The value specified in the x-amz-trailer header is not supported", Status: http.StatusBadRequest}
		}
		add(kind, "") // its value is in the trailer
		u.chunked.expect = append(u.chunked.expect, name)
	}
	return nil
}

// Read reads the decoded body.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.source.Read(p)
	u.read += int64(n)
	for _, h := range u.sums {
		h.Write(p[:n])
	}
	if u.md5Sum != nil {
		u.md5Sum.Write(p[:n])
	}
	if u.shaSum != nil {
		u.shaSum.Write(p[:n])
	}
	if u.length >= 0 && u.read > u.length {
		return n, incompleteBody()
	}
	if err == io.ErrUnexpectedEOF {
		err = incompleteBody()
	}
	return n, err
}

func incompleteBody() *s3.Error {
	return &s3.Error{Code: "IncompleteBody", Message: "You did not provide the number of bytes specified by the Content-Length HTTP header", Status: http.StatusBadRequest}
}

// checksums compares everything that was announced with what was read, to its end, and returns the checksum to keep.
func (u *upload) checksums() (map[string]string, error) {
	if u.length >= 0 && u.read != u.length {
		return nil, incompleteBody()
	}
	if u.shaSum != nil && hex.EncodeToString(u.shaSum.Sum(nil)) != u.sha256 {
		return nil, (&s3.Error{Code: "XAmzContentSHA256Mismatch", Message: "The provided 'x-amz-content-sha256' header does not match what was computed.",
			Status: http.StatusBadRequest}).With("ClientComputedContentSHA256", u.sha256).With("S3ComputedContentSHA256", hex.EncodeToString(u.shaSum.Sum(nil)))
	}
	if u.md5Sum != nil && !bytes.Equal(u.md5Sum.Sum(nil), u.md5) {
		return nil, (&s3.Error{Code: "BadDigest", Message: "The Content-MD5 you specified did not match what we received.", Status: http.StatusBadRequest}).
			With("ExpectedDigest", base64.StdEncoding.EncodeToString(u.md5)).With("CalculatedDigest", sumText(u.md5Sum))
	}
	for kind, want := range u.want {
		if want == "" {
			want = u.chunked.trailer[checksumHeader(kind)]
			if err := checkChecksum(kind, want); err != nil {
				return nil, err
			}
		}
		if sumText(u.sums[kind]) != want {
			return nil, badDigest(kind)
		}
	}
	return map[string]string{u.kind: sumText(u.sums[u.kind])}, nil
}

// readBody reads a small body whole and checks it.
func (h *Handler) readBody(r *s3Request) ([]byte, error) {
	u, err := h.openUpload(r)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(u, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBody {
		return nil, &s3.Error{Code: "MaxMessageLengthExceeded", Message: "Your request was too big.", Status: http.StatusBadRequest}
	}
	_, err = u.checksums()
	return raw, err
}

func isHex(s string) bool {
	return strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}
