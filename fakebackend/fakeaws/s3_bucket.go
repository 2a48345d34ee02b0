package fakeaws

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// Buckets: CreateBucket, HeadBucket, DeleteBucket, ListBuckets, GetBucketLocation, and the public access block.
//
// Not modelled: setting anything but the public access block; access lists; what a public bucket would mean.

// regionName is the form of a region's name, such as us-gov-west-1. Which regions there are is not modelled.
var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]+$`)

const s3Time = "2006-01-02T15:04:05.000Z"

type s3Owner struct{ ID string }

func (h *Handler) owner() s3Owner { return s3Owner{ID: h.backend.Options().Account} }

func (h *Handler) listBuckets(w http.ResponseWriter, r *s3Request) error {
	type bucket struct {
		Name         string
		CreationDate string
		BucketRegion string `xml:",omitempty"`
		BucketArn    string
	}
	out := struct {
		XMLName           xml.Name `xml:"ListAllMyBucketsResult"`
		Xmlns             string   `xml:"xmlns,attr"`
		Owner             s3Owner
		Buckets           []bucket `xml:"Buckets>Bucket"`
		ContinuationToken string   `xml:",omitempty"`
		Prefix            string   `xml:",omitempty"`
	}{Xmlns: s3Namespace, Owner: h.owner(), Prefix: r.query.Get("prefix")}
	most := maxBuckets
	if text := r.query.Get("max-buckets"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxBuckets {
			return s3.InvalidArgument("Argument max-buckets must be an integer between 1 and 10000", "max-buckets", text)
		}
		most = n
	}
	after, err := base64.RawURLEncoding.DecodeString(r.query.Get("continuation-token"))
	if err != nil {
		return s3.InvalidArgument("The continuation token provided is incorrect", "continuation-token", r.query.Get("continuation-token"))
	}
	// S3 names the regions when the request has a parameter, which old clients do not send.
	withRegion := r.query.Has("max-buckets") || r.query.Has("prefix") || r.query.Has("bucket-region") || r.query.Has("continuation-token")
	region := r.query.Get("bucket-region")
	for _, b := range r.wire.S3.Buckets(h.backend.Options().Account) {
		if b.Name <= string(after) || !strings.HasPrefix(b.Name, out.Prefix) || region != "" && b.Region != region {
			continue
		}
		if len(out.Buckets) == most {
			out.ContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(out.Buckets[most-1].Name))
			break
		}
		item := bucket{Name: b.Name, CreationDate: b.Created.Format(s3Time), BucketArn: h.bucketARN(b.Name)}
		if withRegion {
			item.BucketRegion = b.Region
		}
		out.Buckets = append(out.Buckets, item)
	}
	return writeXML(w, out)
}

// maxBuckets is the most that one page of ListBuckets holds.
const maxBuckets = 10000

func (h *Handler) bucketARN(name string) string {
	return "arn:" + partition.Of(h.backend.Options().Region).Name + ":s3:::" + name
}

func (h *Handler) createBucket(w http.ResponseWriter, r *s3Request) error {
	if err := refuseBucketHeaders(r.Header); err != nil {
		return err
	}
	raw, err := h.readBody(r)
	if err != nil {
		return err
	}
	var in struct {
		LocationConstraint string
	}
	if len(raw) > 0 && xml.Unmarshal(raw, &in) != nil {
		return &s3.Error{Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema", Status: 400}
	}
	endpoint := h.backend.Options().Region
	if s := r.scope; s != nil && s.signature != nil && s.signature.Region != "" {
		endpoint = s.signature.Region
	}
	region := in.LocationConstraint
	if region == "EU" {
		region = "eu-west-1"
	}
	switch {
	case endpoint != "us-east-1" && region != "" && region != endpoint:
		return illegalLocation("The "+region+" location constraint is incompatible for the region specific endpoint this request was sent to.", r.bucket)
	case region == "us-east-1", region != "" && region != h.backend.Options().Region && !regionName.MatchString(region):
		return (&s3.Error{Code: "InvalidLocationConstraint", Message: "The specified location-constraint is not valid", Status: 400, Bucket: r.bucket}).
			With("LocationConstraint", in.LocationConstraint)
	case region == "" && endpoint != "us-east-1":
		return illegalLocation("The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.", r.bucket)
	case region == "":
		region = "us-east-1"
	}
	if err := r.wire.S3.CreateBucket(r.bucket, region, h.backend.Options().Account, r.wire.Now); err != nil {
		return err
	}
	w.Header().Set("Location", "/"+r.bucket)
	w.Header().Set("X-Amz-Bucket-Arn", h.bucketARN(r.bucket))
	w.WriteHeader(http.StatusOK)
	return nil
}

// refuseBucketHeaders refuses a bucket that others may get at, or that keeps objects from being overwritten.
func refuseBucketHeaders(h http.Header) error {
	if acl := h.Get("X-Amz-Acl"); acl != "" && acl != "private" || given(h, grants) != "" {
		return &s3.Error{Code: "InvalidBucketAclWithObjectOwnership", Status: http.StatusBadRequest,
			Message: "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"}
	}
	var asked []string
	if strings.EqualFold(h.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
		asked = append(asked, "X-Amz-Bucket-Object-Lock-Enabled")
	}
	if owner := h.Get("X-Amz-Object-Ownership"); owner != "BucketOwnerEnforced" {
		asked = append(asked, "X-Amz-Object-Ownership")
	}
	return refuseNotModelled(h, asked)
}

func illegalLocation(message, bucket string) error {
	return &s3.Error{Code: "IllegalLocationConstraintException", Message: message, Status: http.StatusBadRequest, Bucket: bucket}
}

func (h *Handler) headBucket(w http.ResponseWriter, r *s3Request) error {
	b, err := r.wire.S3.HeadBucket(r.bucket)
	if err != nil {
		return err
	}
	w.Header().Set("X-Amz-Bucket-Region", b.Region)
	w.Header().Set("X-Amz-Access-Point-Alias", "false")
	w.Header().Set("X-Amz-Bucket-Arn", h.bucketARN(r.bucket))
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) deleteBucket(w http.ResponseWriter, r *s3Request) error {
	if err := r.wire.S3.DeleteBucket(r.bucket); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *Handler) getBucketLocation(w http.ResponseWriter, r *s3Request) error {
	b, err := r.wire.S3.HeadBucket(r.bucket)
	if err != nil {
		return err
	}
	region := b.Region
	if region == "us-east-1" {
		region = "" // the first region has no name here
	}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"LocationConstraint"`
		Xmlns   string   `xml:"xmlns,attr"`
		Region  string   `xml:",chardata"`
	}{Xmlns: s3Namespace, Region: region})
}

