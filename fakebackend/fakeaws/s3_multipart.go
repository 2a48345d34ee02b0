package fakeaws

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Multipart uploads: CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload.

func (h *Handler) createMultipartUpload(w http.ResponseWriter, r *s3Request) error {
	info, err := infoOf(r.Header)
	if err != nil {
		return err
	}
	kind, err := checksumKind(r.Header)
	if err != nil {
		return err
	}
	info.ChecksumType = strings.ToUpper(r.Header.Get("X-Amz-Checksum-Type"))
	switch {
	case info.ChecksumType == "":
	case info.ChecksumType != "FULL_OBJECT" && info.ChecksumType != "COMPOSITE":
		return &s3.Error{Code: "InvalidRequest", Message: "Value for x-amz-checksum-type header is invalid.", Status: http.StatusBadRequest}
	case kind == "":
		return &s3.Error{Code: "InvalidRequest", Message: "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.", Status: http.StatusBadRequest}
	case ofWhole(kind, info.ChecksumType) != (info.ChecksumType == "FULL_OBJECT"):
		return &s3.Error{Code: "InvalidRequest", Message: "The " + info.ChecksumType + " checksum type cannot be used with the " + strings.ToLower(kind) +
			" checksum algorithm.", Status: http.StatusBadRequest}
	}
	u, err := r.wire.S3.CreateUpload(r.bucket, r.key, info, kind, r.wire.Now)
	if err != nil {
		return err
	}
	writeEncryption(w.Header(), u.Encryption, u.KMSKey)
	if kind != "" {
		w.Header().Set("X-Amz-Checksum-Algorithm", kind)
		kindOfSum := cmp.Or(info.ChecksumType, "COMPOSITE")
		if ofWhole(kind, info.ChecksumType) {
			kindOfSum = "FULL_OBJECT"
		}
		w.Header().Set("X-Amz-Checksum-Type", kindOfSum)
	}
	return writeXML(w, struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		Xmlns    string   `xml:"xmlns,attr"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Xmlns: s3Namespace, Bucket: u.Bucket, Key: u.Key, UploadID: u.ID})
}

func partNumber(r *s3Request) (int, error) {
	n, err := strconv.Atoi(r.query.Get("partNumber"))
	if err != nil || n < 1 || n > s3.MaxParts {
		return 0, s3.InvalidArgument("Part number must be an integer between 1 and 10000, inclusive", "partNumber", r.query.Get("partNumber"))
	}
	return n, nil
}

func (h *Handler) uploadPart(w http.ResponseWriter, r *s3Request) error {
	n, err := partNumber(r)
	if err != nil {
		return err
	}
	if err := refuseNotModelled(r.Header, customerKeys); err != nil {
		return err
	}
	body, err := h.openUpload(r)
	if err != nil {
		return err
	}
	u, err := r.wire.S3.FindUpload(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	sent := body.announcedKind()
	if spared := sent == "" && ofWhole(u.ChecksumKind, u.ChecksumType); u.ChecksumKind != "" && sent != u.ChecksumKind && !spared {
		return &s3.Error{Code: "InvalidRequest", Message: "Checksum Type mismatch occurred, expected checksum Type: " + strings.ToLower(u.ChecksumKind) +
			", actual checksum Type: " + strings.ToLower(cmp.Or(sent, "null")), Status: http.StatusBadRequest}
	}
	p, err := r.wire.S3.PutPart(r.bucket, r.key, u.ID, n, body, body.checksums, r.wire.Now)
	if err != nil {
		return err
	}
	w.Header().Set("Etag", `"`+p.ETag+`"`)
	writeEncryption(w.Header(), u.Encryption, u.KMSKey)
	for kind, value := range p.Checksums {
		w.Header().Set(checksumHeader(kind), value)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) completeMultipartUpload(w http.ResponseWriter, r *s3Request) error {
	// The request's own checksum headers are about the object that comes of it, not about this small body.
	announced := http.Header{}
	for _, kind := range checksumKinds {
		if value := r.Header.Get(checksumHeader(kind)); value != "" {
			announced.Set(kind, value)
			r.Header.Del(checksumHeader(kind))
		}
	}
	type part struct {
		PartNumber int
		ETag       string
		xmlChecksums
	}
	var in struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}
	if err := h.readXML(r, &in); err != nil {
		return err
	}
	var parts []s3.CompletePart
	for _, p := range in.Part {
		parts = append(parts, s3.CompletePart{Number: p.PartNumber, ETag: strings.Trim(p.ETag, `"`)})
	}
	if o := r.wire.S3.Completed(r.bucket, r.key, r.query.Get("uploadId"), parts); o != nil {
		return writeCompleted(w, r, o)
	}
	u, held, err := r.wire.S3.Parts(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	kindOfSum := cmp.Or(strings.ToUpper(r.Header.Get("X-Amz-Checksum-Type")), u.ChecksumType)
	for i, p := range in.Part {
		have := slices.IndexFunc(held, func(have *s3.Part) bool { return have.Number == p.PartNumber })
		if have < 0 {
			continue // Complete refuses it
		}
		for _, kind := range checksumKinds {
			value, sum := p.of(kind), held[have].Checksums[kind]
			switch {
			case value != "" && sum != "" && sum != value:
				return s3.InvalidPart(u.ID, parts[i])
			case value != "" && p.PartNumber != i+1:
				return (&s3.Error{Code: "InvalidPartOrder", Message: "The list of parts was not in ascending order. Parts must be ordered by part number.", Status: http.StatusBadRequest}).With("UploadId", u.ID)
			case value == "" && kind == u.ChecksumKind && !ofWhole(kind, kindOfSum):
				return missingChecksum(kind, p.PartNumber)
			}
		}
	}
	o, err := r.wire.S3.Complete(r.bucket, r.key, u.ID, parts, r.Header.Get("If-Match"), r.Header.Get("If-None-Match"),
		func(parts []*s3.Part) (map[string]string, string, error) {
			return completed(u, kindOfSum, announced, parts)
		}, r.wire.Now)
	if err != nil {
		return err
	}
	return writeCompleted(w, r, o)
}

func writeCompleted(w http.ResponseWriter, r *s3Request, o *s3.Object) error {
	writeEncryption(w.Header(), o.Encryption, o.KMSKey)
	out := struct {
		XMLName  xml.Name `xml:"CompleteMultipartUploadResult"`
		Xmlns    string   `xml:"xmlns,attr"`
		Location string
		Bucket   string
		Key      string
		ETag     string
		xmlChecksums
	}{
		Xmlns: s3Namespace, Location: "http://" + r.Host + "/" + r.bucket + "/" + r.key, Bucket: r.bucket, Key: r.key, ETag: `"` + o.ETag + `"`,
		xmlChecksums: wireChecksums(o.Checksums, o.ChecksumType),
	}
	return writeXML(w, out)
}

// ofWhole reports whether the checksum of an object made of parts is one of all its bytes: for CRC64NVME always, for
// the other CRCs when asked for. Else it is made of the parts' checksums.
func ofWhole(algorithm, kindOfSum string) bool {
	return algorithm == "CRC64NVME" || kindOfSum == "FULL_OBJECT" && strings.HasPrefix(algorithm, "CRC")
}

// completed returns the checksum of an object made of parts, and its type.
func completed(u *s3.Upload, kindOfSum string, announced http.Header, parts []*s3.Part) (map[string]string, string, error) {
	algorithm := cmp.Or(u.ChecksumKind, "CRC64NVME")
	var sum string
	if ofWhole(algorithm, kindOfSum) {
		kindOfSum = "FULL_OBJECT"
		h := newChecksum(algorithm)
		for _, p := range parts {
			if _, err := p.Body().WriteTo(h); err != nil {
				return nil, "", err
			}
		}
		sum = sumText(h)
	} else {
		kindOfSum = "COMPOSITE"
		var err error
		if sum, err = compositeChecksum(algorithm, parts); err != nil {
			return nil, "", err
		}
	}
	if want := announced.Get(algorithm); want != "" && want != sum && want != strings.SplitN(sum, "-", 2)[0] {
		return nil, "", badDigest(algorithm)
	}
	return map[string]string{algorithm: sum}, kindOfSum, nil
}

func (h *Handler) abortMultipartUpload(w http.ResponseWriter, r *s3Request) error {
	if err := r.wire.S3.Abort(r.bucket, r.key, r.query.Get("uploadId")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
