package fakeaws

import (
	"cmp"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Multipart uploads: CreateMultipartUpload, UploadPart, UploadPartCopy, CompleteMultipartUpload, AbortMultipartUpload,
// ListParts.

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
	if kind != "" {
		w.Header().Set("X-Amz-Checksum-Algorithm", kind)
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
		return 0, &s3.Error{Code: "InvalidArgument", Message: "Part number must be an integer between 1 and 10000, inclusive", Status: http.StatusBadRequest}
	}
	return n, nil
}

func (h *Handler) uploadPart(w http.ResponseWriter, r *s3Request) error {
	n, err := partNumber(r)
	if err != nil {
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
	for kind, value := range p.Checksums {
		w.Header().Set(checksumHeader(kind), value)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) uploadPartCopy(w http.ResponseWriter, r *s3Request) error {
	n, err := partNumber(r)
	if err != nil {
		return err
	}
	bucket, key, err := copySource(r)
	if err != nil {
		return err
	}
	o, err := r.wire.S3.Get(bucket, key)
	if err != nil {
		return err
	}
	var body io.Reader = o.Reader()
	if text := r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		part, err := s3.ParseRange(text, o.Size)
		if err != nil || part == nil {
			return &s3.Error{Code: "InvalidArgument", Message: "The x-amz-copy-source-range value must be of the form bytes=first-last", Status: http.StatusBadRequest}
		}
		body = io.NewSectionReader(o.Reader(), part.Offset, part.Length)
	}
	u, err := r.wire.S3.FindUpload(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	var checksums func() (map[string]string, error) // S3 makes them, since the client did not see the bytes
	if u.ChecksumKind != "" {
		sum := newChecksum(u.ChecksumKind)
		body = io.TeeReader(body, sum)
		checksums = func() (map[string]string, error) { return map[string]string{u.ChecksumKind: sumText(sum)}, nil }
	}
	p, err := r.wire.S3.PutPart(r.bucket, r.key, u.ID, n, body, checksums, r.wire.Now)
	if err != nil {
		return err
	}
	return writeXML(w, copyResult{
		XMLName: xml.Name{Local: "CopyPartResult"}, Xmlns: s3Namespace, LastModified: p.Modified.Format(s3Time), ETag: `"` + p.ETag + `"`,
		xmlChecksums: wirePartChecksums(p),
	})
}

// wirePartChecksums is a part's checksum, which is of one kind only and so names none.
func wirePartChecksums(p *s3.Part) xmlChecksums {
	out := wireChecksums(p.Checksums, "")
	out.ChecksumType = ""
	return out
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
	u, held, err := r.wire.S3.Parts(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	kindOfSum := cmp.Or(strings.ToUpper(r.Header.Get("X-Amz-Checksum-Type")), u.ChecksumType)
	var parts []s3.CompletePart
	for i, p := range in.Part {
		parts = append(parts, s3.CompletePart{Number: p.PartNumber, ETag: p.ETag})
		have := slices.IndexFunc(held, func(have *s3.Part) bool { return have.Number == p.PartNumber })
		if have < 0 {
			continue // Complete refuses it
		}
		for _, kind := range checksumKinds {
			value, sum := p.of(kind), held[have].Checksums[kind]
			switch {
			case value != "" && sum != "" && sum != value:
				return &s3.Error{Code: "InvalidPart", Message: "One or more of the specified parts could not be found.  The part may not have been" +
					" uploaded, or the specified entity tag may not match the part's entity tag.", Status: http.StatusBadRequest}
			case value != "" && p.PartNumber != i+1:
				return &s3.Error{Code: "InvalidPartOrder", Message: "The list of parts was not in ascending order. Parts must be ordered by part number.", Status: http.StatusBadRequest}
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
	w.Header().Set("X-Amz-Server-Side-Encryption", o.Encryption)
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

// ofWhole reports whether the checksum of an object made of parts is one of all its bytes: for CRC64NVME always, for the
// other CRCs when asked for. Else it is made of the parts' checksums.
func ofWhole(algorithm, kindOfSum string) bool {
	return algorithm == "CRC64NVME" || kindOfSum == "FULL_OBJECT" && strings.HasPrefix(algorithm, "CRC")
}

// completed gives the checksum of an object made of parts, and its kind.
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

func (h *Handler) listParts(w http.ResponseWriter, r *s3Request) error {
	u, parts, err := r.wire.S3.Parts(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	most, err := maxKeys(r, "max-parts")
	if err != nil {
		return err
	}
	marker, _ := strconv.Atoi(r.query.Get("part-number-marker")) // anything but a number begins at the start
	type item struct {
		PartNumber   int
		LastModified string
		ETag         string
		Size         int64
		xmlChecksums
	}
	out := struct {
		XMLName              xml.Name `xml:"ListPartsResult"`
		Xmlns                string   `xml:"xmlns,attr"`
		Bucket               string
		Key                  string
		UploadID             string `xml:"UploadId"`
		PartNumberMarker     int
		NextPartNumberMarker int `xml:",omitempty"`
		MaxParts             int
		IsTruncated          bool
		StorageClass         string
		Part                 []item
	}{Xmlns: s3Namespace, Bucket: u.Bucket, Key: u.Key, UploadID: u.ID, PartNumberMarker: marker, MaxParts: most, StorageClass: "STANDARD"}
	for _, p := range parts {
		if p.Number <= marker {
			continue
		}
		if len(out.Part) == most {
			out.IsTruncated = true
			break
		}
		out.Part = append(out.Part, item{p.Number, p.Modified.Format(s3Time), `"` + p.ETag + `"`, p.Size, wirePartChecksums(p)})
		out.NextPartNumberMarker = p.Number
	}
	return writeXML(w, out)
}
