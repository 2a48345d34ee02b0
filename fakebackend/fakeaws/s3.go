package fakeaws

import (
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/task"
)

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// s3Request is a request to S3 with what its address says.
type s3Request struct {
	*request
	bucket, key string
	strike      wire.Strike
	report      bool // it came by a report link
}

// s3Route is one operation of S3: where it acts, its method, and the query member that tells it from its siblings.
type s3Route struct {
	name   string
	target target
	method string
	query  string // a member that must be there; "" for none
	header string // a header that must be there; "" for none
	handle func(*Handler, http.ResponseWriter, *s3Request) error
}

// s3Members are the input members, by the names of AWS's SDKs, that each operation takes into account besides Bucket,
// Key and ExpectedBucketOwner.
var s3Members = map[string]string{
	"AbortMultipartUpload": "UploadId",
	"CompleteMultipartUpload": "UploadId, MultipartUpload, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, " +
		"ChecksumSHA256, ChecksumType, IfMatch, IfNoneMatch",
	"CopyObject": "CopySource, CopySourceIfMatch, CopySourceIfNoneMatch, MetadataDirective, CacheControl, " +
		"ContentDisposition, ContentEncoding, ContentLanguage, ContentType, Expires, Metadata, " +
		"ServerSideEncryption, SSEKMSKeyId, StorageClass, Tagging, TaggingDirective, ChecksumAlgorithm",
	"CreateBucket": "CreateBucketConfiguration",
	"CreateMultipartUpload": "CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType, Expires, " +
		"Metadata, ServerSideEncryption, SSEKMSKeyId, StorageClass, Tagging, ChecksumAlgorithm, " +
		"ChecksumType",
	"DeleteObject":  "IfMatch",
	"DeleteObjects": "Delete, ChecksumAlgorithm",
	"GetObject": "Range, PartNumber, IfMatch, IfNoneMatch, IfModifiedSince, IfUnmodifiedSince, ChecksumMode, " +
		"ResponseCacheControl, ResponseContentDisposition, ResponseContentEncoding, " +
		"ResponseContentLanguage, ResponseContentType, ResponseExpires",
	"HeadObject": "Range, PartNumber, IfMatch, IfNoneMatch, IfModifiedSince, IfUnmodifiedSince, ChecksumMode, " +
		"ResponseCacheControl, ResponseContentDisposition, ResponseContentEncoding, " +
		"ResponseContentLanguage, ResponseContentType, ResponseExpires",
	"ListMultipartUploads": "Prefix, EncodingType",
	"ListObjects":          "Prefix, Delimiter, MaxKeys, Marker, EncodingType",
	"ListObjectsV2":        "Prefix, Delimiter, MaxKeys, StartAfter, ContinuationToken, EncodingType, FetchOwner",
	"ListParts":            "UploadId, MaxParts, PartNumberMarker",
	"PutObject": "Body, CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentLength, " +
		"ContentMD5, ContentType, Expires, IfMatch, IfNoneMatch, ChecksumAlgorithm, ChecksumCRC32, " +
		"ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256, Metadata, ServerSideEncryption, " +
		"SSEKMSKeyId, StorageClass, Tagging",
	"PutObjectTagging":     "Tagging, ContentMD5, ChecksumAlgorithm",
	"PutPublicAccessBlock": "PublicAccessBlockConfiguration, ContentMD5, ChecksumAlgorithm",
	"UploadPart": "UploadId, PartNumber, Body, ContentLength, ContentMD5, ChecksumAlgorithm, ChecksumCRC32, " +
		"ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256",
	"UploadPartCopy": "UploadId, PartNumber, CopySource, CopySourceRange",
}

// s3Methods are the methods that some operation of S3 on a bucket or an object has, whether the fake knows it or not.
var s3Methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions}

type target string

const (
	onService target = "service"
	onBucket  target = "bucket"
	onObject  target = "object"
)

