package fakeaws

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
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

// sumText is a checksum as it stands in headers.
func sumText(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// compositeChecksum is the checksum of a multipart object that was uploaded with checksums of its parts: the checksum of
// their checksums, and their number.
func compositeChecksum(kind string, parts []*s3.Part) (string, error) {
	h := newChecksum(kind)
	for _, p := range parts {
		raw, err := base64.StdEncoding.DecodeString(p.Checksums[kind])
		if err != nil || len(raw) == 0 {
			return "", &s3.Error{Code: "InvalidRequest", Message: fmt.Sprintf("The upload was created using a %s checksum. The complete request must"+
				" include the checksum for each part. It was missing for part %d in the request.", strings.ToLower(kind), p.Number), Status: 400}
		}
		h.Write(raw)
	}
	return fmt.Sprintf("%s-%d", sumText(h), len(parts)), nil
}

// badDigest is the refusal of a body that does not have the checksum announced for it.
func badDigest(what string) *s3.Error {
	return &s3.Error{Code: "BadDigest", Message: "The " + what + " you specified did not match the calculated checksum.", Status: http.StatusBadRequest}
}

// checkMD5 reads a Content-MD5 header.
func checkMD5(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != md5.Size {
		return nil, &s3.Error{Code: "InvalidDigest", Message: "The Content-MD5 you specified was invalid.", Status: http.StatusBadRequest}
	}
	return raw, nil
}

// checkChecksum says whether a header's value can be a checksum of the kind.
func checkChecksum(kind, text string) error {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != newChecksum(kind).Size() {
		return &s3.Error{Code: "InvalidRequest", Message: "Value for " + strings.ToLower(checksumPrefix+kind) + " header is invalid.", Status: http.StatusBadRequest}
	}
	return nil
}
