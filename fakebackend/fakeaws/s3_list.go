package fakeaws

import (
	"cmp"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// Listings: ListObjects, ListObjectsV2.

type listedObject struct {
	Key          string
	LastModified string
	ETag         string
	Checksum     string `xml:"ChecksumAlgorithm,omitempty"`
	ChecksumType string `xml:",omitempty"`
	Size         int64
	StorageClass string
	Owner        *s3Owner `xml:",omitempty"`
}

type commonPrefix struct{ Prefix string }

// keyEncoder returns a function that leaves keys as they are, or encodes them as in a URL when the client asked for
// that: a key may hold characters that XML cannot.
func keyEncoder(r *s3Request) (func(string) string, error) {
	switch r.query.Get("encoding-type") {
	case "":
		return func(s string) string { return s }, nil
	case "url":
		return func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/") }, nil
	}
	return nil, s3.InvalidArgument("Invalid Encoding Method specified in Request", "encoding-type", r.query.Get("encoding-type"))
}

func maxKeys(r *s3Request) (int, error) {
	text := r.query.Get("max-keys")
	if text == "" {
		return 1000, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, s3.InvalidArgument("Provided max-keys not an integer or within integer range", "max-keys", text)
	}
	return min(n, 1000), nil
}

func (h *Handler) listed(page *s3.ListPage, encode func(string) string, owner bool) (objects []listedObject, prefixes []commonPrefix) {
	for _, o := range page.Objects {
		class := o.StorageClass
		if class == "" {
			class = "STANDARD"
		}
		item := listedObject{Key: encode(o.Key), LastModified: o.Modified.Format(s3Time), ETag: `"` + o.ETag + `"`, Size: o.Size, StorageClass: class}
		for kind := range o.Checksums { // one at most
			item.Checksum, item.ChecksumType = kind, cmp.Or(o.ChecksumType, "FULL_OBJECT")
		}
		if owner {
			item.Owner = new(h.owner())
		}
		objects = append(objects, item)
	}
	for _, p := range page.CommonPrefixes {
		prefixes = append(prefixes, commonPrefix{encode(p)})
	}
	return objects, prefixes
}

func (h *Handler) listObjects(w http.ResponseWriter, r *s3Request) error {
	most, err := maxKeys(r)
	if err != nil {
		return err
	}
	in := s3.ListInput{Bucket: r.bucket, Prefix: r.query.Get("prefix"), Delimiter: r.query.Get("delimiter"), After: r.query.Get("marker"), Max: most}
	page, err := listPage(r, in, most)
	if err != nil {
		return err
	}
	encode, err := keyEncoder(r)
	if err != nil {
		return err
	}
	out := struct {
		XMLName        xml.Name `xml:"ListBucketResult"`
		Xmlns          string   `xml:"xmlns,attr"`
		Name           string
		Prefix         string
		Marker         string
		NextMarker     string `xml:",omitempty"`
		MaxKeys        int
		Delimiter      string `xml:",omitempty"`
		EncodingType   string `xml:",omitempty"`
		IsTruncated    bool
		Contents       []listedObject
		CommonPrefixes []commonPrefix
	}{
		Xmlns: s3Namespace, Name: r.bucket, Prefix: encode(in.Prefix), Marker: encode(in.After), MaxKeys: most, Delimiter: encode(in.Delimiter),
		EncodingType: r.query.Get("encoding-type"), IsTruncated: page.Next != "",
	}
	if in.Delimiter != "" { // without one, clients go on after the last key
		out.NextMarker = encode(page.Next)
	}
	out.Contents, out.CommonPrefixes = h.listed(page, encode, true)
	return writeXML(w, out)
}

// listPage lists; a page of no keys at all, which S3 allows, is never truncated.
func listPage(r *s3Request, in s3.ListInput, most int) (*s3.ListPage, error) {
	if most == 0 {
		_, err := r.wire.S3.HeadBucket(in.Bucket)
		return &s3.ListPage{}, err
	}
	return r.wire.S3.List(in)
}

func (h *Handler) listObjectsV2(w http.ResponseWriter, r *s3Request) error {
	if r.query.Get("list-type") != "2" {
		return s3.InvalidArgument("Invalid List Type specified in Query", "list-type", r.query.Get("list-type"))
	}
	most, err := maxKeys(r)
	if err != nil {
		return err
	}
	start := r.query.Get("start-after")
	after := start
	if r.query.Has("continuation-token") {
		start = "" // the token stands for it
		raw, err := base64.RawURLEncoding.DecodeString(r.query.Get("continuation-token"))
		if err != nil || len(raw) == 0 {
			return s3.InvalidArgument("The continuation token provided is incorrect", "continuation-token", r.query.Get("continuation-token"))
		}
		after = string(raw)
	}
	in := s3.ListInput{Bucket: r.bucket, Prefix: r.query.Get("prefix"), Delimiter: r.query.Get("delimiter"), After: after, Max: most}
	page, err := listPage(r, in, most)
	if err != nil {
		return err
	}
	encode, err := keyEncoder(r)
	if err != nil {
		return err
	}
	out := struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Xmlns                 string   `xml:"xmlns,attr"`
		Name                  string
		Prefix                string
		StartAfter            string `xml:",omitempty"`
		ContinuationToken     string `xml:",omitempty"`
		NextContinuationToken string `xml:",omitempty"`
		KeyCount              int
		MaxKeys               int
		Delimiter             string `xml:",omitempty"`
		EncodingType          string `xml:",omitempty"`
		IsTruncated           bool
		Contents              []listedObject
		CommonPrefixes        []commonPrefix
	}{
		Xmlns: s3Namespace, Name: r.bucket, Prefix: encode(in.Prefix), StartAfter: encode(start),
		ContinuationToken: r.query.Get("continuation-token"), KeyCount: len(page.Objects) + len(page.CommonPrefixes), MaxKeys: most,
		Delimiter: encode(in.Delimiter), EncodingType: r.query.Get("encoding-type"), IsTruncated: page.Next != "",
	}
	if page.Next != "" {
		out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(page.Next))
	}
	out.Contents, out.CommonPrefixes = h.listed(page, encode, r.query.Get("fetch-owner") == "true")
	return writeXML(w, out)
}