// publicAccessBlock is the four switches on the wire.
type publicAccessBlock struct {
	XMLName               xml.Name `xml:"PublicAccessBlockConfiguration"`
	Xmlns                 string   `xml:"xmlns,attr,omitempty"`
	BlockPublicAcls       bool
	IgnorePublicAcls      bool
	BlockPublicPolicy     bool
	RestrictPublicBuckets bool
}

func (h *Handler) getPublicAccessBlock(w http.ResponseWriter, r *s3Request) error {
	block, err := r.wire.S3.PublicAccess(r.bucket)
	if err != nil {
		return err
	}
	if block == nil {
		return &s3.Error{Code: "NoSuchPublicAccessBlockConfiguration", Message: "The public access block configuration was not found", Status: 404, Bucket: r.bucket}
	}
	return writeXML(w, publicAccessBlock{
		Xmlns: s3Namespace, BlockPublicAcls: block.BlockACLs, IgnorePublicAcls: block.IgnoreACLs,
		BlockPublicPolicy: block.BlockPolicy, RestrictPublicBuckets: block.RestrictBuckets,
	})
}

func (h *Handler) putPublicAccessBlock(w http.ResponseWriter, r *s3Request) error {
	var in publicAccessBlock
	if err := h.readXML(r, &in); err != nil {
		return err
	}
	return r.wire.S3.SetPublicAccess(r.bucket, &s3.PublicAccessBlock{
		BlockACLs: in.BlockPublicAcls, IgnoreACLs: in.IgnorePublicAcls, BlockPolicy: in.BlockPublicPolicy, RestrictBuckets: in.RestrictPublicBuckets,
	})
}
