package fakeaws

import (
	"cmp"
	"encoding/xml"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Objects: PutObject, GetObject, HeadObject, DeleteObject; and the report files of tasks, which lie in a bucket of
// AWS's and open by their links only.
//
// Not modelled: versions, tags, locks, storage classes beyond their name, encryption beyond the names of algorithm and
// key, SSE-C, website redirects, reading by part number.

const metadataPrefix = "X-Amz-Meta-"

// storageClasses are those that an object of a general purpose bucket can be given, besides STANDARD.
var storageClasses = []string{
	"REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE",
}

// notModelled are the headers of writes that the fake refuses, since the object would not be what the caller believes:
// without tags, not locked, or encrypted with the caller's own key.
var notModelled = append([]string{
	"X-Amz-Tagging", "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Object-Lock-Legal-Hold",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Write-Offset-Bytes", "X-Amz-Website-Redirect-Location",
}, customerKeys...)

// customerKeys are the headers of an object that is encrypted with the caller's own key, which no object here is.
var customerKeys = []string{
	"X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Customer-Key", "X-Amz-Server-Side-Encryption-Customer-Key-Md5",
}

// grants are the headers that let others read an object or a bucket, or write to it.
var grants = []string{"X-Amz-Grant-Read", "X-Amz-Grant-Write", "X-Amz-Grant-Full-Control", "X-Amz-Grant-Read-Acp", "X-Amz-Grant-Write-Acp"}

// given returns the first of the headers that a request has, "" for none.
func given(h http.Header, names []string) string {
	for _, name := range names {
		if h.Get(name) != "" {
			return name
		}
	}
	return ""
}

// refuseNotModelled refuses a write with one of the headers that are not modelled.
func refuseNotModelled(h http.Header, names []string) error {
	name := given(h, names)
	if name == "" {
		return nil
	}
	return (&s3.Error{Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented by the fake",
		Status: http.StatusNotImplemented}).With("Header", strings.ToLower(name))
}

// refuseACL refuses an access list that lets others than the bucket's owner at an object. Buckets are as S3 has made them
// since April 2023, with the bucket owner enforced.
func refuseACL(h http.Header) error {
	switch h.Get("X-Amz-Acl") {
	case "", "private", "bucket-owner-full-control":
		if given(h, grants) == "" {
			return nil
		}
	}
	return &s3.Error{Code: "AccessControlListNotSupported", Message: "The bucket does not allow ACLs", Status: http.StatusBadRequest}
}

// infoOf reads what is kept with an object from the headers of a request.
func infoOf(h http.Header) (s3.Info, error) {
	info := s3.Info{
		ContentType: cmp.Or(h.Get("Content-Type"), "binary/octet-stream"), ContentEncoding: storedEncoding(h.Get("Content-Encoding")),
		ContentDisposition: h.Get("Content-Disposition"), ContentLanguage: h.Get("Content-Language"), CacheControl: h.Get("Cache-Control"),
		Expires: h.Get("Expires"), StorageClass: h.Get("X-Amz-Storage-Class"), Encryption: h.Get("X-Amz-Server-Side-Encryption"),
		KMSKey: h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"), Metadata: map[string]string{},
	}
	if info.StorageClass == "STANDARD" {
		info.StorageClass = ""
	}
	if info.StorageClass != "" && !slices.Contains(storageClasses, info.StorageClass) {
		return info, (&s3.Error{Code: "InvalidStorageClass", Message: "The storage class you specified is not valid", Status: http.StatusBadRequest}).
			With("StorageClassRequested", info.StorageClass)
	}
	switch info.Encryption {
	case "", "AES256", "aws:kms", "aws:kms:dsse":
	default:
		return info, s3.InvalidArgument("The encryption method specified is not supported", "x-amz-server-side-encryption", info.Encryption)
	}
	if info.KMSKey != "" && !strings.HasPrefix(info.Encryption, "aws:kms") {
		return info, s3.InvalidArgument("Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
			"x-amz-server-side-encryption", info.Encryption)
	}
	if err := cmp.Or(refuseNotModelled(h, notModelled), refuseACL(h)); err != nil {
		return info, err
	}
	size := 0
	for name, values := range h {
		if key, ok := strings.CutPrefix(name, metadataPrefix); ok {
			value := strings.Join(values, ",")
			info.Metadata[strings.ToLower(key)] = value
			size += len(key) + len(value)
		}
	}
	if size > 2048 {
		return info, &s3.Error{Code: "MetadataTooLarge", Message: "Your metadata headers exceed the maximum allowed metadata size", Status: http.StatusBadRequest}
	}
	return info, nil
}

// storedEncoding leaves aws-chunked, which is about the upload and not the object, out of the content encoding.
func storedEncoding(header string) string {
	var kept []string
	for name := range strings.SplitSeq(header, ",") {
		if name = strings.TrimSpace(name); name != "" && name != "aws-chunked" {
			kept = append(kept, name)
		}
	}
	return strings.Join(kept, ",")
}

func (h *Handler) putObject(w http.ResponseWriter, r *s3Request) error {
	info, err := infoOf(r.Header)
	if err != nil {
		return err
	}
	body, err := h.openUpload(r)
	if err != nil {
		return err
	}
	o, err := r.wire.S3.Put(s3.PutInput{
		Bucket: r.bucket, Key: r.key, Body: body, Info: info, Checksums: body.checksums,
		IfMatch: r.Header.Get("If-Match"), IfNoneMatch: r.Header.Get("If-None-Match"),
	}, r.wire.Now)
	if err != nil {
		return err
	}
	writeStored(w.Header(), o)
	w.WriteHeader(http.StatusOK)
	return nil
}

// writeStored sets the headers about a stored object.
func writeStored(h http.Header, o *s3.Object) {
	h.Set("Etag", `"`+o.ETag+`"`)
	writeEncryption(h, o.Encryption, o.KMSKey)
	writeChecksums(h, o.Checksums, o.ChecksumType)
}

func writeEncryption(h http.Header, encryption, kmsKey string) {
	h.Set("X-Amz-Server-Side-Encryption", encryption)
	if kmsKey != "" {
		h.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", kmsKey)
	}
}

func writeChecksums(h http.Header, sums map[string]string, kind string) {
	for name, value := range sums {
		h.Set(checksumHeader(name), value)
	}
	if len(sums) > 0 {
		h.Set("X-Amz-Checksum-Type", cmp.Or(kind, "FULL_OBJECT"))
	}
}

// document is an object or a report file on its way out.
type document struct {
	content     io.ReadSeeker
	size        int64
	etag        string
	modified    time.Time
	contentType string
	object      *s3.Object // nil for a report
}

// open finds what a GET or a HEAD is about.
func (h *Handler) open(r *s3Request) (*document, error) {
	if r.report {
		content, ok, err := h.account.OpenReport(r.Context(), r.bucket, r.key)
		if err != nil {
			return nil, err
		}
		if ok {
			size, err := content.Seek(0, io.SeekEnd)
			if err != nil {
				return nil, err
			}
			return &document{content: content, size: size, contentType: "application/octet-stream", modified: r.wire.Now}, nil
		}
	}
	o, err := r.wire.S3.Get(r.bucket, r.key)
	if err != nil {
		return nil, err
	}
	return &document{content: o.Reader(), size: o.Size, etag: o.ETag, modified: o.Modified, contentType: o.ContentType, object: o}, nil
}

// sendObject answers GetObject and HeadObject: conditions, ranges, and the fault that ends a body too soon.
func (h *Handler) sendObject(w http.ResponseWriter, r *s3Request) error {
	d, err := h.open(r)
	if err != nil {
		return err
	}
	if given(r.Header, customerKeys) != "" {
		return &s3.Error{Code: "InvalidRequest", Message: "The encryption parameters are not applicable to this object.", Status: http.StatusBadRequest}
	}
	header := w.Header()
	if d.etag != "" {
		header.Set("Etag", `"`+d.etag+`"`)
	}
	header.Set("Last-Modified", d.modified.UTC().Format(http.TimeFormat))
	if err := conditions(r.Header, d); err != nil {
		return err
	}
	header.Set("Accept-Ranges", "bytes")
	header.Set("Content-Type", d.contentType)
	if o := d.object; o != nil {
		writeInfo(header, o)
		if r.Header.Get("Range") == "" && strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
			writeChecksums(header, o.Checksums, o.ChecksumType)
		}
	}
	for name, member := range answerHeaders {
		if r.query.Has(member) {
			header.Set(name, r.query.Get(member))
		}
	}
	part := s3.Range{Length: d.size}
	partial := false
	if text := r.Header.Get("Range"); text != "" {
		found, err := s3.ParseRange(text, d.size)
		if err != nil {
			header.Set("Content-Range", "bytes */"+strconv.FormatInt(d.size, 10))
			return err
		}
		if found != nil {
			part, partial = *found, true
		}
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		header.Set("Content-Range", "bytes "+strconv.FormatInt(part.Offset, 10)+"-"+strconv.FormatInt(part.Offset+part.Length-1, 10)+
			"/"+strconv.FormatInt(d.size, 10))
	}
	header.Set("Content-Length", strconv.FormatInt(part.Length, 10))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := d.content.Seek(part.Offset, io.SeekStart); err != nil {
		r.drop()
	}
	send := part.Length
	if cut := r.strike.Truncate; cut >= 0 {
		send = max(0, min(send, cut-part.Offset))
	}
	if _, err := io.CopyN(w, d.content, send); err != nil || send < part.Length {
		if err == nil {
			http.NewResponseController(w).Flush() // the client gets what there is before the connection breaks
		}
		r.drop()
	}
	return nil
}

