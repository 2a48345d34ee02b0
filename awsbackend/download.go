package awsbackend

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Open implements [task.Store]: it reads a report link with a plain GET, from a byte offset on.
//
// A link must be https (http only to an endpoint that the aws.Config itself names so) and lead to AWS, to one of the
// config's endpoints or to one of [Options].LinkHosts; redirects are refused. A link that is no longer good
// (status 401, 403, or 400 with an expired token) is [task.ErrLinkExpired]: list the reports again. A web page or a peer
// that is not trusted to be AWS is [task.ErrNotService]. Broken
// connections, throttling and status 500 and above are asked again up to three times, as long as nothing was read; from
// then on a break ends the reader with io.ErrUnexpectedEOF or the network's error, and Open at the new offset goes on.
//
// No error text holds the link or a part of its signature.
func (b *Backend) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, fmt.Errorf("open report: %w", &task.InputError{Member: "offset", Problem: fmt.Sprintf("is %d, less than 0", offset)})
	}
	u, err := b.checkLink(link)
	if err != nil {
		return nil, fmt.Errorf("open report: %w", err)
	}
	d := &download{backend: b, url: u, offset: offset, secret: newSecret(u)}
	backoff := wait.Backoff{First: 200 * time.Millisecond, Attempts: 4} // 0.2, 0.4 and 0.8 s
	for {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open report at byte %d: %w", offset, wait.ContextError(ctx))
		}
		body, again, err := d.try(ctx)
		if err == nil {
			return body, nil
		}
		if ctx.Err() != nil {
			err = wait.ContextError(ctx)
		}
		delay, more := backoff.Next()
		if !again || !more || ctx.Err() != nil {
			return nil, fmt.Errorf("open report from %s at byte %d: %w", u.Host, offset, err)
		}
		b.log.DebugContext(ctx, "report not readable, trying again",
			"host", u.Host, "attempt", backoff.Failed(), "delay", delay, "error", err)
		if stop := wait.Sleep(ctx, delay); stop != nil {
			return nil, fmt.Errorf("open report from %s at byte %d: %w", u.Host, offset, stop)
		}
	}
}

// checkLink refuses addresses that no service would send. Its errors show at most the host.
func (b *Backend) checkLink(link task.Link) (*url.URL, error) {
	u, err := url.Parse(link.URL())
	if err != nil || u.Host == "" {
		return nil, &task.InputError{Member: "link", Problem: "is not an address"}
	}
	if u.User != nil {
		return nil, &task.InputError{Member: "link", Problem: "has a user name in it"}
	}
	own := slices.ContainsFunc(b.linkHosts, func(h string) bool {
		return strings.EqualFold(h, u.Host) || h == hostname(h) && strings.EqualFold(h, u.Hostname())
	})
	switch {
	case u.Scheme == "https" && (own || isAWSHost(u.Host)), u.Scheme == "http" && own:
		return u, nil
	case u.Scheme == "http" && isAWSHost(u.Host):
		return nil, &task.InputError{Member: "link", Problem: "is not https, host " + u.Host}
	}
	return nil, &task.InputError{Member: "link", Problem: fmt.Sprintf(
		"leads to %s, which is neither AWS nor the configured endpoint: list it in Options.LinkHosts if that is right", u.Host)}
}

