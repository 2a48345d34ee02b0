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

// listing is what a request for a list asks for, and what there is.
type listing struct {
	s3.ListInput
	page   *s3.ListPage
	encode func(string) string
}

// list lists the keys after one.
func list(r *s3Request, after string) (*listing, error) {
	most := 1000
	if text := r.query.Get("max-keys"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return nil, s3.InvalidArgument("Provided max-keys not an integer or within integer range", "max-keys", text)
		}
		most = min(n, most)
	}
	l := &listing{ListInput: s3.ListInput{
		Bucket: r.bucket, Prefix: r.query.Get("prefix"), Delimiter: r.query.Get("delimiter"), After: after, Max: most,
	}}
	var err error
	if most == 0 { // which S3 allows; the page is never truncated
		l.page = &s3.ListPage{}
		_, err = r.wire.S3.HeadBucket(r.bucket)
	} else {
		l.page, err = r.wire.S3.List(l.ListInput)
	}
	if err != nil {
		return nil, err
	}
	l.encode, err = keyEncoder(r)
	return l, err
}

func (h *Handler) listed(l *listing, owner bool) (objects []listedObject, prefixes []commonPrefix) {
	for _, o := range l.page.Objects {
		item := listedObject{Key: l.encode(o.Key), LastModified: o.Modified.Format(s3Time), ETag: `"` + o.ETag + `"`, Size: o.Size,
			StorageClass: cmp.Or(o.StorageClass, "STANDARD")}
		for kind := range o.Checksums { // one at most
			item.Checksum, item.ChecksumType = kind, cmp.Or(o.ChecksumType, "FULL_OBJECT")
		}
		if owner {
			item.Owner = new(h.owner())
		}
		objects = append(objects, item)
	}
	for _, p := range l.page.CommonPrefixes {
		prefixes = append(prefixes, commonPrefix{l.encode(p)})
	}
	return objects, prefixes
}

func (h *Handler) listObjects(w http.ResponseWriter, r *s3Request) error {
	l, err := list(r, r.query.Get("marker"))
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
		Xmlns: s3Namespace, Name: r.bucket, Prefix: l.encode(l.Prefix), Marker: l.encode(l.After), MaxKeys: l.Max, Delimiter: l.encode(l.Delimiter),
		EncodingType: r.query.Get("encoding-type"), IsTruncated: l.page.Next != "",
	}
	if l.Delimiter != "" { // without one, clients go on after the last key
		out.NextMarker = l.encode(l.page.Next)
	}
	out.Contents, out.CommonPrefixes = h.listed(l, true)
	return writeXML(w, out)
}

func (h *Handler) listObjectsV2(w http.ResponseWriter, r *s3Request) error {
	if r.query.Get("list-type") != "2" {
		return s3.InvalidArgument("Invalid List Type specified in Query", "list-type", r.query.Get("list-type"))
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
	l, err := list(r, after)
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
		Xmlns: s3Namespace, Name: r.bucket, Prefix: l.encode(l.Prefix), StartAfter: l.encode(start),
		ContinuationToken: r.query.Get("continuation-token"), KeyCount: len(l.page.Objects) + len(l.page.CommonPrefixes), MaxKeys: l.Max,
		Delimiter: l.encode(l.Delimiter), EncodingType: r.query.Get("encoding-type"), IsTruncated: l.page.Next != "",
	}
	if l.page.Next != "" {
		out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(l.page.Next))
	}
	out.Contents, out.CommonPrefixes = h.listed(l, r.query.Get("fetch-owner") == "true")
	return writeXML(w, out)
}
