package awsbackend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	report    = "{\"lineNumber\":1}\n{\"lineNumber\":2}\n"
	signature = "600b27c36c484cb8b3bfa707beefde0fe279d92ccb9f2a4848a13e95442b854f"
	token     = "FQoDYXdzEE4aDOjiGWbWwt7xASULzSLYAb37lzpZBsW7"
)

var secretLink = "https://aws-iot-btp-prod-eu-central-1.s3.amazonaws.com/123456789012/a779514e/successful/a779514e-1?X-Amz-Security-Token=" +
	url.QueryEscape(token+"/+=") + "&X-Amz-Expires=86400&X-Amz-Signature=" + signature

// noSecret fails if a text holds a part of the link.
func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, part := range []string{signature, token, "X-Amz-Signature", "/successful/"} {
		assert.NotContains(t, text, part)
	}
}

// ranges serves the report with ranges, as S3 does.
func ranges(r *request) *http.Response {
	rec := httptest.NewRecorder()
	http.ServeContent(rec, r.Request, "report", time.Time{}, strings.NewReader(report))
	return rec.Result()
}

func TestOpenReadsFromAnyOffset(t *testing.T) {
	for name, serve := range map[string]func(*request) *http.Response{"with ranges": ranges, "without ranges": reply(200, report)} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{"GET": serve})
			for offset := range len(report) + 1 {
				body, err := b.Open(t.Context(), task.NewLink(secretLink), int64(offset))
				require.NoError(t, err, offset)
				got, err := io.ReadAll(body)
				require.NoError(t, err, offset)
				require.NoError(t, body.Close())
				require.Equal(t, report[offset:], string(got), offset)
			}
			assert.Equal(t, "identity", w.last("GET").Header.Get("Accept-Encoding"))
			assert.Empty(t, w.last("GET").Header.Get("Authorization"), "a link is opened as it stands")
			assert.Equal(t, secretLink, w.last("GET").URL.String())
			_, err := b.Open(t.Context(), task.NewLink(secretLink), int64(len(report)+1))
			require.ErrorIs(t, err, task.ErrInvalidRequest)
			_, err = b.Open(t.Context(), task.NewLink(secretLink), -1)
			require.ErrorIs(t, err, task.ErrInvalidRequest)
		})
	}
}

func TestS3sWayToSayThatTheOffsetIsTheEnd(t *testing.T) {
	b, _ := onWire(t, answers{"GET": reply(416, `<Error><Code>InvalidRange</Code><Message>not satisfiable</Message>
		<RangeRequested>bytes=34-</RangeRequested><ActualObjectSize>34</ActualObjectSize></Error>`)})
	body, err := b.Open(t.Context(), task.NewLink(secretLink), 34)
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	require.NoError(t, err)
	assert.Empty(t, got)
	_, err = b.Open(t.Context(), task.NewLink(secretLink), 35)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
}

func TestALinkThatIsNoLongerGoodHasExpired(t *testing.T) {
	for name, answer := range map[string]func(*request) *http.Response{
		"expired":           xmlError(403, "AccessDenied", "Request has expired"),
		"token expired":     xmlError(400, "ExpiredToken", "The provided token has expired."),
		"bad signature":     xmlError(403, "SignatureDoesNotMatch", "no match"),
		"without a body":    reply(403, ""),
		"unauthorised":      reply(401, "<html>"),
		"key rolled over":   xmlError(403, "InvalidAccessKeyId", "no such key"),
		"token is not good": xmlError(400, "InvalidToken", "malformed"),
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{"GET": answer})
			_, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
			require.ErrorIs(t, err, task.ErrLinkExpired)
			assert.NotErrorIs(t, err, task.ErrAccessDenied, "it is the link's fault, not the caller's")
			assert.Equal(t, 1, w.count("GET"))
			noSecret(t, err.Error())
		})
	}
	b, _ := onWire(t, answers{"GET": xmlError(404, "NoSuchKey", "gone after 30 days")})
	_, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
	require.ErrorIs(t, err, task.ErrNotFound)
}

func TestALinkRefusedThoughItIsGoodNamesWhatStandsBetween(t *testing.T) {
	b, _ := onWire(t, answers{"GET": xmlError(403, "AccessDenied", "Access Denied")})
	_, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
	require.ErrorIs(t, err, task.ErrLinkExpired)
	assert.ErrorContains(t, err, "a VPC endpoint or a proxy may let only your own buckets through")
	b, _ = onWire(t, answers{"GET": xmlError(403, "AccessDenied", "Request has expired")})
	_, err = b.Open(t.Context(), task.NewLink(secretLink), 0)
	assert.NotContains(t, err.Error(), "VPC")
}

func TestOpenAsksAgainUntilTheReportCanBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := func(*request) *http.Response { return nil }
		b, w := onWire(t, answers{"GET": inTurn(broken, xmlError(503, "SlowDown", "slow"), reply(500, ""), ranges)})
		body, err := b.Open(t.Context(), task.NewLink(secretLink), 5)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		require.NoError(t, err)
		assert.Equal(t, report[5:], string(got))
		assert.Equal(t, 4, w.count("GET"))
	})
}

func TestOpenGivesUpAfterFourTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, answer := range map[string]func(*request) *http.Response{
			"server": reply(500, ""), "connection": func(*request) *http.Response { return nil },
			"wrong range": reply(206, "x", "Content-Range", "bytes 0-0/34"),
		} {
			b, w := onWire(t, answers{"GET": answer})
			begin := time.Now()
			_, err := b.Open(t.Context(), task.NewLink(secretLink), 3)
			require.ErrorIs(t, err, task.ErrUnavailable, name)
			assert.Equal(t, 4, w.count("GET"), name)
			assert.InDelta(t, 1.4, time.Since(begin).Seconds(), 0.15, name)
			noSecret(t, err.Error())
		}
	})
}

func TestABodyThatEndsEarlyIsUnexpected(t *testing.T) {
	for name, size := range map[string]int64{"no length is announced, all is read": -1, "cut short": 100} {
		b, _ := onWire(t, answers{"GET": func(*request) *http.Response {
			r := response(200, report)
			r.ContentLength = size
			return r
		}})
		body, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
		require.NoError(t, err)
		got, err := io.ReadAll(body)
		assert.Equal(t, report, string(got))
		if size < 0 {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
		}
	}
}

func TestARangeThatEndsBeforeTheFileIsNoEnd(t *testing.T) {
	for name, length := range map[string]int64{"with its length": 10, "without a length": -1} {
		b, _ := onWire(t, answers{"GET": func(*request) *http.Response { // a cache may give less than was asked for
			r := response(206, report[4:14], "Content-Range", fmt.Sprintf("bytes 4-13/%d", len(report)))
			r.ContentLength = length
			return r
		}})
		body, err := b.Open(t.Context(), task.NewLink(secretLink), 4)
		require.NoError(t, err, name)
		got, err := io.ReadAll(body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, name)
		assert.Equal(t, report[4:14], string(got), name)
	}
}

func TestAResetWhileReadingIsUnexpectedAndSaysNothingOfTheLink(t *testing.T) {
	b, _ := onWire(t, answers{"GET": func(*request) *http.Response {
		r := response(200, "")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), failingReader{&url.Error{Op: "Get", URL: secretLink, Err: net.ErrClosed}}))
		r.ContentLength = 10
		return r
	}})
	body, err := b.Open(t.Context(), task.NewLink(secretLink), 0)
	require.NoError(t, err)
	got, err := io.ReadAll(body)
	assert.Equal(t, "abc", string(got))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorIs(t, err, net.ErrClosed)
	noSecret(t, err.Error())
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

func TestCancellingEndsAReader(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "begin")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer server.Close()
	b := overNetwork(t, server.URL, server.Client())
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	body, err := b.Open(ctx, task.NewLink(server.URL+"/report"), 0)
	require.NoError(t, err)
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 5))
	require.NoError(t, err)
	cancel(cause)
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, cause)
	_, err = b.Open(ctx, task.NewLink(server.URL+"/report"), 0)
	require.ErrorIs(t, err, cause)
}

func TestLinksToStrangersAreRefusedUnopened(t *testing.T) {
	b, w := onWire(t, nil)
	for _, link := range []string{
		"", "://", "/only/a/path", "https:///x",
		"http://bucket.s3.amazonaws.com/plain?X-Amz-Signature=" + signature,
		"https://example.com/x?X-Amz-Signature=" + signature,
		"https://amazonaws.com.example.com/x", "https://evilamazonaws.com/x", "https://amazonaws.com/x",
		"https://user:pw@bucket.s3.amazonaws.com/x", "file:///etc/passwd", "http://169.254.169.254/latest/meta-data",
		"https://bucket.s3.amazonaws.com:bad/" + signature, "https://%zz/" + signature,
	} {
		_, err := b.Open(t.Context(), task.NewLink(link), 0)
		require.ErrorIs(t, err, task.ErrInvalidRequest, link)
		noSecret(t, err.Error())
	}
	_, err := b.Open(t.Context(), task.Link{}, 0)
	require.ErrorIs(t, err, task.ErrInvalidRequest)
	assert.Empty(t, w.ops())
}

