package fakeaws

import (
	"cmp"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Copies: CopyObject and UploadPartCopy, which aws s3 cp and sync use when both sides are in S3. A data file is copied
// so when it was made for another region's bucket: AWS IoT reads it from its own region only.
//
// Not modelled: tags, versions.

// copySource returns the object that a request copies from.
func copySource(r *s3Request) (*s3.Object, error) {
	source := r.Header.Get("X-Amz-Copy-Source")
	invalid := s3.InvalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey", "x-amz-copy-source", source)
	text, version, _ := strings.Cut(source, "?versionId=")
	if version != "" && version != "null" { // the only one an object without versions has
		return nil, &s3.Error{Code: "NoSuchVersion", Message: "The specified version does not exist.", Status: http.StatusNotFound}
	}
	text, err := url.QueryUnescape(text) // a plus is a space here
	if err != nil {
		return nil, invalid
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	if !ok || bucket == "" || key == "" {
		return nil, invalid
	}
	if where, err := r.wire.S3.HeadBucket(bucket); err == nil {
		if err := expectedOwner(r, "X-Amz-Source-Expected-Bucket-Owner", where.Owner); err != nil {
			return nil, err
		}
	}
	o, err := r.wire.S3.Get(bucket, key)
	if err != nil {
		return nil, err
	}
	return o, sourceConditions(r.Header, o)
}

// sourceConditions applies the conditions that a copy can put on its source. One on the ETag goes before the one on the
// time that is its counterpart.
func sourceConditions(h http.Header, o *s3.Object) error {
	const prefix = "X-Amz-Copy-Source-"
	match, noneMatch := h.Get(prefix+"If-Match"), h.Get(prefix+"If-None-Match")
	before, noBefore := http.ParseTime(h.Get(prefix + "If-Unmodified-Since"))
	after, noAfter := http.ParseTime(h.Get(prefix + "If-Modified-Since"))
	var failed string
	switch {
	case match != "" && !s3.MatchETag(match, o.ETag):
		failed = "If-Match"
	case match == "" && noBefore == nil && o.Modified.After(before):
		failed = "If-Unmodified-Since"
	case noneMatch != "" && s3.MatchETag(noneMatch, o.ETag):
		failed = "If-None-Match"
	case noneMatch == "" && noAfter == nil && !o.Modified.After(after):
		failed = "If-Modified-Since"
	default:
		return nil
	}
	return s3.PreconditionFailed("x-amz-copy-source-"+failed, o.Bucket, o.Key)
}

// copyObject stores a copy whole. What is kept with the source is kept with the copy, unless the directive is
// REPLACE; storage class and encryption are the request's in any case.
func (h *Handler) copyObject(w http.ResponseWriter, r *s3Request) error {
	from, err := copySource(r)
	if err != nil {
		return err
	}
	info, err := infoOf(r.Header)
	if err != nil {
		return err
	}
	changes := info.StorageClass != "" || info.Encryption != ""
	switch r.Header.Get("X-Amz-Metadata-Directive") {
	case "REPLACE":
		changes = true
	case "", "COPY":
		asked := info
		info = from.Info
		info.StorageClass, info.Encryption, info.KMSKey, info.ChecksumType = asked.StorageClass, asked.Encryption, asked.KMSKey, ""
	default:
		return s3.InvalidArgument("Unknown metadata directive.", "x-amz-metadata-directive", r.Header.Get("X-Amz-Metadata-Directive"))
	}
	if !changes && from.Bucket == r.bucket && from.Key == r.key {
		return &s3.Error{Code: "InvalidRequest", Status: http.StatusBadRequest, Bucket: r.bucket, Key: r.key,
			Message: "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata," +
				" storage class, website redirect location or encryption attributes."}
	}
	kind, err := checksumKind(r.Header)
	if err != nil {
		return err
	}
	for had := range from.Checksums { // by the algorithm asked for, else the source's
		kind = cmp.Or(kind, had)
	}
	body, checksums := summed(from.Reader(), cmp.Or(kind, "CRC64NVME"))
	o, err := r.wire.S3.Put(s3.PutInput{Bucket: r.bucket, Key: r.key, Body: body, Info: info, Checksums: checksums,
		IfMatch: r.Header.Get("If-Match"), IfNoneMatch: r.Header.Get("If-None-Match")}, r.wire.Now)
	if err != nil {
		return err
	}
	writeEncryption(w.Header(), o.Encryption, o.KMSKey)
	return writeXML(w, copyResult{
		XMLName: xml.Name{Local: "CopyObjectResult"}, Xmlns: s3Namespace, LastModified: o.Modified.Format(s3Time), ETag: `"` + o.ETag + `"`,
		xmlChecksums: wireChecksums(o.Checksums, o.ChecksumType),
	})
}

// uploadPartCopy stores a part of an object as a part of an upload. S3 computes the checksum that the upload demands,
// since the client does not see the bytes.
func (h *Handler) uploadPartCopy(w http.ResponseWriter, r *s3Request) error {
	n, err := partNumber(r)
	if err != nil {
		return err
	}
	if err := refuseNotModelled(r.Header, notModelled); err != nil {
		return err
	}
	from, err := copySource(r)
	if err != nil {
		return err
	}
	var body io.Reader = from.Reader()
	if text := r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		part, err := s3.ParseRange(text, from.Size)
		if err != nil || part == nil {
			return s3.InvalidArgument("The x-amz-copy-source-range value must be of the form bytes=first-last", "x-amz-copy-source-range", text)
		}
		body = io.NewSectionReader(from.Reader(), part.Offset, part.Length)
	}
	u, err := r.wire.S3.FindUpload(r.bucket, r.key, r.query.Get("uploadId"))
	if err != nil {
		return err
	}
	var checksums func() (map[string]string, error)
	if u.ChecksumKind != "" {
		body, checksums = summed(body, u.ChecksumKind)
	}
	p, err := r.wire.S3.PutPart(r.bucket, r.key, u.ID, n, body, checksums, r.wire.Now)
	if err != nil {
		return err
	}
	writeEncryption(w.Header(), u.Encryption, u.KMSKey)
	out := copyResult{
		XMLName: xml.Name{Local: "CopyPartResult"}, Xmlns: s3Namespace, LastModified: p.Modified.Format(s3Time), ETag: `"` + p.ETag + `"`,
		xmlChecksums: wireChecksums(p.Checksums, ""),
	}
	out.ChecksumType = "" // a part's is of one type only
	return writeXML(w, out)
}

// summed returns a reader over the same bytes, and a function that returns their checksum once they are read.
func summed(body io.Reader, kind string) (io.Reader, func() (map[string]string, error)) {
	sum := newChecksum(kind)
	return io.TeeReader(body, sum), func() (map[string]string, error) { return map[string]string{kind: sumText(sum)}, nil }
}

type copyResult struct {
	XMLName      xml.Name
	Xmlns        string `xml:"xmlns,attr"`
	LastModified string
	ETag         string
	xmlChecksums
}