// linkClient makes a client for links of the configured one, nil for the default. It does not follow redirects: their
// Referer header would carry the link to another host.
func linkClient(client aws.HTTPClient) aws.HTTPClient {
	if buildable, ok := client.(*awshttp.BuildableClient); ok {
		client = buildable.Freeze()
	}
	switch c := client.(type) {
	case nil:
		transport := http.DefaultTransport.(*http.Transport).Clone()
		return &http.Client{Transport: transport, CheckRedirect: noRedirect}
	case *http.Client:
		own := *c
		own.CheckRedirect = noRedirect
		return &own
	}
	return client
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// download is one report file being asked for.
type download struct {
	backend *Backend
	url     *url.URL
	offset  int64
	secret  secret
}

// try asks once. It reports whether asking again can help.
func (d *download) try(ctx context.Context) (_ io.ReadCloser, again bool, _ error) {
	req := (&http.Request{
		Method: http.MethodGet, URL: d.url, Host: d.url.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		// The bytes must be those that offsets count, so nobody may compress them on the way.
		Header: http.Header{"Accept-Encoding": {"identity"}},
	}).WithContext(ctx)
	if d.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
	}
	resp, err := d.backend.http.Do(req)
	if errors.Is(err, task.ErrNotService) {
		return nil, false, d.secret.clean(err)
	}
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", task.ErrUnavailable, d.secret.clean(err))
	}
	if resp.Request != nil && resp.Request.URL != nil && resp.Request.URL.Host != d.url.Host {
		resp.Body.Close()
		return nil, false, fmt.Errorf("the HTTP client followed a redirect to %s: set one that follows none", resp.Request.URL.Host)
	}
	if isImpostorsPage(resp.StatusCode, resp.Header) {
		resp.Body.Close()
		return nil, false, &impostorError{d.url.Host, errPage}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		body, again, err := d.accept(ctx, resp)
		if err != nil {
			resp.Body.Close()
		}
		return body, again, err
	}
	defer resp.Body.Close()
	e, total := d.answer(resp)
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && total == d.offset {
		return http.NoBody, false, nil // the offset is the end
	}
	again = errors.Is(e.Kind, task.ErrUnavailable) || errors.Is(e.Kind, task.ErrThrottled)
	return nil, again, e
}

// accept makes the reader of a good answer.
func (d *download) accept(ctx context.Context, resp *http.Response) (io.ReadCloser, bool, error) {
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" || resp.Uncompressed {
		return nil, false, fmt.Errorf("the answer is encoded as %q, though the plain bytes were asked for", enc)
	}
	r := &reportBody{ctx: ctx, body: resp.Body, left: resp.ContentLength, at: d.offset, secret: d.secret}
	if resp.StatusCode == http.StatusPartialContent {
		first, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || first != d.offset {
			return nil, true, fmt.Errorf("%w: bytes from %d on were asked for, the answer has %q",
				task.ErrUnavailable, d.offset, resp.Header.Get("Content-Range"))
		}
		if total >= 0 {
			r.left = total - first // a cache may send less than was asked for, and its end is not the file's
		}
		return r, false, nil
	}
	// A server without ranges sends everything from the start.
	r.at = 0
	if n, err := io.CopyN(io.Discard, r, d.offset); err != nil {
		if err == io.EOF {
			return nil, false, &task.InputError{Member: "offset", Problem: fmt.Sprintf("is %d, the report has %d bytes", d.offset, n)}
		}
		return nil, true, fmt.Errorf("%w: skip to byte %d: %w", task.ErrUnavailable, d.offset, err)
	}
	return r, false, nil
}

