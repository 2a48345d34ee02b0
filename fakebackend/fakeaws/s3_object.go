package fakeaws

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Objects: PutObject, GetObject, HeadObject, CopyObject, DeleteObject and their tags; and the report files of tasks,
// which lie in a bucket of AWS's and open by their links only.
//
// Not modelled: versions, locks, storage classes beyond their name, encryption beyond what is asked for and given back,
// SSE-C, website redirects.

const metadataPrefix = "X-Amz-Meta-"

// storageClasses are those that an object of a general purpose bucket can be given, besides STANDARD.
var storageClasses = []string{
	"REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "GLACIER_IR", "DEEP_ARCHIVE",
}

// infoOf reads what is kept with an object from the headers of a request.
func infoOf(h http.Header) (s3.Info, error) {
	info := s3.Info{
		ContentType: h.Get("Content-Type"), ContentEncoding: storedEncoding(h.Get("Content-Encoding")),
		ContentDisposition: h.Get("Content-Disposition"), ContentLanguage: h.Get("Content-Language"), CacheControl: h.Get("Cache-Control"),
		Expires: h.Get("Expires"), StorageClass: h.Get("X-Amz-Storage-Class"), Encryption: h.Get("X-Amz-Server-Side-Encryption"),
		KMSKey: h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"), Metadata: map[string]string{},
	}
	if info.ContentType == "" {
		info.ContentType = "binary/octet-stream"
	}
	if info.StorageClass == "STANDARD" {
		info.StorageClass = ""
	}
	if info.StorageClass != "" && !slices.Contains(storageClasses, info.StorageClass) {
		return info, &s3.Error{Code: "InvalidStorageClass", Message: "The storage class you specified is not valid", Status: http.StatusBadRequest}
	}
	switch info.Encryption {
	case "", "AES256", "aws:kms", "aws:kms:dsse":
	default:
		return info, &s3.Error{Code: "InvalidArgument", Message: "The encryption method specified is not supported", Status: http.StatusBadRequest}
	}
	if info.KMSKey != "" && !strings.HasPrefix(info.Encryption, "aws:kms") {
		return info, &s3.Error{Code: "InvalidArgument", Message: "Server Side Encryption with AWS KMS managed key requires HTTP header" +
			" x-amz-server-side-encryption : aws:kms", Status: http.StatusBadRequest}
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
	var err error
	info.Tags, err = headerTags(h)
	return info, err
}

// headerTags reads the tags in a request's header, which have the form of a URL's query.
func headerTags(h http.Header) (map[string]string, error) {
	text := h.Get("X-Amz-Tagging")
	if text == "" {
		return nil, nil
	}
	members, err := url.ParseQuery(text)
	var list []xmlTag
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if len(members[key]) > 1 {
			err = errors.New("a name twice")
		}
		list = append(list, xmlTag{key, members.Get(key)})
	}
	if err != nil {
		return nil, &s3.Error{Code: "InvalidArgument", Message: "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.", Status: http.StatusBadRequest}
	}
	return tagSet(list)
}

// tagText is the text of a tag's key or value.
var tagText = regexp.MustCompile("^" + tagPattern + "*$")

// tagSet checks a list of tags against S3's limits: 10 tags, keys of 1 to 128 characters, values of 256 at most.
func tagSet(list []xmlTag) (map[string]string, error) {
	invalid := func(message string) error {
		return &s3.Error{Code: "InvalidTag", Message: message, Status: http.StatusBadRequest}
	}
	if len(list) > 10 {
		return nil, &s3.Error{Code: "BadRequest", Message: "Object tags cannot be greater than 10", Status: http.StatusBadRequest}
	}
	tags := map[string]string{}
	for _, t := range list {
		_, twice := tags[t.Key]
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > 128 || !tagText.MatchString(t.Key):
			return nil, invalid("The TagKey you have provided is invalid")
		case utf8.RuneCountInString(t.Value) > 256 || !tagText.MatchString(t.Value):
			return nil, invalid("The TagValue you have provided is invalid")
		case twice:
			return nil, invalid("Cannot provide multiple Tags with the same key")
		}
		tags[t.Key] = t.Value
	}
	return tags, nil
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