// answerHeaders are the headers that a GET can ask for by a member of its query, as presigned links do.
var answerHeaders = map[string]string{
	"Content-Type": "response-content-type", "Content-Language": "response-content-language", "Expires": "response-expires",
	"Cache-Control": "response-cache-control", "Content-Disposition": "response-content-disposition", "Content-Encoding": "response-content-encoding",
}

func writeInfo(h http.Header, o *s3.Object) {
	for name, value := range map[string]string{
		"Content-Encoding": o.ContentEncoding, "Content-Disposition": o.ContentDisposition, "Content-Language": o.ContentLanguage,
		"Cache-Control": o.CacheControl, "Expires": o.Expires, "X-Amz-Storage-Class": o.StorageClass, "X-Amz-Server-Side-Encryption": o.Encryption,
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": o.KMSKey,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	for key, value := range o.Metadata {
		h[metadataPrefix+key] = []string{value}
	}
}

// conditions applies If-Match and its kin.
func conditions(h http.Header, d *document) error {
	since := func(name string) (time.Time, bool) {
		t, err := http.ParseTime(h.Get(name))
		return t, err == nil
	}
	match, noneMatch := h.Get("If-Match"), h.Get("If-None-Match")
	before, hasBefore := since("If-Unmodified-Since")
	after, hasAfter := since("If-Modified-Since")
	switch {
	case match != "" && !s3.MatchETag(match, d.etag):
		return s3.PreconditionFailed("If-Match", "", "")
	case match == "" && hasBefore && d.modified.After(before):
		return s3.PreconditionFailed("If-Unmodified-Since", "", "")
	case noneMatch != "" && s3.MatchETag(noneMatch, d.etag), noneMatch == "" && hasAfter && !d.modified.After(after):
		return &s3.Error{Code: "NotModified", Message: "Not Modified", Status: http.StatusNotModified}
	}
	return nil
}

func (h *Handler) deleteObject(w http.ResponseWriter, r *s3Request) error {
	if err := r.wire.S3.Delete(r.bucket, r.key, r.Header.Get("If-Match")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getObjectTagging answers that an object has no tags. Version 2 of the AWS CLI asks before it copies an object in
// parts.
func (h *Handler) getObjectTagging(w http.ResponseWriter, r *s3Request) error {
	if _, err := r.wire.S3.Get(r.bucket, r.key); err != nil {
		return err
	}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"Tagging"`
		Xmlns   string   `xml:"xmlns,attr"`
		TagSet  struct{}
	}{Xmlns: s3Namespace})
}
