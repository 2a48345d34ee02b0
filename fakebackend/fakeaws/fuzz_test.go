package fakeaws

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// FuzzHandler sends arbitrary requests to every service. None may panic, except to break the connection; every answer
// must say that it is a fake's and have the form of its service.
func FuzzHandler(f *testing.F) {
	for _, r := range s3Operations {
		path := map[target]string{onService: "/", onBucket: "/iotfleet-fake", onObject: "/iotfleet-fake/key"}[r.on]
		f.Add(r.method, path+"?"+r.query, "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>", "s3", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
	}
	for _, s := range []*queryService{iamService, stsService} {
		for _, a := range s.actions {
			f.Add("POST", "/", "Action="+a.name+"&Version="+s.version+"&RoleName=r&PolicyName=p&Tags.member.1.Key=k", s.name, "")
		}
	}
	f.Add("POST", "/_fake/faults", `{"operation":"ListThings","do":"fail"}`, "", "")
	f.Add("GET", "/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A/20260304/us-east-1/s3/aws4_request&X-Amz-Date=20260304T000000Z&X-Amz-Expires=1&X-Amz-SignedHeaders=host&X-Amz-Signature=0", "", "", "")
	backend, err := fakebackend.New(fakebackend.Options{Seed: []byte("fuzz")})
	if err != nil {
		f.Fatal(err)
	}
	for _, o := range wire.Of(backend).Operations() {
		f.Add(o.Method, o.Path, "{}", "iot", "")
	}
	handlers := []*Handler{
		NewHandler(backend, Options{AllowUnsigned: true}), NewHandler(backend, Options{Credentials: map[string]string{"A": "secret"}}),
	}
	f.Fuzz(func(t *testing.T, method, target, body, scope, payload string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.HasPrefix(u.Path, "/_fake/") && strings.Contains(body, "hang") || strings.Contains(body, "delay") ||
			u.Path == "/_fake/events" { // which go on
			return
		}
		for _, h := range handlers {
			r := httptest.NewRequest("GET", "http://127.0.0.1/", strings.NewReader(body)).WithContext(t.Context())
			r.Method, r.URL, r.RequestURI = method, u, target
			if scope != "" {
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=A/20260304/us-east-1/"+scope+"/aws4_request, SignedHeaders=host, Signature=00")
			}
			if payload != "" {
				r.Header.Set("X-Amz-Content-Sha256", payload)
				r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(body)))
				r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
			}
			w := httptest.NewRecorder()
			if !serves(t, h, w, r) {
				continue
			}
			answer := w.Result()
			raw, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			if answer.Header.Get("X-Iotfleet-Fake") != "1" {
				t.Fatal("the answer does not say that it is a fake's")
			}
			if answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented {
				t.Fatalf("status %d: %s", answer.StatusCode, raw)
			}
			if len(raw) == 0 {
				continue
			}
			switch kind := answer.Header.Get("Content-Type"); {
			case strings.HasSuffix(kind, "/json"):
				if !json.Valid(raw) {
					t.Fatalf("not JSON: %q", raw)
				}
			case strings.HasSuffix(kind, "/xml") && answer.Header.Get("Etag") == "":
				if err := wellFormed(raw); err != nil {
					t.Fatalf("not XML: %v: %q", err, raw)
				}
			}
		}
		backend.ClearFaults()
	})
}

// serves answers a request; false means that the connection was broken.
func serves(t *testing.T, h http.Handler, w http.ResponseWriter, r *http.Request) (answered bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			t.Fatalf("panic: %v", p)
		}
	}()
	h.ServeHTTP(w, r)
	return true
}

func wellFormed(raw []byte) error {
	dec := xml.NewDecoder(bytes.NewReader(raw))
	for {
		if _, err := dec.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// FuzzChunks checks that a body in chunks of any sizes decodes to itself, and that arbitrary bytes never decode to more
// than they are.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("hello world"), 3, "x-amz-checksum-crc32:abc")
	f.Add([]byte("5;chunk-signature=00\r\nhello\r\n0\r\n\r\n"), 1, "")
	f.Fuzz(func(t *testing.T, data []byte, size int, trailer string) {
		if size < 1 || size > 1<<16 {
			return
		}
		var b bytes.Buffer
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		b.WriteString("0\r\n")
		if name, _, ok := strings.Cut(trailer, ":"); ok && strings.TrimSpace(name) != "" && !strings.ContainsAny(trailer, "\r\n") && len(trailer) < 1000 {
			b.WriteString(trailer + "\r\n")
		}
		b.WriteString("\r\n")
		got, err := io.ReadAll(newChunkReader(&b))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%q came back as %q, %v", data, got, err)
		}
		raw, err := io.ReadAll(newChunkReader(bytes.NewReader(data)))
		if len(raw) > len(data) {
			t.Fatalf("%d bytes decoded to %d, %v", len(data), len(raw), err)
		}
	})
}