// writeStored says what was stored.
func writeStored(h http.Header, o *s3.Object) {
	h.Set("Etag", `"`+o.ETag+`"`)
	h.Set("X-Amz-Server-Side-Encryption", o.Encryption)
	if o.KMSKey != "" {
		h.Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", o.KMSKey)
	}
	writeChecksums(h, o.Checksums, o.ChecksumType)
}

func writeChecksums(h http.Header, sums map[string]string, kind string) {
	for name, value := range sums {
		h.Set(checksumHeader(name), value)
	}
	if len(sums) > 0 {
		if kind == "" {
			kind = "FULL_OBJECT"
		}
		h.Set("X-Amz-Checksum-Type", kind)
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

func (h *Handler) headObject(w http.ResponseWriter, r *s3Request) error { return h.sendObject(w, r) }

func (h *Handler) getObject(w http.ResponseWriter, r *s3Request) error { return h.sendObject(w, r) }

// sendObject answers GetObject and HeadObject: conditions, ranges, parts by number, and the fault that ends a body too
// soon.
func (h *Handler) sendObject(w http.ResponseWriter, r *s3Request) error {
	number, err := wantedPart(r)
	if err != nil {
		return err
	}
	d, err := h.open(r)
	if err != nil {
		return err
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
	sums := map[string]string{}
	if o := d.object; o != nil {
		writeInfo(header, o)
		if r.Header.Get("Range") == "" {
			sums = o.Checksums
		}
	}
	for member, name := range responseOverrides {
		if value := r.query.Get(member); value != "" {
			header.Set(name, value)
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
	if o := d.object; o != nil && number > 0 {
		found, about, err := o.Part(number)
		if err != nil {
			return err
		}
		part, partial, sums = found, found.Length > 0, about.Checksums // the range of an empty part cannot be said
		if n := len(o.Parts); n > 0 {
			header.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(n))
		}
	}
	if d.object != nil && strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		writeChecksums(header, sums, d.object.ChecksumType)
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

// wantedPart is the number of the part that a request is for; 0 for the whole object.
func wantedPart(r *s3Request) (int, error) {
	if !r.query.Has("partNumber") {
		return 0, nil
	}
	if r.Header.Get("Range") != "" {
		return 0, &s3.Error{Code: "InvalidRequest", Message: "Cannot specify both Range header and partNumber query parameter", Status: http.StatusBadRequest}
	}
	return partNumber(r)
}

// responseOverrides are the query members that set headers of the answer.
var responseOverrides = map[string]string{
	"response-content-type": "Content-Type", "response-content-language": "Content-Language", "response-expires": "Expires",
	"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding",
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
	if n := len(o.Tags); n > 0 {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(n))
	}
}

// conditions applies If-Match and its kin.
func conditions(h http.Header, d *document) error {
	failed := &s3.Error{Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold", Status: http.StatusPreconditionFailed}
	unchanged := &s3.Error{Code: "NotModified", Message: "Not Modified", Status: http.StatusNotModified}
	since := func(name string) (time.Time, bool) {
		t, err := http.ParseTime(h.Get(name))
		return t, err == nil
	}
	match, noneMatch := h.Get("If-Match"), h.Get("If-None-Match")
	before, hasBefore := since("If-Unmodified-Since")
	after, hasAfter := since("If-Modified-Since")
	switch {
	case match != "" && !s3.MatchETag(match, d.etag),
		match == "" && hasBefore && d.modified.After(before):
		return failed
	case noneMatch != "" && s3.MatchETag(noneMatch, d.etag),
		noneMatch == "" && hasAfter && !d.modified.After(after):
		return unchanged
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

func noSuchVersion() *s3.Error {
	return &s3.Error{Code: "NoSuchVersion", Message: "The specified version does not exist.", Status: http.StatusNotFound}
}

// copySource reads the header that names the object to copy.
func copySource(r *s3Request) (bucket, key string, err error) {
	invalid := &s3.Error{Code: "InvalidArgument", Message: "Copy Source must mention the source bucket and key: sourcebucket/sourcekey", Status: http.StatusBadRequest}
	text, version, _ := strings.Cut(r.Header.Get("X-Amz-Copy-Source"), "?versionId=")
	if version != "" && version != "null" { // the only one an object without versions has
		return "", "", noSuchVersion()
	}
	text, err = url.PathUnescape(text)
	if err != nil {
		return "", "", invalid
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	if !ok || bucket == "" || key == "" {
		return "", "", invalid
	}
	return bucket, key, nil
}

func (h *Handler) copyObject(w http.ResponseWriter, r *s3Request) error {
	bucket, key, err := copySource(r)
	if err != nil {
		return err
	}
	in := s3.CopyInput{
		FromBucket: bucket, FromKey: key, Bucket: r.bucket, Key: r.key,
		IfMatch: r.Header.Get("X-Amz-Copy-Source-If-Match"), IfNoneMatch: r.Header.Get("X-Amz-Copy-Source-If-None-Match"),
	}
	asked, err := infoOf(r.Header)
	if err != nil {
		return err
	}
	replaceInfo, err := replaces(r, "metadata")
	if err != nil {
		return err
	}
	replaceTags, err := replaces(r, "tagging")
	if err != nil {
		return err
	}
	kind, err := checksumKind(r.Header)
	if err != nil {
		return err
	}
	in.Changes = replaceInfo || r.Header.Get("X-Amz-Storage-Class") != "" || asked.Encryption != "" || r.Header.Get("X-Amz-Website-Redirect-Location") != ""
	in.Info = func(from *s3.Object) (s3.Info, error) {
		info := from.Info
		if replaceInfo {
			info = asked
		}
		info.Tags = from.Tags
		if replaceTags {
			info.Tags = asked.Tags
		}
		// These are the request's, whatever the source has.
		info.StorageClass, info.Encryption, info.KMSKey = asked.StorageClass, asked.Encryption, asked.KMSKey
		info.ChecksumType = ""
		info.Checksums, err = copiedChecksum(from, kind)
		return info, err
	}
	o, err := r.wire.S3.Copy(in, r.wire.Now)
	if err != nil {
		return err
	}
	w.Header().Set("X-Amz-Server-Side-Encryption", o.Encryption)
	return writeXML(w, copyResult{
		XMLName: xml.Name{Local: "CopyObjectResult"}, Xmlns: s3Namespace, LastModified: o.Modified.Format(s3Time), ETag: `"` + o.ETag + `"`,
		xmlChecksums: wireChecksums(o.Checksums, o.ChecksumType),
	})
}

// replaces reads the directive that says whether a copy keeps what the source has, as it does by default.
func replaces(r *s3Request, what string) (bool, error) {
	switch r.Header.Get("X-Amz-" + what + "-Directive") {
	case "REPLACE":
		return true, nil
	case "", "COPY":
		return false, nil
	}
	return false, &s3.Error{Code: "InvalidArgument", Message: "Unknown " + what + " directive.", Status: http.StatusBadRequest}
}

type copyResult struct {
	XMLName      xml.Name
	Xmlns        string `xml:"xmlns,attr"`
	LastModified string
	ETag         string
	xmlChecksums
}

// tagging is a set of tags on the wire.
type tagging struct {
	XMLName xml.Name `xml:"Tagging"`
	Xmlns   string   `xml:"xmlns,attr,omitempty"`
	Tags    []xmlTag `xml:"TagSet>Tag"`
}

type xmlTag struct{ Key, Value string }

func (h *Handler) getObjectTagging(w http.ResponseWriter, r *s3Request) error {
	o, err := r.wire.S3.Get(r.bucket, r.key)
	if err != nil {
		return err
	}
	out := tagging{Xmlns: s3Namespace}
	for _, key := range slices.Sorted(maps.Keys(o.Tags)) {
		out.Tags = append(out.Tags, xmlTag{key, o.Tags[key]})
	}
	return writeXML(w, out)
}

func (h *Handler) putObjectTagging(_ http.ResponseWriter, r *s3Request) error {
	var in tagging
	if err := h.readXML(r, &in); err != nil {
		return err
	}
	tags, err := tagSet(in.Tags)
	if err != nil {
		return err
	}
	return r.wire.S3.SetTags(r.bucket, r.key, tags)
}

func (h *Handler) deleteObjectTagging(w http.ResponseWriter, r *s3Request) error {
	if err := r.wire.S3.SetTags(r.bucket, r.key, nil); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
