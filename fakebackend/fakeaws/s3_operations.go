package fakeaws

import (
	"net/http"
	"slices"
)

// s3Operation is one operation of S3: how a request for it is recognised, and what answers it.
type s3Operation struct {
	name   string
	on     target
	method string
	query  string // a member that the query must have; "" for none
	header string // a header that must be there; "" for none
	// members are the input members, by the names of AWS's SDKs, that are modelled besides Bucket, Key and
	// ExpectedBucketOwner.
	members string
	handle  func(*Handler, http.ResponseWriter, *s3Request) error
}

type target string

const (
	onService target = "service"
	onBucket  target = "bucket"
	onObject  target = "object"
)

// Members that several operations share.
const (
	infoMembers = "CacheControl, ContentDisposition, ContentEncoding, ContentLanguage, ContentType, Expires, Metadata, " +
		"ServerSideEncryption, SSEKMSKeyId, StorageClass"
	bodyMembers = "Body, ContentLength, ContentMD5, ChecksumAlgorithm, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, " +
		"ChecksumSHA1, ChecksumSHA256"
	readMembers = "Range, IfMatch, IfNoneMatch, IfModifiedSince, IfUnmodifiedSince, ChecksumMode, ResponseCacheControl, " +
		"ResponseContentDisposition, ResponseContentEncoding, ResponseContentLanguage, ResponseContentType, ResponseExpires"
	listMembers = "Prefix, Delimiter, MaxKeys, EncodingType"
	copyMembers = "CopySource, CopySourceIfMatch, CopySourceIfNoneMatch, CopySourceIfModifiedSince, CopySourceIfUnmodifiedSince, " +
		"ExpectedSourceBucketOwner"
)

// s3Operations are the operations that the commands mb, cp, ls, rm, sync and presign of the AWS CLI, boto3's
// upload_file, download_file and listings, the upload managers of the Go SDK, and package awsbackend call. Of several
// that match a request, the first is meant.
var s3Operations = []*s3Operation{
	{"ListBuckets", onService, "GET", "", "", "Prefix, MaxBuckets, BucketRegion, ContinuationToken", (*Handler).listBuckets},

	{"GetBucketLocation", onBucket, "GET", "location", "", "", (*Handler).getBucketLocation},
	{"GetPublicAccessBlock", onBucket, "GET", "publicAccessBlock", "", "", (*Handler).getPublicAccessBlock},
	{"PutPublicAccessBlock", onBucket, "PUT", "publicAccessBlock", "",
		"PublicAccessBlockConfiguration, ContentMD5, ChecksumAlgorithm", (*Handler).putPublicAccessBlock},
	{"ListObjectsV2", onBucket, "GET", "list-type", "",
		listMembers + ", StartAfter, ContinuationToken, FetchOwner", (*Handler).listObjectsV2},
	{"ListObjects", onBucket, "GET", "", "", listMembers + ", Marker", (*Handler).listObjects},
	{"HeadBucket", onBucket, "HEAD", "", "", "", (*Handler).headBucket},
	{"CreateBucket", onBucket, "PUT", "", "", "CreateBucketConfiguration", (*Handler).createBucket},
	{"DeleteBucket", onBucket, "DELETE", "", "", "", (*Handler).deleteBucket},

	{"GetObjectTagging", onObject, "GET", "tagging", "", "", (*Handler).getObjectTagging},
	{"CreateMultipartUpload", onObject, "POST", "uploads", "",
		infoMembers + ", ChecksumAlgorithm, ChecksumType", (*Handler).createMultipartUpload},
	{"CompleteMultipartUpload", onObject, "POST", "uploadId", "", "UploadId, MultipartUpload, ChecksumCRC32, ChecksumCRC32C, " +
		"ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256, ChecksumType, IfMatch, IfNoneMatch", (*Handler).completeMultipartUpload},
	{"AbortMultipartUpload", onObject, "DELETE", "uploadId", "", "UploadId", (*Handler).abortMultipartUpload},
	{"UploadPartCopy", onObject, "PUT", "partNumber", "X-Amz-Copy-Source",
		copyMembers + ", UploadId, PartNumber, CopySourceRange", (*Handler).uploadPartCopy},
	{"UploadPart", onObject, "PUT", "partNumber", "", bodyMembers + ", UploadId, PartNumber", (*Handler).uploadPart},
	{"CopyObject", onObject, "PUT", "", "X-Amz-Copy-Source",
		copyMembers + ", IfMatch, IfNoneMatch, MetadataDirective, " + infoMembers + ", ChecksumAlgorithm", (*Handler).copyObject},
	{"PutObject", onObject, "PUT", "", "", bodyMembers + ", IfMatch, IfNoneMatch, " + infoMembers, (*Handler).putObject},
	{"GetObject", onObject, "GET", "", "", readMembers, (*Handler).sendObject},
	{"HeadObject", onObject, "HEAD", "", "", readMembers, (*Handler).sendObject},
	{"DeleteObject", onObject, "DELETE", "", "", "IfMatch", (*Handler).deleteObject},
}

// s3Subresources are query members that make another operation of a request: one that the fake does not have is not
// mistaken for the plain operation.
var s3Subresources = []string{
	"accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory", "legal-hold",
	"lifecycle", "location", "logging", "metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock",
	"ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication", "requestPayment",
	"restore", "retention", "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning", "versions", "website",
}

// s3Methods are the methods that some operation of S3 on a bucket or an object has, whether the fake has it or not.
var s3Methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions}

// findS3 returns the operation that a request is for, nil if the fake does not have it.
func findS3(r *s3Request) *s3Operation {
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
	for _, o := range s3Operations {
		if o.on != on || o.method != r.Method || o.query != "" && !r.query.Has(o.query) || o.header != "" && r.Header.Get(o.header) == "" {
			continue
		}
		if o.query == "" && slices.ContainsFunc(s3Subresources, r.query.Has) {
			return nil
		}
		return o
	}
	return nil
}