// answer reads a refusal. It also returns the file's length if the answer has it, else -1.
func (d *download) answer(resp *http.Response) (*task.Error, int64) {
	var s3err struct {
		Code             string
		Message          string
		RequestID        string `xml:"RequestId"`
		ActualObjectSize *int64
	}
	head, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	// A proxy's page is not such XML; then the status alone has to do.
	parsed := xml.NewDecoder(bytes.NewReader(head)).Decode(&s3err) == nil && s3err.Code != ""
	e := &task.Error{Op: "GetObject", Status: resp.StatusCode, RequestID: requestID(resp.Header)}
	if parsed {
		e.Code, e.Message = d.secret.cleanText(s3err.Code), d.secret.cleanText(s3err.Message)
		e.Kind = task.KindOfCode(e.Code)
		if e.RequestID == "" {
			e.RequestID = d.secret.cleanText(s3err.RequestID)
		}
	} else {
		e.Code = http.StatusText(resp.StatusCode)
	}
	if e.Kind == nil || resp.StatusCode >= 500 && !errors.Is(e.Kind, task.ErrThrottled) {
		e.Kind = kindOfStatus(resp.StatusCode)
	}
	switch {
	case errors.Is(e.Kind, task.ErrAccessDenied):
		e.Kind = task.ErrLinkExpired
		if parsed && e.Code == "AccessDenied" && !strings.Contains(strings.ToLower(e.Message), "expire") {
			e.Message += " (the link is not over: a VPC endpoint or a proxy may let only your own buckets through; reports are in a" +
				" bucket of AWS's own, from which s3:GetObject has to be allowed)"
		}
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		e.Kind, e.Message = nil, "the link is redirected, which is not followed"
	}
	total := int64(-1)
	if _, n, ok := contentRange(resp.Header.Get("Content-Range")); ok {
		total = n
	} else if s3err.ActualObjectSize != nil {
		total = *s3err.ActualObjectSize
	}
	return e, total
}

// contentRange reads "bytes 3-9/10" and "bytes */10". first is -1 for the latter, total -1 for "/*".
func contentRange(s string) (first, total int64, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimSpace(s), "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(s, "/")
	if !ok {
		return 0, 0, false
	}
	first, total = -1, -1
	if size != "*" {
		n, err := strconv.ParseUint(size, 10, 63)
		if err != nil {
			return 0, 0, false
		}
		total = int64(n)
	}
	if span == "*" {
		return first, total, true
	}
	from, to, ok := strings.Cut(span, "-")
	a, errA := strconv.ParseUint(from, 10, 63)
	z, errZ := strconv.ParseUint(to, 10, 63)
	if !ok || errA != nil || errZ != nil || z < a || total >= 0 && int64(z) >= total {
		return 0, 0, false
	}
	return int64(a), total, true
}

// reportBody is the answer's body, which must not end early, and whose errors must not show where it came from.
type reportBody struct {
	ctx    context.Context
	body   io.ReadCloser
	left   int64 // bytes still to come to the file's end, -1 if the answer has no length
	at     int64 // position in the file
	secret secret
}

func (r *reportBody) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil { // bytes that have arrived already are no reason to go on
		return 0, fmt.Errorf("read report at byte %d: %w", r.at, wait.ContextError(r.ctx))
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	if r.left >= 0 {
		r.left -= min(int64(n), r.left)
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && r.left <= 0:
		return n, io.EOF
	case r.ctx.Err() != nil:
		return n, fmt.Errorf("read report at byte %d: %w", r.at, wait.ContextError(r.ctx))
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read report at byte %d: %w: %w", r.at, io.ErrUnexpectedEOF, r.secret.clean(err))
}

func (r *reportBody) Close() error { return r.body.Close() }

// secret knows the parts of a presigned link that no text may hold: everything after the host.
type secret struct{ parts []string }

func newSecret(u *url.URL) secret {
	parts := []string{u.String(), u.RequestURI()}
	if u.RawQuery != "" {
		parts = append(parts, u.RawQuery)
	}
	for _, values := range u.Query() {
		for _, v := range values {
			if len(v) >= 16 { // a signature, a token, a credential; not a date or a number
				parts = append(parts, v, url.QueryEscape(v))
			}
		}
	}
	// The longest first, so that a part is not cut out of a larger one.
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	parts = slices.DeleteFunc(parts, func(p string) bool { return len(p) < 2 })
	return secret{parts}
}

// clean takes the link out of an error. Errors of net/http carry it.
func (s secret) clean(err error) error {
	for {
		e, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = e.Err
	}
	if text := err.Error(); s.cleanText(text) != text {
		return errors.New(s.cleanText(text))
	}
	return err
}

func (s secret) cleanText(text string) string {
	for _, p := range s.parts {
		text = strings.ReplaceAll(text, p, "[report link]")
	}
	return text
}