// s3Routes are the operations of S3 that the fake knows. Of several that match, the first counts.
var s3Routes = []*s3Route{
	{"ListBuckets", onService, "GET", "", "", (*Handler).listBuckets},

	{"GetBucketLocation", onBucket, "GET", "location", "", (*Handler).getBucketLocation},
	{"GetPublicAccessBlock", onBucket, "GET", "publicAccessBlock", "", (*Handler).getPublicAccessBlock},
	{"PutPublicAccessBlock", onBucket, "PUT", "publicAccessBlock", "", (*Handler).putPublicAccessBlock},
	{"DeletePublicAccessBlock", onBucket, "DELETE", "publicAccessBlock", "", (*Handler).deletePublicAccessBlock},
	{"GetBucketEncryption", onBucket, "GET", "encryption", "", (*Handler).getBucketEncryption},
	{"GetBucketVersioning", onBucket, "GET", "versioning", "", (*Handler).getBucketVersioning},
	{"GetBucketPolicy", onBucket, "GET", "policy", "", (*Handler).getBucketPolicy},
	{"ListMultipartUploads", onBucket, "GET", "uploads", "", (*Handler).listMultipartUploads},
	{"ListObjectsV2", onBucket, "GET", "list-type", "", (*Handler).listObjectsV2},
	{"DeleteObjects", onBucket, "POST", "delete", "", (*Handler).deleteObjects},
	{"ListObjects", onBucket, "GET", "", "", (*Handler).listObjects},
	{"HeadBucket", onBucket, "HEAD", "", "", (*Handler).headBucket},
	{"CreateBucket", onBucket, "PUT", "", "", (*Handler).createBucket},
	{"DeleteBucket", onBucket, "DELETE", "", "", (*Handler).deleteBucket},

	{"GetObjectTagging", onObject, "GET", "tagging", "", (*Handler).getObjectTagging},
	{"PutObjectTagging", onObject, "PUT", "tagging", "", (*Handler).putObjectTagging},
	{"DeleteObjectTagging", onObject, "DELETE", "tagging", "", (*Handler).deleteObjectTagging},
	{"CreateMultipartUpload", onObject, "POST", "uploads", "", (*Handler).createMultipartUpload},
	{"CompleteMultipartUpload", onObject, "POST", "uploadId", "", (*Handler).completeMultipartUpload},
	{"AbortMultipartUpload", onObject, "DELETE", "uploadId", "", (*Handler).abortMultipartUpload},
	{"ListParts", onObject, "GET", "uploadId", "", (*Handler).listParts},
	{"UploadPartCopy", onObject, "PUT", "partNumber", "X-Amz-Copy-Source", (*Handler).uploadPartCopy},
	{"UploadPart", onObject, "PUT", "partNumber", "", (*Handler).uploadPart},
	{"CopyObject", onObject, "PUT", "", "X-Amz-Copy-Source", (*Handler).copyObject},
	{"PutObject", onObject, "PUT", "", "", (*Handler).putObject},
	{"GetObject", onObject, "GET", "", "", (*Handler).getObject},
	{"HeadObject", onObject, "HEAD", "", "", (*Handler).headObject},
	{"DeleteObject", onObject, "DELETE", "", "", (*Handler).deleteObject},
}

// s3Subresources are query members that make another operation of a request: one that the fake has no route for is not
// mistaken for the plain operation.
var s3Subresources = []string{
	"accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "legal-hold",
	"lifecycle", "location", "logging", "metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock",
	"ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication", "requestPayment",
	"restore", "retention", "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "website",
}

func findS3(r *s3Request) *s3Route {
	on := onObject
	switch {
	case r.bucket == "":
		on = onService
	case r.key == "":
		on = onBucket
	}
	if r.query.Has("versionId") && r.query.Get("versionId") != "null" { // the only one an object without versions has
		return nil
	}
	for _, route := range s3Routes {
		if route.target != on || route.method != r.Method || route.query != "" && !r.query.Has(route.query) ||
			route.header != "" && r.Header.Get(route.header) == "" {
			continue
		}
		if route.query == "" && slices.ContainsFunc(s3Subresources, func(sub string) bool {
			ofPart := sub == "partNumber" && (route.name == "GetObject" || route.name == "HeadObject")
			return r.query.Has(sub) && !ofPart
		}) {
			return nil
		}
		return route
	}
	return nil
}

func hostBucket(host string) string {
	bucket, _ := s3.Address(host, "")
	return bucket
}

// serveS3 answers a request to S3 (REST with XML).
func (h *Handler) serveS3(w http.ResponseWriter, req *request) {
	r := &s3Request{request: req}
	r.id = strings.ToUpper(strings.ReplaceAll(r.id, "-", ""))[:16]
	w.Header().Set("X-Amz-Request-Id", r.id)
	w.Header().Set("X-Amz-Id-2", r.id+"/fake")
	w.Header().Set("Server", "AmazonS3")
	r.bucket, r.key = s3.Address(r.Host, r.URL.Path)
	route := findS3(r)
	if route == nil {
		r.op = "unknown operation"
		h.count("s3", r.Method+" "+subresourceOf(r), false)
		refusal := &s3.Error{
			Code: "NotImplemented", Message: "A header or query you provided implies functionality that is not implemented by the fake",
			Status: http.StatusNotImplemented, Bucket: r.bucket, Key: r.key,
		}
		if !slices.Contains(s3Methods, r.Method) || r.bucket == "" && r.Method != http.MethodGet {
			refusal.Code, refusal.Message, refusal.Status = "MethodNotAllowed", "The specified method is not allowed against this resource.", http.StatusMethodNotAllowed
		}
		h.failS3(w, r, refusal)
		return
	}
	r.op = route.name
	h.count("s3", route.name, true)
	var err error
	if r.report, err = h.authenticateS3(req); err != nil {
		h.failS3(w, r, err)
		return
	}
	r.unhoist()
	strike, refusal := h.strike(req)
	if refusal != nil {
		h.failS3(w, r, refusal)
		return
	}
	if r.strike = strike; strike.Expire {
		h.failS3(w, r, &s3.Error{Code: "AccessDenied", Message: "Request has expired", Status: http.StatusForbidden})
		return
	}
	held := &heldWriter{ResponseWriter: w, drop: strike.DropAfter}
	if err = h.checkBucket(held, r); err == nil {
		err = route.handle(h, held, r)
	}
	if strike.DropAfter {
		r.drop()
	}
	if err != nil {
		h.failS3(w, r, err)
		return
	}
	if !held.wrote {
		w.WriteHeader(http.StatusOK)
	}
}