func TestLinksToAWSToTheEndpointAndToListedHostsAreOpened(t *testing.T) {
	w := &wire{t: t, answers: answers{"GET": reply(200, report)}}
	cfg := testConfig(w)
	cfg.BaseEndpoint = aws.String("http://127.0.0.1:4566")
	b, err := New(cfg, Options{LinkHosts: []string{"reports.example.com", "other.test:8443"}})
	require.NoError(t, err)
	for link, ok := range map[string]bool{
		"https://b.s3.cn-north-1.amazonaws.com.cn/x": true,
		"https://b.s3.us-gov-west-1.amazonaws.com/x": true,
		"https://B.S3.AMAZONAWS.COM/x":               true,
		"https://b.s3.amazonaws.com:443/x":           true,
		"http://127.0.0.1:4566/x":                    true,
		"http://127.0.0.1:4567/x":                    false,
		"https://reports.example.com/x":              true,
		"https://reports.example.com:9000/x":         true,
		"https://other.test:8443/x":                  true,
		"https://other.test/x":                       false,
		"https://notreports.example.com/x":           false,
	} {
		body, err := b.Open(t.Context(), task.NewLink(link), 0)
		assert.Equal(t, ok, err == nil, "%s: %v", link, err)
		if err == nil {
			body.Close()
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the link reached a stranger") }))
	defer stranger.Close()
	for _, status := range []int{301, 302, 307, 308} {
		server := httptest.NewServer(http.RedirectHandler(stranger.URL+"/x?secret="+signature, status))
		b := overNetwork(t, server.URL, server.Client())
		_, err := b.Open(t.Context(), task.NewLink(server.URL+"/report?X-Amz-Signature="+signature), 0)
		require.Error(t, err)
		noSecret(t, err.Error())
		server.Close()
	}
}

// following is an HTTP client of another type, which follows redirects.
type following struct{ *http.Client }

func TestAClientThatFollowedARedirectIsNotTrusted(t *testing.T) {
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, report) }))
	defer stranger.Close()
	server := httptest.NewServer(http.RedirectHandler(stranger.URL, http.StatusFound))
	defer server.Close()
	b, err := New(aws.Config{Region: inRegion, HTTPClient: following{server.Client()}}, Options{LinkHosts: []string{"127.0.0.1"}})
	require.NoError(t, err)
	_, err = b.Open(t.Context(), task.NewLink(server.URL), 0)
	require.ErrorContains(t, err, "followed a redirect")
}

func TestTheLinkIsInNoErrorTextAndNoLog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var logged bytes.Buffer
		w := &wire{t: t, answers: answers{
			"ListThingRegistrationTaskReports": reply(200, fmt.Sprintf(`{"resourceLinks":[%q],"reportType":"RESULTS"}`, secretLink)),
			"GET": inTurn(func(*request) *http.Response { return nil }, reply(500, "echo: "+secretLink),
				xmlError(403, "AccessDenied", "for "+strings.ReplaceAll(secretLink, "&", "&amp;"))),
		}}
		cfg := testConfig(w)
		cfg.ClientLogMode = aws.LogRequestWithBody | aws.LogResponseWithBody | aws.LogRetries | aws.LogSigning
		cfg.Logger = logging.NewStandardLogger(&logged)
		b, err := New(cfg, Options{Logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		require.NoError(t, err)
		page, err := b.ListReports(t.Context(), "id-1", task.ResultsReport, "")
		require.NoError(t, err)
		require.Equal(t, secretLink, page.Links[0].URL())
		_, err = b.Open(t.Context(), page.Links[0], 0)
		require.ErrorIs(t, err, task.ErrLinkExpired)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			noSecret(t, fmt.Sprintf(verb, err))
		}
		require.Contains(t, logged.String(), "DEBUG Response\nHTTP/1.1 200 OK", "the SDK did log")
		noSecret(t, logged.String())
	})
}

func TestAnAnswerThatCannotBeDecodedKeepsNoLinks(t *testing.T) {
	b, _ := onWire(t, answers{"ListThingRegistrationTaskReports": reply(200, fmt.Sprintf(`{"resourceLinks":[%q],"reportType":7}`, secretLink))})
	_, err := b.ListReports(t.Context(), "id-1", task.ResultsReport, "")
	require.ErrorIs(t, err, task.ErrUnavailable)
	noSecret(t, fmt.Sprintf("%+v %#v", err, err))
	bad, ok := errors.AsType[*smithy.DeserializationError](err)
	require.True(t, ok, "%v", err)
	assert.Empty(t, bad.Snapshot, "the copy of the answer is dropped")
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes */10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		first, total, ok := contentRange(s)
		if !ok {
			return
		}
		if first < -1 || total < -1 || first >= 0 && total >= 0 && first >= total {
			t.Fatalf("%q gives %d/%d", s, first, total)
		}
	})
}

func FuzzNoPartOfALinkSurvivesInAnError(f *testing.F) {
	f.Add("path/to", "X-Amz-Signature", "0123456789abcdef0123")
	f.Fuzz(func(t *testing.T, path, key, value string) {
		link := "https://b.s3.amazonaws.com/" + url.PathEscape(path) + "?" + url.Values{key: {value}}.Encode()
		u, err := url.Parse(link)
		if err != nil || len(value) < 16 {
			return
		}
		err = newSecret(u).clean(&url.Error{Op: "Get", URL: link, Err: fmt.Errorf("redirect to %s failed for %s", link, value)})
		if strings.Contains(err.Error(), link) || strings.Contains(err.Error(), value) && !strings.Contains("redirect to [report link] failed for [report link]", value) {
			t.Fatalf("%q of %q is in %q", value, link, err)
		}
	})
}
