package fakeaws

import (
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// checksumKinds are S3's checksum algorithms. A header is x-amz-checksum- and the name in lower case.
var checksumKinds = []string{"CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"}

const checksumPrefix = "X-Amz-Checksum-"

func checksumHeader(kind string) string {
	return http.CanonicalHeaderKey(checksumPrefix + strings.ToLower(kind))
}

// crc64NVME is the polynomial of the NVM Express specification, in the bit order that package crc64 wants.
var crc64NVME = crc64.MakeTable(0x9a6c9329ac4bc9b5)

func newChecksum(kind string) hash.Hash {
	switch kind {
	case "CRC32":
		return crc32.NewIEEE()
	case "CRC32C":
		return crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "CRC64NVME":
		return crc64.New(crc64NVME)
	case "SHA1":
		return sha1.New()
	case "SHA256":
		return sha256.New()
	}
	return nil
}

// checksumKind is the algorithm that a request asks S3 to use; "" for none.
func checksumKind(h http.Header) (string, error) {
	kind := strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm"))
	if kind != "" && !slices.Contains(checksumKinds, kind) {
		return "", &s3.Error{Code: "InvalidRequest", Message: "Checksum algorithm provided is unsupported. Please try again with any of the valid types:" +
			" [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]", Status: http.StatusBadRequest}
	}
	return kind, nil
}

// xmlChecksums are an object's or a part's checksum in the body of an answer.
type xmlChecksums struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

func wireChecksums(sums map[string]string, kind string) xmlChecksums {
	if len(sums) > 0 {
		kind = cmp.Or(kind, "FULL_OBJECT")
	}
	return xmlChecksums{sums["CRC32"], sums["CRC32C"], sums["CRC64NVME"], sums["SHA1"], sums["SHA256"], kind}
}

// of is the checksum of one algorithm.
func (c *xmlChecksums) of(kind string) string {
	return map[string]string{
		"CRC32": c.ChecksumCRC32, "CRC32C": c.ChecksumCRC32C, "CRC64NVME": c.ChecksumCRC64NVME, "SHA1": c.ChecksumSHA1, "SHA256": c.ChecksumSHA256,
	}[kind]
}

// sumText is a checksum as it stands in headers.
func sumText(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// compositeChecksum is the checksum of a multipart object that was uploaded with checksums of its parts: the checksum
// of their checksums, and their number.
func compositeChecksum(kind string, parts []*s3.Part) (string, error) {
	h := newChecksum(kind)
	for _, p := range parts {
		raw, err := base64.StdEncoding.DecodeString(p.Checksums[kind])
		if err != nil || len(raw) == 0 {
			return "", missingChecksum(kind, p.Number)
		}
		h.Write(raw)
	}
	return fmt.Sprintf("%s-%d", sumText(h), len(parts)), nil
}

func missingChecksum(kind string, part int) *s3.Error {
	return &s3.Error{Code: "InvalidRequest", Message: fmt.Sprintf("The upload was created using a %s checksum. The complete request must"+
		" include the checksum for each part. It was missing for part %d in the request.", strings.ToLower(kind), part), Status: http.StatusBadRequest}
}

// badDigest is the refusal of a body that does not have the checksum announced for it.
func badDigest(what string) *s3.Error {
	return &s3.Error{Code: "BadDigest", Message: "The " + what + " you specified did not match the calculated checksum.", Status: http.StatusBadRequest}
}

// checkMD5 reads a Content-MD5 header.
func checkMD5(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != md5.Size {
		return nil, (&s3.Error{Code: "InvalidDigest", Message: "The Content-MD5 you specified was invalid.", Status: http.StatusBadRequest}).With("Content-MD5", text)
	}
	return raw, nil
}

// checkChecksum refuses a header's value that cannot be a checksum of the kind.
func checkChecksum(kind, text string) error {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != newChecksum(kind).Size() {
		return &s3.Error{Code: "InvalidRequest", Message: "Value for " + strings.ToLower(checksumPrefix+kind) + " header is invalid.", Status: http.StatusBadRequest}
	}
	return nil
}