// unhoist puts the metadata that a presigned link has in its query where the other requests have it. S3 does so for
// metadata; tags in the query of a link it ignores.
func (r *s3Request) unhoist() {
	if r.scope == nil || !r.scope.presigned {
		return
	}
	for name := range r.query {
		header := http.CanonicalHeaderKey(name)
		if strings.HasPrefix(header, metadataPrefix) && r.Header.Get(header) == "" {
			r.Header.Set(header, r.query.Get(name))
		}
	}
}

// heldWriter keeps an answer back that a fault will lose.
type heldWriter struct {
	http.ResponseWriter
	drop, wrote bool
}

func (w *heldWriter) WriteHeader(status int) {
	w.wrote = true
	if !w.drop {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.wrote = true
	if w.drop {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func subresourceOf(r *s3Request) string {
	for _, sub := range s3Subresources {
		if r.query.Has(sub) {
			return "?" + sub
		}
	}
	return r.URL.Path
}

// checkBucket refuses what S3 refuses before it looks at the operation: a bucket of another region than the request is
// signed for, or of another owner than the caller expects.
func (h *Handler) checkBucket(w http.ResponseWriter, r *s3Request) error {
	if r.bucket == "" || r.report || r.op == "CreateBucket" {
		return nil
	}
	bucket, err := r.wire.S3.HeadBucket(r.bucket)
	if err != nil {
		return nil // the operation itself words it
	}
	w.Header().Set("X-Amz-Bucket-Region", bucket.Region)
	if s := r.scope; s != nil && s.signature != nil && s.signature.Region != bucket.Region && s.signature.Service == "s3" {
		return &s3.Error{
			Code: "PermanentRedirect", Status: http.StatusMovedPermanently, Bucket: r.bucket,
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to" +
				" this endpoint.",
		}
	}
	if owner := r.Header.Get("X-Amz-Expected-Bucket-Owner"); bucket.Owner != h.backend.Options().Account || owner != "" && owner != bucket.Owner {
		return &s3.Error{Code: "AccessDenied", Message: "Access Denied", Status: http.StatusForbidden, Bucket: r.bucket}
	}
	return nil
}

// failS3 answers with S3's error, which has no body when the request was for a head.
func (h *Handler) failS3(w http.ResponseWriter, r *s3Request, err error) {
	e, ok := errors.AsType[*s3.Error](err)
	if !ok {
		if refusal, isTask := errors.AsType[*task.Error](err); isTask {
			e = &s3.Error{Code: refusal.Code, Message: refusal.Message, Status: refusal.Status}
			if e.Code == "ThrottlingException" {
				e.Code, e.Message, e.Status = "SlowDown", "Please reduce your request rate.", http.StatusServiceUnavailable
			}
		} else if r.Context().Err() != nil {
			r.drop()
		} else {
			e = &s3.Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
		}
	}
	r.failure = e.Code
	w.Header().Set("Content-Type", "application/xml")
	if e.Status == 0 {
		e.Status = http.StatusBadRequest
	}
	w.WriteHeader(e.Status)
	if r.Method == http.MethodHead || e.Status == http.StatusNotModified {
		return
	}
	body := struct {
		XMLName    xml.Name `xml:"Error"`
		Code       string
		Message    string
		BucketName string `xml:",omitempty"`
		Key        string `xml:",omitempty"`
		Bucket     string `xml:",omitempty"`
		Endpoint   string `xml:",omitempty"`
		Resource   string `xml:",omitempty"`
		Unsigned   string `xml:"HeadersNotSigned,omitempty"`
		RequestID  string `xml:"RequestId"`
		HostID     string `xml:"HostId"`
	}{Code: e.Code, Message: e.Message, BucketName: e.Bucket, Key: e.Key, RequestID: r.id, HostID: r.id + "/fake"}
	if e.Code == "PermanentRedirect" {
		body.Bucket, body.Endpoint = e.Bucket, r.Host
	}
	if unsigned, ok := errors.AsType[*sigv4.UnsignedError](err); ok {
		body.Unsigned = strings.Join(unsigned.Headers, ", ")
	}
	writeXMLBody(w, body)
}

func writeXML(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusOK)
	writeXMLBody(w, v)
	return nil
}

func writeXMLBody(w http.ResponseWriter, v any) {
	raw, err := xml.Marshal(v)
	if err != nil {
		return // the connection's length is unknown, so the client sees an answer without a body
	}
	w.Write([]byte(xml.Header))
	w.Write(raw)
}

// readXML reads the small XML body of a request.
func (h *Handler) readXML(r *s3Request, into any) error {
	malformed := &s3.Error{
		Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema",
		Status: http.StatusBadRequest, Bucket: r.bucket, Key: r.key,
	}
	raw, err := h.readBody(r)
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		return malformed
	}
	if err := xml.Unmarshal(raw, into); err != nil {
		return malformed
	}
	return nil
}
